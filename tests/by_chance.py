"""What a random order of a gallery is expected to get."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vtr.evaluation.metrics import BothWays, chance, count


def by_chance(video_of_text: Sequence[int] | NDArray[np.int64], num_videos: int) -> BothWays:
    """Return it for texts that describe one video each."""
    scores = np.broadcast_to(np.float32(0), (len(video_of_text), num_videos))
    return chance(*count(scores, scores, video_of_text))
