"""What a folder holds: video files, tar files of videos, folders of frames, and the captions in the tar files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from vtr.annotations.folder import is_video, name_in, no_video, read_captions, visible_files
from vtr.annotations.images import are_frames
from vtr.annotations.locators import Locator
from vtr.annotations.tars import read_tar
from vtr.errors import InputError, some
from vtr.types import Annotations, Caption, Video

TAR_SUFFIX = ".tar"


@dataclass
class Collection:
    """The videos of a folder.

    Attributes:
        locators: video id -> where it lies, local paths absolute. A file's id is its path relative to the folder
            without suffix, a folder of frames' is its relative path, that of a video in a tar file is the tar file's
            id, "/" and its name there without suffix.
        captions: those that tar files hold, by video id.
        num_others: files that are none of these.
        notes: what is damaged, in words.
    """

    locators: dict[str, Locator] = field(default_factory=dict)
    captions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    num_others: int = 0
    notes: list[str] = field(default_factory=list)

    def add(self, video_id: str, locator: Locator) -> None:
        """Add a video.

        Raises:
            InputError: another one has the same id.
        """
        if (other := self.locators.setdefault(video_id, locator)) is not locator:
            raise InputError(f"{other} and {locator} would both be the video '{video_id}'. Rename or move one of them.")


def find_collection(folder: Path, frame_rate: float | None = None) -> Collection:
    """Return the videos of a folder and its sub-folders, links followed, in the order of their ids.

    Hidden files and folders are passed over. A folder whose files are all images, numbered, two or more of them, is one
    video.

    Args:
        folder: where to look.
        frame_rate: images a second of the folders of frames.

    Raises:
        InputError: the folder is missing, is a file, cannot be read, or holds no video; two videos would have one id; a
            name is not UTF-8; or there are folders of frames and no rate.
    """
    found = Collection()
    frames: list[tuple[str, Locator]] = []
    tars: list[Path] = []
    for parent, files in visible_files(folder).items():
        if are_frames([path.name for path in files]):
            inner = parent != folder
            name = name_in(folder, parent / "_").removesuffix("/_") if inner else parent.resolve().name
            frames.append((name, Locator(str(parent.resolve()))))
            continue
        for path in files:
            if path.suffix.lower() == TAR_SUFFIX:
                tars.append(path)
            elif is_video(path):
                found.add(name_in(folder, path), Locator(str(path.resolve())))
            else:
                found.num_others += 1
    for path in tars:
        frames += _add_tar(found, name_in(folder, path), path)
    for name, locator in _with_rate(folder, frames, frame_rate):
        found.add(name, locator)
    if not found.locators:
        raise no_video(folder, found.num_others)
    found.locators = dict(sorted(found.locators.items(), key=lambda item: PurePosixPath(item[0])))
    return found


def _with_rate(
    folder: Path, frames: Sequence[tuple[str, Locator]], frame_rate: float | None
) -> list[tuple[str, Locator]]:
    if frames and frame_rate is None:
        raise InputError(
            f"{folder} holds {len(frames)} folders of frames ({some([name for name, _ in frames])}), which do not say "
            "how many frames are a second. Give --frame-rate, for example --frame-rate 25, or move them elsewhere."
        )
    return [(name, Locator(locator.path, locator.member, frame_rate)) for name, locator in frames]


def _add_tar(found: Collection, shard: str, path: Path) -> list[tuple[str, Locator]]:
    """Add the videos of a tar file, and return its samples of frames, which have no rate yet."""
    try:
        content = read_tar(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Make it readable or move it.") from error
    if content.repeated:
        raise InputError(
            f"{path} holds files of one name more than once: {some(content.repeated)}. Make it again without them."
        )
    if not content.videos and not content.frames and content.damage is None:
        found.num_others += 1
        return []
    if content.damage is not None:
        held = len(content.videos) + len(content.frames)
        found.notes.append(f"{path} is damaged ({content.damage}); {held} videos before that place are used")
    if content.unreadable:
        found.notes.append(f"captions in {path} that cannot be read: {some(sorted(content.unreadable))}")
    found.num_others += content.num_others
    root = str(path.resolve())
    frames = []
    for member in (*content.videos, *content.frames):
        inside = str(PurePosixPath(member)).lstrip("/")
        video_id = f"{shard}/{inside if member in content.frames else PurePosixPath(inside).with_suffix('')}"
        if captions := content.captions.get(member):
            found.captions[video_id] = captions
        if member in content.frames:
            frames.append((video_id, Locator(root, member)))
        else:
            found.add(video_id, Locator(root, member))
    return frames


def folder_annotations(
    folder: Path, captions: Path | None, frame_rate: float | None = None
) -> tuple[Annotations, Collection]:
    """Return the annotations of a folder of videos, and what else was found.

    Args:
        folder: see `find_collection`.
        captions: a CSV; the captions in tar files do not count then.
        frame_rate: see `find_collection`.

    Raises:
        InputError: see `find_collection` and `read_captions`.
    """
    found = find_collection(folder, frame_rate)
    videos = tuple(Video(video_id, str(locator)) for video_id, locator in found.locators.items())
    if captions is not None:
        names = {video_id: Path(locator.name) for video_id, locator in found.locators.items()}
        return Annotations(videos, read_captions(captions, names)), found
    own = [
        Caption(f"{video.id}#{place}", video.id, text)
        for video in videos
        for place, text in enumerate(found.captions.get(video.id, ()))
    ]
    return Annotations(videos, tuple(own)), found
