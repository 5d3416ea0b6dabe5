"""What a library knows of its videos besides their features: annotations, and which files they were read from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from vtr.annotations.locators import absolute, relative
from vtr.annotations.tables import load_annotations, save
from vtr.errors import WorkspaceError
from vtr.files import lock, read_json, write_json
from vtr.retrieval.library import SPLIT
from vtr.types import Annotations, Caption, Split, Video
from vtr.workspace import FORMAT, MANIFEST, Workspace

RECORDS = "files.json"


@dataclass(frozen=True, slots=True)
class Record:
    """A file that was put in.

    Attributes:
        folder: the folder it was found in.
        signature: tells its content from another's: size and time of change.
        state: new, to be read for the first time; redo, to be read once more as it has changed; read; gone, being
            taken out.
    """

    folder: str
    signature: str
    state: Literal["new", "redo", "read", "gone"]


@dataclass
class Records:
    """The files of a library, and how it was begun.

    Attributes:
        prefixes: folder -> what the ids of its videos begin with.
        files: video id -> its file's record; videos taken over from the run's workspace have none.
        former: id -> path of videos that were taken out: the id is no other video's.
        took: the gallery that the library began with, "" for none, None where that is not settled yet.
        window_seconds: how long the stretches of long videos are.
    """

    prefixes: dict[str, str] = field(default_factory=dict)
    files: dict[str, Record] = field(default_factory=dict)
    former: dict[str, str] = field(default_factory=dict)
    took: str | None = None
    window_seconds: float = 30.0

    @classmethod
    def load(cls, root: Path) -> Records:
        """Read a library's records, new ones where there are none; folders absolute.

        Raises:
            WorkspaceError: they are damaged.
        """
        path = root / RECORDS
        if not path.exists():
            return cls()
        content: dict[str, Any] = read_json(path)
        try:
            place = root.resolve()
            prefixes = {absolute(folder, place): prefix for folder, prefix in content["prefixes"].items()}
            files = {video_id: Record(**record) for video_id, record in content["files"].items()}
            files = {i: replace(record, folder=absolute(record.folder, place)) for i, record in files.items()}
            former = {video_id: path and absolute(path, place) for video_id, path in content["former"].items()}
            return cls(prefixes, files, former, content["took"], float(content["window_seconds"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise WorkspaceError(f"{path} is damaged ({error}). Delete {root} and ingest again.") from error

    def save(self, root: Path) -> None:
        """Write them, whole or not at all; folders relative to the library, so that both can be moved together."""
        place = root.resolve()
        files = {i: asdict(record) | {"folder": relative(record.folder, place)} for i, record in self.files.items()}
        write_json(
            root / RECORDS,
            {
                "format": FORMAT,
                "prefixes": {relative(folder, place): prefix for folder, prefix in self.prefixes.items()},
                "files": files,
                "former": {video_id: path and relative(path, place) for video_id, path in self.former.items()},
                "took": self.took,
                "window_seconds": self.window_seconds,
            },
        )

    def mark(self, video_ids: Iterable[str], state: Literal["new", "redo", "read", "gone"]) -> None:
        """Give the records of some videos a state."""
        for video_id in video_ids:
            self.files[video_id] = replace(self.files[video_id], state=state)


def annotations_of(workspace: Workspace) -> Annotations:
    """Return a library's annotations, empty ones where it has none yet."""
    if not (workspace.annotations / MANIFEST).exists():
        return Annotations((), ())
    return load_annotations(workspace)


def put(workspace: Workspace, videos: Sequence[Video], captions: Mapping[str, Sequence[Caption]]) -> None:
    """Put videos and captions into a library's annotations; those that are there are replaced.

    Args:
        workspace: the library's.
        videos: with absolute paths.
        captions: video id -> captions, of any videos; those of videos that are not in the library are left out.
    """
    held = annotations_of(workspace)
    new = {video.id: video for video in videos}
    kept = [new.pop(video.id, video) for video in held.videos]
    all_videos = (*kept, *new.values())
    told = {video.id: captions[video.id] for video in all_videos if video.id in captions}
    texts = [caption for caption in held.captions if caption.video_id not in told]
    texts += [caption for many in told.values() for caption in many]
    write(workspace, Annotations(all_videos, tuple(texts)))


def take_out(workspace: Workspace, video_ids: Collection[str]) -> None:
    """Take videos and their captions out of a library's annotations."""
    held = annotations_of(workspace)
    videos = tuple(video for video in held.videos if video.id not in video_ids)
    write(workspace, Annotations(videos, tuple(c for c in held.captions if c.video_id not in video_ids)))


def write(workspace: Workspace, annotations: Annotations) -> None:
    """Write a library's annotations, all of its videos in one split."""
    Workspace.create(workspace.root)
    split = Split(SPLIT, (), (), tuple(video.id for video in annotations.videos), note="all that was ingested")
    with lock(workspace.prepare_lock, f"change the annotations of {workspace.root}"):
        save(workspace, annotations, [split], {"parts": [], "disagreements": [], "notes": []})
