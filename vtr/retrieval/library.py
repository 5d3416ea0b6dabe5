"""The library of a run, RUN/library/: all that was put in by `vtr ingest`, and an index of it that is always whole.

    workspace/            a workspace of the library's videos: annotations, features
    embeddings/NAME/      one part a batch: videos.parquet, captions.parquet, items.parquet, manifest.json
    states/OUTPUT.json    which parts, and which of their rows no longer count
    index/                the index of the state that its manifest names

The index's manifest is what counts: a reader opens the state that it names. A change writes its part, then its state,
then the index, at one stroke; what a killed change wrote is named by nobody, and the next one removes it.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from vtr.coverage import Coverage
from vtr.embeddings import EmbeddedPart, load_part, save_part
from vtr.errors import VtrError, WorkspaceError
from vtr.files import TEMPORARY_PREFIX, atomic_directory, lock, read_json, remove_temporaries, write_json
from vtr.index.build import Settings, build_index, held_settings, is_current
from vtr.index.change import add_videos, remove_videos
from vtr.index.layout import MAKE
from vtr.index.search import RetrievalIndex
from vtr.retrieval.galleries import Indexed
from vtr.retrieval.hits import Stretch
from vtr.types import Part, TextEmbeddings, VideoEmbeddings
from vtr.workspace import FORMAT, MANIFEST, Workspace, fingerprint, read_manifest

SPLIT = "library"
"""The split of the library's workspace, and what its gallery is called."""
PART: Part = "test"

ITEMS = "items.parquet"
ITEM_SCHEMA = pa.schema(
    [
        pa.field("row_id", pa.string(), nullable=False),
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("start_seconds", pa.float64()),
        pa.field("end_seconds", pa.float64()),
        pa.field("made_from", pa.string(), nullable=False),
    ]
)

STATES_KEPT = 3
"""A reader that has just read the index's manifest still finds the state that it named."""
MOST_PARTS = 64
"""From so many parts on, a change writes one of all of them: a watched folder brings many small ones."""
TRIES = 20
"""How often a reader begins anew that the index changes under."""


@dataclass(frozen=True, slots=True)
class Item:
    """What one row of the index is.

    Attributes:
        row_id: the row's name; the video's id, or "VIDEO@START-END" for a stretch of a long one.
        video_id: the video.
        start_seconds, end_seconds: the stretch; None for a whole video.
        made_from: changes whenever the row has to be embedded anew.
    """

    row_id: str
    video_id: str
    start_seconds: float | None
    end_seconds: float | None
    made_from: str


@dataclass(frozen=True, slots=True)
class PartOf:
    """A part of a state: the folder's name, the fingerprint of its embeddings, and its rows that no longer count."""

    name: str
    output: str
    gone: tuple[str, ...] = ()


@dataclass(frozen=True)
class State:
    """What the library holds.

    Attributes:
        number: counts up with each change.
        train: the output of the run whose model embedded it.
        parts: in the order they were added.
    """

    number: int
    train: str
    parts: tuple[PartOf, ...]

    @property
    def output(self) -> str:
        """The fingerprint of all embeddings that count."""
        return fingerprint([self.train, [[part.output, part.gone] for part in self.parts]])


@dataclass(frozen=True)
class Library:
    """An opened library.

    Attributes:
        workspace: its videos, captions and features.
        indexed: its index.
        items: row id -> which stretch of which video it is, for the rows that are not whole videos.
    """

    workspace: Workspace
    indexed: Indexed
    items: Mapping[str, Stretch]


