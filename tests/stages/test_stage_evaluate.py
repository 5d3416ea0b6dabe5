"""The evaluate stage against metrics worked out here from the embeddings, one query at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from vtr.embeddings import EmbeddedPart
from vtr.errors import InputError, WorkspaceError
from vtr.evaluation.results import SAME, Evaluation, choose_examples
from vtr.files import read_json
from vtr.index.build import build_index
from vtr.index.search import Found, RetrievalIndex
from vtr.stages.evaluate import evaluate, evaluate_part, listed_ranks
from vtr.stages.index import embed_and_index
from vtr.types import TextEmbeddings
from vtr.workspace import Run, Workspace, read_manifest


def by_hand(part: EmbeddedPart, experts: list[int]) -> NDArray[np.float64]:
    """Return scores [T, V] of some experts by the definition."""
    weights = part.texts.weights.double().numpy()[:, experts]
    present = part.videos.present.double().numpy()[:, experts]
    texts, videos = part.texts.vectors.double().numpy()[:, experts], part.videos.vectors.double().numpy()[:, experts]
    counts = weights[:, None, :] * present[None]
    cosines = np.einsum("ted,ved->tve", texts, videos)
    total = counts.sum(-1)
    return np.where(total > 0, (counts * cosines).sum(-1) / np.where(total > 0, total, 1), 0).astype(np.float32)


def recall_by_hand(scores: NDArray[np.float64], owners: NDArray[np.int64], at: int) -> tuple[float, float]:
    """Return R@`at` both ways, by sorting; ties take the mean of their places."""

    def place(row: NDArray[np.float64], item: int) -> float:
        ordered = np.sort(row)[::-1]
        return float(np.mean(np.flatnonzero(ordered == row[item]))) + 1

    t2v = [place(scores[t], owner) for t, owner in enumerate(owners)]
    v2t = [min(place(scores[:, v], int(t)) for t in np.flatnonzero(owners == v)) for v in sorted(set(owners.tolist()))]
    limit = 1 if at == 1 else at + 0.5
    return tuple(100 * float(np.mean(np.asarray(found) <= limit)) for found in (t2v, v2t))  # type: ignore[return-value]


def test_figures_ablation_and_record(run: Run) -> None:
    summary = evaluate(run, None, None, device="cpu")
    part = embed_and_index(run, None, None).embedded
    found = summary.evaluation
    for label, share, metrics, experts in [
        ("all", None, found.metrics, [0, 1]),
        *(
            (some.label, some.share, some.metrics, experts)
            for some, experts in zip(found.ablation, ([0], [1]), strict=True)
        ),
    ]:
        scores = by_hand(part, experts)
        for at in (1, 5):
            recalls = metrics.text_to_video.recall[at], metrics.video_to_text.recall[at]
            assert recalls == pytest.approx(recall_by_hand(scores, part.video_of_text, at)), (label, at)
        if share is not None:
            assert share == pytest.approx(np.mean([any(row[experts] > 0) for row in part.videos.present.numpy()]))
    assert [some.label for some in found.ablation] == ["only appearance", "only motion"]
    assert found.agreement == SAME
    text = str(summary)
    assert "full test: 6 of 6; 2 captions a video" in text
    assert "each of 12 captions ranks 6 videos" in text
    assert "each of 6 videos ranks 12 captions and counts by the best-ranked of its own captions" in text
    assert "same figures" in text
    assert found.notes == ()
    record = read_json(summary.path)
    assert record["inputs"] == {"index": read_manifest(run.index / "full-test", "")["output"]}
    assert record["rsum"] == found.metrics.rsum
    assert record["checkpoint"]["output"] == read_manifest(run.root, "")["output"]
    assert Evaluation.from_json(record, "the record") == found
    with pytest.raises(InputError, match="is not an evaluation"):
        Evaluation.from_json({key: value for key, value in record.items() if key != "metrics"}, "the record")


def test_the_part_that_chose_the_checkpoint_says_so(run: Run) -> None:
    summary = evaluate(run, "val", None, device="cpu")
    assert summary.path.name == "full-validation.json"
    assert "chosen by 6 of these 6 videos, so the figures are optimistic" in str(summary)
    assert "trained on 24 of these 24 videos" in str(evaluate(run, "full", "train", device="cpu"))


def test_a_part_without_captions_can_be_searched_but_not_evaluated(
    run: Run, other_workspace: Callable[..., Workspace]
) -> None:
    bare = Run.open(run.root, other_workspace("bare", captions_a_video=0).root)
    with pytest.raises(
        WorkspaceError, match=r"full test has no query captions, evaluation needs them\. Searching works"
    ):
        evaluate(bare, None, None, device="cpu")


def test_missing_videos_are_on_the_result(run: Run, other_workspace: Callable[..., Workspace]) -> None:
    cut = Run.open(run.root, other_workspace("cut", without_features=2).root)
    with pytest.raises(WorkspaceError, match=r"2 of 6 videos of full test have no features.*--available-only"):
        evaluate(cut, None, None, device="cpu")
    summary = evaluate(cut, None, None, device="cpu", available_only=True)
    assert "full test: 4 of 6; 2 captions a video" in str(summary)
    record = read_json(summary.path)
    assert (record["coverage"]["available"], record["coverage"]["total"]) == (4, 6)
    assert record["metrics"]["text_to_video"]["num_items"] == 4


class Forgetful(RetrievalIndex):
    """An index that answers the last text with the videos in wrong order."""

    def videos_for(self, texts: TextEmbeddings, wanted: int) -> Found:
        found = super().videos_for(texts, wanted)
        found.rows[-1] = found.rows[-1, ::-1].copy()
        return found


def test_an_index_that_answers_otherwise_is_reported(run: Run) -> None:
    indexed = embed_and_index(run, None, None, device="cpu")
    build_index(run.root / "again", indexed.embedded, embed_output="x")
    wrong = Forgetful.open(run.root / "again", indexed.embedded, embed_output="x")
    found = evaluate_part(indexed.embedded, wrong, ())
    last = indexed.embedded.texts.ids[-1]
    assert len(found.differences) == 1
    assert f"text to video, {last}: rank" in found.agreement
    twisted = replace(
        indexed.embedded, videos=replace(indexed.embedded.videos, vectors=-indexed.embedded.videos.vectors)
    )
    with pytest.raises(WorkspaceError, match="other vectors"):
        evaluate_part(twisted, RetrievalIndex.open(run.root / "again", twisted, embed_output="x"), ())


def test_ranks_from_a_list_alone() -> None:
    listed = np.asarray([[0.9, 0.8, 0.8, 0.1]] * 6, np.float32)
    own = np.zeros((6, 4), bool)
    own[0, 0] = own[1, 2] = own[2, 3] = True
    best = np.asarray([0.9, 0.8, 0.1, 0.5, 0.05, 0.1], np.float32)
    # first; tied for second; at the list's end, where more may tie; missed; rightly absent; absent, tied with the end
    expected = [1.0, 2.5, np.nan, np.inf, np.nan, np.nan]
    np.testing.assert_array_equal(listed_ranks(listed, own, best, 9), expected)
    np.testing.assert_array_equal(listed_ranks(listed[:3], own[:3], best[:3], 4), [1.0, 2.5, 4.0])


def test_examples_are_half_right_half_wrong_and_of_different_videos() -> None:
    owners = np.repeat(np.arange(40), 2)
    ranks = np.where(owners % 2 == 0, 1.0, 7.0)
    rows = choose_examples(ranks, owners)
    assert rows == choose_examples(ranks, owners)
    assert sorted(ranks[rows].tolist()) == [1.0] * 4 + [7.0] * 4
    assert len({int(owners[row]) for row in rows}) == 8
    few_wrong = np.where(owners < 38, 1.0, 3.0)
    assert sorted(few_wrong[choose_examples(few_wrong, owners)].tolist()) == [1.0] * 6 + [3.0] * 2
    assert len(choose_examples(np.ones(6), np.repeat(np.arange(3), 2))) == 3
