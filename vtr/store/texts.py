"""Texts that experts find: words on screen and words spoken, with where, when and how sure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """One spoken word. Times in seconds; `confidence` from 0 to 1."""

    text: str
    start_seconds: float
    end_seconds: float
    confidence: float


@dataclass(frozen=True, slots=True)
class FoundText:
    """One text found at one moment.

    Attributes:
        text: as read or heard.
        feature: which of the video's features it is part of, counted from 0.
        start_seconds, end_seconds: when it is seen or heard.
        confidence: the recogniser's own, from 0 to 1.
        box: (left, top, right, bottom) as shares of the frame's width and height; None for speech.
        words: the spoken words; none for text on screen.
    """

    text: str
    feature: int
    start_seconds: float
    end_seconds: float
    confidence: float
    box: tuple[float, float, float, float] | None = None
    words: tuple[Word, ...] = ()
