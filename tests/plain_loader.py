"""The loader MMT was released with, plain: one HDF5 file opened for each video, features cut and padded in numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from plain_mmt import NO_TIME, PlainVideos

FEATURE_SECONDS = {"rgb": 0.2, "scene": 1.0, "s3d": 1.0, "vggish": 1.0}
"""How much time one feature covers; the other experts' features have no time."""

TIMES_IN_FILE = ("s3d", "vggish")
"""Experts whose start and end times are read from the file where it has them."""

Padded = tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]
"""Features [L, D], times [L], mask [L] and the maximum [D] of one video."""


def video_path(root: Path, video_id: str) -> Path:
    """Return the place of a video's file under `mult_h5`."""
    return root / video_id[0] / video_id[1] / video_id[2] / f"{video_id}.h5"


def read_videos(
    paths: Sequence[Path], dims: Mapping[str, int], max_tokens: int = 30, draw: np.random.RandomState | None = None
) -> PlainVideos:
    """Return a batch of videos.

    Args:
        paths: B files.
        dims: expert -> D.
        max_tokens: features kept of each expert, and the length all are padded to.
        draw: picks which are kept in training; None picks as the released evaluation does.
    """
    videos = [_read_video(path, dims, max_tokens, draw) for path in paths]
    parts: tuple[dict[str, torch.Tensor], ...] = ({}, {}, {}, {})
    for name in dims:
        for part, values in zip(parts, zip(*(video[name] for video in videos), strict=True), strict=True):
            part[name] = torch.from_numpy(np.stack(values).astype(np.float32))
    return PlainVideos(*parts)


def _read_video(
    path: Path, dims: Mapping[str, int], max_tokens: int, draw: np.random.RandomState | None
) -> dict[str, Padded]:
    found = {}
    with h5py.File(path, "r") as file:
        keys = list(file.keys())
        for name, dim in dims.items():
            features = file[f"features.{name}"][()] if f"features.{name}" in keys else np.zeros((0, dim))
            if len(features) == 0 or np.isnan(features[0][0]):
                empty = np.zeros((max_tokens, dim)), np.full(max_tokens, NO_TIME)
                found[name] = (*empty, np.zeros(max_tokens), np.zeros(dim))
                continue
            times = _times(file, name, len(features))
            found[name] = (*_pad(features, times, max_tokens, draw), features.max(axis=0))
    return found


def _times(file: h5py.File, name: str, count: int) -> NDArray[Any]:
    """Return the middle of each feature's time plus 2, `NO_TIME` for experts without times."""
    if name in TIMES_IN_FILE and f"features_t.{name}" in file:
        middles: NDArray[Any] = file[f"features_t.{name}"][()][:count].mean(axis=1)
    elif name in FEATURE_SECONDS:
        width = FEATURE_SECONDS[name]
        middles = np.array([place * width + width / 2 for place in range(count)])
    else:
        return np.full(count, NO_TIME)
    return middles + 2


def _pad(
    features: NDArray[Any], times: NDArray[Any], length: int, draw: np.random.RandomState | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return at most `length` of the features, in order of time, padded to it."""
    kept = min(len(features), length)
    pick = np.sort((draw or np.random.RandomState(0)).choice(len(features), kept, replace=False))
    values, padded_times, mask = np.zeros((length, features.shape[1])), np.full(length, NO_TIME), np.zeros(length)
    values[:kept], padded_times[:kept], mask[:kept] = features[pick], times[pick], 1
    return values, padded_times, mask


def read_captions(path: Path) -> list[list[str]]:
    """Return the words of a video's captions."""
    with h5py.File(path, "r") as file:
        count = sum(key.startswith("raw_captions.") for key in file)
        return [[word.decode() for word in file[f"raw_captions.{place}"][()]] for place in range(count)]


def caption_tokens(words: Sequence[str], tokenizer: Any, length: int = 30) -> tuple[list[int], list[int]]:
    """Return a caption's token ids and mask: cut to `length` words, then tokens, and padded to it with zeros."""
    text = " ".join(words[:length]).strip()
    text = (text if text[-1] in ".?!" else f"{text}.").capitalize()
    tokens = [tokenizer.cls_token, *tokenizer.tokenize(text), tokenizer.sep_token][:length]
    tokens[-1] = tokenizer.sep_token
    padding = [0] * (length - len(tokens))
    return [*tokenizer.convert_tokens_to_ids(tokens), *padding], [1] * len(tokens) + padding


def write_video(
    path: Path, features: Mapping[str, NDArray[Any]], times: Mapping[str, NDArray[Any]], captions: Sequence[str]
) -> None:
    """Write a video's file in the released layout.

    Args:
        path: the file.
        features: expert -> [T, D], the experts the video has.
        times: expert -> [T, 2], start and end seconds, of `TIMES_IN_FILE`.
        captions: the video's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in features.items():
            file[f"features.{name}"] = values
        for name, seconds in times.items():
            file[f"features_t.{name}"] = seconds
        for place, caption in enumerate(captions):
            file[f"raw_captions.{place}"] = np.array(caption.encode().split())
