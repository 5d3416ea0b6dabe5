"""What `vtr train` does where it is given no config: the best model for features from frozen networks.

docs/recipes.md explains it.
"""

from __future__ import annotations

from typing import Any

from vtr.annotations.tables import split_names
from vtr.config import TrainConfig, build
from vtr.workspace import Workspace

PREFERRED_SPLIT = "full"

DEFAULT: dict[str, Any] = {
    "epochs": 24,
    "checkpoint_every": "minute",
    "validate_every": 264,
    "model": {
        "name": "moee",
        "dim": 256,
        "members": 8,
        "feature_dropout": 0.5,
        "caption_regression": {"components": 768},
        "hub_correction": {"beta": 10.0},
    },
    "text": {"model": "packaged:all-minilm-l6-v2", "mode": "frozen"},
    "data": {"batch_size": 256, "steps_per_epoch": 44, "max_features": 30},
    "loss": {"name": "unified", "margin": 0.2, "gamma": 20.0},
    "optimiser": {
        "name": "adam",
        "learning_rate": 5e-4,
        "schedule": "cosine",
        "warmup_steps": 20,
        "gradient_clip": 5.0,
    },
}
"""The recipe but for the split; configs/train/default.yaml is the same."""


def default_recipe(workspace: Workspace) -> TrainConfig:
    """Return the recipe for a workspace: on MSR-VTT's full split, or on the first split that there is.

    Raises:
        WorkspaceError: the workspace has no splits.
    """
    names = split_names(workspace)
    split = PREFERRED_SPLIT if PREFERRED_SPLIT in names else names[0]
    return build(TrainConfig, DEFAULT | {"split": split}, "the default recipe")