class LibraryFolder:
    """A library on disk. What changes it is called while holding `locked`; reading needs no lock.

    Args:
        root: RUN/library.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.workspace = Workspace(root / "workspace")
        self.index = root / "index"
        self._embeddings, self._states = root / "embeddings", root / "states"

    def locked(self) -> Any:
        """Return a context in which no other process changes the library."""
        return lock(self.root / ".lock", f"ingest into {self.root.parent}")

    def output(self) -> str | None:
        """Return the fingerprint of what the index holds, None where there is no index."""
        if not (self.index / MANIFEST).exists():
            return None
        return str(read_manifest(self.index, MAKE)["inputs"]["embed"])

    def state(self) -> State | None:
        """Return what the library holds: what its index names, and without an index the newest state that is whole."""
        output = self.output()
        if output is not None:
            return self._read_state(self._states / f"{output}.json")
        found = [self._read_state(path) for path in self._states.glob("[!.]*.json")]
        whole = [s for s in found if all((self._embeddings / part.name / MANIFEST).exists() for part in s.parts)]
        return max(whole, key=lambda state: state.number, default=None)

    def items(self, state: State | None) -> dict[str, Item]:
        """Return row id -> what it is, for the rows that count, in the index's order."""
        found: dict[str, Item] = {}
        for part in state.parts if state else ():
            gone = set(part.gone)
            rows = pq.read_table(self._embeddings / part.name / ITEMS).to_pylist()
            found |= {row["row_id"]: Item(**row) for row in rows if row["row_id"] not in gone}
        return found

    def embedded(self, state: State) -> EmbeddedPart:
        """Return the embeddings that count, in the index's order."""
        parts = [load_part(self._embeddings / part.name) for part in state.parts]
        return _joined(parts, [set(part.gone) for part in state.parts])

    def mend(self) -> None:
        """Remove what killed changes left; where the index has gone, build it of the state that is there."""
        _restore(self.workspace.annotations)
        for folder in (self.root, self.workspace.root, self._embeddings, self._states):
            if folder.is_dir():
                remove_temporaries(folder)
        state = self.state()
        if state is not None and self.output() is None:
            self._build(state)
        self._tidy(state)

    def add(self, part: EmbeddedPart, items: Sequence[Item], train: str) -> None:
        """Add rows, and captions of theirs; rows that are there already are replaced, as are all of another model."""
        held = self.state()
        kept = held.parts if held is not None and held.train == train else ()
        if held is not None and len(kept) >= MOST_PARTS:
            kept = (self._store(self.embedded(held), list(self.items(held).values()), train),)
        base = self._without(State(held.number if held else 0, train, kept), {item.row_id for item in items})
        state = self._next(base, self._store(part, items, train))
        if kept:
            add_videos(self.index, part, embed_output=state.output)
        else:
            self._build(state)
        self._tidy(state)

    def drop(self, row_ids: Collection[str]) -> None:
        """Take rows out, with their captions."""
        if (held := self.state()) is not None and row_ids:
            state = self._next(self._without(held, row_ids))
            remove_videos(self.index, sorted(row_ids), embed_output=state.output)
            self._tidy(state)

    def reindex(self, asked: Settings) -> bool:
        """Build the index as is asked for, and return whether it was not so already; searches go on meanwhile.

        Raises:
            ConfigError: FAISS cannot make such an index.
        """
        state = self.state()
        if state is None or is_current(self.index, state.output, asked, state.train):
            return False
        self._build(state, asked)
        return True

    def counts(self) -> dict[str, int]:
        """Return how many videos, rows of them, and captions the index holds; it reads one file."""
        if not (self.index / MANIFEST).exists():
            return {"videos": 0, "captions": 0}
        counts: dict[str, int] = read_manifest(self.index, MAKE)["counts"]
        return counts

    def open(self, trained: str, device: str = "cpu") -> Library:
        """Return the library as it is now.

        Args:
            trained: the output of the run whose model it is searched with.
            device: where FAISS searches.

        Raises:
            WorkspaceError: there is no index, another model embedded it, or it changed each time while it was read.
            VtrError: a file of it is damaged.
            OSError: a file of it cannot be read.
        """
        for _ in range(TRIES):
            output = self.output()
            try:
                return self._open(trained, self._read_state(self._states / f"{output}.json"), device)
            except (VtrError, OSError):
                if self.output() == output:
                    raise
        raise WorkspaceError(f"{self.root} changed {TRIES} times while it was read. Try again once `vtr ingest` rests.")

    def _open(self, trained: str, state: State, device: str) -> Library:
        if state.train != trained:
            raise WorkspaceError(
                f"{self.root} was embedded by model {state.train}, and the run's model is {trained}. Run "
                f"`vtr ingest {self.root.parent}`, which embeds it again, and start again."
            )
        index = RetrievalIndex.open(self.index, embed_output=state.output, train_output=trained, device=device)
        indexed = Indexed(SPLIT, PART, self.index, self._embeddings, index, index.generation, fresh=False)
        return Library(self.workspace, indexed, self._stretches(state))

    def _stretches(self, state: State) -> dict[str, Stretch]:
        """Return row id -> stretch, for the rows that count and are no whole videos."""
        found: dict[str, Stretch] = {}
        for part in state.parts:
            gone = set(part.gone)
            cut = pq.read_table(self._embeddings / part.name / ITEMS, filters=pc.field("start_seconds").is_valid())
            found |= {
                row["row_id"]: Stretch(row["video_id"], row["start_seconds"], row["end_seconds"])
                for row in cut.to_pylist()
                if row["row_id"] not in gone
            }
        return found

    def _without(self, state: State, rows: Collection[str]) -> State:
        """Return a state in which some rows no longer count; parts of which nothing is left go."""
        parts = []
        for part in state.parts:
            ids = pq.read_table(self._embeddings / part.name / ITEMS, columns=["row_id"])["row_id"].to_pylist()
            gone = {*part.gone, *set(rows).intersection(ids)}
            if len(gone) < len(ids):
                parts.append(PartOf(part.name, part.output, tuple(sorted(gone))))
        return State(state.number, state.train, tuple(parts))

    def _store(self, part: EmbeddedPart, items: Sequence[Item], train: str) -> PartOf:
        """Write a part, whole or not at all."""
        made = fingerprint([[item.row_id, item.made_from] for item in items])
        name = f"part-{fingerprint([made, train, [ref.name for ref in self._all_parts()]])}"
        with atomic_directory(self._embeddings / name) as temporary:
            rows = [{field: getattr(item, field) for field in ITEM_SCHEMA.names} for item in items]
            pq.write_table(pa.Table.from_pylist(rows, schema=ITEM_SCHEMA), temporary / ITEMS)
            save_part(temporary, part, inputs={"train": train, "items": made})
            output = str(read_manifest(temporary, "vtr ingest")["output"])
        return PartOf(name, output)

    def _all_parts(self) -> tuple[PartOf, ...]:
        state = self.state()
        return state.parts if state else ()

    def _next(self, base: State, added: PartOf | None = None) -> State:
        """Write down the state that follows, which the index is then made to name."""
        state = State(base.number + 1, base.train, (*base.parts, *([added] if added else [])))
        write_json(
            self._states / f"{state.output}.json",
            {
                "format": FORMAT,
                "number": state.number,
                "train": state.train,
                "parts": [{"name": p.name, "output": p.output, "gone": list(p.gone)} for p in state.parts],
            },
        )
        return state

    def _build(self, state: State, asked: Settings | None = None) -> None:
        """Build an index of a state in the place of the one that is there, by default of the same kind."""
        settings = asdict(asked or held_settings(self.index) or Settings())
        part = self.embedded(state)
        build_index(self.index, part, embed_output=state.output, train_output=state.train, **settings)

    def _read_state(self, path: Path) -> State:
        content = read_json(path)
        try:
            parts = tuple(PartOf(part["name"], part["output"], tuple(part["gone"])) for part in content["parts"])
            return State(content["number"], content["train"], parts)
        except (KeyError, TypeError) as error:
            raise WorkspaceError(f"{path} is damaged ({error}). Delete {self.root} and ingest again.") from error

    def _tidy(self, state: State | None) -> None:
        """Remove states that no reader can be at any more, and parts that none of the others names."""
        paths = list(self._states.glob("[!.]*.json"))
        older = [(self._read_state(path).number, path) for path in paths]
        last = state.number if state else 0
        stay = {path for number, path in older if last - STATES_KEPT < number <= last}
        if state is not None:
            stay.add(self._states / f"{state.output}.json")
        named = {part.name for path in stay if path.exists() for part in self._read_state(path).parts}
        for path in set(paths) - stay:
            path.unlink(missing_ok=True)
        for folder in self._embeddings.glob("[!.]*") if self._embeddings.is_dir() else ():
            if folder.name not in named:
                shutil.rmtree(folder, ignore_errors=True)


