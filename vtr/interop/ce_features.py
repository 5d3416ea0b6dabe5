"""Reading the features that CE's authors released (Liu et al. 2019, github.com/albanie/collaborative-experts)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vtr.annotations.prepare import prepare_annotations
from vtr.annotations.tables import annotations_fingerprint
from vtr.errors import InputError, some
from vtr.interop.ce_layout import (
    CAPTIONS,
    FULL_LISTS,
    PUBLISHED,
    TEXT_FOLDER,
    ReleasedFile,
    choose_experts,
    find_experts,
    find_texts,
    release_root,
)
from vtr.interop.ce_pickles import AGAIN, Job, load_dictionary, read_all
from vtr.interop.features import (
    ALL_EXPERTS,
    PIECES,
    SHARD_VIDEOS,
    Gathered,
    Identity,
    Piece,
    Skipped,
    check_dtype,
    check_unchanged,
    claimed,
    finish,
    gathered,
    read_piece,
    stamp,
    write_ledger,
    write_manifests,
    write_piece,
)
from vtr.interop.import_report import ImportReport, make_report
from vtr.interop.release_splits import ReleaseLists, make_splits, read_lists
from vtr.types import Annotations, Caption, Video
from vtr.workspace import fingerprint


def import_ce_features(
    source: Path,
    out: Path,
    *,
    experts: Sequence[str] | None = None,
    dtype: str = "float32",
    skip_bad: bool = False,
    shard_videos: int = SHARD_VIDEOS,
) -> ImportReport:
    """Read CE's released features into the workspace `out`. Kill it at any moment and run it again.

    Each pickle is read whole, one after the other: there must be memory for the largest. Run it again with other
    `experts` to add them.

    Args:
        source: the folder that holds `raw-captions.pkl` and the folders `aggregated_*`, `structured-symlinks`.
        out: the workspace.
        experts: which to import; None for those of the nine of the paper that are there.
        dtype: how values are stored, "float32" (exactly as released) or "float16".
        skip_bad: enter what is bad in the failure ledger and go on: a video without the expert in whose pickle it is
            bad, and without anything where its captions are.
        shard_videos: listed videos a shard covers.

    Raises:
        InputError: the folder is not such a release, an expert is not in it, or a file is damaged or not what it
            should be; a pickle that would run code is refused.
        WorkspaceError: `out` is in use, cannot be written, or holds something else.
    """
    check_dtype(dtype)
    root = release_root(source)
    lists = read_lists(root, FULL_LISTS)
    there = find_experts(root)
    chosen = choose_experts(root, there, experts)
    identity = Identity("ce", str(root.resolve()), dtype, shard_videos, fingerprint(lists.video_ids))
    with claimed(out, identity) as workspace:
        before = [name for name in there if (workspace.features / PIECES / f"{name}.json").exists()]
        released = [file for name, file in there.items() if name in {*chosen, *before}] + find_texts(root)
        files = _marks(root, released)
        for name, mark in files.items():
            check_unchanged(workspace, name, mark)
        kept = workspace.features / PIECES / "captions.json"
        captions, bad = read_captions(root / CAPTIONS, lists.video_ids, skip_bad, kept)
        without = {entry.video_id for entry in bad}
        videos = [video_id for video_id in lists.video_ids if video_id not in without]
        job = Job(workspace, identity, stamp(root / CAPTIONS), videos, captions, skip_bad)
        pieces, read = read_all(job, released)
        annotations = _annotations(lists, captions)
        splits, on_splits = make_splits(lists, annotations)
        found = {file: gathered([piece]) for file, piece in zip(released, pieces, strict=True)}
        notes = [*lists.notes, *on_splits, *_notes(lists, captions, there, found)]
        prepared = prepare_annotations(annotations, splits, out, notes=notes)
        for file, piece in zip(released, pieces, strict=True):
            write_manifests(file.store(workspace), [piece], identity, annotations_fingerprint(workspace))
        skipped = bad + [entry for piece in pieces for entry in piece.skipped]
        write_ledger(workspace, skipped)
        changed = finish(workspace, files) or read > 0
    videos_have, texts_have = (_of_kind(found, is_text) for is_text in (False, True))
    return make_report(prepared, splits, videos_have, texts_have, skipped, release="CE", notes=notes, changed=changed)


def _marks(root: Path, released: Sequence[ReleasedFile]) -> dict[str, str]:
    """Return what tells each released file, and that of the captions, from a changed one."""
    paths = {file.label: file.path for file in released} | {"captions": root / CAPTIONS}
    return {label: fingerprint(stamp(path)) for label, path in paths.items()}


def _of_kind(found: Mapping[ReleasedFile, Mapping[str, Gathered]], is_text: bool) -> dict[str, Gathered]:
    return {name: held for file, of in found.items() if file.is_text == is_text for name, held in of.items()}


def read_captions(
    path: Path, video_ids: Sequence[str], skip_bad: bool, kept: Path
) -> tuple[Mapping[str, Sequence[str]], list[Skipped]]:
    """Return video id -> captions, each its words joined by single spaces, for the listed videos that have an entry.

    Args:
        path: the pickle.
        video_ids: the listed videos.
        skip_bad: pass over videos whose captions are bad; they are returned too.
        kept: where an earlier run has written down what it read, or this one does.

    Raises:
        InputError: the file is damaged or would run code, or (unless skipped) a video's captions are bad.
    """
    if (piece := read_piece(kept, stamp(path))) is not None:
        return piece.captions, list(piece.skipped)
    key, content = stamp(path), load_dictionary(path, "captions")
    captions, skipped = {}, []
    for video_id in video_ids:
        if video_id not in content:
            continue
        try:
            captions[video_id] = _captions(f"{path}: {video_id}", content[video_id])
        except InputError as error:
            if not skip_bad:
                raise
            skipped.append(Skipped(video_id, ALL_EXPERTS, "captions", str(error)))
    write_piece(kept, Piece(key, {}, {}, {}, captions, skipped))
    return captions, skipped


def _captions(where: str, entry: Any) -> list[str]:
    if not isinstance(entry, list | tuple | np.ndarray) or not len(entry):
        raise InputError(f"{where} has {entry!r:.80}, a list of captions was expected. {AGAIN}")
    texts = []
    for place, caption in enumerate(entry):
        words = [caption] if isinstance(caption, str) else caption
        if not isinstance(words, list | tuple | np.ndarray) or not all(isinstance(word, str) for word in words):
            raise InputError(f"{where}, caption {place} is {caption!r:.80}, words were expected. {AGAIN}")
        if not (text := " ".join(words)).strip():
            raise InputError(f"{where}, caption {place} has no words, one or more were expected. {AGAIN}")
        texts.append(text)
    return texts


def _annotations(lists: ReleaseLists, captions: Mapping[str, Sequence[str]]) -> Annotations:
    return Annotations(
        tuple(Video(video_id) for video_id in lists.video_ids),
        tuple(
            Caption(f"{v}#{place}", v, text) for v in lists.video_ids for place, text in enumerate(captions.get(v, ()))
        ),
    )


def _notes(
    lists: ReleaseLists,
    captions: Mapping[str, Sequence[str]],
    there: Mapping[str, ReleasedFile],
    found: Mapping[ReleasedFile, Mapping[str, Gathered]],
) -> list[str]:
    """Return what a reader should know of what is not there."""
    notes = []
    if bare := [video_id for video_id in lists.video_ids if video_id not in captions]:
        notes.append(f"{len(bare)} listed videos have no captions: {some(bare)}")
    if absent := [name for name in PUBLISHED if name not in there]:
        notes.append(f"experts of the paper that are not there: {', '.join(absent)}")
    if others := [name for name, file in there.items() if file not in found]:
        notes.append(f"also there, imported if named with --experts: {', '.join(others)}")
    if empty := [file.label for file, held in found.items() if not held]:
        notes.append(f"without features of any listed video, so not in the store: {', '.join(empty)}")
    if not any(file.is_text for file in found):
        notes.append(f"no text features in {TEXT_FOLDER}: train with a text encoder")
    return notes
