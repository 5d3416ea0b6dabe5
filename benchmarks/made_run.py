"""A run that benchmarks search: a small model on features made of numbers, with the packaged text encoder."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from toy import make_workspace

from vtr.config import TrainConfig
from vtr.retrieval.galleries import embed_and_index
from vtr.training.train import train
from vtr.workspace import Run

MODEL = {"name": "mmt", "dim": 256, "layers": 2, "heads": 4, "feed_forward": 512, "dropout": 0.0}
"""That of configs/train/small.yaml."""


def make_run(folder: Path, videos: int) -> Run:
    """Return a run of so many videos with 3 captions each, trained for some steps; a sixth of them is its gallery."""
    config = TrainConfig.model_validate(
        {
            "split": "toy",
            "epochs": 1,
            "model": MODEL,
            "text": {"model": "packaged:all-minilm-l6-v2", "mode": "frozen"},
            "data": {"batch_size": 32, "steps_per_epoch": 4},
        }
    )
    train(make_workspace(folder / "workspace", videos=videos), config, folder / "run", device="cpu")
    run = Run.open(folder / "run")
    embed_and_index(run, "toy", "test", device="cpu")
    return run
