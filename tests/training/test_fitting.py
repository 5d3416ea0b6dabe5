"""Fitting the caption regression before training: to which videos, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy import make_workspace

from vtr.config import TrainConfig
from vtr.data.corpus import load_corpus
from vtr.data.features import FeatureChoice
from vtr.data.texts import CaptionTable
from vtr.embeddings import load_part
from vtr.errors import ConfigError
from vtr.model_config import MoEEConfig
from vtr.models import Fitted, MoEE, assemble, build_model
from vtr.models.saved import load_model
from vtr.models.text import TextInput
from vtr.stages.evaluate import evaluate
from vtr.training.data import TrainingData, make_data
from vtr.training.fitting import fit, will_hold
from vtr.training.train import train
from vtr.workspace import Run, Workspace

MakeConfig = Callable[..., TrainConfig]
MODEL = {"name": "moee", "dim": 8, "members": 2, "feature_dropout": 0.2}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "ws", videos=60)


def data_of(workspace: Workspace, config: TrainConfig) -> TrainingData:
    corpus = load_corpus(workspace, "toy", parts=("train", "validation"), available_only=False)
    captions = [*corpus.captions("train"), *corpus.queries("validation")]
    return make_data(corpus, CaptionTable(captions, TextInput(config.text), workspace), FeatureChoice.of(config))


def stored(workspace: Workspace, config: TrainConfig, source_of: Mapping[str, str]) -> set[str]:
    """Return the ids of the videos that a new model's regression was fitted to."""
    data = data_of(workspace, config)
    model = build_model(config, data.table.dims, data.captions.dim)
    fit(model, data, source_of)
    assert isinstance(model, MoEE) and model.regression is not None
    ids = set(model.regression._row_of)
    assert len(ids) == model.regression.videos
    return ids


def test_it_is_fitted_to_the_training_videos_or_to_whole_sources_of_them(
    workspace: Workspace, toy_config: MakeConfig
) -> None:
    ids = [f"v{number:03d}" for number in range(60)]
    source_of = {video_id: f"source{place // 3}" for place, video_id in enumerate(ids)}
    every = toy_config(model=MODEL | {"caption_regression": {"components": 6}})
    assert stored(workspace, every, source_of) == set(ids[:40])
    some = toy_config(model=MODEL | {"caption_regression": {"components": 6, "videos": 17}})
    chosen = stored(workspace, some, source_of)
    of_sources = {source: {i for i in ids[:40] if source_of[i] == source} for source in source_of.values()}
    assert 15 <= len(chosen) <= 17, "sources have three videos, and one has one"
    assert all(members <= chosen or not members & chosen for members in of_sources.values())
    assert chosen == stored(workspace, some, source_of), "the same each time"
    one_source = dict.fromkeys(ids, "film")
    assert len(stored(workspace, some, one_source)) == 17, "drawn one by one, and left out one by one"


def test_where_all_are_of_one_source_each_video_is_left_out_alone(workspace: Workspace, toy_config: MakeConfig) -> None:
    config = toy_config(model=MODEL | {"caption_regression": {"components": 6}})
    data = data_of(workspace, config)
    models = [build_model(config, data.table.dims, data.captions.dim) for _ in range(2)]
    ids = data.table.video_ids
    for model, source_of in zip(models, (dict.fromkeys(ids, "film"), {i: i for i in ids}), strict=True):
        fit(model, data, source_of)
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["regression.held_out"].square().mean().sqrt().item() == pytest.approx(1, rel=1e-4)


