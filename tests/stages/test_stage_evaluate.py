"""The evaluate stage against metrics worked out here from the embeddings, one query at a time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vtr.annotations.own_split import prepare_split
from vtr.annotations.tables import annotations_fingerprint, load_split
from vtr.embeddings import EmbeddedPart
from vtr.errors import ConfigError, InputError, WorkspaceError
from vtr.evaluation.judge import choose_examples
from vtr.evaluation.metrics import RECALL_AT, evaluate_scores
from vtr.evaluation.protocols import Rules
from vtr.evaluation.ranks import Counts, count_both
from vtr.evaluation.results import Evaluation, IndexCheck
from vtr.evaluation.scores import MatrixScores
from vtr.files import read_json, write_json
from vtr.index.build import build_index
from vtr.index.search import Found, RetrievalIndex
from vtr.retrieval.galleries import embed_and_index
from vtr.similarity import exact_scores
from vtr.stages.evaluate import evaluate
from vtr.stages.index import index
from vtr.stages.index_check import LISTED, check_index, listed_counts
from vtr.types import PARTS, Part, TextEmbeddings
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
    assert found.index is not None
    assert found.index.differences == ()
    assert found.index.metrics.text_to_video.recall == found.metrics.text_to_video.recall
    text = str(summary)
    assert "full test: 6 of 6; 2 captions a video" in text
    assert "each of 12 captions ranks 6 videos" in text
    assert "each of 6 videos ranks 12 captions and counts by the best-ranked of its own captions" in text
    assert "The index (Flat; its lists of the best 100 for every query) and the exact scores give the same" in text
    assert found.notes == ()
    record = read_json(summary.path)
    assert record["inputs"]["index"] == read_manifest(run.index / "full-test", "")["output"]
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


def check(part: EmbeddedPart, opened: RetrievalIndex) -> IndexCheck:
    scores = MatrixScores(exact_scores(part.texts, part.videos))
    return check_index(part, opened, scores, *count_both(scores, part.video_of_text), "average")


class Forgetful(RetrievalIndex):
    """An index that answers the last text with the videos in wrong order."""

    def videos_for(self, texts: TextEmbeddings, wanted: int) -> Found:
        found = super().videos_for(texts, wanted)
        if wanted == LISTED:
            found.rows[-1] = found.rows[-1, ::-1].copy()
        return found


def test_an_index_that_answers_otherwise_is_reported(run: Run) -> None:
    part = embed_and_index(run, None, None, device="cpu").embedded
    build_index(run.root / "again", part, embed_output="x")
    found = check(part, Forgetful.open(run.root / "again", part, embed_output="x"))
    assert len(found.differences) == 1
    assert f"text to video, {part.texts.ids[-1]}: rank" in str(found)
    twisted = replace(part, videos=replace(part.videos, vectors=-part.videos.vectors))
    with pytest.raises(WorkspaceError, match="other vectors"):
        check(twisted, RetrievalIndex.open(run.root / "again", twisted, embed_output="x"))


def loop_candidates(part: EmbeddedPart, text: int) -> int:
    """Return how long a list by inner product must be to hold the text's best ten videos."""
    weights, present = part.texts.weights[text].double(), part.videos.present.double()
    cosines = (part.texts.vectors[text].double() * part.videos.vectors.double()).sum(-1)
    inner = (cosines * present * weights).sum(-1)
    scores = inner / (present @ weights).clamp_min(1e-8)
    best = set(torch.argsort(scores, descending=True, stable=True)[:10].tolist())
    seen: set[int] = set()
    for place, video in enumerate(torch.argsort(inner, descending=True, stable=True).tolist(), 1):
        seen.add(video)
        if best <= seen:
            return place
    raise AssertionError


@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_an_exact_index_gives_every_figure_of_the_exact_scores(
    make_part: Callable[..., EmbeddedPart], tmp_path: Path, missing: float
) -> None:
    part = make_part(150, 4, missing)  # more items than the index lists
    part.texts.vectors[40:44], part.texts.weights[40:44] = part.texts.vectors[40:41], part.texts.weights[40:41]
    part.videos.vectors[7], part.videos.present[7] = part.videos.vectors[6], part.videos.present[6]  # ties both ways
    build_index(tmp_path, part, embed_output="x")
    found = check(part, RetrievalIndex.open(tmp_path, part, embed_output="x"))
    exact = evaluate_scores(exact_scores(part.texts, part.videos), part.video_of_text)
    assert found.differences == ()
    for name in ("text_to_video", "video_to_text"):
        through, counted = getattr(found.metrics, name), getattr(exact, name)
        assert through.recall == counted.recall
        assert (through.median_rank, through.mean_rank) == (counted.median_rank, counted.mean_rank)
        assert through.num_tied == counted.num_tied > 0
        assert found.recall_at_10[name] == 100.0
        assert found.told[name] <= through.num_queries
    assert found.told["text_to_video"] < 600  # some right answers are further down than the lists go
    needed = [loop_candidates(part, text) for text in range(600)]
    assert found.candidates["text_to_video"]["most"] == max(needed)
    assert found.candidates["text_to_video"]["median"] == sorted(needed)[300]
    assert (max(needed) > 10) == (missing > 0)


