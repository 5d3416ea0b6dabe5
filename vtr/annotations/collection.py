"""What a folder holds: video files, tar files of videos, folders of frames, and the captions in the tar files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from vtr.annotations.folder import is_video, name_in, no_video, read_captions, shown, visible_files
from vtr.annotations.images import are_frames
from vtr.annotations.locators import Locator
from vtr.annotations.naming import Candidate, choose_ids
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
            id, "/" and its name there without suffix. Where two videos would have one id, see `choose_ids`.
        captions: those that tar files hold, by video id.
        others: files that are none of these, as relative paths.
        notes: what is damaged, in words, and which videos have longer ids.
    """

    locators: dict[str, Locator] = field(default_factory=dict)
    captions: dict[str, tuple[str, ...]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_collection(
    folder: Path, frame_rate: float | None = None, known: Sequence[Video] = (), former: Sequence[Video] = ()
) -> Collection:
    """Return the videos of a folder and its sub-folders, links followed, in the order of their ids.

    Hidden files and folders are passed over. A folder whose files are all images, numbered, two or more of them, is one
    video.

    Args:
        folder: where to look.
        frame_rate: images a second of the folders of frames.
        known, former: the videos that the workspace holds, which keep their ids, and has held; see `choose_ids`.

    Raises:
        InputError: the folder is missing, is a file, cannot be read, or holds no video; two videos would have one id; a
            name is not UTF-8; or there are folders of frames and no rate.
    """
    collection = Collection()
    found: list[Candidate] = []
    frames: list[Candidate] = []
    tars: list[Path] = []
    for parent, files in visible_files(folder).items():
        if are_frames([path.name for path in files]):
            inner = parent != folder
            name = name_in(folder, parent / "_").removesuffix("/_") if inner else parent.resolve().name
            frames.append(Candidate((name,), Locator(str(parent.resolve()))))
            continue
        for path in files:
            if path.suffix.lower() == TAR_SUFFIX:
                tars.append(path)
            elif is_video(path):
                name = name_in(folder, path)
                found.append(Candidate((name, f"{name}{path.suffix}"), Locator(str(path.resolve()))))
            else:
                collection.others.append(shown(path.relative_to(folder)))
    for path in tars:
        videos, samples = _in_tar(collection, folder, path)
        found += videos
        frames += samples
    found += _with_rate(folder, frames, frame_rate)
    if not found:
        raise InputError(no_video(folder, collection.others))
    _add(collection, found, choose_ids(found, known, former))
    return collection


def _add(collection: Collection, found: Sequence[Candidate], ids: Sequence[str]) -> None:
    by_id = dict(sorted(zip(ids, found, strict=True), key=lambda item: PurePosixPath(item[0])))
    collection.locators = {video_id: one.locator for video_id, one in by_id.items()}
    collection.captions = {video_id: one.captions for video_id, one in by_id.items() if one.captions}
    if longer := [video_id for video_id, one in by_id.items() if video_id != one.names[0]]:
        collection.notes.append(
            f"ids with a suffix, as other videos have, or had, the same path without it: {len(longer)} ({some(longer)})"
        )


def _with_rate(folder: Path, frames: Sequence[Candidate], frame_rate: float | None) -> list[Candidate]:
    if frames and frame_rate is None:
        raise InputError(
            f"{folder} holds {len(frames)} folders of frames ({some([one.names[0] for one in frames])}), which do not "
            "say how many frames are a second. Give --frame-rate, for example --frame-rate 25, or move them elsewhere."
        )
    return [replace(one, locator=Locator(one.locator.path, one.locator.member, frame_rate)) for one in frames]


def _in_tar(collection: Collection, folder: Path, path: Path) -> tuple[list[Candidate], list[Candidate]]:
    """Return the videos of a tar file, and its samples of frames, which have no rate yet."""
    try:
        content = read_tar(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Make it readable or move it.") from error
    if content.repeated:
        raise InputError(
            f"{path} holds files of one name more than once: {some(content.repeated)}. Make it again without them."
        )
    shard, relative = name_in(folder, path), shown(path.relative_to(folder))
    if not content.videos and not content.frames and content.damage is None:
        collection.others.append(relative)
        return [], []
    if content.damage is not None:
        held = len(content.videos) + len(content.frames)
        collection.notes.append(f"{path} is damaged ({content.damage}); {held} videos before that place are used")
    if content.unreadable:
        collection.notes.append(f"captions in {path} that cannot be read: {some(sorted(content.unreadable))}")
    collection.others += [f"{relative}: {shown(name)}" for name in content.others]
    root = str(path.resolve())

    def found(member: str, stem: str, *longer: str) -> Candidate:
        names = (f"{shard}/{stem}", *(f"{shard}/{name}" for name in longer), f"{relative}/{(stem, *longer)[-1]}")
        return Candidate(names, Locator(root, member), content.captions.get(member, ()))

    videos = []
    for member in content.videos:
        inside = str(PurePosixPath(member)).lstrip("/")
        videos.append(found(member, str(PurePosixPath(inside).with_suffix("")), inside))
    return videos, [found(member, str(PurePosixPath(member)).lstrip("/")) for member in content.frames]


def folder_annotations(
    folder: Path,
    captions: Path | None,
    frame_rate: float | None = None,
    known: Sequence[Video] = (),
    former: Sequence[Video] = (),
) -> tuple[Annotations, Collection]:
    """Return the annotations of a folder of videos, and what else was found.

    Args:
        folder: see `find_collection`.
        captions: a CSV; the captions in tar files do not count then.
        frame_rate, known, former: see `find_collection`.

    Raises:
        InputError: see `find_collection` and `read_captions`.
    """
    found = find_collection(folder, frame_rate, known, former)
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
