"""Released features, once imported, train and evaluate by the recipes, at a smaller size."""

from __future__ import annotations

from pathlib import Path

import released_ce
import released_mmt
from toy import ROOT

from vtr.config import TrainConfig, load
from vtr.interop.ce_features import import_ce_features
from vtr.interop.mmt_features import import_mmt_features
from vtr.stages.evaluate import evaluate
from vtr.training.dry_run import dry_run
from vtr.training.train import train

RECIPES = ROOT / "configs" / "train"


def test_the_recipe_of_ce_trains_on_ces_features(tmp_path: Path) -> None:
    released_ce.write_release(tmp_path / "release", videos=12)
    workspace = import_ce_features(tmp_path / "release", tmp_path / "ws").workspace
    config = load(TrainConfig, RECIPES / "ce_full_unified.yaml", ["epochs=2", "model.dim=8", "data.batch_size=4"])
    said = dry_run(workspace, config)
    assert "full train: 9 of 9 videos, 17 captions" in said  # one caption has no text features
    assert "CE: " in said and "steps: 2 an epoch, 2 epochs, 4 in all; ranger" in said
    summary = train(workspace, config, tmp_path / "run", device="cpu")
    assert summary.progress.step == 4  # of nine videos, one is left over
    assert "full test: 2 of 2" in str(evaluate(summary.run, "full", "test", device="cpu"))


def test_the_recipe_of_mmt_trains_on_mmts_features(tmp_path: Path, tiny_bert: Path) -> None:
    released_mmt.write_release(tmp_path / "release", videos=12)
    workspace = import_mmt_features(tmp_path / "release", tmp_path / "ws", workers=1).workspace
    overrides = [
        "epochs=2",
        "experts=[face, s3d, vggish]",
        "model.dim=8",
        "model.layers=1",
        "model.feed_forward=8",
        "data.batch_size=4",
        "data.steps_per_epoch=5",
        f"text.model={tiny_bert}",
    ]
    config = load(TrainConfig, RECIPES / "mmt_1ka_unified.yaml", overrides)
    assert "steps: 5 an epoch, 2 epochs, 10 in all; adam" in dry_run(workspace, config)
    summary = train(workspace, config, tmp_path / "run", device="cpu")
    assert summary.progress.step == 10
    assert "1k-A test: 2 of 2; 1 caption a video" in str(evaluate(summary.run, None, None, device="cpu"))