def test_an_approximate_index_reports_its_recall_and_what_it_changes(run: Run) -> None:
    exact = evaluate(run, None, None, device="cpu").evaluation
    index(run, None, None, factory="IVF3,Flat", parameters="nprobe=1")  # looks into one of three lists
    summary = evaluate(run, None, None, device="cpu")
    found = summary.evaluation.index
    assert found is not None
    assert (found.exact, found.kind) == (False, "IVF3,Flat nprobe=1")
    assert summary.evaluation.metrics == exact.metrics  # ranked by exact scores all the same
    assert found.recall_at_10["text_to_video"] < 100
    assert found.differences
    assert f"The index (IVF3,Flat nprobe=1) is approximate: {len(found.differences)} queries have another rank" in str(
        summary
    )
    assert found.metrics.text_to_video.mean_rank > exact.metrics.text_to_video.mean_rank
    part = embed_and_index(run, None, None)
    for at in (1, 5):  # what is not in the list is no hit
        lists = part.index.videos_for(part.embedded.texts, LISTED).rows[:, :at]
        there = (lists == part.embedded.video_of_text[:, None]).any(axis=1)
        assert found.metrics.text_to_video.recall[at] == pytest.approx(100 * there.mean())
    again = Evaluation.from_json(read_json(summary.path), "the record")
    assert again == summary.evaluation


def test_ranks_from_a_list_alone() -> None:
    listed = np.asarray([[0.9, 0.8, 0.8, 0.1]] * 6, np.float32)
    own = np.zeros((6, 4), bool)
    own[0, 0] = own[1, 2] = own[2, 3] = True
    best = np.asarray([0.9, 0.8, 0.1, 0.5, 0.05, 0.1], np.float32)
    ones = np.ones((6, 1), np.int64)
    exact = Counts(np.arange(6), 9, ones[:, 0], 7 * ones, ones, ones)  # rank 8, if it must be counted
    # first; tied for second; at the list's end, where more may tie; lost; rightly absent; absent, tied with the end
    counts, told = listed_counts(listed, own, best, exact)
    assert counts.ranks().tolist() == [1.0, 2.5, 8.0, 9.0, 8.0, 8.0]
    assert told.tolist() == [True, True, False, True, False, False]
    near = replace(exact, higher=ones)
    assert listed_counts(listed, own, best, near)[0].ranks().tolist() == [1.0, 2.5, 2.0, 9.0, 2.0, 2.0]
    whole = replace(exact.take(np.arange(3)), num_items=4)
    assert listed_counts(listed[:3], own[:3], best[:3], whole)[0].ranks().tolist() == [1.0, 2.5, 4.0]


def test_a_split_that_changed_since_training_is_noted(run: Run, tmp_path: Path) -> None:
    own = load_split(run.workspace, "full")
    lists: dict[Part, Path] = {}
    for part in PARTS:
        lists[part] = tmp_path / f"{part}.txt"
        lists[part].write_text("".join(f"{video_id}\n" for video_id in own.part(part)))
    prepare_split(run.workspace, "mine", lists, None)
    config = read_json(run.root / "manifest.json")
    config["config"]["split"] = "mine"
    config["inputs"]["prepare"] = annotations_fingerprint(run.workspace, "mine")
    write_json(run.root / "manifest.json", config)
    first = evaluate(run, "full", "test", device="cpu").path
    assert read_json(first)["notes"] == []
    lists["train"].write_text(lists["train"].read_text().split("\n", 1)[1])
    prepare_split(run.workspace, "mine", lists, None)
    evaluate(run, "full", "test", device="cpu")
    assert "split 'mine' have changed since the model was trained" in read_json(first)["notes"][0]
    (run.workspace.own_splits / "mine.json").unlink()
    evaluate(run, "full", "test", device="cpu")
    assert "The split 'mine' that the model was trained on is gone" in read_json(first)["notes"][0]


def test_an_index_keeps_its_kind(run: Run) -> None:
    embed_and_index(run, None, None, device="cpu")
    index(run, None, None, factory="IVF3,Flat")
    assert index(run, None, None, parameters="nprobe=2").index.kind == "IVF3,Flat nprobe=2"
    write_json(run.index / "full-test" / "manifest.json", stale(read_json(run.index / "full-test" / "manifest.json")))
    again = embed_and_index(run, None, None, device="cpu")
    assert (again.fresh, again.index.kind) == (True, "IVF3,Flat nprobe=2")
    assert index(run, None, None, factory="Flat").index.exact
    shutil.rmtree(run.index / "full-test")
    with pytest.raises(ConfigError, match="--parameters nprobe=2 belong to a kind of index"):
        index(run, None, None, parameters="nprobe=2")


def stale(manifest: dict[str, Any]) -> dict[str, Any]:
    return {**manifest, "inputs": {"embed": "of another time"}}


def test_rules_have_files_and_words_of_their_own(run: Run) -> None:
    plain = evaluate(run, None, None, device="cpu")
    for rules, name, words in [
        (Rules(ties="pessimistic"), "full-test+pessimistic.json", "ties take the worst of their places"),
        (Rules(video_to_text="max_caption_then_rank_videos"), "full-test+max_caption.json", "max_caption_then_rank"),
        (Rules(post="dual_softmax", scale=30), "full-test+dual_softmax30.json", "(transductive), scale 30"),
        (Rules(post="qb_norm"), "full-test+qb_norm.json", "QB-Norm with a bank of training queries, beta 20"),
    ]:
        summary = evaluate(run, None, None, rules=rules, device="cpu")
        assert summary.path.name == name
        assert words in str(summary).splitlines()[0]
        assert words in summary.evaluation.protocol.title
        assert (summary.evaluation.index is None) == (rules.post is not None)
        assert Evaluation.from_json(read_json(summary.path), "the record") == summary.evaluation
    assert plain.path.name == "full-test.json"
    assert max(RECALL_AT) == LISTED
    with pytest.raises(ConfigError, match="--scale 3 belongs to a post-processing"):
        Rules(scale=3)
    with pytest.raises(InputError, match="--scale is -1"):
        Rules(post="qb_norm", scale=-1)


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
