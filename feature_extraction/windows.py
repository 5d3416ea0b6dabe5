"""Cutting sound into windows, each of which becomes one feature; and what counts as silence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SILENCE = 1e-4
"""A track whose loudest sample is below this (-80 dB) holds no sound: it has no features, like one that is missing.
Anything louder is sound, be it noise or a distant hum."""
SMALL_REST = 0.1
"""A rest of the sound shorter than this share of a window makes no window of its own."""


def sound_windows(samples: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Return where the windows of a sound of `samples` samples start and end.

    As with frames (`feature_extraction.clips`), one more window ends with the sound where they do not come out even,
    save for a small rest. Sound shorter than a window is one window.
    """
    if samples <= window:
        return [(0, samples)]
    spans = [(start, start + window) for start in range(0, samples - window + 1, stride)]
    following = max(spans[-1][1], spans[-1][0] + stride)
    if samples - following >= SMALL_REST * window:
        spans.append((samples - window, samples))
    return spans


def is_silent(sound: NDArray[np.float32]) -> bool:
    """Return whether a track holds no sound."""
    return not len(sound) or bool(np.abs(sound).max() < SILENCE)