def _restore(folder: Path) -> None:
    """Put a folder back that was moved aside for a new one by a process killed before that was there."""
    if folder.exists():
        return
    for old in folder.parent.glob(f"{TEMPORARY_PREFIX}*-{folder.name}"):
        if (old / MANIFEST).exists():
            old.rename(folder)
            return


def coverage(number: int) -> Coverage:
    """Return the coverage of a library of so many rows: all that was put in is there."""
    return Coverage(SPLIT, PART, number, number)


def _joined(parts: Sequence[EmbeddedPart], gone: Sequence[Collection[str]]) -> EmbeddedPart:
    """Return parts end to end, without the rows that no longer count and their captions."""
    videos, texts, plain, rows = [], [], [], []
    before = 0
    for part, out in zip(parts, gone, strict=True):
        stays = np.array([row_id not in out for row_id in part.videos.ids], bool)
        place = np.cumsum(stays) - 1
        told = stays[part.video_of_text] if len(part.video_of_text) else np.zeros(0, bool)
        videos.append((part.videos, stays))
        texts.append((part.texts, told))
        plain += [text for text, kept in zip(part.texts_plain, told, strict=True) if kept]
        rows.append(place[part.video_of_text[told]] + before)
        before += int(stays.sum())
    if not parts:
        return EmbeddedPart((), _no_videos(), _no_texts(), (), np.zeros(0, np.int64), coverage(0))
    return EmbeddedPart(
        parts[0].experts,
        VideoEmbeddings(
            tuple(i for held, kept in videos for i, stays in zip(held.ids, kept, strict=True) if stays),
            torch.cat([held.vectors[torch.from_numpy(kept)] for held, kept in videos]),
            torch.cat([held.present[torch.from_numpy(kept)] for held, kept in videos]),
        ),
        TextEmbeddings(
            tuple(i for held, kept in texts for i, stays in zip(held.ids, kept, strict=True) if stays),
            torch.cat([held.vectors[torch.from_numpy(kept)] for held, kept in texts]),
            torch.cat([held.weights[torch.from_numpy(kept)] for held, kept in texts]),
        ),
        tuple(plain),
        np.concatenate(rows).astype(np.int64),
        coverage(before),
    )


def _no_videos() -> VideoEmbeddings:
    return VideoEmbeddings((), torch.zeros(0, 1, 1), torch.zeros(0, 1))


def _no_texts() -> TextEmbeddings:
    return TextEmbeddings((), torch.zeros(0, 1, 1), torch.zeros(0, 1))
