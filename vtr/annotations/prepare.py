"""The prepare stage: annotations, splits and video files become a workspace, and every count is reported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vtr.annotations.collection import folder_annotations
from vtr.annotations.folder import find_videos, ignored
from vtr.annotations.listed import list_annotations
from vtr.annotations.lists import USUAL, Columns, read_list
from vtr.annotations.locators import absolute, relative
from vtr.annotations.msrvtt_layouts import recognise, splits_in, videos_in
from vtr.annotations.splits import hashed_split, one_caption_a_video
from vtr.annotations.tables import REPORT, load_videos, save
from vtr.errors import InputError, WorkspaceError, some
from vtr.files import lock, read_json, remove_temporaries
from vtr.types import PARTS, Annotations, Part, Split, Video
from vtr.workspace import MANIFEST, Workspace


@dataclass(frozen=True, slots=True)
class PartCounts:
    """What one part of a split holds: videos, those with a file, query captions (None for a training part)."""

    split: str
    part: Part
    videos: int
    files: int
    queries: int | None


@dataclass(frozen=True)
class PrepareReport:
    """What prepare found.

    Attributes:
        workspace: where it was written.
        num_videos, num_files, num_captions: in all.
        changed: False when the workspace held the same already.
        parts: the counts of each split's parts; empty parts are left out.
        disagreements: queries on which the sources disagree in spacing or punctuation, one by one.
        notes: what else a reader should know.
    """

    workspace: Workspace
    num_videos: int
    num_files: int
    num_captions: int
    changed: bool
    parts: tuple[PartCounts, ...]
    disagreements: tuple[str, ...]
    notes: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.num_videos} videos ({self.num_files} with a file), {self.num_captions} captions in "
            f"{self.workspace.root}{'' if self.changed else '; nothing has changed'}",
            *counts_in_lines(self.parts),
            *self.notes,
        ]
        if self.disagreements:
            lines.append(
                f"{len(self.disagreements)} queries of the CSV differ from the annotations in spacing or punctuation "
                "only; the annotations' text is used:"
            )
            lines += [f"  {line}" for line in self.disagreements]
        if self.num_files:
            lines.append(f"next: vtr extract {self.workspace.root}")
        else:
            lines.append("no video has a file: run again with --videos, or for a list --root")
        return "\n".join(lines)


def prepare_msrvtt(
    annotations: Path | None, splits: Path | None, videos: Path | None, out: Path, root: Path | None = None
) -> PrepareReport:
    """Read MSR-VTT into the workspace `out`.

    What `root` holds is found by the names of its files; the other folders say where something else lies.

    Args:
        annotations: folder of the annotation files, in one of the layouts of `vtr.annotations.msrvtt_layouts`.
        splits: folder of the split lists and the 1k-A queries, all of which must then be there.
        videos: folder of videoN.mp4, which may hold only some; with neither it nor `root` there are no videos.
        out: the workspace.
        root: a folder with all of it, as it is passed on. Splits whose lists it lacks are left out, with a note.

    Raises:
        InputError: a source is missing, damaged, or not what was published.
        WorkspaceError: `out` cannot be written or is in use.
    """
    told = annotations or root
    listed = splits or root
    if told is None or listed is None:
        raise InputError("give the folder that MSR-VTT was unpacked in, or both --annotations and --splits.")
    recognised = recognise(told)
    if videos is not None:
        find_videos(videos)  # a mistake in the shortest argument is told before the long reading
    read = recognised.layout.read(recognised.places)
    made, list_notes = splits_in(listed, recognised, read)
    if splits is not None and made.missing:
        raise InputError(f"{splits}: {' '.join(made.missing)}")
    content = read[0]
    files, video_notes = _msrvtt_files(videos, root, content)
    if files:
        content = replace(content, videos=tuple(_with_file(video, files.get(video.id)) for video in content.videos))
    notes = [*recognised.notes, *list_notes, *video_notes, *made.missing]
    return prepare_annotations(content, made.splits, out, made.differ, notes)


def _msrvtt_files(videos: Path | None, root: Path | None, content: Annotations) -> tuple[dict[str, Path], list[str]]:
    """Return video id -> file of the folder given for videos, or else of the whole data set's, and notes."""
    if videos is None:
        return ({}, []) if root is None else videos_in(root, content.video_by_id)
    files, notes = videos_in(videos, content.video_by_id)
    if not files:
        raise InputError(f"{notes[0]}: none is named like {content.videos[0].id}.mp4.")
    return files, notes


