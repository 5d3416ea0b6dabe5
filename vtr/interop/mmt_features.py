"""Reading the features that MMT's authors released (Gabeur et al. 2020, github.com/gabeur/mmt) into a workspace."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from vtr.annotations.prepare import prepare_annotations
from vtr.annotations.tables import annotations_fingerprint
from vtr.errors import InputError, some
from vtr.interop.features import (
    ALL_EXPERTS,
    PIECES,
    SHARD_VIDEOS,
    Identity,
    Piece,
    ShardFacts,
    Skipped,
    check_dtype,
    check_unchanged,
    claimed,
    finish,
    gathered,
    is_whole,
    keep_or_write,
    read_piece,
    stamp,
    write_ledger,
    write_manifests,
    write_piece,
)
from vtr.interop.import_report import ImportReport, make_report
from vtr.interop.mmt_h5 import MADE_BY, opened, read_captions, read_features
from vtr.interop.processes import check_stop, each_done
from vtr.interop.release_splits import ReleaseLists, make_splits, read_lists
from vtr.progress import progress
from vtr.store.schema import encode_row
from vtr.store.writer import shard_name
from vtr.types import Annotations, Caption, ExpertFeatures, ExpertSpec, Video
from vtr.workspace import fingerprint

FEATURES, LISTS = "vid_feat_files/mult_h5", "symlinked-feats"
FULL_LISTS = ("train_list.txt", "val_list.txt", "test_list.txt")


@dataclass(frozen=True)
class Group:
    """The listed videos of one shard; `files` has those that have a file."""

    number: int
    files: Mapping[str, Path]

    @property
    def key(self) -> dict[str, Any]:
        """What the group's piece is made from: its files, as they are now."""
        return {video_id: stamp(path) for video_id, path in self.files.items()}


@dataclass(frozen=True)
class Job:
    """What the workers need to know.

    Attributes:
        store: the feature store.
        identity: of the import.
        dims: expert -> length of its feature vectors, where it is known before a group is read.
        skip_bad: pass over bad videos.
    """

    store: Path
    identity: Identity
    dims: Mapping[str, int]
    skip_bad: bool

    def piece(self, group: Group) -> Path:
        """Where the group's piece is written down."""
        return self.store / PIECES / f"{group.number:05d}.json"


def import_mmt_features(
    source: Path,
    out: Path,
    *,
    workers: int = 0,
    dtype: str = "float32",
    skip_bad: bool = False,
    shard_videos: int = SHARD_VIDEOS,
) -> ImportReport:
    """Read MMT's released features into the workspace `out`. Kill it at any moment and run it again.

    Args:
        source: the folder that holds `vid_feat_files/mult_h5` and `symlinked-feats`, or its parent.
        out: the workspace.
        workers: processes that read; 0 means one a core. Each holds the features of one shard in memory.
        dtype: how values are stored, "float32" (exactly as released) or "float16".
        skip_bad: enter videos whose file is bad in the failure ledger and go on without their features.
        shard_videos: listed videos a shard covers.

    Raises:
        InputError: the folder is not such a release, or a file in it is damaged or not what it should be.
        WorkspaceError: `out` is in use, cannot be written, or holds something else.
    """
    check_dtype(dtype)
    root = release_root(source)
    lists = read_lists(root / LISTS, FULL_LISTS)
    groups = make_groups(root, lists, shard_videos)
    identity = Identity("mmt", str(root.resolve()), dtype, shard_videos, fingerprint(lists.video_ids))
    with claimed(out, identity) as workspace:
        files = fingerprint([group.key for group in groups])
        check_unchanged(workspace, "files", files)
        dims = {name: spec.dim for name, spec in MADE_BY.items()}
        job = Job(workspace.features, identity, dims, skip_bad)
        pieces, read = read_all(job, groups, workers)
        annotations, notes = _annotations(root, lists, pieces)
        splits, on_splits = make_splits(lists, annotations)
        notes += on_splits
        prepared = prepare_annotations(annotations, splits, out, notes=notes)
        write_manifests(workspace.features, pieces, identity, annotations_fingerprint(workspace))
        skipped = [entry for piece in pieces for entry in piece.skipped]
        write_ledger(workspace, skipped)
        changed = finish(workspace, {"files": files}) or read > 0
    return make_report(prepared, splits, gathered(pieces), {}, skipped, release="MMT", notes=notes, changed=changed)


def release_root(source: Path) -> Path:
    """Return the folder of the release: `source`, or the one folder in it that holds `vid_feat_files`.

    Raises:
        InputError: there is none, or several.
    """
    if not source.is_dir():
        raise InputError(f"{source} is not a folder. Give the folder that holds {FEATURES} and {LISTS}.")
    if (source / FEATURES).is_dir():
        return source
    inside = sorted(path for path in source.iterdir() if (path / FEATURES).is_dir())
    if len(inside) == 1:
        return inside[0]
    found = (
        f"{len(inside)} folders in it do ({some([path.name for path in inside])})" if inside else "nor a folder in it"
    )
    raise InputError(f"{source} does not hold {FEATURES}, {found}. Give the folder that holds {FEATURES} and {LISTS}.")


