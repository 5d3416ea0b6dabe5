"""Ranks against plain loops over sorted lists, and against what the published code answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vtr.errors import InputError
from vtr.evaluation import ranks


def place(row: NDArray[Any], item: int) -> float:
    """Return the mean place (from 1) of the values equal to row[item] in descending order: the rule, word for word."""
    order = sorted(row.tolist(), reverse=True)
    places = [at + 1 for at, value in enumerate(order) if value == row[item]]
    return sum(places) / len(places)


def loop_text_to_video(scores: NDArray[Any], owners: NDArray[Any]) -> list[float]:
    return [place(scores[t], int(owners[t])) for t in range(len(owners))]


def loop_video_to_text(scores: NDArray[Any], owners: NDArray[Any]) -> list[float]:
    answers = []
    for video in range(scores.shape[1]):
        own = [t for t in range(len(owners)) if owners[t] == video]
        if own:
            answers.append(min(place(scores[:, video], t) for t in own))
    return answers


@st.composite
def tied_scores(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Few distinct values, so that most rows hold ties; videos may lack captions."""
    num_texts, num_videos = draw(st.integers(1, 9)), draw(st.integers(1, 7))
    values = draw(st.lists(st.integers(-2, 2), min_size=num_texts * num_videos, max_size=num_texts * num_videos))
    owners = draw(st.lists(st.integers(0, num_videos - 1), min_size=num_texts, max_size=num_texts))
    return np.asarray(values, np.float32).reshape(num_texts, num_videos), np.asarray(owners, np.int64)


@settings(deadline=None)
@given(tied_scores())
def test_ranks_equal_plain_loops_with_ties(case: tuple[NDArray[np.float32], NDArray[np.int64]]) -> None:
    scores, owners = case
    assert ranks.text_to_video(scores, owners).tolist() == loop_text_to_video(scores, owners)
    assert ranks.video_to_text(scores, owners).tolist() == loop_video_to_text(scores, owners)


def test_blocks_do_not_change_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 20, (60, 12)).astype(np.float32)
    owners = generator.integers(0, 12, 60)
    whole = ranks.text_to_video(scores, owners), ranks.video_to_text(scores, owners)
    monkeypatch.setattr(ranks, "BLOCK_VALUES", 25)
    np.testing.assert_array_equal(ranks.text_to_video(scores, owners), whole[0])
    np.testing.assert_array_equal(ranks.video_to_text(scores, owners), whole[1])


def test_tensors_rank_as_arrays() -> None:
    scores = np.random.default_rng(1).normal(size=(8, 4)).astype(np.float32)
    owners = np.repeat(np.arange(4), 2)
    np.testing.assert_array_equal(
        ranks.text_to_video(torch.from_numpy(scores), torch.from_numpy(owners)), ranks.text_to_video(scores, owners)
    )


@pytest.mark.parametrize("rank", [ranks.text_to_video, ranks.video_to_text])
def test_nan_is_an_error_that_names_the_rows(rank: Any) -> None:
    scores = np.zeros((9, 3), np.float32)
    scores[2, 1] = scores[7, 0] = np.nan
    with pytest.raises(InputError, match="2 texts are NaN: rows 2, 7"):
        rank(scores, np.arange(9) % 3)


@pytest.mark.parametrize("owners", [np.zeros(3, np.int64), np.asarray([0, 5]), np.asarray([0, -1])])
def test_owners_that_do_not_fit_are_an_error(owners: NDArray[np.int64]) -> None:
    with pytest.raises(ValueError, match="video_of_text"):
        ranks.text_to_video(np.zeros((2, 4)), owners)
