"""For tests: small workspaces made of numbers, a tiny BERT, a config to train with, and where the repository is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from vtr.annotations.prepare import prepare_annotations
from vtr.annotations.splits import one_caption_a_video
from vtr.config import TrainConfig, build
from vtr.store.schema import encode_row
from vtr.store.writer import shard_name, write_expert_manifest, write_shard
from vtr.types import Annotations, Caption, ExpertFeatures, ExpertSpec, Split, Video
from vtr.workspace import Workspace

WORDS = (
    "red",
    "blue",
    "green",
    "dog",
    "cat",
    "bird",
    "runs",
    "sleeps",
    "eats",
    "park",
    "house",
    "river",
    "a",
    "the",
    "in",
)
"""The words of `make_workspace`'s captions."""

ROOT = Path(__file__).resolve().parent.parent


def write_features(
    workspace: Workspace, name: str, features: dict[str, ExpertFeatures], examined: list[str], inputs: dict[str, str]
) -> None:
    """Put one expert's features into a workspace's store."""
    dim = next(iter(features.values())).dim
    spec = ExpertSpec(name, dim, "image", None, "test")
    rows = [encode_row(video_id, value, None, "float32") for video_id, value in features.items()]
    folder = workspace.features / name
    checksum = write_shard(folder / shard_name(0), spec, rows, examined, {})
    write_expert_manifest(
        folder,
        spec,
        {shard_name(0): checksum},
        inputs=inputs,
        config={"dtype": "float32"},
        counts={"examined": len(examined), "present": len(rows)},
        counts_by_shard={shard_name(0): [len(examined), len(rows)]},
    )


def make_workspace(root: Path, *, videos: int = 60, without_features: int = 0, seed: int = 0) -> Workspace:
    """Make a workspace whose features tell which words the captions hold: something can be learnt from it.

    The last `without_features` test videos have captions and no features.
    """
    draw = np.random.default_rng(seed)
    choices = [("red", "blue", "green"), ("dog", "cat", "bird"), ("runs", "sleeps", "eats"), ("park", "house", "river")]
    ids = [f"v{number:03d}" for number in range(videos)]
    facts = {video_id: [int(draw.integers(3)) for _ in choices] for video_id in ids}
    captions = []
    for video_id in ids:
        colour, animal, act, place = (options[at] for options, at in zip(choices, facts[video_id], strict=True))
        texts = [
            f"a {colour} {animal} {act} in the {place}",
            f"the {animal} {act}",
            f"a {colour} {animal} in a {place}",
        ]
        captions += [Caption(f"{video_id}#{at}", video_id, text) for at, text in enumerate(texts)]
    annotations = Annotations(tuple(Video(video_id) for video_id in ids), tuple(captions))
    third = videos // 6
    split = Split(
        "toy", tuple(ids[: -2 * third]), tuple(ids[-2 * third : -third]), tuple(ids[-third:]), note="made of numbers"
    )
    report = prepare_annotations(annotations, [split, one_caption_a_video(split, annotations)], root)
    inputs = {"prepare": "test"}
    bases = {"appearance": draw.normal(size=(4, 3, 12)), "motion": draw.normal(size=(4, 3, 8))}
    for name, base in bases.items():
        present: dict[str, ExpertFeatures] = {}
        held = ids[: len(ids) - without_features]
        for place, video_id in enumerate(held):
            if name == "motion" and place % 4 == 0:
                continue  # every fourth video lacks this expert
            count = int(draw.integers(1, 6))
            mean = sum(base[at, value] for at, value in enumerate(facts[video_id]))
            values = (mean + 0.2 * draw.normal(size=(count, base.shape[2]))).astype(np.float32)
            start = np.arange(count, dtype=np.float32)
            present[video_id] = ExpertFeatures(values, start, start + 1)
        write_features(report.workspace, name, present, held, inputs)
    return report.workspace


def save_tiny_bert(folder: Path) -> Path:
    """Save a BERT with random weights and a vocabulary of some words, as the hub saves its models."""
    from transformers import BertConfig, BertModel, BertTokenizer

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *WORDS]
    tokenizer = BertTokenizer(vocab={token: number for number, token in enumerate(tokens)}, do_lower_case=True)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def make_config(bert: Path, **changes: object) -> TrainConfig:
    """Return a config of a model that trains in seconds; keyword arguments replace sections or values."""
    values: dict[str, object] = {
        "split": "toy",
        "epochs": 3,
        "model": {"dim": 16, "layers": 1, "heads": 2, "feed_forward": 32, "dropout": 0.1},
        "text": {"model": str(bert), "mode": "frozen"},
        "data": {"batch_size": 16, "max_features": 3},
        "optimiser": {"learning_rate": 3e-3},
    }
    return build(TrainConfig, values | changes, "the test")
