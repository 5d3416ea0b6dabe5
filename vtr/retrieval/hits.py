"""What a search answers: one result, and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Moment:
    """A stretch of a video, in seconds from its beginning."""

    start_seconds: float
    end_seconds: float


@dataclass(frozen=True, slots=True)
class Stretch:
    """Which part of which video an item of a gallery is, where items are not whole videos.

    Attributes:
        video_id: the video.
        start_seconds, end_seconds: from the video's beginning.
    """

    video_id: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True, slots=True)
class Snippet:
    """Words that a video says or shows.

    Attributes:
        text: as heard or read.
        expert: which expert kept it, for example "speech" or "ocr".
        start_seconds: when it begins, None where it has no time.
    """

    text: str
    expert: str
    start_seconds: float | None


@dataclass(frozen=True, slots=True)
class Hit:
    """One result.

    Attributes:
        rank: 1 is best.
        score: `vtr.similarity`'s, -1 to 1; about that where the model corrects for hubs.
        video_id: the video found, or the one a found caption describes.
        path: where the video lies (see `vtr.annotations.locators`), None when there is no file.
        caption: the caption found, or one that the video found is known by; None where it has none.
        moment: the stretch of the video that matches best, None where features have no times, where a caption was
            found, or where it was not asked for.
        shares: expert -> what it adds to the score, see `vtr.similarity.expert_shares`; they add up to the score.
            "hubs" is what a model that corrects for hubs takes off. Empty where it was not asked for.
        snippet: words of the video near its best moment, None where it has none or it was not asked for.
        category: the video's, None where it is not known.
        duration_seconds: the video's, None where it is not known.
        has_speech: whether words are spoken in it.
    """

    rank: int
    score: float
    video_id: str
    path: str | None
    caption: str | None
    moment: Moment | None = None
    shares: Mapping[str, float] = field(default_factory=dict)
    snippet: Snippet | None = None
    category: str | None = None
    duration_seconds: float | None = None
    has_speech: bool = False


Answers = Literal["videos", "captions"]
"""What a search with a video answers."""

NO_SHARES: Mapping[str, float] = {}
"""Where shares were not asked for."""
