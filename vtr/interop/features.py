"""What importing MMT's and CE's features shares: whose workspace it is, shards that are kept, manifests, the report.

While an import goes on, `features/.import/` holds one JSON file for each finished piece of it: what was read, and from
which files. A run that was killed goes on from there. `import.json` in the workspace says where the features come from.
"""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vtr.errors import InputError, WorkspaceError
from vtr.files import lock, read_json, remove_temporaries, sha256_file, write_json, write_text
from vtr.store.reader import FeatureStore
from vtr.store.schema import DTYPES, metadata_examined, metadata_spec
from vtr.store.shard_file import read_shard
from vtr.store.writer import shard_name, write_expert_manifest, write_shard
from vtr.types import ExpertSpec
from vtr.workspace import FORMAT, IMPORT_RECORD, MANIFEST, Workspace, versions

PIECES = ".import"

ALL_EXPERTS = "*"
"""The expert of a ledger entry that concerns the whole video."""

SHARD_VIDEOS = 256
"""Listed videos a shard covers."""


def check_dtype(dtype: str) -> None:
    """Raise `InputError` unless values can be stored so."""
    if dtype not in DTYPES:
        raise InputError(f"dtype is '{dtype}', one of {', '.join(DTYPES)} was expected.")


def checked_values(what: str, values: NDArray[Any], again: str) -> NDArray[np.float32]:
    """Return [T, D] numbers in float32.

    Raises:
        InputError: one is NaN, infinite or too large; it starts with `what` and ends with `again`, what to do.
    """
    with np.errstate(over="ignore"):
        kept = values.astype(np.float32)
    if not np.isfinite(kept).all():
        row, column = np.argwhere(~np.isfinite(kept))[0]
        found = values[row, column]
        raise InputError(f"{what}[{row}, {column}] is {found}, a finite number of float32 was expected. {again}")
    return np.asarray(kept, np.float32)


@dataclass(frozen=True)
class Identity:
    """What an import is of. Another one is refused in the same workspace.

    Attributes:
        release: "mmt" or "ce".
        source: the folder of the release.
        dtype: how values are stored, "float32" or "float16".
        shard_videos: listed videos a shard covers.
        lists: fingerprint of the listed videos.
    """

    release: str
    source: str
    dtype: str
    shard_videos: int
    lists: str

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that shape what is stored."""
        return {"release": self.release, "dtype": self.dtype, "shard_videos": self.shard_videos}

    @property
    def made_with(self) -> dict[str, Any]:
        """What every shard says of how it was made."""
        return {"settings": self.settings, "versions": versions()}


@contextlib.contextmanager
def claimed(out: Path, identity: Identity) -> Iterator[Workspace]:
    """Open or make the workspace `out` for one import, and keep others out while the block runs.

    Raises:
        WorkspaceError: it is in use, holds what was not imported, or was imported from elsewhere or otherwise.
    """
    workspace = Workspace.create(out)
    with lock(workspace.features / ".lock", f"import features into {out}"):
        for folder in (workspace.root, *_folders(workspace.features), *_folders(workspace.text_features)):
            remove_temporaries(folder)
        record = workspace.root / IMPORT_RECORD
        if record.exists():
            held = read_json(record)["import"]
            if differ := [name for name, value in asdict(identity).items() if held.get(name) != value]:
                theirs, ours = (", ".join(f"{n}={x[n]}" for n in differ) for x in (held, asdict(identity)))
                raise WorkspaceError(
                    f"{out} was imported with {theirs}; now {ours} is asked for. Choose another --out, or delete {out}."
                )
        elif (workspace.annotations / MANIFEST).exists() or FeatureStore(workspace.features).experts:
            raise WorkspaceError(
                f"{out} was made by `vtr prepare` or `vtr extract`; features are imported into a workspace of their "
                "own. Choose another --out."
            )
        else:
            write_json(record, {"format": FORMAT, "import": asdict(identity), "finished": None})
        yield workspace


def _folders(root: Path) -> list[Path]:
    return [root, *(path for path in root.iterdir() if path.is_dir())] if root.is_dir() else []


def check_unchanged(workspace: Workspace, name: str, files: str) -> None:
    """Check that a finished import's source still holds the same files.

    Raises:
        WorkspaceError: files were added, changed or taken away since.
    """
    record = read_json(workspace.root / IMPORT_RECORD)
    held = (record["finished"] or {}).get(name)
    if held is not None and held != files:
        raise WorkspaceError(
            f"{workspace.root} is a finished import of {record['import']['source']}, where files have changed since. "
            f"Delete {workspace.root} and import again, or choose another --out."
        )


def finish(workspace: Workspace, files: Mapping[str, str]) -> bool:
    """Record that an import is complete, as its last act. Return False when that was recorded before."""
    record = read_json(workspace.root / IMPORT_RECORD)
    finished = (record["finished"] or {}) | dict(files)
    if finished == record["finished"]:
        return False
    write_json(workspace.root / IMPORT_RECORD, record | {"finished": finished})
    return True


def stamp(path: Path) -> list[int] | None:
    """Return what changes when a file does, its size and time; None when it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A video that was passed over with --skip-bad: a line of the failure ledger, which `vtr extract` reads too."""

    video_id: str
    expert: str
    stage: str
    reason: str
    at: str = field(
        default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), compare=False
    )


@dataclass(frozen=True)
class ShardFacts:
    """One shard: its checksum, and video id -> number of features for the videos that have any."""

    sha256: str
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Piece:
    """One finished piece of an import.

    Attributes:
        key: what it was made from; a piece with another key is made again.
        examined: shard number -> the ids it covers.
        shards: expert -> shard number -> facts; a shard without any features may be left out.
        specs: expert -> what its features are.
        captions: video id -> its captions; empty where captions do not come with the features.
        skipped: what was passed over.
    """

    key: Any
    examined: Mapping[int, Sequence[str]]
    shards: Mapping[str, Mapping[int, ShardFacts]]
    specs: Mapping[str, ExpertSpec]
    captions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    skipped: Sequence[Skipped] = ()


def write_piece(path: Path, piece: Piece) -> None:
    """Write down a finished piece; its shards must have been written."""
    write_json(path, json.loads(json.dumps(asdict(piece))))


def read_piece(path: Path, key: Any) -> Piece | None:
    """Return a finished piece, or None when there is none made from `key`."""
    if not path.exists():
        return None
    content = read_json(path)
    if content["key"] != json.loads(json.dumps(key)):
        return None
    return Piece(
        key,
        {int(number): ids for number, ids in content["examined"].items()},
        {e: {int(n): ShardFacts(**facts) for n, facts in s.items()} for e, s in content["shards"].items()},
        {name: ExpertSpec(**spec) for name, spec in content["specs"].items()},
        content["captions"],
        [Skipped(**entry) for entry in content["skipped"]],
    )


def is_whole(root: Path, piece: Piece, identity: Identity) -> bool:
    """Return whether a piece's shards are there, cover what they should, and were made with the same settings."""
    return all(
        holds(root / expert / shard_name(number), piece.specs[expert], piece.examined[number], identity)
        for expert, shards in piece.shards.items()
        for number in shards
    )


