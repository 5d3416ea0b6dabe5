"""From a Whisper model's tokens to spoken segments and words, with times and probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtr.store.texts import Word

SECONDS_PER_STEP = 0.02
"""What one step of Whisper's time tokens stands for."""
UNSPACED = frozenset({"zh", "yue", "ja", "th", "lo", "my"})
"""Languages written without spaces: a word is whatever makes whole characters."""
BROKEN = "\ufffd"
"""What part of a character decodes to."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a model answered to a piece of sound.

    Attributes:
        tokens: [L] token ids, time tokens included.
        log_probabilities: [L] of each token.
        end_seconds: [L] when each token's sound ends, from the start of the piece; None where the model cannot tell.
        language: such as "en"; "" where the model does not tell.
    """

    tokens: Sequence[int]
    log_probabilities: NDArray[np.float64]
    end_seconds: NDArray[np.float64] | None
    language: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A spoken segment. Times in seconds from the start of the piece; `log_probability` is the mean over its tokens."""

    text: str
    start_seconds: float
    end_seconds: float
    log_probability: float
    words: tuple[Word, ...]


def segments(
    heard: Heard, decode: Callable[[Sequence[int]], str], first_special: int, first_time: int, last_seconds: float
) -> list[Segment]:
    """Cut tokens into segments at the time tokens.

    Args:
        heard: the model's answer.
        decode: turns text tokens into text.
        first_special: the lowest id that is no text.
        first_time: the id of the time token of 0 seconds.
        last_seconds: length of the piece; nothing ends later. A segment without a time token at its end ends there.
    """
    found, start, inside = [], 0.0, list[int]()
    for place, token in enumerate([*heard.tokens, None]):
        if token is not None and token < first_time:
            inside += [place] if token < first_special else []
            continue
        seconds = last_seconds if token is None else min((token - first_time) * SECONDS_PER_STEP, last_seconds)
        if inside:
            found.append(_segment(heard, inside, decode, start, max(start, seconds)))
        start, inside = seconds, []
    return [segment for segment in found if segment.text]


def _segment(
    heard: Heard, places: list[int], decode: Callable[[Sequence[int]], str], start: float, end: float
) -> Segment:
    text = decode([heard.tokens[place] for place in places]).strip()
    words = tuple(_words(heard, places, decode, start, end)) if heard.end_seconds is not None else ()
    return Segment(text, start, end, float(heard.log_probabilities[places].mean()), words)


def _words(
    heard: Heard, places: list[int], decode: Callable[[Sequence[int]], str], start: float, end: float
) -> list[Word]:
    """Return a segment's words: a space begins a new one, in unspaced text every character does."""
    groups: list[list[int]] = []
    texts: list[str] = []
    for piece in _characters(heard, places, decode):
        text = decode([heard.tokens[place] for place in piece])
        if not groups or text.startswith(" ") or heard.language in UNSPACED:
            groups.append(piece)
            texts.append(text)
        else:
            groups[-1] = groups[-1] + piece
            texts[-1] += text
    ends = heard.end_seconds
    assert ends is not None
    found, began = [], start
    for group, text in zip(groups, texts, strict=True):
        stopped = float(np.clip(ends[group[-1]], began, end))
        if text.strip():
            sure = float(np.exp(heard.log_probabilities[group].mean()))
            found.append(Word(text.strip(), began, stopped, min(sure, 1.0)))
        began = stopped
    return found


def _characters(heard: Heard, places: list[int], decode: Callable[[Sequence[int]], str]) -> list[list[int]]:
    """Return the tokens in the smallest groups that decode to whole characters."""
    groups, open_group = [], list[int]()
    for place in places:
        open_group.append(place)
        if BROKEN not in decode([heard.tokens[at] for at in open_group]):
            groups.append(open_group)
            open_group = []
    return [*groups, open_group] if open_group else groups
