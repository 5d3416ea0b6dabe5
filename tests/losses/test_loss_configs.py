"""Every loss that a config can name is built with the config's values, and names agree everywhere."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from loss_cases import draw, offline_scores, random_scores
from torch import Tensor

from vtr.loss_config import LOSS_CONFIGS, LossConfig
from vtr.losses import (
    LOSSES,
    OfflineScores,
    adaptive_margin_unified_loss,
    build_loss,
    circle_weights,
    contrastive_loss,
    max_margin_ranking_loss,
    offline_quintuplet_loss,
    relative_polynomial_loss,
    self_polynomial_loss,
    triplet_hard_negative_loss,
    unified_loss,
    weighted_unified_loss,
)

CONFIGS = {config.model_fields["name"].annotation.__args__[0]: config for config in LOSS_CONFIGS}
"""A loss's name -> its config class."""

REQUIRED: dict[str, dict[str, Any]] = {"offline_quintuplet": {"negatives": "x"}}

Built = tuple[dict[str, Any], Callable[[Tensor], Tensor]]

BUILT: dict[str, Built] = {
    "unified": ({"margin": 0.1, "gamma": 7.0}, lambda s: unified_loss(s, 0.1, 7.0, "mean")),
    "triplet_hn": ({"margin": 0.3}, lambda s: triplet_hard_negative_loss(s, 0.3, "mean")),
    "max_margin": ({"margin": 0.3}, lambda s: max_margin_ranking_loss(s, 0.3)),
    "contrastive": ({"gamma": 3.0, "learnable": True}, lambda s: contrastive_loss(s, 3.0, "mean")),
    "weighted_unified": (
        {"margin": 0.1, "gamma": 7.0, "weights": "unit"},
        lambda s: weighted_unified_loss(s, torch.ones_like, 0.1, 7.0, "mean"),
    ),
    "relative_polynomial": (
        {"margin": 0.1, "gamma": 7.0, "coefficients": [0.1, 2], "form": "unified"},
        lambda s: relative_polynomial_loss(s, (0.1, 2.0), 0.1, 7.0, "unified", "mean"),
    ),
    "self_polynomial": (
        {"margin": 0.4, "positive": [0.6, -0.5], "negative": [0.1, 0.2, 0.3]},
        lambda s: self_polynomial_loss(s, 0.4, (0.6, -0.5), (0.1, 0.2, 0.3)),
    ),
    "adaptive_margin_unified": (
        {"margin": 0.1, "gamma": 7.0},
        lambda s: adaptive_margin_unified_loss(s, torch.full((6,), 0.1, dtype=torch.float64), 7.0, "mean"),
    ),
    "offline_quintuplet": (
        {"negatives": "x", "margin": 0.1, "offline_margin": 0.05, "alpha": 0.4, "beta": 1.1},
        lambda s: offline_quintuplet_loss(s, offline_scores(6)[0], 0.1, 0.05, 0.4, 1.1, "mean"),
    ),
    "meta_weighted": (
        {"margin": 0.1, "gamma": 7.0, "hidden": 3, "learning_rate": 0.1, "every": 2},
        lambda s: unified_loss(s, 0.1, 7.0, "mean"),  # its weights start at 1
    ),
}
"""A name -> values other than the defaults, and the function that is to come of them."""


def of_module(name: str, module: Callable[..., Tensor], scores: Tensor) -> Tensor:
    return module(scores, offline_scores(len(scores))[0]) if name == "offline_quintuplet" else module(scores)


def test_losses_configs_and_their_union_have_the_same_names() -> None:
    union, discriminator = get_args(LossConfig)[:2]
    tagged = {get_args(part)[1].tag: get_args(part)[0] for part in get_args(union)}
    assert discriminator is not None
    assert set(CONFIGS) == set(LOSSES) == set(tagged) == set(BUILT)
    assert tagged == CONFIGS


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_builds_its_loss_with_its_values(name: str) -> None:
    values, expected = BUILT[name]
    config = CONFIGS[name](name=name, **values)
    module = build_loss(config)
    assert type(module) is LOSSES[name]
    scores = random_scores(6, 1)
    assert of_module(name, module, scores).item() == pytest.approx(expected(scores).item(), rel=1e-6)
    summed = of_module(name, build_loss(CONFIGS[name](name=name, **values, reduction="sum")), scores)
    count = 60 if name == "max_margin" else 6  # its mean is over all negatives
    assert summed.item() == pytest.approx(count * expected(scores).item(), rel=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_value_of_a_config_matters(name: str) -> None:
    """A value that is not handed on would leave the loss as it is with the default."""
    values, _ = BUILT[name]
    fields = set(CONFIGS[name].model_fields) - {"name", *CONFIGS[name].of_training}
    assert fields - {"reduction"} == set(values) - CONFIGS[name].of_training
    scores = random_scores(6, 1)
    for field in sorted(fields - {"reduction", "learnable", "hidden"}):  # these do not move the value, at the start
        other = values | {field: CONFIGS[name].model_fields[field].default}
        losses = [of_module(name, build_loss(CONFIGS[name](name=name, **v)), scores) for v in (values, other)]
        assert losses[0].item() != losses[1].item(), field
    if name == "contrastive":
        assert len(list(build_loss(CONFIGS[name](name=name, **values)).parameters())) == 1
    if name == "meta_weighted":
        assert build_loss(CONFIGS[name](name=name, **values)).network.layers[0].out_features == 3


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configs_defaults_are_its_modules_but_for_the_mean_and_the_circle(name: str) -> None:
    config = CONFIGS[name](name=name, **REQUIRED.get(name, {}))
    parameters = inspect.signature(LOSSES[name]).parameters
    given = config.model_dump(exclude={"name", *config.of_training})
    assert set(given) == set(parameters)
    assert given.pop("reduction") == "mean"
    if name == "weighted_unified":
        assert (given.pop("weights"), parameters["weights"].default) == ("circle", "unit")
        assert build_loss(config).weights is circle_weights
    for field, value in given.items():
        assert value == parameters[field].default, field


@pytest.mark.parametrize("name", CONFIGS)
def test_a_modules_defaults_are_its_functions(name: str) -> None:
    functions: dict[str, Callable[[Tensor], Tensor]] = {
        "unified": unified_loss,
        "triplet_hn": triplet_hard_negative_loss,
        "max_margin": max_margin_ranking_loss,
        "contrastive": contrastive_loss,
        "weighted_unified": lambda s: weighted_unified_loss(s, torch.ones_like(s)),
        "relative_polynomial": relative_polynomial_loss,
        "self_polynomial": self_polynomial_loss,
        "adaptive_margin_unified": unified_loss,
        "offline_quintuplet": lambda s: offline_quintuplet_loss(s, offline_scores(6)[0]),
        "meta_weighted": unified_loss,
    }
    scores = random_scores(6, 2)
    assert of_module(name, LOSSES[name](), scores).item() == pytest.approx(functions[name](scores).item(), rel=1e-7)


def test_offline_scores_hold_what_they_are_given() -> None:
    text, video, pair = draw((3, 4), 3)
    offline = OfflineScores(text=text, video=video, pair=pair)
    assert offline.text is text
    assert offline.video is video
    assert offline.pair is pair
