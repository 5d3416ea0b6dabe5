"""What is known of videos beside their embeddings: category, duration, whether words are spoken, and which words."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtr.errors import InputError, nearest
from vtr.experts import EXPERTS
from vtr.retrieval.filters import Filters
from vtr.retrieval.hits import NO_SHARES, Moment, Snippet
from vtr.store.reader import FeatureStore
from vtr.store.times import FeatureTimes
from vtr.types import Annotations

SPOKEN = frozenset({"speech", "speech_whisper"})
"""The experts of the table that hear words."""

WORD = re.compile(r"\w+")
COMMON = frozenset(
    (
        "a",
        "about",
        "after",
        "all",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "but",
        "by",
        "can",
        "do",
        "for",
        "from",
        "has",
        "have",
        "he",
        "her",
        "his",
        "how",
        "i",
        "in",
        "into",
        "is",
        "it",
        "its",
        "me",
        "my",
        "no",
        "not",
        "of",
        "on",
        "or",
        "our",
        "out",
        "she",
        "so",
        "some",
        "someone",
        "something",
        "that",
        "the",
        "their",
        "them",
        "there",
        "they",
        "this",
        "to",
        "up",
        "us",
        "was",
        "we",
        "what",
        "when",
        "where",
        "which",
        "who",
        "will",
        "with",
        "you",
        "your",
    )
)
"""Words that say nothing of what is looked for."""


@dataclass(frozen=True)
class TextExpert:
    """The texts that one expert kept.

    Attributes:
        name: the expert.
        texts: video id -> one text a feature.
        times: when they are.
    """

    name: str
    texts: Mapping[str, tuple[str, ...]]
    times: FeatureTimes


class Facts:
    """What is known of the videos of a gallery. Durations and speech are read when it is made, texts when asked for.

    Args:
        annotations: the videos' categories, and their bounds where no feature has a time.
        store: their features; None knows no speech, no texts, and no durations but those of the annotations.

    Attributes:
        times: expert -> when its features are.
        hears: whether an expert listened for words.
    """

    def __init__(self, annotations: Annotations, store: FeatureStore | None = None) -> None:
        self._annotations = annotations
        self._store = store
        experts = () if store is None else store.experts
        self.times: dict[str, FeatureTimes] = {} if store is None else {name: store.times(name) for name in experts}
        self._durations: dict[str, float] = {}
        for times in self.times.values():
            for video_id, end in times.last_seconds().items():
                self._durations[video_id] = max(end, self._durations.get(video_id, 0.0))
        speaking = [name for name in experts if store is not None and is_spoken(store, name)]
        self.hears = bool(speaking)
        self._speaks = frozenset(video_id for name in speaking for video_id in self.times[name].row_of)
        self._texts: list[TextExpert] | None = None
        self._lock = threading.Lock()

    def category(self, video_id: str) -> str | None:
        """Return a video's category, None where it is not known."""
        return self._annotations.video_by_id[video_id].category

    def duration_seconds(self, video_id: str) -> float | None:
        """Return where a video's last feature ends, else how long the annotations say it is, None where unknown."""
        if (held := self._durations.get(video_id)) is not None:
            return held
        video = self._annotations.video_by_id[video_id]
        if video.start_seconds is None or video.end_seconds is None:
            return None
        return max(0.0, video.end_seconds - video.start_seconds)

    def has_speech(self, video_id: str) -> bool:
        """Return whether an expert heard words in a video."""
        return video_id in self._speaks

    def snippet(
        self, video_id: str, moment: Moment | None, query: str = "", shares: Mapping[str, float] = NO_SHARES
    ) -> Snippet | None:
        """Return the words of a video that fit best, None where it has none.

        Those that share most words with the query; of several, those nearest to the moment, then those of the expert
        with the greatest share of the score, then the first ones.
        """
        wanted = telling_words(query)
        best: tuple[tuple[int, float, float, float], Snippet] | None = None
        for kept in self._kept():
            texts, times = kept.texts.get(video_id, ()), kept.times.of_video(video_id)
            if times is None or len(texts) != len(times[0]):
                continue
            for text, start, end in zip(texts, times[0].tolist(), times[1].tolist(), strict=True):
                if not text.strip():
                    continue
                key = (
                    -len(wanted & telling_words(text)),
                    _distance(start, end, moment),
                    -shares.get(kept.name, 0.0),
                    0.0 if np.isnan(start) else start,
                )
                if best is None or key < best[0]:
                    best = key, Snippet(text.strip(), kept.name, None if np.isnan(start) else start)
        return None if best is None else best[1]

    def _kept(self) -> list[TextExpert]:
        with self._lock:
            if self._texts is None:
                self._texts = [] if self._store is None else _read_texts(self._store, self.times)
            return self._texts


