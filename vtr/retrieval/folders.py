"""Which videos lie in the folders of a library, what they are called in it, and whether their files have changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from vtr.annotations import collection
from vtr.annotations.folder import is_video, visible_files
from vtr.annotations.images import are_frames
from vtr.annotations.locators import Locator
from vtr.errors import InputError, some
from vtr.retrieval.shelf import Records
from vtr.types import Annotations, Video


@dataclass(frozen=True, slots=True)
class FoundVideo:
    """A video of a folder.

    Attributes:
        video: its id in the library, and where it lies.
        folder: the folder, as `Records` names it.
        signature: see `signature`.
        captions: those that lie beside it.
    """

    video: Video
    folder: str
    signature: str
    captions: tuple[str, ...] = ()


def find_in(
    folder: Path, records: Records, library: Annotations, reserved: Collection[str], frame_rate: float | None = None
) -> list[FoundVideo]:
    """Return the videos of a folder under their ids in the library; none where the folder holds none.

    A video that the library holds keeps its id. Those of the first folder are called as `vtr prepare folder` would; the
    ids of a further folder begin with its name. Files that came into the library from elsewhere are passed over.

    Args:
        folder: where to look; its prefix is entered in `records`.
        records, library: what is known.
        reserved: ids that no new video gets.
        frame_rate: images a second of folders of frames.

    Raises:
        InputError: see `find_collection`; or two videos would have one id.
    """
    name = str(folder.resolve())
    content = _look(folder, frame_rate, records, library, reserved, name)
    own = {video_id for video_id, record in records.files.items() if record.folder == name}
    elsewhere = {video.path: video.id for video in library.videos if video.id not in own}
    prefix, found = records.prefixes[name], []
    for inner, locator in content.locators.items():
        if str(locator) not in elsewhere:
            video = Video(f"{prefix}{inner}", str(locator))
            found.append(FoundVideo(video, name, signature(locator), content.captions.get(inner, ())))
    taken = {*reserved, *(video.id for video in library.videos)} - own
    if clashes := sorted(one.video.id for one in found if one.video.id in taken):
        raise InputError(f"{folder} holds videos whose ids are taken: {some(clashes)}. Rename them.")
    return found


def _look(
    folder: Path,
    frame_rate: float | None,
    records: Records,
    library: Annotations,
    reserved: Collection[str],
    name: str,
) -> collection.Collection:
    if name not in records.prefixes:
        records.prefixes[name] = _prefix(folder, records, library, reserved)
    if is_empty(folder):
        return collection.Collection()
    prefix = records.prefixes[name]
    own = [video for video in library.videos if video.id in records.files and records.files[video.id].folder == name]
    known = [Video(video.id.removeprefix(prefix), video.path) for video in own]
    held = {video.id for video in own}
    others: Mapping[str, str | None] = {
        **dict.fromkeys(reserved),
        **{video.id: None for video in library.videos if video.id not in held},
        **{video_id: path for video_id, path in records.former.items() if video_id not in held},
    }
    former = [Video(i.removeprefix(prefix), path) for i, path in others.items() if i.startswith(prefix)]
    return collection.find_collection(folder, frame_rate, known, former)


def _prefix(folder: Path, records: Records, library: Annotations, reserved: Collection[str]) -> str:
    """Return what the ids of a new folder's videos begin with: nothing in an empty library, else the folder's name."""
    ids = {*reserved, *(video.id for video in library.videos), *records.former}
    used = set(records.prefixes.values())
    if not used and not library.videos:
        return ""
    base = folder.resolve().name or "root"
    number = 1
    while True:
        prefix = f"{base}/" if number == 1 else f"{base}-{number}/"
        if prefix not in used and not any(video_id.startswith(prefix) for video_id in ids):
            return prefix
        number += 1


def is_empty(folder: Path) -> bool:
    """Return whether a folder holds nothing that may be a video."""
    for files in visible_files(folder).values():
        if are_frames([path.name for path in files]):
            return False
        if any(is_video(path) or path.suffix.lower() == collection.TAR_SUFFIX for path in files):
            return False
    return True


def signature(locator: Locator) -> str:
    """Return what changes when the file of a video does: size and time of change; of images, of all of them."""
    path = Path(locator.path)
    if not locator.is_local or not path.exists():
        return ""
    if path.is_dir():
        stats = [file.stat() for file in sorted(path.iterdir()) if file.is_file()]
        return f"{len(stats)}-{sum(s.st_size for s in stats)}-{max((s.st_mtime_ns for s in stats), default=0)}"
    stat = path.stat()
    return f"{stat.st_size}-{stat.st_mtime_ns}"
