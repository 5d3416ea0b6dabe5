"""A small run trained on numbers, to put videos into."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from toy import make_workspace

from vtr.config import TrainConfig
from vtr.training.train import train
from vtr.workspace import Run


@pytest.fixture(scope="session")
def trained_toy(tmp_path_factory: pytest.TempPathFactory, toy_config: Callable[..., TrainConfig]) -> Path:
    """A folder that holds ws/ and run/; read-only, use `toy_run` to change things."""
    folder = tmp_path_factory.mktemp("toy")
    config = toy_config(epochs=1, model={"dim": 16, "layers": 1, "heads": 2, "feed_forward": 32, "dropout": 0.0})
    train(make_workspace(folder / "ws"), config, folder / "run", device="cpu")
    return folder


@pytest.fixture
def toy_run(trained_toy: Path, tmp_path: Path) -> Run:
    """A copy of the trained run and its workspace: 60 videos without files, the last ten its test part."""
    for name in ("ws", "run"):
        shutil.copytree(trained_toy / name, tmp_path / name)
    return Run.open(tmp_path / "run")