def test_hubs_are_measured_against_training_captions_and_videos(workspace: Workspace, toy_config: MakeConfig) -> None:
    config = toy_config(model=MODEL | {"hub_correction": {"texts": 30, "videos": 9}})
    data = data_of(workspace, config)
    model = build_model(config, data.table.dims, data.captions.dim)
    fit(model, data, {video_id: video_id for video_id in data.table.video_ids})
    assert isinstance(model, MoEE) and model.hubs is not None
    of_training = data.captions.batch([caption for rows in data.train.values() for caption in rows]).states
    features, _ = model.pooled(data.table.batch(sorted(data.train)))
    assert of_training is not None and model.fitted == Fitted(0, 30, 9) == will_hold(config.model, 40, 120)
    for held, among in ((model.hubs.states, of_training), (model.hubs.features, features)):
        nearest = torch.cdist(held, among, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1)
        assert nearest.values.max() < 1e-4 and len(nearest.indices.unique()) > len(held) / 2


def test_training_with_an_average_of_the_weights_keeps_what_was_fitted(
    workspace: Workspace, tmp_path: Path, toy_config: MakeConfig
) -> None:
    model = MODEL | {"caption_regression": {"components": 6}, "hub_correction": {}}
    train(workspace, toy_config(epochs=2, ema=0.9, model=model), tmp_path / "run", device="cpu")
    average, _ = load_model(tmp_path / "run" / "checkpoints" / "best")
    weights = load_file(tmp_path / "run" / "checkpoints" / "last" / "model.safetensors")
    for name, value in average.state_dict().items():
        if name.startswith(("regression.", "hubs.")):
            assert torch.equal(value, weights[name])
    assert not torch.equal(average.state_dict()["mixture.linear.weight"], weights["mixture.linear.weight"])


def test_an_expert_may_not_have_the_regressions_name() -> None:
    config = MoEEConfig.model_validate({"name": "moee", "caption_regression": {}})
    with pytest.raises(ConfigError, match="an expert is called caption_regression"):
        assemble(config, {"caption_regression": 4, "face": 3}, 8)


def test_weights_of_pairs_are_not_learnt_from_corrected_scores(
    workspace: Workspace, tmp_path: Path, toy_config: MakeConfig
) -> None:
    config = toy_config(model=MODEL | {"hub_correction": {}}, loss={"name": "meta_weighted"})
    with pytest.raises(ConfigError, match=r"meta_weighted and model\.hub_correction"):
        train(workspace, config, tmp_path / "run", device="cpu")


def test_a_run_holds_what_it_was_fitted_to_and_is_evaluated_with_it(
    workspace: Workspace, tmp_path: Path, toy_config: MakeConfig
) -> None:
    config = toy_config(epochs=2, model=MODEL | {"caption_regression": {"components": 6}})
    train(workspace, config, tmp_path / "run", device="cpu")
    model, _ = load_model(tmp_path / "run" / "checkpoints" / "best")
    assert isinstance(model, MoEE) and model.regression is not None and model.regression.videos == 40
    fresh = build_model(config, model.expert_dims, model.text_dim)
    fit(fresh, data_of(workspace, config), {f"v{number:03d}": f"v{number:03d}" for number in range(60)})
    assert isinstance(fresh, MoEE) and fresh.regression is not None
    for name, value in model.regression.state_dict().items():
        torch.testing.assert_close(value, fresh.regression.state_dict()[name], rtol=1e-5, atol=1e-5)
    run = Run.open(tmp_path / "run")
    summary = evaluate(run, "toy", "test", device="cpu")
    part = load_part(run.embeddings / "toy-test")
    assert part.experts == ("appearance", "motion", "caption_regression")
    assert "only caption_regression" in str(summary)


def test_a_trained_text_encoder_has_no_states_to_regress_to(
    workspace: Workspace, tmp_path: Path, toy_config: MakeConfig, tiny_bert: Path
) -> None:
    text = {"model": str(tiny_bert), "mode": "fine_tuned"}
    config = toy_config(model=MODEL | {"caption_regression": {}}, text=text)
    with pytest.raises(ConfigError, match=r"caption_regression is set and text\.mode is fine_tuned.*text\.mode=frozen"):
        train(workspace, config, tmp_path / "run", device="cpu")