def prepare_folder(folder: Path, captions: Path | None, out: Path, frame_rate: float | None = None) -> PrepareReport:
    """Read a folder of videos, tar files of videos and folders of frames into the workspace `out`.

    With captions, from a CSV or else from the tar files, the splits are `folder` (parts by hash, every caption a
    query), `folder-single` (one query a video) and `folder-all` (every video, no queries: to be searched). Without,
    `folder` has every video in its test part and no queries. Videos known from an earlier run keep their ids and their
    order; new ones follow.

    Args:
        folder: where the videos are.
        captions: a CSV with the columns video and caption.
        out: the workspace.
        frame_rate: images a second of the folders of frames.

    Raises:
        InputError: the folder or the CSV is missing or holds a mistake.
        WorkspaceError: `out` cannot be written or is in use.
    """
    workspace = Workspace(out)
    content, found = folder_annotations(folder, captions, frame_rate, _previous(workspace), _former(workspace))
    notes = list(found.notes)
    if found.others:
        notes.append(f"ignored (no videos, or not finished): {ignored(found.others)}")
    return _prepare_own("folder", content, None, out, notes)


def prepare_list(
    source: Path, out: Path, *, root: Path | None = None, columns: Columns = USUAL, frame_rate: float | None = None
) -> PrepareReport:
    """Read a list of videos into the workspace `out`; see `vtr.annotations.lists` for what a list may be.

    The splits are as those of a folder, named `list`, `list-single` and `list-all`; where the list has a column of
    parts, these are the parts of `list`. Files that are not there are reported, and their videos kept without a file.

    Args:
        source: the list.
        out: the workspace.
        root: relative paths are seen from here; by default from the list's folder.
        columns: what the columns are called, where it is not one of the usual names.
        frame_rate: images a second of paths that are folders of frames.

    Raises:
        InputError: the list is missing or holds a mistake; with the line.
        WorkspaceError: `out` cannot be written or is in use.
    """
    listed = list_annotations(read_list(source, columns), source, root or source.parent, frame_rate)
    return _prepare_own("list", listed.annotations, listed.split, out, list(listed.notes))


def _prepare_own(
    name: str, content: Annotations, split: Split | None, out: Path, notes: Sequence[str]
) -> PrepareReport:
    """Write people's own videos, known ones first, with the splits made for them; `split` has parts they gave."""
    with _prepared(out) as workspace:
        known = {video.id: place for place, video in enumerate(_previous(workspace))}
        ordered = sorted(content.videos, key=lambda video: known.get(video.id, len(known)))
        content = replace(content, videos=tuple(ordered))
        ids = tuple(video.id for video in ordered)
        whole = f"every video of the {name}"
        if not content.captions:
            splits = [split or Split(name, (), (), ids, note=f"{whole}; no captions")]
            return _write(workspace, content, splits, notes=notes)
        split = split or hashed_split(name, content)
        everything = Split(f"{name}-all", (), (), ids, (), f"{whole}, to be searched; no queries")
        splits = [split, one_caption_a_video(split, content), everything]
        if bare := [video_id for video_id, theirs in content.captions_by_video.items() if not theirs]:
            notes = [*notes, f"{len(bare)} videos have no caption: {some(bare)}"]
        return _write(workspace, content, splits, notes=notes)