def make_groups(root: Path, lists: ReleaseLists, size: int) -> list[Group]:
    """Return the listed videos, `size` a group.

    Raises:
        InputError: no listed video has a file, or an id cannot be a file's name.
    """
    ids = lists.video_ids
    if odd := [video_id for video_id in ids if not re.fullmatch(r"[^/\0]{3,}", video_id)]:
        raise InputError(f"{lists.folder} lists {some(odd)}; ids such as video7010, files' names, were expected.")
    paths = {v: root / FEATURES / v[0] / v[1] / v[2] / f"{v}.h5" for v in ids}
    groups = []
    for number, at in enumerate(range(0, len(ids), size)):
        groups.append(Group(number, {v: paths[v] for v in ids[at : at + size] if paths[v].exists()}))
    if not any(group.files for group in groups):
        raise InputError(
            f"none of the {len(ids)} listed videos has a file; {paths[ids[0]]} and so on were expected. Unpack the "
            f"release's features into {root}."
        )
    return groups


def _annotations(root: Path, lists: ReleaseLists, pieces: Sequence[Piece]) -> tuple[Annotations, list[str]]:
    """Return all listed videos and their captions, and what a reader should know of them."""
    texts = {video_id: captions for piece in pieces for video_id, captions in piece.captions.items()}
    ids = lists.video_ids
    captions = tuple(
        Caption(f"{video_id}#{place}", video_id, text)
        for video_id in ids
        for place, text in enumerate(texts.get(video_id, ()))
    )
    notes = list(lists.notes)
    here = {video_id for piece in pieces for video_id in piece.key}
    if absent := [video_id for video_id in ids if video_id not in here]:
        notes.append(f"{len(absent)} listed videos have no h5 file, so no captions and no features: {some(absent)}")
    listed = set(ids)
    if others := [path.stem for path in sorted((root / FEATURES).glob("*/*/*/*.h5")) if path.stem not in listed]:
        notes.append(f"{len(others)} h5 files are of videos in no list, and not imported: {some(others)}")
    return Annotations(tuple(Video(video_id) for video_id in ids), captions), notes


def read_all(job: Job, groups: Sequence[Group], workers: int) -> tuple[list[Piece], int]:
    """Read the groups that are not finished yet. Return all pieces, and how many groups were read.

    Raises:
        InputError: a file is bad (unless bad videos are passed over), or two files hold another dim of one expert.
    """
    pieces = {group.number: _finished(job, group) for group in groups}
    todo = [group for group in groups if pieces[group.number] is None]
    _read(job, todo, workers)
    made = {group.number: _finished(job, group) for group in todo}
    everything = [piece for _, piece in sorted((pieces | made).items()) if piece is not None]
    agreed: dict[str, int] = dict(job.dims)
    for piece in everything:
        for name, spec in piece.specs.items():
            agreed.setdefault(name, spec.dim)  # an expert that was not published has the dim of its first video
    differ = [
        number
        for number, piece in enumerate(everything)
        if any(spec.dim != agreed[name] for name, spec in piece.specs.items())
    ]
    again = replace(job, dims=agreed)
    _read(again, [groups[number] for number in differ], workers)
    for number in differ:
        everything[number] = _finished(job, groups[number]) or everything[number]
    return everything, len(todo) + len(differ)


def _finished(job: Job, group: Group) -> Piece | None:
    piece = read_piece(job.piece(group), group.key)
    return piece if piece is not None and is_whole(job.store, piece, job.identity) else None


def _read(job: Job, groups: Sequence[Group], workers: int) -> None:
    if groups:
        with progress("import", sum(len(group.files) for group in groups), "videos") as advance:
            for group in each_done(partial(read_group, job), groups, workers):
                advance(len(group.files), "")


def read_group(job: Job, group: Group) -> None:
    """Read a group's files, write one shard an expert, and write the piece down as the last act.

    Raises:
        InputError: a file is bad, and bad videos are not passed over.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    captions, examined, skipped = {}, [], []
    key, dims = group.key, dict(job.dims)
    for video_id, path in group.files.items():
        check_stop()
        captions[video_id], found, error = _read_video(path, dims, job.identity.dtype)
        if error is not None:
            if not job.skip_bad:
                raise error
            stage = "features" if captions[video_id] else "captions"
            skipped.append(Skipped(video_id, ALL_EXPERTS, stage, str(error)))
            continue
        examined.append(video_id)
        for name, row in found.items():
            dims.setdefault(name, row["dim"])
            rows.setdefault(name, []).append(row)
    specs = {name: _spec(name, dims[name]) for name in sorted(rows)}
    shards: dict[str, dict[int, ShardFacts]] = {}
    for name, spec in specs.items():
        path = job.store / name / shard_name(group.number)
        shards[name] = {group.number: keep_or_write(path, spec, rows.pop(name), examined, job.identity)}
    write_piece(job.piece(group), Piece(key, {group.number: examined}, shards, specs, captions, skipped))


def _read_video(
    path: Path, dims: Mapping[str, int], dtype: str
) -> tuple[list[str], dict[str, dict[str, Any]], InputError | None]:
    """Return captions, expert -> encoded row, and what is wrong; a bad video has no rows, but captions if readable."""
    captions: list[str] = []
    found: dict[str, ExpertFeatures] = {}
    try:
        with opened(path) as file:
            captions = read_captions(path, file)
            found = read_features(path, file, dims)
        return captions, {name: encode_row(path.stem, f, None, dtype) for name, f in found.items()}, None
    except InputError as error:
        return captions, {}, error
    except ValueError as error:
        return captions, {}, InputError(f"{path}: {error}. Import with --dtype float32, or pass --skip-bad.")


def _spec(name: str, dim: int) -> ExpertSpec:
    published = MADE_BY.get(name)
    return published or ExpertSpec(name, dim, "video", None, f"mmt-release/{name}", pretrained_on="not stated")
