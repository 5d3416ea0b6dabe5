"""Reading one of MMT's released HDF5 files: a video's captions, its experts' features, and where those lie in time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from vtr.errors import InputError
from vtr.interop.features import checked_values
from vtr.types import ExpertFeatures, ExpertSpec

MADE_BY: Mapping[str, ExpertSpec] = {
    spec.name: spec
    for spec in (
        ExpertSpec("face", 512, "image", None, "mmt-release/face", pretrained_on="VGGFace2"),
        ExpertSpec("ocr", 300, "text", None, "mmt-release/ocr", pretrained_on="Synth90K; Google News"),
        ExpertSpec("rgb", 2048, "image", 0.2, "mmt-release/rgb", pretrained_on="ImageNet"),
        ExpertSpec("s3d", 1024, "video", 1.0, "mmt-release/s3d", pretrained_on="Kinetics"),
        ExpertSpec("scene", 2208, "image", 1.0, "mmt-release/scene", pretrained_on="Places365"),
        ExpertSpec("speech", 300, "text", None, "mmt-release/speech", pretrained_on="Google Speech; Google News"),
        ExpertSpec("vggish", 128, "audio", 1.0, "mmt-release/vggish", pretrained_on="YouTube-8M"),
    )
}
"""The published experts. Without times of their own, features lie one after the other, `window_seconds` each."""

TIMED = ("s3d", "vggish")
"""The published experts whose times in the files the released model reads."""

POSITION_OFFSET = 2
"""The released model places a feature at its second plus 2, rounded down."""

AGAIN = "Fetch the file again, or pass --skip-bad to go on without the video."


@contextlib.contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a file while the block runs.

    Raises:
        InputError: it is not there, not HDF5, cut short, or damaged where it is read.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:  # a read-only disk may not know locks
            yield file
    except (OSError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} cannot be read ({reason}). A whole HDF5 file was expected. {AGAIN}") from error


def _dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    found = file[name]
    if not isinstance(found, h5py.Dataset) or found.shape is None:
        raise InputError(f"{path}: {name} is {found!r:.80}, an array was expected. {AGAIN}")
    return found


def read_captions(path: Path, file: h5py.File) -> list[str]:
    """Return the captions in order, each its words joined by single spaces.

    Raises:
        InputError: there are none, a number is left out, or a caption has no words or is not text.
    """
    count = sum(name.startswith("raw_captions.") for name in file)
    if not count:
        raise InputError(f"{path} holds no captions: raw_captions.0 and following were expected. {AGAIN}")
    captions = []
    for number in range(count):
        name = f"raw_captions.{number}"
        if name not in file:
            raise InputError(f"{path} holds {count} captions but no {name}. {AGAIN}")
        captions.append(_caption(path, name, _dataset(path, file, name)))
    return captions


def _caption(path: Path, name: str, dataset: h5py.Dataset) -> str:
    words = dataset[()]
    if dataset.ndim != 1 or not all(isinstance(word, bytes | str) for word in words):
        raise InputError(
            f"{path}: {name} has shape {dataset.shape} and type {dataset.dtype}, a list of words was expected. {AGAIN}"
        )
    try:
        text = " ".join(word if isinstance(word, str) else word.decode("utf-8") for word in words)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {name} is not UTF-8 ({error}). {AGAIN}") from error
    if not text.strip():
        raise InputError(f"{path}: {name} has no words, one or more were expected. {AGAIN}")
    return text


def read_features(path: Path, file: h5py.File, dims: Mapping[str, int]) -> dict[str, ExpertFeatures]:
    """Return expert -> features in float32, for the experts that the video has.

    An expert is missing where the file has no array of it, an empty one, or one that starts with NaN.

    Args:
        path: the file's name, for messages.
        file: the open file.
        dims: expert -> length of its feature vectors, where it is known.

    Raises:
        InputError: an array is not [T, D], has another D, holds NaN or infinite values, or has fewer times than
            features.
    """
    found = {}
    for name in sorted(name.removeprefix("features.") for name in file if name.startswith("features.")):
        values = _values(path, file, name, dims.get(name))
        if values is not None:
            found[name] = ExpertFeatures(values, *stored_times(_times(path, file, name, len(values))))
    return found


def _values(path: Path, file: h5py.File, name: str, dim: int | None) -> NDArray[np.float32] | None:
    array = _dataset(path, file, f"features.{name}")
    shape = list(array.shape)
    if shape[:1] == [0]:
        return None
    if array.ndim != 2 or array.dtype.kind not in "fiu":
        raise InputError(
            f"{path}: features.{name} has shape {shape} and type {array.dtype}, numbers [T, {dim or 'D'}] were "
            f"expected. {AGAIN}"
        )
    values = array[()]
    if shape[1] and np.isnan(values[0, 0]):
        return None
    if shape[1] != (dim or shape[1]) or not shape[1]:
        raise InputError(f"{path}: features.{name} has shape {shape}, [T, {dim or 'D'}] was expected. {AGAIN}")
    return checked_values(f"{path}: features.{name}", values, AGAIN)


def _times(path: Path, file: h5py.File, name: str, count: int) -> NDArray[Any]:
    """Return [T, 2] start and end seconds as the released model sees them; NaN where features have no time."""
    key = f"features_t.{name}"
    if key in file and (name in TIMED or name not in MADE_BY):
        array = _dataset(path, file, key)
        shape = list(array.shape)
        if array.ndim != 2 or shape[1] != 2 or array.dtype.kind not in "fiu":
            raise InputError(
                f"{path}: {key} has shape {shape} and type {array.dtype}, seconds [T, 2] expected. {AGAIN}"
            )
        if shape[0] < count:
            raise InputError(f"{path}: {key} holds {shape[0]} times for {count} features, as many expected. {AGAIN}")
        times = np.asarray(array[()][:count])
        with np.errstate(over="ignore"):
            if np.isinf(times.astype(np.float32)).any():
                raise InputError(f"{path}: {key} holds infinite times, seconds were expected. {AGAIN}")
        return times
    width = MADE_BY[name].window_seconds if name in MADE_BY else None
    if width is None:
        return np.full((count, 2), np.nan)
    starts = np.arange(count) * width
    return np.stack([starts, starts + width], axis=1)


def stored_times(times: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return start and end seconds in float32 that put each feature where the released model puts it.

    That model takes the mean of the two times and adds 2 in the file's own precision; ours takes the mean of what is
    stored and adds 2 in float32. Where these would differ, 11.52 to 12.48 for example, the start is moved by a hair.

    Args:
        times: [T, 2] start and end seconds; NaN where a feature has no time.
    """
    mids = np.average(times, axis=1)
    theirs = np.asarray(mids + POSITION_OFFSET, np.float32)
    target = np.asarray(mids, np.float32)
    # rounding twice may still cross a second; then what they get is taken back by 2, which is exact
    target = np.where(np.trunc(target + np.float32(POSITION_OFFSET)) == np.trunc(theirs), target, theirs - 2)
    start, end = (np.array(column, np.float32) for column in times.T)
    start[np.isnan(target)] = end[np.isnan(target)] = np.nan
    off = (start + end) / 2 != target
    start = np.where(off, 2 * target - end, start)  # exact: both are multiples of the end's last digit
    off = (start + end) / 2 != target  # only where a feature ends before it starts
    return np.where(off, target, start), np.where(off, target, end)