def _read_texts(store: FeatureStore, times: Mapping[str, FeatureTimes]) -> list[TextExpert]:
    """Return what experts kept, words spoken first."""
    names = [name for name in times if store.spec(name).modality == "text"]
    held = {name: store.texts(name) for name in sorted(names, key=lambda name: not is_spoken(store, name))}
    return [TextExpert(name, texts, times[name]) for name, texts in held.items() if texts]


def is_spoken(store: FeatureStore, expert: str) -> bool:
    """Return whether what an expert of a store keeps are words spoken."""
    own = (store.manifest(expert).get("config") or {}).get("own") or {}
    return expert in SPOKEN or (expert not in EXPERTS and own.get("kind") == "speech")


def telling_words(text: str) -> frozenset[str]:
    """Return the words of a text that tell it from others, in lower case."""
    return frozenset(WORD.findall(text.casefold())) - COMMON


def _distance(start: float, end: float, moment: Moment | None) -> float:
    """Return how many seconds lie between a text and a moment; 0 where they meet or either has no time."""
    if moment is None or np.isnan(start):
        return 0.0
    return max(0.0, start - moment.end_seconds, moment.start_seconds - end)


class RowFacts:
    """The facts of a gallery's rows, as arrays that filters are applied to.

    Args:
        facts: of videos.
        video_ids: R ids, the video of each row.
    """

    def __init__(self, facts: Facts, video_ids: Sequence[str]) -> None:
        self._hears = facts.hears
        known = {video_id: facts.category(video_id) for video_id in dict.fromkeys(video_ids)}
        counted = Counter(category for category in known.values() if category is not None)
        self.categories: dict[str, int] = {name: counted[name] for name in sorted(counted)}
        codes = {name: code for code, name in enumerate(self.categories)}
        self._codes = np.array([codes.get(known[video_id] or "", -1) for video_id in video_ids], np.int64)
        durations = {video_id: facts.duration_seconds(video_id) for video_id in known}
        self._seconds = np.array([durations[video_id] for video_id in video_ids], np.float64)  # None becomes NaN
        self._speaks = np.array([facts.has_speech(video_id) for video_id in video_ids], bool)

    @property
    def has_durations(self) -> bool:
        """Whether the duration of any video is known."""
        return not bool(np.isnan(self._seconds).all())

    @property
    def has_speech(self) -> bool:
        """Whether words are spoken in any video."""
        return bool(self._speaks.any())

    def mask(self, filters: Filters) -> NDArray[np.bool_]:
        """Return [R], the rows a search may answer.

        Raises:
            InputError: no video has the category, or what the filter asks for is known of no video.
        """
        kept = np.ones(len(self._codes), bool)
        if filters.category is not None:
            kept &= self._codes == list(self.categories).index(self._known_category(filters.category))
        if filters.min_seconds is not None or filters.max_seconds is not None:
            if not self.has_durations:
                raise InputError("the duration of no video is known here, so it cannot be filtered by. Leave it out.")
            low = 0.0 if filters.min_seconds is None else filters.min_seconds
            high = np.inf if filters.max_seconds is None else filters.max_seconds
            kept &= (self._seconds >= low) & (self._seconds <= high)
        if filters.has_speech is not None:
            if not self._hears:
                raise InputError(
                    "no expert has listened for words here, so speech cannot be filtered by. Leave the filter out, or "
                    "extract with the expert speech."
                )
            kept &= self._speaks == filters.has_speech
        return kept

    def _known_category(self, name: str) -> str:
        if name in self.categories:
            return name
        names = list(self.categories)
        if not names:
            raise InputError("the videos have no categories here, so they cannot be filtered by. Leave the filter out.")
        raise InputError(f"no video has the category '{name}'.{nearest(name, names)} There are: {', '.join(names)}.")
