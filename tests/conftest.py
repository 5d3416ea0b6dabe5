"""Shared by all tests: where the real data lies, tiny models, and small workspaces made of numbers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from parts import make_part as random_part
from toy import ROOT, WORDS, make_workspace

from vtr.config import TrainConfig, build
from vtr.embeddings import EmbeddedPart
from vtr.workspace import Workspace


def pytest_configure() -> None:
    torch.set_num_threads(1)  # two test processes share two cores


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and reference cases; its tests are skipped where it is absent."""
    folder = Path(os.environ.get("VTR_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"the real data is not here ({folder}); set VTR_SHARED to its folder")
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with random weights and a vocabulary of some words, saved as the hub saves its models."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("tiny-bert")
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


@pytest.fixture
def toy(tmp_path: Path) -> Workspace:
    """A small workspace with features."""
    return make_workspace(tmp_path / "ws")


@pytest.fixture(scope="session")
def make_part() -> Callable[..., EmbeddedPart]:
    """Makes random embedded parts: `make_part(videos, captions a video, missing share, seed, dim)`."""
    return random_part


@pytest.fixture(scope="session")
def toy_config(tiny_bert: Path) -> Callable[..., TrainConfig]:
    """Makes configs of a model that trains in seconds; keyword arguments replace sections or values."""

    def make(**changes: object) -> TrainConfig:
        values: dict[str, object] = {
            "split": "toy",
            "epochs": 3,
            "model": {"dim": 16, "layers": 1, "heads": 2, "feed_forward": 32, "dropout": 0.1},
            "text": {"model": str(tiny_bert), "mode": "frozen"},
            "data": {"batch_size": 16, "max_features": 3},
            "optimiser": {"learning_rate": 3e-3},
        }
        return build(TrainConfig, values | changes, "the test")

    return make
