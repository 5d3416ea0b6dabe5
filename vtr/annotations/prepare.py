"""The prepare stage: annotations, splits and video files become a workspace, and every count is reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vtr.annotations.folder import find_videos, folder_annotations
from vtr.annotations.msrvtt import read_annotations, read_splits
from vtr.annotations.splits import hashed_split, one_caption_a_video
from vtr.annotations.tables import MAKE, load_annotations, save
from vtr.errors import InputError
from vtr.files import lock
from vtr.types import PARTS, Annotations, Split, Video
from vtr.workspace import MANIFEST, Workspace, read_manifest


@dataclass(frozen=True)
class PrepareReport:
    """What prepare found.

    Attributes:
        changed: False when the workspace held the same already.
        coverage: one line a split and part: videos, those with a file, queries.
        disagreements: what the sources disagree on, entry by entry.
    """

    workspace: Workspace
    num_videos: int
    num_files: int
    num_captions: int
    changed: bool
    coverage: tuple[str, ...]
    disagreements: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.num_videos} videos ({self.num_files} with a file), {self.num_captions} captions"
            f"{'' if self.changed else '; nothing has changed'}",
            *(f"  {line}" for line in self.coverage),
        ]
        if self.disagreements:
            lines.append(f"{len(self.disagreements)} disagreements between the sources:")
            lines += [f"  {line}" for line in self.disagreements]
        if self.num_files:
            lines.append(f"next: vtr extract {self.workspace.root}")
        else:
            lines.append("no video has a file: run again with --videos, or import features that others extracted")
        return "\n".join(lines)


def prepare_msrvtt(annotations: Path, splits: Path, videos: Path | None, out: Path) -> PrepareReport:
    """Read MSR-VTT into the workspace `out`.

    Args:
        annotations: folder of the official JSON, plain or zipped.
        splits: folder of the split lists and the 1k-A queries.
        videos: folder of videoN.mp4, which may hold only some; None when there are no videos.
        out: the workspace.

    Raises:
        InputError: a source is missing, damaged, or not what was published.
        WorkspaceError: `out` cannot be written or is in use.
    """
    content, full = read_annotations(annotations)
    found, disagreements = read_splits(splits, content, full)
    if videos is not None:
        files = {Path(name).name: path for name, path in find_videos(videos).items()}
        if not files.keys() & content.video_by_id.keys():
            raise InputError(f"{videos} holds {len(files)} videos, but none named like {content.videos[0].id}.mp4.")
        content = replace(content, videos=tuple(_with_file(video, files.get(video.id)) for video in content.videos))
    return prepare_annotations(content, found, out, disagreements)


def prepare_folder(folder: Path, captions: Path | None, out: Path) -> PrepareReport:
    """Read a folder of videos, with or without captions, into the workspace `out`.

    With captions, the splits are `folder` (parts by hash, every caption a query) and `folder-single` (one query a
    video). Without, `folder` has every video in its test part: the gallery to search. Videos known from an earlier
    run keep their order; new ones follow.

    Raises:
        InputError: the folder or the CSV is missing or holds a mistake.
        WorkspaceError: `out` cannot be written or is in use.
    """
    content = folder_annotations(folder, captions)
    workspace = Workspace.create(out)
    if (workspace.annotations / MANIFEST).exists():
        known = {video.id: place for place, video in enumerate(load_annotations(workspace).videos)}
        ordered = sorted(content.videos, key=lambda video: known.get(video.id, len(known)))
        content = replace(content, videos=tuple(ordered))
    if captions is None:
        ids = tuple(video.id for video in content.videos)
        splits = [Split("folder", (), (), ids, note="every video of the folder; no captions")]
    else:
        split = hashed_split("folder", content)
        splits = [split, one_caption_a_video(split, content)]
    return prepare_annotations(content, splits, out)


def prepare_annotations(
    annotations: Annotations, splits: Sequence[Split], out: Path, disagreements: Sequence[str] = ()
) -> PrepareReport:
    """Write ready-made annotations and splits into the workspace `out` and report their counts.

    Raises:
        InputError: a split names a video or query that the annotations do not hold.
        WorkspaceError: `out` cannot be written or is in use.
    """
    for split in splits:
        unknown = [v for part in PARTS for v in split.part(part) if v not in annotations.video_by_id]
        if unknown:
            raise InputError(f"split {split.name} names videos the annotations do not hold: {', '.join(unknown[:5])}.")
    coverage = tuple(line for split in splits for line in _coverage(annotations, split))
    workspace = Workspace.create(out)
    with lock(workspace.annotations / ".lock", f"prepare {out}"):
        report = {"coverage": list(coverage), "disagreements": list(disagreements)}
        changed = save(workspace, annotations, splits, report)
    read_manifest(workspace.annotations, MAKE)
    files = sum(video.path is not None for video in annotations.videos)
    counts = (len(annotations.videos), files, len(annotations.captions))
    return PrepareReport(workspace, *counts, changed, coverage, tuple(disagreements))


def _with_file(video: Video, path: Path | None) -> Video:
    return replace(video, path=None if path is None else str(path.resolve()))


def _coverage(annotations: Annotations, split: Split) -> list[str]:
    lines = []
    for part in PARTS:
        ids = split.part(part)
        if not ids:
            continue
        files = sum(annotations.video_by_id[video_id].path is not None for video_id in ids)
        queries = "" if part == "train" else f", {len(split.queries(part, annotations))} queries"
        lines.append(f"{split.name} {part}: {files} of {len(ids)} videos have a file{queries}")
    return lines
