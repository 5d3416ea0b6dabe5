"""Makes small folders shaped like MMT's release."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

Words = Sequence[Sequence[str]]
DIMS = {"face": 512, "ocr": 300, "rgb": 2048, "s3d": 1024, "scene": 2208, "speech": 300, "vggish": 128}


def h5_path(root: Path, video_id: str) -> Path:
    return root / "vid_feat_files" / "mult_h5" / video_id[0] / video_id[1] / video_id[2] / f"{video_id}.h5"


def write_video(
    root: Path,
    video_id: str,
    captions: Words,
    features: Mapping[str, NDArray[np.generic]],
    times: Mapping[str, NDArray[np.generic]] | None = None,
) -> Path:
    """Write one file as the release has it: words as bytes, one array an expert."""
    path = h5_path(root, video_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for number, words in enumerate(captions):
            file[f"raw_captions.{number}"] = np.array([word.encode() for word in words], dtype="S20")
        for name, values in features.items():
            file[f"features.{name}"] = values
        for name, seconds in (times or {}).items():
            file[f"features_t.{name}"] = seconds
    return path


def numbers(length: int, dim: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((length, dim)).astype(np.float32)


def write_lists(root: Path, lists: Mapping[str, Sequence[str]], queries: Mapping[str, int] | None = None) -> None:
    folder = root / "symlinked-feats"
    folder.mkdir(parents=True, exist_ok=True)
    for name, ids in lists.items():
        (folder / name).write_text("".join(f"{video_id}\n" for video_id in ids))
    if queries is not None:
        (folder / "jsfusion_val_caption_idx.pkl").write_bytes(pickle.dumps(dict(queries), protocol=2))


def write_release(root: Path, videos: int = 6) -> list[str]:
    """Write a release of some videos, each with two captions, s3d, vggish and (every other one) face features.

    The last two videos are the test part, the one before is validation.
    """
    ids = [f"video{number}" for number in range(videos)]
    for number, video_id in enumerate(ids):
        features = {"s3d": numbers(3 + number % 3, 1024, number), "vggish": numbers(2, 128, number + 100)}
        if number % 2:
            features["face"] = numbers(1, 512, number + 200)
        starts = 0.96 * np.arange(2)
        times = {"vggish": np.stack([starts, starts + 0.96], axis=1)}
        write_video(root, video_id, [["a", "dog", f"runs{number}"], ["it", "sleeps"]], features, times)
    full = {"train_list.txt": ids[:-3], "val_list.txt": ids[-3:-2], "test_list.txt": ids[-2:]}
    first = {"train_list_jsfusion.txt": ids[:-2], "val_list_jsfusion.txt": ids[-2:]}
    write_lists(root, full | first, {ids[-2]: 1, ids[-1]: 0, "video99999": 7})
    return ids