def holds(path: Path, spec: ExpertSpec, examined: Sequence[str], identity: Identity) -> bool:
    """Return whether a shard is there, of this expert, covers these ids, and was made with the same settings."""
    if not path.exists():
        return False
    try:
        metadata = pq.read_schema(path).metadata
        made_with = json.loads(metadata[b"vtr.made_with"])
        same = metadata_spec(metadata) == spec and metadata_examined(metadata) == list(examined)
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):  # cut short, or another program's
        return False
    return bool(same and made_with["settings"] == identity.settings)


def keep_or_write(
    path: Path, spec: ExpertSpec, rows: Sequence[Mapping[str, Any]], examined: Sequence[str], identity: Identity
) -> ShardFacts:
    """Write a shard unless a run that was killed has written it already, the same to the bit."""
    counts = {row["video_id"]: row["num_features"] for row in rows}
    if holds(path, spec, examined, identity) and _same_rows(path, rows):
        return ShardFacts(sha256_file(path), counts)
    return ShardFacts(write_shard(path, spec, rows, examined, identity.made_with), counts)


def _same_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> bool:
    try:
        return read_shard(path)[1] == list(rows)
    except WorkspaceError:  # damaged behind its metadata
        return False


def write_manifests(root: Path, pieces: Sequence[Piece], identity: Identity, prepared: str) -> None:
    """Write the manifest of every expert that has features, unless the same stands; fill in shards that hold none.

    Args:
        root: the store.
        pieces: all pieces of the import.
        identity: of the import.
        prepared: fingerprint of the annotations.
    """
    for expert, (spec, shards, examined) in gathered(pieces).items():
        counts = {n: [len(examined[n]), len(shards[n].counts) if n in shards else 0] for n in examined}
        checksums = {}
        for number, ids in examined.items():
            path = root / expert / shard_name(number)
            facts = shards.get(number) or keep_or_write(path, spec, [], ids, identity)
            checksums[path.name] = facts.sha256
        if (root / expert / MANIFEST).exists():
            held = read_json(root / expert / MANIFEST)
            if held["shards"] == checksums and held["inputs"] == {"prepare": prepared}:
                continue
        write_expert_manifest(
            root / expert,
            spec,
            checksums,
            inputs={"prepare": prepared},
            config=identity.settings,
            counts={"examined": sum(e for e, _ in counts.values()), "present": sum(p for _, p in counts.values())},
            counts_by_shard={shard_name(number): pair for number, pair in sorted(counts.items())},
        )


Gathered = tuple[ExpertSpec, dict[int, ShardFacts], dict[int, Sequence[str]]]
"""What an expert's features are, its shards by number, and the ids that each number covers."""


def gathered(pieces: Sequence[Piece]) -> dict[str, Gathered]:
    """Return expert -> all that the pieces hold of it, for experts with any features."""
    examined = {number: ids for piece in pieces for number, ids in piece.examined.items() if ids}
    found: dict[str, Gathered] = {}
    for piece in pieces:
        for expert, shards in piece.shards.items():
            if any(facts.counts for facts in shards.values()):
                found.setdefault(expert, (piece.specs[expert], {}, examined))[1].update(shards)
    return {expert: found[expert] for expert in sorted(found)}


def write_ledger(workspace: Workspace, skipped: Sequence[Skipped]) -> None:
    """Write the failure ledger, in the format of `vtr extract`, unless it says the same."""
    text = "".join(json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in skipped)
    if (workspace.ledger.read_text(encoding="utf-8") if workspace.ledger.exists() else "") != text:
        write_text(workspace.ledger, text)
