"""What cannot be computed is refused, with the value and with what was expected."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from loss_cases import CASES, random_scores
from torch import Tensor

from vtr.losses import (
    LOSSES,
    AdaptiveMarginUnifiedLoss,
    MaxMarginRankingLoss,
    OfflineQuintupletLoss,
    OfflineScores,
    RelativePolynomialLoss,
    WeightedUnifiedLoss,
    adaptive_margin_unified_loss,
    offline_quintuplet_loss,
    relative_polynomial_loss,
    self_polynomial_loss,
    unified_loss,
    weighted_unified_loss,
)

SCALED = [
    "adaptive_margin_unified",
    "contrastive",
    "meta_weighted",
    "relative_polynomial",
    "unified",
    "weighted_unified",
]


def of_scores(name: str, scores: Tensor, **settings: Any) -> Tensor:
    module = LOSSES[name](**settings)
    zeros = torch.zeros(3)
    return module(scores, OfflineScores(zeros, zeros, zeros)) if name == "offline_quintuplet" else module(scores)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(2, 3), (3, 2), (3,), (), (0, 0), (2, 2, 2), (1, 0)])
def test_scores_that_are_not_square_or_empty_are_refused(name: str, shape: tuple[int, ...]) -> None:
    message = f"scores have shape {shape}, [B, B] with matching pairs on the diagonal expected"
    with pytest.raises(ValueError, match=re.escape(message)):
        of_scores(name, torch.zeros(shape))


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("gamma", [0, -3.0, math.nan, math.inf])
def test_a_scale_that_is_not_positive_is_refused_when_the_module_is_made(name: str, gamma: float) -> None:
    with pytest.raises(ValueError, match=f"gamma is {gamma}, a positive number expected"):
        LOSSES[name](gamma=gamma)


@pytest.mark.parametrize("name", [case for case in CASES if case.split(",")[0] in SCALED])
@pytest.mark.parametrize("gamma", [0, -3.0, math.nan, math.inf])
def test_and_when_the_function_is_called(name: str, gamma: float) -> None:
    with pytest.raises(ValueError, match=f"gamma is {gamma}, a positive number expected"):
        CASES[name].ours(random_scores(3, 1), 0.2, gamma)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("reduction", ["max", "", None])
def test_an_unknown_reduction_is_refused_with_the_known_ones(name: str, reduction: Any) -> None:
    known = "'mean' or 'sum' over" if name == "max_margin" else "'sum', 'mean' or 'none'"
    with pytest.raises(ValueError, match=f"reduction is {reduction!r}, {known}"):
        CASES[name].ours(random_scores(3, 1), 0.2, 10.0, reduction=reduction)


def test_the_mean_over_negatives_has_no_value_for_every_anchor() -> None:
    with pytest.raises(ValueError, match="reduction is 'none', 'mean' or 'sum' over the negatives expected"):
        MaxMarginRankingLoss(reduction="none")(random_scores(3, 1))  # type: ignore[arg-type]


def offline(text: Tensor, video: Tensor, pair: Tensor) -> Callable[[], Tensor]:
    return lambda: offline_quintuplet_loss(torch.zeros(3, 3), OfflineScores(text, video, pair))


S, THREE, FOUR = torch.zeros(3, 3), torch.zeros(3), torch.zeros(4)

REFUSED: list[tuple[str, Callable[[], object]]] = [
    ("margin has shape (4,), a number or [3]", lambda: unified_loss(S, FOUR)),
    ("margin has shape (3, 1), a number or [3]", lambda: unified_loss(S, torch.zeros(3, 1))),
    ("margins have shape (4,), [3]", lambda: adaptive_margin_unified_loss(S, FOUR)),
    ("margins have shape (), [3]", lambda: adaptive_margin_unified_loss(S, torch.tensor(0.2))),
    ("margins have shape (4,), [3]", lambda: AdaptiveMarginUnifiedLoss()(S, labels=FOUR)),
    ("weights have shape (3,), that of the scores, (3, 3), or two", lambda: weighted_unified_loss(S, THREE)),
    ("weights have shape (3, 3, 3), that of", lambda: weighted_unified_loss(S, torch.zeros(3, 3, 3))),
    ("weights have shape (3,), that of", lambda: weighted_unified_loss(S, lambda s: s.diagonal())),
    ("weights have shape (2, 2), that of", lambda: WeightedUnifiedLoss(weights=torch.ones(2, 2))(S)),
    ("weights are 'square', one of circle, unit", lambda: WeightedUnifiedLoss(weights="square")),  # type: ignore[arg-type]
    ("there are no coefficients, a_0, a_1, ...", lambda: relative_polynomial_loss(S, ())),
    ("there are no coefficients, a_0, a_1, ...", lambda: RelativePolynomialLoss(())),
    ("form is 'soft', 'hinge' or 'unified'", lambda: relative_polynomial_loss(S, form="soft")),  # type: ignore[arg-type]
    ("has no coefficients, a_0, a_1, ...", lambda: self_polynomial_loss(S, positive=())),
    ("has no coefficients, a_0, a_1, ...", lambda: self_polynomial_loss(S, negative=())),
    ("alpha is 0, a positive number", lambda: OfflineQuintupletLoss(alpha=0)),
    ("alpha is -0.3, a positive number", lambda: OfflineQuintupletLoss(alpha=-0.3)),
    (
        "alpha is 0, a positive number",
        lambda: offline_quintuplet_loss(S, OfflineScores(THREE, THREE, THREE), alpha=0),
    ),
    ("shapes [(4,), (4,), (4,)], [3] each", offline(FOUR, FOUR, FOUR)),
    ("shapes [(3,), (4,), (3,)], [3] each", offline(THREE, FOUR, THREE)),
    ("shapes [(3,), (3,), (4,)], [3] each", offline(THREE, THREE, FOUR)),
    ("shapes [(3,), (3,), (3, 3)], [3] each (or [2, B] for pairs)", offline(THREE, THREE, S)),
    ("shapes [(3,), (3,), ()], [3] each", offline(THREE, THREE, torch.zeros(()))),
    ("shapes [(3, 3), (3, 3), (3,)], [3] each", offline(S, S, THREE)),
]


@pytest.mark.parametrize(("message", "call"), REFUSED)
def test_a_wrong_argument_is_named_with_what_was_expected(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=re.escape(message) + ".* expected"):
        call()


def test_integer_scores_are_counted_with_as_floats() -> None:
    whole = torch.tensor([[1, 0], [1, 1]])
    for name in LOSSES:
        if name != "offline_quintuplet":
            assert of_scores(name, whole).item() == of_scores(name, whole.float()).item()