def prepare_annotations(
    annotations: Annotations,
    splits: Sequence[Split],
    out: Path,
    disagreements: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> PrepareReport:
    """Write ready-made annotations and splits into the workspace `out` and report their counts.

    Args:
        annotations: videos (paths absolute or None) and captions.
        splits: at least one.
        out: the workspace.
        disagreements, notes: go into the report.

    Raises:
        InputError: a split names a video or query that the annotations do not hold, or two have one name.
        WorkspaceError: `out` cannot be written, is in use, or holds other videos.
    """
    _check_splits(annotations, splits)
    with _prepared(out) as workspace:
        return _write(workspace, annotations, splits, disagreements, notes)


@contextlib.contextmanager
def _prepared(out: Path) -> Iterator[Workspace]:
    workspace = Workspace.create(out)
    with lock(workspace.prepare_lock, f"prepare {out}"):
        remove_temporaries(out)
        yield workspace


def _write(
    workspace: Workspace,
    annotations: Annotations,
    splits: Sequence[Split],
    disagreements: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> PrepareReport:
    """Do what all ways to prepare share, while the lock is held."""
    previous = {video.id: video.path for video in _previous(workspace)}
    if previous and not previous.keys() & annotations.video_by_id.keys():
        raise WorkspaceError(
            f"{workspace.root} holds {len(previous)} other videos ({some(list(previous))}), none of which is among "
            f"these {len(annotations.videos)}. Choose another --out, or delete it."
        )
    notes = [*notes, *_moved(previous, annotations), *_hidden(workspace, splits)]
    parts = tuple(count for split in splits for count in count_parts(annotations, split))
    root = workspace.root.resolve()
    former = {video.id: video.path for video in _former(workspace)} | previous
    report = {
        "parts": [asdict(part) for part in parts],
        "disagreements": list(disagreements),
        "notes": notes,
        "former": {
            video_id: path and relative(path, root)
            for video_id, path in sorted(former.items())
            if video_id not in annotations.video_by_id
        },
    }
    changed = save(workspace, annotations, splits, report)
    return PrepareReport(
        workspace=workspace,
        num_videos=len(annotations.videos),
        num_files=sum(video.path is not None for video in annotations.videos),
        num_captions=len(annotations.captions),
        changed=changed,
        parts=parts,
        disagreements=tuple(disagreements),
        notes=tuple(notes),
    )


def _previous(workspace: Workspace) -> tuple[Video, ...]:
    """Return the videos the workspace holds so far; none where its table is damaged, as it is about to be replaced."""
    if not (workspace.annotations / MANIFEST).exists():
        return ()
    try:
        return load_videos(workspace)
    except WorkspaceError:
        return ()


def _former(workspace: Workspace) -> tuple[Video, ...]:
    """Return the videos that the workspace has held and holds no more, for their ids."""
    try:
        held = read_json(workspace.annotations / REPORT).get("former", {})
    except InputError:  # there is none, or it is damaged
        return ()
    root = workspace.root.resolve()
    return tuple(Video(video_id, path and absolute(path, root)) for video_id, path in held.items())


def _moved(previous: Mapping[str, str | None], annotations: Annotations) -> list[str]:
    moved = [v.id for v in annotations.videos if v.path and (before := previous.get(v.id)) and before != v.path]
    if not moved:
        return []
    return [
        f"{len(moved)} videos have another file than before ({some(moved)}); features extracted from the former files "
        "stay. If these are other videos, choose another --out."
    ]


def _hidden(workspace: Workspace, splits: Sequence[Split]) -> list[str]:
    hidden = [split.name for split in splits if (workspace.own_splits / f"{split.name}.json").exists()]
    return [f"splits of your own of the same name are hidden by these: {', '.join(hidden)}"] if hidden else []


def _check_splits(annotations: Annotations, splits: Sequence[Split]) -> None:
    for split in splits:
        if unknown := [v for part in PARTS for v in split.part(part) if v not in annotations.video_by_id]:
            raise InputError(f"split {split.name} names videos the annotations do not hold: {some(unknown)}.")
    names = [split.name for split in splits]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"several splits are named {', '.join(repeated)}. Names must be unique.")


def _with_file(video: Video, path: Path | None) -> Video:
    return replace(video, path=None if path is None else str(path.resolve()))


def count_parts(annotations: Annotations, split: Split) -> list[PartCounts]:
    """Return the counts of a split's parts; empty parts are left out."""
    counts = []
    for part in PARTS:
        if ids := split.part(part):
            files = sum(annotations.video_by_id[video_id].path is not None for video_id in ids)
            queries = None if part == "train" else len(split.queries(part, annotations))
            counts.append(PartCounts(split.name, part, len(ids), files, queries))
    return counts


def counts_in_lines(parts: Sequence[PartCounts]) -> list[str]:
    """Return counts as lines of a table."""
    rows = [("split and part", "videos with a file", "queries")]
    rows += [
        (f"{p.split} {p.part}:", f"{p.files} of {p.videos}", "" if p.queries is None else str(p.queries)) for p in parts
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        f"  {head.ljust(widths[0])}  {files.rjust(widths[1])}  {queries.rjust(widths[2])}".rstrip()
        for head, files, queries in rows
    ]
