"""The configurations that come along: found by name and by path, listed, printed, and named in errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from toy import ROOT
from typer.testing import CliRunner

from vtr.cli import app
from vtr.config import TrainConfig, load
from vtr.config_files import config_path, list_configs, read_config
from vtr.errors import ConfigError, VtrError
from vtr.sweep_config import load_sweep

OURS = {path.relative_to(ROOT / "configs").with_suffix("").as_posix() for path in (ROOT / "configs").rglob("*.yaml")}


def test_every_configuration_of_the_repository_is_listed_with_what_it_is_for() -> None:
    lines = dict(line.split(maxsplit=1) for line in list_configs().splitlines())
    assert lines.keys() == OURS and len(OURS) > 20
    assert lines["train/small"] == "A small model for a folder of own videos, on a CPU; the text encoder is frozen"


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_name_is_the_file_of_its_stage(name: str) -> None:
    stage, _, bare = name.rpartition("/")
    for given in {bare, name}:
        assert config_path(given, stage).resolve() == ROOT / "configs" / f"{name}.yaml"
    assert read_config(name) == (ROOT / "configs" / f"{name}.yaml").read_text(encoding="utf-8")


def test_a_path_stays_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for given in ("configs/train/small.yaml", "small.yaml", "absent.yml"):
        assert config_path(given, "train") == Path(given)
    Path("small").mkdir()
    assert config_path("small", "train").read_text() == read_config("small")
    Path("small").rmdir()
    Path("small").write_text("epochs: 1\n")
    assert config_path("small", "train") == Path("small")


@pytest.mark.parametrize("given", ["mmt_1ka_unifed", "extract/all", "losses_mmt"])
def test_a_name_of_nothing_or_of_another_stage_lists_those_that_fit(given: str) -> None:
    with pytest.raises(ConfigError, match=rf"no file {given}.* ce_1ka_released, .* small\.$") as caught:
        config_path(given, "train")
    assert ("Did you mean 'mmt_1ka_unified'?" in str(caught.value)) == given.startswith("mmt")
    assert "losses_ce" not in str(caught.value)


def test_the_command_prints_a_configuration_word_for_word() -> None:
    run = CliRunner().invoke(app, ["configs", "mmt_1ka_unified"])
    assert run.exit_code == 0
    assert run.stdout == (ROOT / "configs" / "train" / "mmt_1ka_unified.yaml").read_text(encoding="utf-8")
    assert CliRunner().invoke(app, ["configs"]).stdout == list_configs() + "\n"


def test_a_name_that_two_stages_have_needs_its_stage() -> None:
    with pytest.raises(ConfigError, match="may be any of extract/msrvtt_clips, train/msrvtt_clips"):
        read_config("msrvtt_clips")
    with pytest.raises(
        ConfigError, match=r"no configuration 'smal'. Did you mean '\w+/small'\? Those .* train/default"
    ):
        read_config("smal")


def test_a_printed_sweep_still_finds_what_it_trains(tmp_path: Path) -> None:
    copy = tmp_path / "mine.yaml"
    copy.write_text(read_config("losses_mmt"))
    assert load_sweep(copy) == load_sweep(ROOT / "configs" / "sweeps" / "losses_mmt.yaml")
    copy.write_text(copy.read_text().replace("train: msrvtt_clips", "train: msrvtt_clip"))
    with pytest.raises(VtrError, match=r"no file msrvtt_clip, .*Did you mean 'msrvtt_clips'"):
        load_sweep(copy)


@pytest.mark.parametrize("stage", ["train", "extract", "sweep"])
def test_each_stage_reads_its_own_names(stage: str, tmp_path: Path) -> None:
    run = CliRunner().invoke(app, [stage, str(tmp_path), "--config", "nowhere"])
    fitting = {"train": "train", "extract": "extract", "sweep": "sweeps"}[stage]
    names = sorted(name.removeprefix(f"{fitting}/") for name in OURS if name.startswith(f"{fitting}/"))
    assert isinstance(run.exception, ConfigError)
    assert str(run.exception).endswith(f"one of: {', '.join(names)}.")


def test_settings_by_name_are_the_file_s() -> None:
    by_name = load(TrainConfig, config_path("ce_full_vlc", "train"))
    raw = yaml.safe_load((ROOT / "configs" / "train" / "ce_full_vlc.yaml").read_text(encoding="utf-8"))
    assert by_name.epochs == raw["epochs"] and by_name.loss.name == raw["loss"]["name"]
