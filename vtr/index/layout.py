"""How an index lies in its folder: segments, and a manifest that names their files; it is written last, and replaced.

Files are never changed. A change writes new ones under new names and then the manifest, so that who opens the index
sees it as it was or as it is. What the manifest names no more is removed afterwards; whoever opened it before keeps it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from vtr.coverage import Coverage
from vtr.embeddings import CAPTIONS, VIDEOS
from vtr.errors import WorkspaceError
from vtr.files import atomic_file, remove_temporaries, sha256_file
from vtr.index.segment import Rows, Segment, open_segment
from vtr.workspace import MANIFEST, fingerprint, read_manifest, write_manifest

MAKE = "vtr index RUN"
LAYOUT = 2
"""1 was one FAISS file for the videos and one for the captions."""

ALWAYS_CHECKED = 1 << 22
"""Files of at most so many bytes are held against their checksum whenever they are opened."""

TRIES = 20
"""How often a reader looks again when the index is replaced while it is being opened."""

_Read = TypeVar("_Read")

OURS = re.compile(r"\d{6,}|removed-\d{6,}-\d{6,}\.i64|(videos|captions)\.faiss|ids\.json")


@dataclass(frozen=True)
class SegmentEntry:
    """What the manifest says of a segment.

    Attributes:
        name: its folder.
        videos, captions: how many it holds, with those that count no more.
        patterns: [P][E] rows that occur as its videos' availability.
        removed: the file of the rows of videos that count no more, "" for none.
        removed_videos, removed_captions: how many these are.
    """

    name: str
    videos: int
    captions: int
    patterns: tuple[tuple[float, ...], ...]
    removed: str = ""
    removed_videos: int = 0
    removed_captions: int = 0

    @property
    def live(self) -> int:
        """How many of its videos count."""
        return self.videos - self.removed_videos


@dataclass(frozen=True)
class State:
    """An index, as its manifest says.

    Attributes:
        generation: grows with every change.
        experts, dim: E expert names and D.
        coverage: how much of a part it is.
        inputs: stage -> fingerprint of what it was made from: "embed", and "train" where the model is known.
        config: what was asked for: factory, parameters, target_recall, memory_limit.
        kinds: "videos" and "captions" -> what was made of that: factory, parameters, candidates, the measured curve.
        segments: the main one first, then those added since.
        files: path in the folder -> its size in bytes and its SHA-256.
        output: fingerprint of all files.
    """

    generation: int
    experts: tuple[str, ...]
    dim: int
    coverage: Coverage
    inputs: Mapping[str, str]
    config: Mapping[str, Any]
    kinds: Mapping[str, Mapping[str, Any]]
    segments: tuple[SegmentEntry, ...]
    files: Mapping[str, Mapping[str, Any]]
    output: str = ""

    @property
    def videos(self) -> int:
        """How many videos there are to find."""
        return sum(entry.live for entry in self.segments)

    @property
    def captions(self) -> int:
        """How many captions there are to find."""
        return sum(entry.captions - entry.removed_captions for entry in self.segments)

    def next_name(self) -> str:
        """Return the name of a segment made for the next generation."""
        return f"{self.generation + 1:06d}"


def read_state(folder: Path) -> State:
    """Read what an index is.

    Raises:
        WorkspaceError: there is none, a newer vtr made it, or an early one in a layout that is read no more.
    """
    manifest = read_manifest(folder, MAKE)
    if manifest.get("layout") != LAYOUT:
        made_by = manifest.get("versions", {}).get("vtr", "of unknown version")
        raise WorkspaceError(
            f"the index {folder} has layout {manifest.get('layout', 1)}, vtr {made_by} made it; layout {LAYOUT} was "
            f"expected. Run `{MAKE}` again, the embeddings are kept."
        )
    entries = (entry | {"patterns": tuple(map(tuple, entry["patterns"]))} for entry in manifest["segments"])
    return State(
        manifest["generation"],
        tuple(manifest["experts"]),
        manifest["dim"],
        Coverage(**manifest["coverage"]),
        manifest["inputs"],
        manifest["config"],
        manifest["kinds"],
        tuple(SegmentEntry(**entry) for entry in entries),
        manifest["files"],
        str(manifest["output"]),
    )


def open_segments(folder: Path, state: State) -> tuple[Segment, ...]:
    """Map an index's segments into memory; sizes are checked, and the checksums of small files.

    Raises:
        FileNotFoundError: a file is not there, perhaps since the index was replaced meanwhile.
        WorkspaceError: a file is damaged.
    """
    for name, facts in state.files.items():
        size = (folder / name).stat().st_size
        if size != facts["bytes"] or (size <= ALWAYS_CHECKED and sha256_file(folder / name) != facts["sha256"]):
            raise WorkspaceError(damaged(folder, f"{name} has changed since it was written"))
    try:
        return tuple(_open_entry(folder, state, entry) for entry in state.segments)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RuntimeError, pa.ArrowInvalid) as error:
        raise WorkspaceError(damaged(folder, str(error).strip().splitlines()[-1])) from error


def _open_entry(folder: Path, state: State, entry: SegmentEntry) -> Segment:
    removed = np.fromfile(folder / entry.removed, np.int64) if entry.removed else None
    indexed = tuple(kind for kind in (VIDEOS, CAPTIONS) if f"{entry.name}/{kind}.faiss" in state.files)
    shape = len(state.experts), state.dim
    return open_segment(folder / entry.name, entry.videos, entry.captions, *shape, removed=removed, indexed=indexed)


def open_state(folder: Path) -> tuple[State, tuple[Segment, ...]]:
    """Read and map an index; one that is replaced meanwhile is read again.

    Raises:
        WorkspaceError: it is missing, damaged, or of another layout.
    """
    return _while_it_stays(folder, lambda state: (state, open_segments(folder, state)))


def verify(folder: Path) -> int:
    """Hold every file of an index against its checksum, and return how many bytes that were.

    Raises:
        WorkspaceError: the index is missing, or a file is missing or has changed.
    """

    def hold(state: State) -> int:
        for name, facts in state.files.items():
            if sha256_file(folder / name) != facts["sha256"]:
                raise WorkspaceError(damaged(folder, f"{name} has changed since it was written"))
        return sum(facts["bytes"] for facts in state.files.values())

    return _while_it_stays(folder, hold)


def _while_it_stays(folder: Path, read: Callable[[State], _Read]) -> _Read:
    """Return what is read of an index; anew where it was replaced meanwhile, since its files may then be gone."""
    for _ in range(TRIES):
        state = read_state(folder)
        try:
            return read(state)
        except (FileNotFoundError, WorkspaceError) as error:
            if read_state(folder) != state:
                continue
            if isinstance(error, WorkspaceError):
                raise
            raise WorkspaceError(
                damaged(folder, f"{Path(str(error.filename)).relative_to(folder)} is missing")
            ) from error
    raise WorkspaceError(f"the index {folder} was replaced {TRIES} times while it was being read. Try again.")


def damaged(folder: Path, what: str) -> str:
    """Return what a user reads when an index cannot be trusted."""
    return f"the index {folder} is damaged: {what}. Delete the folder and run `{MAKE}` again."


def segment_files(folder: Path, name: str) -> dict[str, dict[str, Any]]:
    """Return size and checksum of every file of a segment."""
    return {f"{name}/{path.name}": _facts(path) for path in sorted((folder / name).iterdir())}


def _facts(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256_file(path)}


def with_removed(folder: Path, state: State, removed: Mapping[str, Rows], captions: Mapping[str, int]) -> State:
    """Return a state in which some more videos count no more; the files that say so are written.

    Args:
        removed: segment -> all rows of its videos that count no more, rising.
        captions: segment -> how many captions these have.
    """
    files, entries = dict(state.files), []
    for entry in state.segments:
        if (rows := removed.get(entry.name)) is None:
            entries.append(entry)
            continue
        files.pop(entry.removed, None)
        if len(rows) == entry.videos and entry is not state.segments[0]:  # nothing is left of it
            files = {name: facts for name, facts in files.items() if not name.startswith(f"{entry.name}/")}
            continue
        name = f"removed-{state.next_name()}-{entry.name}.i64"
        with atomic_file(folder / name) as temporary:
            rows.astype(np.int64).tofile(temporary)
        files[name] = _facts(folder / name)
        entries.append(replace(entry, removed=name, removed_videos=len(rows), removed_captions=captions[entry.name]))
    return replace(state, segments=tuple(entries), files=files)


def commit(folder: Path, state: State) -> State:
    """Make a state the index's next generation: its manifest is written, and what it does not name is removed.

    Call it only while holding the folder's lock. Segments and files of the state must be there.
    """
    output = fingerprint({name: facts["sha256"] for name, facts in state.files.items()})
    state = replace(state, generation=state.generation + 1, output=output)
    write_manifest(
        folder,
        "index",
        output=output,
        inputs=state.inputs,
        config=dict(state.config),
        layout=LAYOUT,
        generation=state.generation,
        counts={"videos": state.videos, "captions": state.captions},
        experts=list(state.experts),
        dim=state.dim,
        coverage=asdict(state.coverage),
        kinds={kind: dict(facts) for kind, facts in state.kinds.items()},
        segments=[asdict(entry) for entry in state.segments],
        files=dict(state.files),
    )
    sweep(folder, {entry.name for entry in state.segments} | {entry.removed for entry in state.segments})
    return state


def sweep(folder: Path, keep: set[str]) -> None:
    """Remove segments and files of an index that are not to be kept. Call it only while holding the folder's lock."""
    remove_temporaries(folder)
    for path in folder.iterdir():
        if path.name in keep or path.name == MANIFEST or not OURS.fullmatch(path.name):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def sweep_unnamed(folder: Path) -> None:
    """Remove what a killed change left in an index. Call it only while holding the folder's lock."""
    if not (folder / MANIFEST).exists():
        sweep(folder, set())
    elif read_manifest(folder, MAKE).get("layout") == LAYOUT:
        entries = read_state(folder).segments
        sweep(folder, {entry.name for entry in entries} | {entry.removed for entry in entries})


def patterns(state: State) -> Sequence[tuple[float, ...]]:
    """Return the rows [P][E] that occur as the videos' availability."""
    return sorted({pattern for entry in state.segments for pattern in entry.patterns})
