"""A gallery of made-up videos that answers like a retriever, without a model; it can be held up and made to fail."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vtr.errors import InputError, WorkspaceError
from vtr.retrieval import Filters, Hit, Moment, Snippet
from vtr.types import ExpertFeatures

SCRIPT = '<script>alert("a caption")</script>'
ANY = Filters()


def score_of(query: str, video_id: str) -> float:
    """Return a number from 0 to 1 that depends on both."""
    return int.from_bytes(hashlib.sha256(f"{query}\0{video_id}".encode()).digest()[:4], "big") / 2**32


class FakeRetriever:
    """What the server asks of a retriever.

    Args:
        paths: video id -> its file, None where it has none.
        seconds: how long a batch takes, but for the first.
    """

    def __init__(self, paths: Mapping[str, str | None], seconds: float = 0.0) -> None:
        self.paths = dict(paths)
        self.seconds = seconds
        self.open = threading.Event()
        self.open.set()
        self.batches: list[list[str]] = []
        self.asked: list[tuple[int, Filters]] = []
        self.threads: set[str] = set()
        self.generation = "1"
        self.on_disk = "1"
        self.broken = False
        self.gallery = "full test: 5 of 7"
        self.order = "QB-Norm"
        self.num_captions = 1
        self.experts = ("appearance", "speech")
        self.categories = {"music": 2, "sports": 1}
        self.finds = "Finds what is seen & heard."
        self.has_durations = True
        self.has_speech = True

    @property
    def num_videos(self) -> int:
        """How many videos there are."""
        return len(self.paths)

    def refresh(self) -> bool:
        """Take up `on_disk`, or fail where the gallery is broken."""
        if self.broken:
            raise WorkspaceError("the index is damaged.")
        changed, self.generation = self.generation != self.on_disk, self.on_disk
        return changed

    def video_path(self, video_id: str) -> str | None:
        """Return a video's file."""
        return self.paths.get(video_id)

    def search(self, queries: Sequence[str], k: int = 10, *, filters: Filters = ANY) -> list[list[Hit]]:
        """Rank by `score_of`; "fail" fails, and nothing is answered while the gate is shut."""
        self.threads.add(threading.current_thread().name)
        self.batches.append(list(queries))
        self.asked.append((k, filters))
        self.open.wait(60)
        if len(self.batches) > 1:  # the first is the server's own, as it starts
            time.sleep(self.seconds)
        if "fail" in queries:
            raise RuntimeError("a defect")
        return [self._hits(query, k) for query in queries]

    def similar(self, video_id: str, k: int = 10, *, filters: Filters = ANY) -> list[Hit]:
        """Rank the other videos."""
        self.asked.append((k, filters))
        if video_id not in self.paths:
            raise InputError(f"the gallery has no video '{video_id}'.")
        if filters.category == "unheard of":
            raise InputError("the gallery has no category 'unheard of'.")
        hits = [hit for hit in self._hits(video_id, k + 1) if hit.video_id != video_id][:k]
        return [replace(hit, rank=rank) for rank, hit in enumerate(hits, 1)]

    def similar_to(self, features: Mapping[str, ExpertFeatures], k: int = 10) -> list[Hit]:
        """Rank by the features' sum."""
        return self._hits(word_of(features), k)

    def captions_for(self, features: Mapping[str, ExpertFeatures], k: int = 10) -> list[Hit]:
        """Answer with the one caption."""
        return self._hits(word_of(features), 1)[:k]

    def _hits(self, query: str, k: int) -> list[Hit]:
        ranked = sorted(self.paths, key=lambda video_id: -score_of(query, video_id))[:k]
        return [
            Hit(
                rank,
                score_of(query, video_id),
                video_id,
                self.paths[video_id],
                SCRIPT,
                Moment(1.5, 3.0),
                {"appearance": 0.25, "speech": -0.05},
                Snippet("hello", "speech", 1.5),
                "music",
                12.5,
                True,
            )
            for rank, video_id in enumerate(ranked, 1)
        ]


def word_of(features: Mapping[str, ExpertFeatures]) -> str:
    """Return what features are asked as."""
    return str({name: float(np.sum(found.values)) for name, found in features.items()})


def extract(path: Path) -> dict[str, ExpertFeatures]:
    """Read an upload by words in it: it may be no video, hang, or kill the process that reads it."""
    content = path.read_bytes()
    if b"HANG" in content:
        time.sleep(600)
    if b"KILL" in content:
        os._exit(9)
    if b"BROKEN" in content:
        raise InputError(f"{path} cannot be read as a video (it is damaged).")
    if b"UNABLE" in content:
        raise WorkspaceError("no expert is installed.")
    seconds = np.arange(2, dtype=np.float32)
    values = np.full((2, 3), len(content), np.float32)
    return {"appearance": ExpertFeatures(values, seconds, seconds + 1)}
