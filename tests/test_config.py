"""The strict loader: every mistake in a config names its key, and what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from toy import ROOT

from vtr.config import NoisyCorrespondenceConfig, TrainConfig, dump, load
from vtr.errors import ConfigError, InputError, VtrError
from vtr.extract_config import ExtractConfig
from vtr.loss_config import MaxMarginRankingLossConfig, TripletHardNegativeLossConfig, UnifiedLossConfig
from vtr.model_config import CEConfig
from vtr.sweep_config import SweepConfig


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def test_defaults_files_and_overrides_come_in_that_order(tmp_path: Path) -> None:
    path = written(tmp_path, "epochs: 7\nmodel: {dim: 128, heads: 2}\n")
    config = load(TrainConfig, path, ["model.heads=8", "text.mode=fine_tuned", "experts=[ocr, face]"])
    assert (config.epochs, config.model.dim, config.model.heads, config.model.layers) == (7, 128, 8, 4)
    assert (config.text.mode, config.experts) == ("fine_tuned", ("ocr", "face"))


def test_an_override_changes_one_value_of_the_base() -> None:
    base = TrainConfig(epochs=3, seed=5)
    assert load(TrainConfig, None, ["seed=6"], base) == TrainConfig(epochs=3, seed=6)


@pytest.mark.parametrize("number", ["1e-4", "1.0e-4", "0.0001", "1E-4", "1.e-4"])
def test_scientific_numbers_are_numbers_in_files_and_overrides(tmp_path: Path, number: str) -> None:
    path = written(tmp_path, f"optimiser:\n  learning_rate: {number}\n")
    assert load(TrainConfig, path).optimiser.learning_rate == 1e-4
    assert load(TrainConfig, None, [f"optimiser.learning_rate={number}"]).optimiser.learning_rate == 1e-4


def test_naming_another_loss_starts_from_its_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, "loss: {name: unified, margin: 0.7, gamma: 9.0}\n")
    assert load(TrainConfig, path, ["loss.name=max_margin"]).loss == MaxMarginRankingLossConfig(name="max_margin")
    overrides = ["loss.margin=0.3", "loss.name=triplet_hn"]  # in whatever order
    assert load(TrainConfig, path, overrides).loss == TripletHardNegativeLossConfig(name="triplet_hn", margin=0.3)
    assert load(TrainConfig, path, ["loss.name=unified"]).loss == UnifiedLossConfig(margin=0.7, gamma=9.0)


def test_a_value_has_no_keys() -> None:
    with pytest.raises(ConfigError, match=r"--set epochs\.of=3: epochs is a value, not a section"):
        load(TrainConfig, None, ["epochs=3", "epochs.of=3"])


def test_an_override_turns_on_a_section_that_was_off(tmp_path: Path) -> None:
    path = written(tmp_path, "noisy_correspondence: null\n")
    for base in (load(TrainConfig, path, ["noisy_correspondence.warmup_epochs=3"]),
                 load(TrainConfig, None, ["noisy_correspondence.warmup_epochs=3"], TrainConfig())):  # fmt: skip
        assert base.noisy_correspondence == NoisyCorrespondenceConfig(warmup_epochs=3)


def test_dumping_and_loading_gives_the_same(tmp_path: Path) -> None:
    config = load(TrainConfig, None, ["loss.name=triplet_hn", "loss.margin=0.3", "experts=[ocr]"])
    assert isinstance(config.loss, TripletHardNegativeLossConfig)
    assert load(TrainConfig, written(tmp_path, dump(config))) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("modle.dim=3", "unknown key 'modle'. Did you mean 'model'?"),
        ("model.layer=3", "unknown key 'model.layer'. Did you mean 'layers'?"),
        ("loss.gama=3", "unknown key 'loss.gama'. Did you mean 'gamma'? Valid here: gamma, margin, name, reduction"),
        ("zzz=3", "unknown key 'zzz'. Valid here: accumulate, checkpoint_every, compile"),
        ("model.dim=big", "model.dim is 'big': Input should be a valid integer"),
        ("epochs=1.5", "epochs is 1.5"),
        ("epochs=0", "epochs is 0: Input should be greater than or equal to 1"),
        ("seed=true", "seed is True"),
        ("epochs='3'", "epochs is '3'"),
        ("model.dropout=1", "model.dropout is 1"),
        ("optimiser.learning_rate=.nan", "optimiser.learning_rate is nan: Input should be a finite number"),
        ("loss.margin=.inf", "loss.margin is inf"),
        ("precision=float64", "precision is 'float64': Input should be 'float32', 'bfloat16' or 'float16'"),
        ("loss.name=unifid", "loss.name is 'unifid'. Did you mean 'unified'? Valid here: unified, triplet_hn,"),
        ("loss.name=offline_quintuplet", "loss.negatives is missing; a value was expected"),
        ("loss=null", "loss is None"),
        ("model=3", "model is 3"),
        ("experts=ocr", "experts is 'ocr'"),
        ("experts=[ocr", "--set experts=[ocr: the value is not YAML"),
        ("epochs", "--set epochs: KEY=VALUE was expected"),
        ("=3", "KEY=VALUE was expected"),
    ],
)
def test_mistakes_name_the_key_and_what_was_meant(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(TrainConfig, None, [override])
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "settings.audio.frame_side=9",
            "audio takes no settings of its own. frame_side is for all experts: set it out",
        ),
        (
            "settings.face.max_frame=9",
            "Did you mean 'max_frames'? face takes: sampling, frames_per_second, max_frames.",
        ),
        ("settings.mine.modle=x", "Did you mean 'model'? Valid here: batch, frames_per_second, kind, language, max_f"),
    ],
)
def test_an_unknown_setting_of_an_expert_lists_those_that_it_takes(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(ExtractConfig, None, [override])
    assert f"unknown key '{override.partition('=')[0]}'." in str(raised.value)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("epochs: 3\nepochs: 4\n", InputError, "key 'epochs' occurs twice"),
        ("model:\n  dim: 8\n  dim: 9\n", InputError, "key 'dim' occurs twice"),
        ("a: [", InputError, "is not YAML"),
        ("- 1\n", ConfigError, "holds list '[1]', keys and values were expected"),
        ("1: 2\n", ConfigError, "keys and values were expected"),
        ("just words", ConfigError, "holds str 'just words'"),
        ("model: !!python/object/apply:os.system ['true']\n", InputError, "is not YAML"),
        ("model: {1: 2}\n", ConfigError, "model"),
    ],
)
def test_files_with_mistakes_are_named(tmp_path: Path, text: str, error: type[VtrError], message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(error) as raised:
        load(TrainConfig, path)
    assert str(path) in str(raised.value) and message in str(raised.value)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml does not exist"):
        load(TrainConfig, tmp_path / "none.yaml")
    with pytest.raises(InputError, match="is a directory"):
        load(TrainConfig, tmp_path)
    with pytest.raises(InputError, match="cannot be read: Not a directory"):
        load(TrainConfig, written(tmp_path, "") / "below")
    path = written(tmp_path, "")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not YAML"):
        load(TrainConfig, path)


def test_an_empty_file_is_the_defaults_and_anchors_work(tmp_path: Path) -> None:
    assert load(TrainConfig, written(tmp_path, "")) == TrainConfig()
    merged = "model: &m {dim: 64, heads: 2}\ntext: {max_words: 9}\n"
    assert load(TrainConfig, written(tmp_path, merged)).model.dim == 64


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TrainConfig().epochs = 3  # type: ignore[misc]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*/*.yaml")), ids=lambda path: path.name)
def test_the_configs_that_come_along_are_valid_and_open_with_their_command(path: Path) -> None:
    kind = {"extract": ExtractConfig, "train": TrainConfig, "sweeps": SweepConfig}[path.parent.name]
    assert isinstance(load(kind, path), kind)  # type: ignore[type-var]
    comment = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any("vtr " in line and f"--config {path.stem} " in f"{line} " for line in comment)
    assert yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("split", ["full", "1ka"])
@pytest.mark.parametrize("model", ["mmt", "ce"])
def test_the_recipes_differ_in_the_loss_alone_and_have_the_released_settings(model: str, split: str) -> None:
    folder = ROOT / "configs" / "train"
    recipes = {loss: folder / f"{model}_{split}_{loss}.yaml" for loss in ("released", "triplet_hn", "vlc", "unified")}
    configs = {loss: load(TrainConfig, path) for loss, path in recipes.items()}
    assert len({config.model_dump_json(exclude={"loss"}) for config in configs.values()}) == 1
    losses = {loss: config.loss.model_dump() for loss, config in configs.items()}
    released = {"name": "max_margin", "margin": {"mmt": 0.05, "ce": 0.09381161988446174}[model]}
    assert losses["released"].items() >= released.items()
    assert losses["triplet_hn"].items() >= {"name": "triplet_hn", "margin": 0.2}.items()
    assert losses["vlc"]["name"] == "contrastive"
    assert losses["unified"].items() >= {"name": "unified", "margin": 0.2, "gamma": 50.0}.items()
    config = configs["released"]
    assert config.split == {"full": "full", "1ka": "1k-A"}[split]
    optimiser, data = config.optimiser, config.data
    if model == "mmt":
        assert (optimiser.name, optimiser.learning_rate, optimiser.weight_decay) == ("adam", 5e-5, 0)
        assert (optimiser.decay, optimiser.decay_steps, optimiser.warmup_steps) == (0.95, 1000, 0)
        assert (data.batch_size, config.epochs * (data.steps_per_epoch or 0)) == (32, 50_000)
        assert config.model.keep_missing and (config.text.model, config.text.lower_case) == ("bert-base-cased", True)
        assert config.experts == ("face", "ocr", "rgb", "s3d", "scene", "speech", "vggish")
    else:
        assert (optimiser.name, optimiser.learning_rate, optimiser.weight_decay) == ("ranger", 0.1, 1e-3)
        assert (optimiser.decay, optimiser.decay_steps, config.epochs, data.batch_size) == (0.95, "epoch", 100, 64)
        assert isinstance(config.model, CEConfig) and not config.model.keep_missing and config.model.dim == 768
        pooled = {name: (vlad.clusters, vlad.ghosts) for name, vlad in config.model.vlad.items()}
        assert pooled == {"audio": (8, 1), "ocr": (43, 1), "speech": (19, 1)}
        assert (config.model.text_vlad.clusters, config.model.text_vlad.ghosts) == (28, 1)
        assert config.experts is not None and len(config.experts) == 9
    assert data.sampling == "each_video"
    for path in recipes.values():
        assert "# Published row: " in path.read_text()


def test_the_keys_of_a_mapping_are_free_and_those_within_are_not() -> None:
    config = load(TrainConfig, None, ["model.name=ce", "model.vlad={motion: {clusters: 3}}"])
    assert isinstance(config.model, CEConfig) and config.model.vlad["motion"].clusters == 3
    with pytest.raises(ConfigError, match=r"unknown key 'model\.vlad\.motion\.cluster'\. Did you mean 'clusters'\?"):
        load(TrainConfig, None, ["model.name=ce", "model.vlad={motion: {cluster: 3}}"])
    with pytest.raises(ConfigError, match=r"model\.vlad\.motion\.clusters is 0"):
        load(TrainConfig, None, ["model.name=ce", "model.vlad={motion: {clusters: 0}}"])
