"""The default recipe: what `vtr train` does without a config."""

from __future__ import annotations

from pathlib import Path

import pytest
from toy import ROOT, make_workspace

from vtr.cli import main
from vtr.config import TrainConfig, load
from vtr.files import read_json
from vtr.training.recipe import default_recipe
from vtr.workspace import Workspace


def test_the_config_file_is_the_recipe(toy: Workspace) -> None:
    from_file = load(TrainConfig, ROOT / "configs" / "train" / "default.yaml")
    assert default_recipe(toy) == from_file.model_copy(update={"split": "toy"})


def test_train_without_a_config_uses_it_and_overrides_change_it(
    tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = make_workspace(tmp_path / "ws", videos=120)
    settings = ["--set", "epochs=2", "--set", "loss.name=triplet_hn", "--set", f"text.model={tiny_bert}"]
    arguments = ["vtr", "train", str(workspace.root), "--out", str(tmp_path / "run"), "--device", "cpu", *settings]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code, capsys.readouterr().err
    trained = read_json(tmp_path / "run" / "manifest.json")["config"]
    assert trained["split"] == "toy"
    assert trained["model"]["name"] == "moee"
    assert trained["loss"]["name"] == "triplet_hn"
    assert trained["epochs"] == 2
