"""For tests: the training data of a small workspace, and how batches are compared, wherever they are made."""

from __future__ import annotations

from pathlib import Path

import torch

from vtr.config import TextConfig
from vtr.data.corpus import load_corpus
from vtr.data.features import FeatureChoice
from vtr.data.texts import CaptionTable
from vtr.models.text import TextInput
from vtr.training.data import TrainingData, make_data
from vtr.types import Batch, TextBatch, VideoBatch
from vtr.workspace import Workspace

CPU = torch.device("cpu")
PLENTY = 1 << 30


def tensors(batch: VideoBatch | TextBatch) -> dict[str, torch.Tensor]:
    """Return all that a batch holds."""
    if isinstance(batch, TextBatch):
        names = ("input_ids", "attention_mask", "states", "token_states")
        return {name: value for name in names if (value := getattr(batch, name)) is not None}
    held = {"present": batch.present}
    for name, expert in batch.experts.items():
        held |= {f"{name}.{key}": getattr(expert, key) for key in ("values", "mid_seconds", "mask", "aggregate")}
    return held


def same(one: VideoBatch | TextBatch, other: VideoBatch | TextBatch) -> None:
    """Check that two batches are the same to the bit; NaN is NaN."""
    assert one.ids == other.ids
    left, right = tensors(one), tensors(other)
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert value.dtype == right[name].dtype and value.shape == right[name].shape, name
        assert value.numpy().tobytes() == right[name].numpy().tobytes(), name


def same_batch(one: Batch, other: Batch) -> None:
    """Check that two batches of pairs are the same to the bit."""
    same(one.videos, other.videos)
    same(one.texts, other.texts)


def data(workspace: Workspace, tiny_bert: Path) -> TrainingData:
    """Return features and tokens of a toy workspace."""
    corpus = load_corpus(workspace, "toy", parts=("train", "validation"), available_only=False)
    captions = [*corpus.captions("train"), *corpus.queries("validation")]
    source = TextInput(TextConfig(model=str(tiny_bert), mode="fine_tuned"))
    return make_data(corpus, CaptionTable(captions, source, workspace), FeatureChoice(max_features=2))
