"""Shared by all tests: where the real data lies, tiny models, and small workspaces made of numbers."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from parts import make_part as random_part
from toy import ROOT, make_config, make_workspace, save_tiny_bert

from vtr.config import TrainConfig
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
    return save_tiny_bert(tmp_path_factory.mktemp("tiny-bert"))


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

    return partial(make_config, tiny_bert)
