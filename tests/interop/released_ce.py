"""Makes small folders shaped like CE's release."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NINE = {
    "imagenet.resnext101_32x48d.0": "aggregated_imagenet_25fps_256px_stride1_offset0/resnext101_32x48d-avg.pickle",
    "imagenet.senet154.0": "aggregated_imagenet_25fps_256px_stride1_offset0/senet154-avg.pickle",
    "r2p1d.r2p1d-ig65m.0": "aggregated_r2p1d_30fps_256px_stride32_offset0_inner_stride1/r2p1d-ig65m-avg.pickle",
    "i3d.i3d.0": "aggregated_i3d_25fps_256px_stride25_offset0_inner_stride1/i3d-avg.pickle",
    "scene.densenet161.0": "aggregated_scene_25fps_256px_stride1_offset0/densenet161-avg.pickle",
    "face": "aggregated_face_feats/facefeats-avg.pickle",
    "ocr": "aggregated_ocr_feats/ocr-raw.pickle",
    "audio": "aggregated_audio_feats/Audio_MSRVTT_new.pickle",
    "speech": "aggregated_speech/speech-w2v.pickle",
}
"""The paths in the archive of the release (misc/datasets/msrvtt/tar_include.txt of its code)."""

TEXT = "aggregated_text_feats/w2v_MSRVTT_openAIGPT.pickle"


def numbers(length: int, dim: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((length, dim)).astype(np.float32)


def put(root: Path, path: str, content: Any, protocol: int = 2) -> Path:
    """Write one pickle."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_bytes(pickle.dumps(content, protocol=protocol))
    return root / path


def write_list(root: Path, name: str, ids: Sequence[str]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join(ids))


def write_release(root: Path, videos: int = 6) -> list[str]:
    """Write a release of some videos with two captions each; the last two are the test part, one is validation.

    face is [D], or NaN for even videos; audio [T, D]; the others of the nine [1, D]. The last caption of video1 has no
    text features.
    """
    ids = [f"video{number}" for number in range(videos)]
    for place, (name, path) in enumerate(NINE.items()):
        content: dict[str, Any] = {}
        for number, video_id in enumerate(ids):
            seed = 1000 * place + number
            content[video_id] = numbers(1 + number % 3 if name == "audio" else 1, 4 + place, seed)
            if name == "face":
                content[video_id] = content[video_id][0] if number % 2 else float("nan")
        put(root, path, content)
    put(root, "raw-captions.pkl", {v: [["a", "dog", v], "it sleeps"] for v in ids})
    texts = {v: [numbers(3, 8, n), numbers(2, 8, n + 500)] for n, v in enumerate(ids)}
    texts["video1"].pop()
    put(root, TEXT, texts)
    for part, names in (("train", ids[:-3]), ("val", ids[-3:-2]), ("test", ids[-2:])):
        write_list(root, f"{part}_list_full.txt", names)
    write_list(root, "train_list_jsfusion.txt", ids[:-2])
    write_list(root, "val_list_jsfusion.txt", ids[-2:])
    put(root, "jsfusion_val_caption_idx.pkl", {ids[-2]: 1, ids[-1]: 0})
    return ids
