"""Reading the feature store."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vtr.errors import WorkspaceError, nearest
from vtr.files import StorePath, sha256_file
from vtr.store.schema import SCHEMA
from vtr.store.shard_file import covered_by, decoded, read_found, rows_of, side_table
from vtr.store.texts import FoundText
from vtr.store.times import FeatureTimes
from vtr.types import ExpertFeatures, ExpertSpec
from vtr.workspace import MANIFEST, fingerprint, read_manifest

MAKE = "vtr extract WS"
Item = TypeVar("Item")


class FeatureStore:
    """The experts' features under one folder: `<root>/<expert>/part-*.parquet`, each with a manifest.

    Args:
        root: the folder, `workspace.store`. It may be empty or missing: then there are no experts.
        cache: where what is trained on may be kept in another form, `workspace.cache`; None keeps nothing.
    """

    def __init__(self, root: StorePath, cache: Path | None = None) -> None:
        self.root = root
        self.cache = cache

    @property
    def experts(self) -> tuple[str, ...]:
        """The experts that have features, in alphabetical order."""
        return tuple(sorted(path.parent.name for path in self.root.glob(f"*/{MANIFEST}")))

    def manifest(self, expert: str) -> dict[str, Any]:
        """Return an expert's manifest.

        Raises:
            WorkspaceError: the store does not hold the expert, or a newer vtr wrote it.
        """
        if not (self.root / expert / MANIFEST).exists():
            held = self.experts
            listed = f"it holds: {', '.join(held)}" if held else "it holds no experts yet"
            raise WorkspaceError(
                f"{self.root} has no expert '{expert}';{nearest(expert, list(held))} {listed}. Run `{MAKE}`."
            )
        return read_manifest(self.root / expert, MAKE)

    def spec(self, expert: str) -> ExpertSpec:
        """Return what an expert's features are."""
        return ExpertSpec(**self.manifest(expert)["expert"])

    def shards(self, expert: str) -> list[StorePath]:
        """Return an expert's shards in order."""
        return [self.root / expert / name for name in sorted(self.manifest(expert)["shards"])]

    def examined(self, expert: str) -> frozenset[str]:
        """Return the ids of the videos the expert has read, whether it found anything or not."""
        shards = self._each(lambda: self.shards(expert), lambda path: ((i, None) for i in covered_by(path)))
        return frozenset(video_id for _, video_id, _ in shards)

    def video_ids(self, expert: str) -> tuple[str, ...]:
        """Return the ids of the videos that have features, in stored order."""
        return tuple(row["video_id"] for _, row in self._rows(expert, columns=("video_id",)))

    def with_features(self, experts: Collection[str] | None = None) -> frozenset[str]:
        """Return the ids of the videos that have a feature of some expert, of all experts or those given."""
        given = self.experts if experts is None else experts
        return frozenset(video_id for expert in given for video_id in self.video_ids(expert))

    def counts(self, expert: str) -> dict[str, tuple[int, str]]:
        """Return video id -> (number of features, dtype of their values), in stored order."""
        rows = self._rows(expert, columns=("video_id", "num_features", "dtype"))
        return {row["video_id"]: (row["num_features"], row["dtype"]) for _, row in rows}

    def read(self, expert: str, video_ids: Collection[str] | None = None) -> dict[str, ExpertFeatures]:
        """Return video id -> features, for all videos or those asked for that have any.

        Values come in the stored precision (float16 or float32), as read-only views.

        Raises:
            WorkspaceError: the expert is not in the store, or a shard is damaged or does not fit the expert's spec.
        """
        return dict(self.stream(expert, video_ids))

    def stream(self, expert: str, video_ids: Collection[str] | None = None) -> Iterator[tuple[str, ExpertFeatures]]:
        """Yield what `read` returns, in stored order, with one shard in memory at a time."""
        wanted = None if video_ids is None else frozenset(video_ids)
        spec = self.spec(expert)
        for path, row in self._rows(expert, wanted, spec=spec):
            yield row["video_id"], decoded(path, row, spec)

    def times(self, expert: str) -> FeatureTimes:
        """Return when the features of all videos are, without reading their values."""
        rows = self._rows(expert, columns=("video_id", "start_seconds", "end_seconds"))
        return FeatureTimes.of((row["video_id"], row["start_seconds"], row["end_seconds"]) for _, row in rows)

    def texts(self, expert: str) -> dict[str, tuple[str, ...]]:
        """Return video id -> the texts an expert kept (words on screen, words spoken); empty for other experts."""
        rows = self._rows(expert, columns=("video_id", "texts"))
        return {row["video_id"]: tuple(row["texts"]) for _, row in rows if row["texts"] is not None}

    def side_tables(self, expert: str) -> list[StorePath]:
        """Return the files that hold an expert's single finds, in the order of its shards."""
        return [side_table(self.root / expert / name) for name in sorted(self.manifest(expert).get("texts", {}))]

    def found_texts(self, expert: str) -> Iterator[tuple[str, FoundText]]:
        """Yield every text that an expert read or heard, with its video's id; a video's finds come together.

        Raises:
            WorkspaceError: the expert is not in the store, or a side table is damaged.
        """
        for _, video_id, text in self._each(lambda: self.side_tables(expert), read_found):
            yield video_id, text

    def fingerprint(self, experts: Collection[str] | None = None) -> str:
        """Return one hash of what the store holds, of all experts or some."""
        return fingerprint({name: self.manifest(name)["output"] for name in sorted(experts or self.experts)})

    def verify(self, expert: str) -> list[str]:
        """Return what is wrong with an expert's shards and side tables, in words.

        The list is empty when checksums, shapes and values hold.
        """
        manifest, spec = self.manifest(expert), self.spec(expert)
        problems = []
        held: Counter[str] = Counter()
        for name, expected in sorted(manifest["shards"].items()):
            path = self.root / expert / name
            if found := _changed(path, expected):
                problems.append(found)
            if not path.exists():
                continue
            try:
                for row in rows_of(path, spec=spec):
                    decoded(path, row, spec)
                held.update(covered_by(path))
            except WorkspaceError as error:
                problems.append(str(error))
        if twice := [video_id for video_id, count in held.items() if count > 1]:
            problems.append(f"{self.root / expert} covers {len(twice)} videos more than once, {twice[0]} among them")
        return problems + self._verify_texts(expert, manifest)

    def _verify_texts(self, expert: str, manifest: dict[str, Any]) -> list[str]:
        problems = []
        for name, expected in sorted(manifest.get("texts", {}).items()):
            shard = self.root / expert / name
            if found := _changed(side_table(shard), expected):
                problems.append(found)
                continue
            try:
                counts = {row["video_id"]: row["num_features"] for row in rows_of(shard)} if shard.exists() else None
                for video_id, text in read_found(side_table(shard)):
                    if counts is not None and not 0 <= text.feature < counts.get(video_id, 0):
                        problems.append(f"{side_table(shard)}: {video_id} has no feature {text.feature}")
                        break
            except WorkspaceError as error:
                problems.append(str(error))
        return problems

    def _rows(
        self,
        expert: str,
        wanted: frozenset[str] | None = None,
        columns: Sequence[str] = SCHEMA.names,
        spec: ExpertSpec | None = None,
    ) -> Iterator[tuple[StorePath, dict[str, Any]]]:
        def rows(path: StorePath) -> Iterator[tuple[str, dict[str, Any]]]:
            return ((row["video_id"], row) for row in rows_of(path, wanted, columns, spec))

        for path, _, row in self._each(lambda: self.shards(expert), rows):
            yield path, row

    @staticmethod
    def _each(
        listed: Callable[[], list[StorePath]], read: Callable[[StorePath], Iterable[tuple[str, Item]]]
    ) -> Iterator[tuple[StorePath, str, Item]]:
        """Yield (file, video id, what `read` gives of it) of the listed files, each video from one file only.

        Where a file has been merged with others meanwhile (`vtr features compact`), those listed now are read instead.

        Raises:
            WorkspaceError: a file that is listed is missing or damaged.
        """
        files, done, given = deque(listed()), set[StorePath](), set[str]()
        while files:
            path = files.popleft()
            new = set[str]()
            try:
                for video_id, item in read(path):
                    if video_id not in given:
                        new.add(video_id)
                        yield path, video_id, item
            except WorkspaceError:
                now = listed()
                if path in now:
                    raise
                files = deque(other for other in now if other not in done)
            else:
                done.add(path)
            given |= new


def _changed(path: StorePath, expected: str) -> str:
    """Return how a file differs from the one that was written, in words; "" when it does not."""
    if not path.exists():
        return f"{path} is missing"
    return "" if sha256_file(path) == expected else f"{path} has changed since it was written (checksum differs)"
