"""Random features and captions of MSR-VTT's shape, for benchmarks/models.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from plain_loader import FEATURE_SECONDS, TIMES_IN_FILE, video_path, write_video

from vtr.store.schema import encode_row
from vtr.store.writer import shard_name, write_expert_manifest, write_shard
from vtr.types import ExpertFeatures, ExpertSpec

HELD_BY = {"face": 0.6, "ocr": 0.4, "speech": 0.6, "vggish": 0.88}
"""The share of videos that have an expert; they have all others."""

SHORTEST, LONGEST, MEAN_BEYOND = 10.0, 30.0, 5.0
"""Seconds of a clip; what goes beyond the shortest is exponential."""

WORDS_MEDIAN, WORDS_SPREAD, MOST_WORDS = 8.4, 0.45, 30
"""Captions of log-normal length: 9.3 words on average, 24 at the 99th percentile."""

SHARD_VIDEOS = 64

Video = dict[str, ExpertFeatures]
"""Expert -> features, of one video."""


@dataclass(frozen=True)
class Sizes:
    """How large things are.

    Attributes:
        dims: expert -> D.
        model: of the video transformer; its heads apart.
        text_bert: the text encoder's configuration.
        batch: pairs in a training step.
        loaded: videos that are loaded from.
        texts, videos: of the similarities, and of the test split whose embedding is timed.
        released_texts: texts whose similarities are computed in the released form too.
        sampled: videos and captions that a CPU embeds.
    """

    dims: Mapping[str, int]
    model: Mapping[str, int]
    heads: int
    text_bert: Mapping[str, Any]
    batch: int
    loaded: int
    texts: int
    videos: int
    released_texts: int
    sampled: tuple[int, int]


def _bert(hidden: int, layers: int, heads: int, vocabulary: int) -> dict[str, Any]:
    return {
        "model_type": "bert",
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
    }


SIZES = {
    "full": Sizes(
        dims={"face": 512, "ocr": 300, "rgb": 2048, "s3d": 1024, "scene": 2208, "speech": 300, "vggish": 128},
        model={"dim": 512, "layers": 4, "feed_forward": 3072},
        heads=4,
        text_bert=_bert(768, 12, 12, 28996),
        batch=32,
        loaded=300,
        texts=59_800,
        videos=2_990,
        released_texts=4_000,
        sampled=(512, 1_024),
    ),
    "small": Sizes(
        dims={"face": 12, "ocr": 10, "rgb": 32, "s3d": 24, "scene": 32, "speech": 10, "vggish": 8},
        model={"dim": 32, "layers": 2, "feed_forward": 64},
        heads=4,
        text_bert=_bert(32, 2, 2, 500),
        batch=16,
        loaded=40,
        texts=2_000,
        videos=300,
        released_texts=200,
        sampled=(64, 64),
    ),
}


def make_videos(count: int, dims: Mapping[str, int], seed: int = 0) -> dict[str, Video]:
    """Return video id -> features."""
    draw = np.random.default_rng(seed)
    return {f"video{number}": _make_video(draw, dims) for number in range(count)}


def _make_video(draw: np.random.Generator, dims: Mapping[str, int]) -> Video:
    seconds = min(SHORTEST + draw.exponential(MEAN_BEYOND), LONGEST)
    video = {}
    for name, dim in dims.items():
        width = FEATURE_SECONDS.get(name)
        count = int(draw.integers(1, 11)) if width is None else int(seconds / width)
        if draw.random() < HELD_BY.get(name, 1.0):
            start = np.arange(count) * width if width is not None else np.full(count, np.nan)
            times = (side.astype(np.float32) for side in (start, start + (width or 0.0)))
            video[name] = ExpertFeatures(draw.standard_normal((count, dim), np.float32), *times)
    return video


def caption_lengths(count: int, seed: int = 0) -> list[int]:
    """Return how many word pieces captions have, with [CLS], the full stop and [SEP]; 30 at most."""
    words = np.random.default_rng(seed).lognormal(np.log(WORDS_MEDIAN), WORDS_SPREAD, count).round()
    return np.minimum(np.clip(words, 1, MOST_WORDS) + 3, MOST_WORDS).astype(int).tolist()


def write_released(root: Path, videos: Mapping[str, Video]) -> list[Path]:
    """Write each video's HDF5 file as MMT's features were released, and return their paths."""
    paths = [video_path(root, name) for name in videos]
    for path, video in zip(paths, videos.values(), strict=True):
        times = {name: np.stack((video[name].start_seconds, video[name].end_seconds), 1) for name in video}
        in_file = {name: seconds for name, seconds in times.items() if name in TIMES_IN_FILE}
        write_video(path, {name: features.values for name, features in video.items()}, in_file, ["a caption"] * 20)
    return paths


def write_store(root: Path, videos: Mapping[str, Video], dims: Mapping[str, int]) -> None:
    """Write a feature store of the videos."""
    ids = list(videos)
    groups: Sequence[list[str]] = [ids[at : at + SHARD_VIDEOS] for at in range(0, len(ids), SHARD_VIDEOS)]
    for expert, dim in dims.items():
        spec, checksums = ExpertSpec(expert, dim, "video", None, "random numbers"), {}
        for number, group in enumerate(groups):
            held = [name for name in group if expert in videos[name]]
            rows = [encode_row(name, videos[name][expert], None, "float32") for name in held]
            checksums[shard_name(number)] = write_shard(root / expert / shard_name(number), spec, rows, group, {})
        counts = {"examined": len(ids), "present": sum(expert in video for video in videos.values())}
        write_expert_manifest(
            root / expert, spec, checksums, inputs={}, config=asdict(spec), counts=counts, counts_by_shard={}
        )
