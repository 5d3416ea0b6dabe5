"""The core types refuse what does not fit together, and say what was expected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from vtr.errors import InputError
from vtr.types import (
    ExpertBatch,
    ExpertFeatures,
    ExpertSpec,
    Split,
    TextBatch,
    TextEmbeddings,
    VideoEmbeddings,
)

SECONDS = np.zeros(2, np.float32)


def features(values: Any, start: Any = SECONDS) -> ExpertFeatures:
    return ExpertFeatures(values, start, SECONDS)


def expert_batch(mask: tuple[int, ...], aggregate: tuple[int, ...]) -> ExpertBatch:
    return ExpertBatch(torch.zeros(2, 3, 4), torch.zeros(2, 3), torch.ones(mask).bool(), torch.zeros(aggregate))


REFUSED: dict[str, tuple[Callable[[], object], str]] = {
    "no dim": (lambda: ExpertSpec("look", 0, "image", None, "test"), "expert look: dim is 0, a positive number"),
    "one axis": (lambda: features(np.zeros(2, np.float32)), r"shape \(2,\), \[T, D\] with T >= 1"),
    "no feature": (lambda: features(np.zeros((0, 4), np.float32)), r"shape \(0, 4\), \[T, D\] with T >= 1"),
    "float64": (lambda: features(np.zeros((2, 4))), "features are float64, float16 or float32"),
    "other seconds": (
        lambda: features(np.zeros((2, 4), np.float32), np.zeros(3, np.float32)),
        r"start_seconds has shape \(3,\), features have \(2, 4\)",
    ),
    "other mask": (lambda: expert_batch((2, 4), (2, 4)), r"values \(2, 3, 4\) and mask \(2, 4\)"),
    "other aggregate": (lambda: expert_batch((2, 3), (2, 5)), r"aggregate \(2, 5\) does not fit values \(2, 3, 4\)"),
    "no text": (lambda: TextBatch(("a",)), "tokens, states or token states, exactly one"),
    "two texts": (
        lambda: TextBatch(("a",), input_ids=torch.zeros(1, 2).long(), states=torch.zeros(1, 4)),
        "tokens, states or token states, exactly one",
    ),
    "no mask": (lambda: TextBatch(("a",), token_states=torch.zeros(1, 2, 4)), "needs an attention mask"),
    "other weights": (
        lambda: TextEmbeddings(("a",), torch.zeros(1, 2, 4), torch.zeros(1, 3)),
        r"text embeddings: 1 ids, vectors \(1, 2, 4\) and \(1, 3\) do not fit",
    ),
    "other ids": (
        lambda: VideoEmbeddings(("a", "b"), torch.zeros(1, 2, 4), torch.zeros(1, 2)),
        r"video embeddings: 2 ids, vectors \(1, 2, 4\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_with_what_was_expected(case: str) -> None:
    make, told = REFUSED[case]
    with pytest.raises(ValueError, match=told):
        make()


def test_a_split_lists_no_video_twice() -> None:
    with pytest.raises(InputError, match=r"split mine: test lists videos twice: b"):
        Split("mine", ("a",), (), ("b", "c", "b"))
    with pytest.raises(InputError, match=r"train.*test|test.*train"):
        Split("mine", ("a", "b"), (), ("b",))
