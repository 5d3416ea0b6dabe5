"""Anybody's similarity matrix: its scores, and how they and the order of their rows and columns fit a split."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtr.errors import InputError, some
from vtr.evaluation.scores import Array

SCORE_NAMES = ("scores", "similarities", "sims")
FLOAT32_INTEGERS = 1 << 24
"""Up to here float32 holds every integer."""

_SAVE = "Save one array [texts, videos] of floats with numpy.save."


def read_scores(path: Path) -> Array:
    """Return a matrix of scores, as it lies in the file.

    A .npy file is mapped, not read: its values come when they are asked for. NaN is not looked for here.

    Args:
        path: a .npy file, or a .npz file with a single array or with one named scores, similarities or sims.

    Returns:
        [rows, columns] float16, float32 or float64; integers become float32.

    Raises:
        InputError: the file is missing, damaged, pickled, or holds something other than one matrix of numbers.
    """
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz"):
        raise InputError(f"{path} ends in '{path.suffix}', a .npy or .npz file was expected. {_SAVE}")
    try:
        held = _from_archive(path) if suffix == ".npz" else np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}. {_SAVE}") from error
    except (ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path} is not a whole NumPy file of numbers ({error}). Pickled objects are never read. {_SAVE}"
        ) from error
    return _checked(path, held)


def place_rows(
    order: Sequence[str],
    expected: Sequence[str],
    aliases: Mapping[str, str],
    *,
    what: str,
    source: str,
    allow_missing: bool = False,
) -> NDArray[np.int64]:
    """Return where each of a split's ids lies in a matrix.

    Args:
        order: the ids of the matrix's rows (or columns); each is one of `expected` or an alias of one.
        expected: N ids of the split, in its order.
        aliases: other name -> id: a video id that stands for its only query caption.
        what: the ids in words, plural: "queries", "videos".
        source: the file the order came from, for the message.
        allow_missing: whether ids may be missing from the order.

    Returns:
        [N] int64, for each id its position in `order`; -1 where it is missing.

    Raises:
        InputError: ids are unknown, there twice (an alias counts as its id), or missing.
    """
    known = set(expected)
    named = [name if name in known else aliases.get(name, name) for name in order]
    first: dict[str, int] = {}
    repeated, unknown = [], []
    for place, (name, given) in enumerate(zip(named, order, strict=True)):
        if name not in known:
            unknown.append(given)
        elif first.setdefault(name, place) != place:
            repeated.append(_both_names(name, order[first[name]], given))
    missing = [] if allow_missing else [name for name in expected if name not in first]
    faults = {"missing": missing, "unknown": unknown, "there twice": repeated}
    if found := [f"{len(ids)} {fault} ({some(ids)})" for fault, ids in faults.items() if ids]:
        raise InputError(
            f"{source} is not a permutation of the split's {len(expected)} {what}: {'; '.join(found)}. "
            "Each must be there once: name the split that the matrix was made for, or mend the order."
        )
    return np.asarray([first.get(name, -1) for name in expected], np.int64)


def check_shape(shape: tuple[int, ...], num_queries: int, num_videos: int, *, source: str, split: str) -> None:
    """Check that a matrix has a row for each query text and a column for each video.

    Raises:
        InputError: it does not; both shapes are named, and whether it looks transposed.
    """
    if shape == (num_queries, num_videos):
        return
    advice = "Give a matrix with all queries in rows and all videos in columns, or name the split it was made for."
    if shape == (num_videos, num_queries):
        advice = "It looks transposed: texts are rows; pass --transposed."
    raise InputError(
        f"{source} has shape {_times(shape)}, {_times((num_queries, num_videos))} was expected: {split} has "
        f"{num_queries} queries and {num_videos} videos. {advice}"
    )


def _from_archive(path: Path) -> Any:
    with path.open("rb") as stream, np.lib.npyio.NpzFile(stream, allow_pickle=False) as archive:
        return archive[_array_name(path, archive.files)]


def _array_name(path: Path, names: Sequence[str]) -> str:
    chosen = list(names) if len(names) == 1 else [name for name in names if name in SCORE_NAMES]
    if len(chosen) != 1:
        raise InputError(
            f"{path} holds the arrays {', '.join(names) or '(none)'}; a single one, or exactly one named "
            f"{', '.join(SCORE_NAMES)}, was expected. Save the matrix alone with numpy.save."
        )
    return chosen[0]


def _checked(path: Path, held: Any) -> Array:
    if not isinstance(held, np.ndarray):  # what numpy makes of a foreign file in an archive
        raise InputError(f"{path} holds something other than a NumPy array. {_SAVE}")
    if held.ndim != 2 or not held.size:
        raise InputError(f"{path} has shape {_times(held.shape)}, a matrix that is not empty was expected. {_SAVE}")
    if held.dtype.kind in "iu":
        if max(-int(held.min()), int(held.max())) > FLOAT32_INTEGERS:
            raise InputError(
                f"{path} holds integers beyond {FLOAT32_INTEGERS}, which float32 would merge. Save it as float64."
            )
        return held.astype(np.float32)
    if held.dtype.kind != "f" or held.dtype.itemsize > 8:
        raise InputError(f"{path} holds {held.dtype}, float16, float32, float64 or integers were expected. {_SAVE}")
    return held.astype(held.dtype.newbyteorder("="), copy=False)


def _both_names(name: str, *given: str) -> str:
    return name if set(given) == {name} else f"{name} as {' and '.join(given)}"


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in shape) or "()"
