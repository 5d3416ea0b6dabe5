"""Matrices from files: a run's own scores, laid out in every way; MSR-VTT; and what can be wrong with the files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from toy import make_workspace

from vtr.annotations.prepare import prepare_annotations, prepare_msrvtt
from vtr.annotations.tables import load_annotations, load_split
from vtr.errors import InputError, VtrError, WorkspaceError
from vtr.evaluation.export import Outputs
from vtr.evaluation.metrics import RECALL_AT
from vtr.evaluation.protocols import Rules
from vtr.evaluation.results import Evaluation
from vtr.files import read_json
from vtr.stages.evaluate import evaluate
from vtr.stages.evaluate_scores import ASSUMED, Matrix, evaluate_scores, find_workspace
from vtr.types import Annotations, Caption, Part, Split, Video
from vtr.workspace import Run, Workspace

Floats = NDArray[np.float32]
Places = NDArray[np.int64]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Ten test videos with three captions each in the split toy, with one each in toy-single."""
    return make_workspace(tmp_path_factory.mktemp("small") / "ws")


@pytest.fixture(scope="module")
def msrvtt(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """MSR-VTT without videos."""
    folder = tmp_path_factory.mktemp("msrvtt") / "ws"
    return prepare_msrvtt(shared / "msrvtt" / "annotation", shared / "msrvtt" / "splits", None, folder).workspace


def names(workspace: Workspace, split: str, part: Part = "test") -> tuple[list[str], list[str], Places]:
    """Return the ids of a part's queries and videos, and each query's video."""
    chosen = load_split(workspace, split)
    queries, videos = chosen.queries(part, load_annotations(workspace)), list(chosen.part(part))
    return [query.id for query in queries], videos, np.asarray([videos.index(query.video_id) for query in queries])


def distinct(owners: Places, num_videos: int, lead: float = 1.0, seed: int = 0) -> Floats:
    """Return scores [T, V], no two the same, in which captions of one video are alike; `lead` lifts the right ones."""
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(num_videos, num_videos))[owners] + 0.5 * draw.normal(size=(len(owners), num_videos))
    values[np.arange(len(owners)), owners] += lead
    found = np.empty(values.size, np.float32)
    found[np.argsort(values, axis=None)] = np.arange(values.size)  # whole numbers that float32 holds
    return found.reshape(values.shape)


def save(path: Path, scores: NDArray[Any]) -> Path:
    np.save(path, scores)
    return path


def lines(path: Path, ids: Sequence[str]) -> Path:
    """Write ids in the form that the file's name asks for."""
    if path.suffix == ".json":
        path.write_text(json.dumps(ids))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as stream:
            csv.writer(stream).writerows([("number", "caption_id"), *enumerate(ids)])
    else:
        path.write_text("".join(f"{name}\n" for name in ids))
    return path


def text_ranks(scores: Floats, owners: Places) -> Places:
    """Return the place of each text's video among all videos, by sorting."""
    return np.asarray([int(np.argmax(np.argsort(-row) == v)) + 1 for row, v in zip(scores, owners, strict=True)])


def video_ranks(scores: Floats, owners: Places) -> Places:
    """Return the place of each video's best caption among all captions, by sorting."""
    return np.asarray([int(np.argmax(owners[np.argsort(-column)] == v)) + 1 for v, column in enumerate(scores.T)])


def recall(ranks: Places, at: int) -> float:
    return 100 * float(np.count_nonzero(ranks <= at)) / len(ranks)


def of_a_matrix(evaluation: Evaluation) -> Evaluation:
    """Return what remains of a run's evaluation when only its scores are known."""
    slices = tuple(one for one in evaluation.slices if one.group != "expert")
    return replace(evaluation, experts={}, slices=slices, ablation=(), index=None, notes=(ASSUMED,))


@pytest.mark.parametrize(
    "rules",
    [Rules(), Rules("pessimistic", "max_caption_then_rank_videos"), Rules(post="dual_softmax", scale=30)],
    ids=["default", "other", "dual_softmax"],
)
def test_a_runs_own_scores_evaluate_as_the_run_did(run: Run, tmp_path: Path, rules: Rules) -> None:
    path = tmp_path / "kept" / "scores.npy"
    whole = evaluate(run, None, None, rules=rules, outputs=Outputs(save_scores=path), device="cpu")
    orders = path.with_suffix(".queries.txt"), path.with_suffix(".videos.txt")
    assert set(whole.also) == {path, *orders}
    assert all(order.exists() for order in orders)
    found = evaluate_scores(Matrix(path, *orders), run.workspace, "full", rules=rules)
    assert found.evaluation == of_a_matrix(whole.evaluation)
    assert any(one.group == "words in the caption" for one in found.evaluation.slices)
    if rules.post is None:  # what the dual softmax makes of 6 videos is anybody's guess
        assert found.evaluation.metrics.rsum > found.evaluation.chance.rsum


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("ending", [".txt", ".csv", ".json"])
def test_the_order_of_rows_and_columns_does_not_matter(
    small: Workspace, tmp_path: Path, ending: str, transposed: bool
) -> None:
    queries, videos, owners = names(small, "toy")
    scores = distinct(owners, len(videos))
    plain = evaluate_scores(Matrix(save(tmp_path / "plain.npy", scores)), small, "toy").evaluation
    assert plain.slices[0].group == "identical captions"
    assert 0 < plain.metrics.text_to_video.recall[1] < 100
    draw = np.random.default_rng(1)
    rows, columns = draw.permutation(len(queries)), draw.permutation(len(videos))
    shuffled = scores[rows][:, columns]
    path = save(tmp_path / "shuffled.npy", shuffled.T if transposed else shuffled)
    query_order = lines(tmp_path / f"queries{ending}", [queries[row] for row in rows])
    video_order = lines(tmp_path / f"videos{ending}", [videos[column] for column in columns])
    matrix = Matrix(path, query_order, video_order, transposed)
    assert evaluate_scores(matrix, small, "toy").evaluation == plain
    for wrong in (Matrix(path, query_order, None, transposed), Matrix(path, None, video_order, transposed)):
        assert evaluate_scores(wrong, small, "toy").evaluation.metrics != plain.metrics


def test_a_video_stands_for_its_only_query(small: Workspace, tmp_path: Path) -> None:
    queries, videos, owners = names(small, "toy-single")
    path = save(tmp_path / "scores.npy", distinct(owners, len(videos))[::-1])
    by_caption = Matrix(path, lines(tmp_path / "captions.txt", queries[::-1]))
    by_video = Matrix(path, lines(tmp_path / "videos.txt", videos[::-1]))
    found = [evaluate_scores(matrix, small, "toy-single").evaluation for matrix in (by_caption, by_video)]
    assert found[0] == found[1]
    assert found[0].metrics.text_to_video.num_queries == 10
    assert (
        found[0].metrics.text_to_video.recall[1]
        > evaluate_scores(Matrix(path), small, "toy-single").evaluation.metrics.text_to_video.recall[1]
    )


def test_what_is_written_holds_the_rank_of_every_query(small: Workspace, tmp_path: Path) -> None:
    queries, videos, owners = names(small, "toy", "validation")
    scores = distinct(owners, len(videos))
    path = save(tmp_path / "theirs.npy", scores)
    outputs = Outputs(trec=tmp_path / "trec", save_scores=tmp_path / "again.npy")
    rules = Rules("optimistic")
    found = evaluate_scores(
        Matrix(path), small, "toy", "validation", rules=rules, outputs=outputs, out=tmp_path / "out"
    )
    stem = tmp_path / "out" / "toy-validation+optimistic"
    assert found.files[:2] == (Path(f"{stem}.json"), Path(f"{stem}.ranks.parquet"))
    assert all(file.exists() for file in found.files)
    assert {file.name for file in (tmp_path / "trec").iterdir()} <= {file.name for file in found.files}
    assert all(f"written to {file}" in str(found) for file in found.files)
    record = read_json(found.files[0])
    assert (record["scores"], record["split"], record["part"]) == (str(path), "toy", "validation")
    assert Evaluation.from_json(record, "the record") == found.evaluation
    rows = pq.read_table(found.files[1]).to_pylist()
    t2v = {row["query_id"]: row["rank"] for row in rows if row["direction"] == "text_to_video"}
    v2t = {row["query_id"]: row["rank"] for row in rows if row["direction"] == "video_to_text"}
    assert t2v == dict(zip(queries, text_ranks(scores, owners).tolist(), strict=True))
    assert v2t == dict(zip(videos, video_ranks(scores, owners).tolist(), strict=True))
    belong = {row["query_id"]: row["video_id"] for row in rows}
    assert belong == {video: video for video in videos} | {
        query: videos[owner] for query, owner in zip(queries, owners, strict=True)
    }
    assert np.array_equal(np.load(tmp_path / "again.npy"), scores)


def test_only_some_of_a_split(small: Workspace, tmp_path: Path) -> None:
    queries, videos, owners = names(small, "toy")
    scores = distinct(owners, len(videos))
    kept_videos = np.asarray([0, 1, 2, 4, 5, 7, 8, 9])
    kept_rows = np.flatnonzero(np.isin(owners, kept_videos))[1:]  # one caption of a video that stays is missing too
    path = save(tmp_path / "some.npy", scores[kept_rows][:, kept_videos])
    query_order = lines(tmp_path / "queries.txt", [queries[row] for row in kept_rows])
    video_order = lines(tmp_path / "videos.txt", [videos[column] for column in kept_videos])
    matrix = Matrix(path, query_order, video_order)
    with pytest.raises(InputError, match=rf"queries\.txt is not a permutation.* 30 queries: 7 missing \({queries[0]}"):
        evaluate_scores(matrix, small, "toy")
    with pytest.raises(InputError, match=rf"videos\.txt .* 10 videos: 2 missing \({videos[3]}, {videos[6]}\)"):
        evaluate_scores(replace(matrix, query_order=None), small, "toy")
    found = evaluate_scores(matrix, small, "toy", available_only=True)
    assert "toy test: 8 of 10" in str(found)
    coverage = found.evaluation.coverage
    assert (coverage.available, coverage.total) == (8, 10)
    left, among = np.searchsorted(kept_videos, owners[kept_rows]), scores[kept_rows][:, kept_videos]
    metrics = found.evaluation.metrics
    for at in (1, 5):
        assert metrics.text_to_video.recall[at] == pytest.approx(recall(text_ranks(among, left), at))
        assert metrics.video_to_text.recall[at] == pytest.approx(recall(video_ranks(among, left), at))
    assert (metrics.text_to_video.num_queries, metrics.text_to_video.num_items) == (23, 8)


def test_1k_a_in_the_order_of_its_csv(shared: Path, msrvtt: Workspace, tmp_path: Path) -> None:
    table = shared / "msrvtt" / "splits" / "MSRVTT_JSFUSION_test.csv"
    with table.open(encoding="utf-8") as stream:
        ids = [row["video_id"] for row in csv.DictReader(stream)]
    own = np.arange(1000)
    scores = distinct(own, 1000, 3.0)
    path = save(tmp_path / "scores.npy", scores)
    found = evaluate_scores(Matrix(path, table, table), msrvtt, "1k-A").evaluation
    ranks = text_ranks(scores, own), video_ranks(scores, own)
    for metrics, expected in zip((found.metrics.text_to_video, found.metrics.video_to_text), ranks, strict=True):
        assert (metrics.num_queries, metrics.num_items, metrics.num_tied) == (1000, 1000, 0)
        assert metrics.recall == pytest.approx({at: recall(expected, at) for at in RECALL_AT})
        assert metrics.median_rank == np.median(expected)
        assert metrics.mean_rank == pytest.approx(expected.mean())
    assert 20 < found.metrics.text_to_video.recall[1] < 90
    assert evaluate_scores(Matrix(path, table), msrvtt, "1k-A").evaluation.metrics.text_to_video.recall[1] < 5
    leak = [note for note in found.notes if "cut from a source" in note]
    assert leak == [
        "372 of these 1,000 videos are cut from a source that training videos are cut from, 52 of them overlap one in "
        "time."
    ]
    slices = {one.label: one for one in found.slices}
    videos = load_annotations(msrvtt).video_by_id
    taught = {videos[video_id].source_id for video_id in load_split(msrvtt, "1k-A").train}
    shares = np.asarray([videos[video_id].source_id in taught for video_id in ids])
    for label, chosen, count in (("without them", ~shares, 628), ("only them", shares, 372)):
        for some, expected in zip((slices[label].text_to_video, slices[label].video_to_text), ranks, strict=True):
            assert some is not None
            assert (some.num_queries, some.num_items) == (count, 1000)
            assert some.recall == pytest.approx({at: recall(expected[chosen], at) for at in RECALL_AT})
    apart = slices["without those that overlap in time"].text_to_video
    assert apart is not None
    assert apart.num_queries == 948


def test_twenty_captions_a_video_under_both_protocols(msrvtt: Workspace, tmp_path: Path) -> None:
    owners = np.repeat(np.arange(497), 20)
    scores = distinct(owners, 497, 2.5)
    path = save(tmp_path / "scores.npy", scores)
    found = [
        evaluate_scores(Matrix(path), msrvtt, "full", "validation", rules=Rules(video_to_text=rule)).evaluation.metrics
        for rule in ("best_own_caption_among_all_captions", "max_caption_then_rank_videos")
    ]
    by_video = scores.reshape(497, 20, 497).max(1)  # the best caption of each video in rows
    ranks = video_ranks(scores, owners), video_ranks(by_video, np.arange(497))
    of_texts = text_ranks(scores, owners)
    for metrics, expected, items in zip(found, ranks, (9940, 497), strict=True):
        way = metrics.video_to_text
        assert (way.num_queries, way.num_items) == (497, items)
        assert way.recall == pytest.approx({at: recall(expected, at) for at in RECALL_AT})
        assert metrics.text_to_video.recall == pytest.approx({at: recall(of_texts, at) for at in RECALL_AT})
    first, second = (metrics.video_to_text.recall for metrics in found)
    assert first[1] == second[1]
    assert 0 < first[5] < second[5] < 100


def swapped(ids: list[str], place: int, name: str) -> list[str]:
    return [*ids[:place], name, *ids[place + 1 :]]


Spoil = Callable[[Any], Any]
NO_PERMUTATION = r"is not a permutation of the split's"
BAD: dict[str, tuple[dict[str, Spoil], str]] = {
    "another shape": (
        {"scores": lambda scores: scores[:, :7]},
        r"m\.npy has shape 30 x 7, 30 x 10 was expected: toy test has 30 queries and 10 videos",
    ),
    "transposed": (
        {"scores": lambda scores: scores.T},
        r"has shape 10 x 30, 30 x 10 was expected.*It looks transposed: texts are rows; pass --transposed",
    ),
    "one dimension": ({"scores": np.ravel}, r"m\.npy has shape 300, a matrix that is not empty was expected"),
    "unknown query": (
        {"queries": lambda ids: swapped(ids, 4, "v099#1")},
        rf"queries\.txt {NO_PERMUTATION} 30 queries: 1 missing \(v051#1\); 1 unknown \(v099#1\)",
    ),
    "unknown video": (
        {"videos": lambda ids: swapped(ids, 0, "v001")},
        rf"videos\.txt {NO_PERMUTATION} 10 videos: 1 missing \(v050\); 1 unknown \(v001\)",
    ),
    "query twice": (
        {"queries": lambda ids: swapped(ids, 4, ids[1])},
        r"queries\.txt holds ids more than once: 'v050#1' \(lines 2 and 5\)",
    ),
    "videos for captions": (
        {"queries": lambda ids: [name.removesuffix("#0") for name in ids[::3]]},
        rf"queries\.txt {NO_PERMUTATION} 30 queries: 30 missing .* 10 unknown \(v050, v051",
    ),
    "NaN in some rows": (
        {"scores": lambda scores: np.where(np.isin(np.arange(30), (3, 17))[:, None], np.nan, scores)},
        r"scores of 2 texts are NaN: rows 3, 17 \(from 0\)",
    ),
    "NaN alone": (
        {"scores": lambda scores: scores * np.nan},
        r"scores of 30 texts are NaN: rows 0, 1, 2, 3, 4 and 25 more",
    ),
    "pickled": (
        {"scores": lambda scores: scores.astype(object)},
        r"m\.npy is not a whole NumPy file of numbers .*Pickled objects are never read",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_files_are_named(small: Workspace, tmp_path: Path, what: str) -> None:
    changes, message = BAD[what]
    queries, videos, owners = names(small, "toy")
    good = {"scores": distinct(owners, len(videos)), "queries": queries, "videos": videos}
    held = {name: changes.get(name, lambda same: same)(value) for name, value in good.items()}
    orders = [lines(tmp_path / f"{name}.txt", held[name]) for name in ("queries", "videos")]
    matrix = Matrix(save(tmp_path / "m.npy", held["scores"]), orders[0], orders[1])
    with pytest.raises(InputError, match=message):
        evaluate_scores(matrix, small, "toy", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nan_is_named_by_its_place_in_the_file(small: Workspace, tmp_path: Path) -> None:
    queries, videos, owners = names(small, "toy")
    scores = distinct(owners, len(videos))
    scores[4] = np.nan
    order = lines(tmp_path / "q.txt", queries[::-1])
    with pytest.raises(InputError, match=r"a\.npy: scores of 1 texts are NaN: rows 25 \(from 0\)"):
        evaluate_scores(Matrix(save(tmp_path / "a.npy", scores[::-1]), order), small, "toy")
    with pytest.raises(InputError, match=r"b\.npy: scores of 1 texts are NaN: columns 25 \(from 0\)"):
        evaluate_scores(Matrix(save(tmp_path / "b.npy", scores[::-1].T), order, transposed=True), small, "toy")


def test_scores_masked_with_infinity_are_evaluated_and_written(small: Workspace, tmp_path: Path) -> None:
    _, videos, owners = names(small, "toy")
    scores = distinct(owners, len(videos))
    scores[:, 3] = -np.inf  # a video that nobody may find
    found = evaluate_scores(Matrix(save(tmp_path / "m.npy", scores)), small, "toy", out=tmp_path / "out")
    again = Evaluation.from_json(read_json(found.files[0]), "the JSON")
    assert again.metrics == found.evaluation.metrics
    ranks = text_ranks(scores, owners)
    assert found.evaluation.metrics.text_to_video.recall[1] == pytest.approx(recall(ranks, 1))
    assert set(ranks[owners == 3].tolist()) == {10}


def test_a_matrix_does_not_replace_the_evaluation_of_a_run(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "m.npy"
    evaluate(run, None, None, outputs=Outputs(save_scores=path), device="cpu")
    before = (run.evaluation / "full-test.json").read_bytes()
    with pytest.raises(InputError, match=r"full-test\.json is the evaluation of a run"):
        evaluate_scores(Matrix(path), run.workspace, "full", out=run.evaluation)
    assert (run.evaluation / "full-test.json").read_bytes() == before


def test_queries_that_were_left_out_are_in_the_title(small: Workspace, tmp_path: Path) -> None:
    queries, videos, owners = names(small, "toy")
    order = lines(tmp_path / "q.txt", queries[:12])
    matrix = Matrix(save(tmp_path / "m.npy", distinct(owners, len(videos))[:12]), order)
    found = evaluate_scores(matrix, small, "toy", available_only=True).evaluation
    assert found.title == "toy test: 10 of 10; 3 captions a video, 18 queries left out"
    assert "ranks 10 videos (6 of them without a query)" in found.protocol.text_to_video


def test_the_validation_part_where_there_is_no_other(tmp_path: Path) -> None:
    videos = tuple(Video(name) for name in ("a", "b", "c"))
    captions = tuple(Caption(f"{video.id}#0", video.id, f"caption of {video.id}") for video in videos)
    split = Split("valonly", ("c",), ("a", "b"), ())
    prepared = prepare_annotations(Annotations(videos, captions), [split], tmp_path / "ws").workspace
    matrix = Matrix(save(tmp_path / "m.npy", np.eye(2, dtype=np.float32)))
    assert evaluate_scores(matrix, prepared, "valonly").evaluation.coverage.part == "validation"
    with pytest.raises(InputError, match=r"--split val is the validation part.*add --part validation"):
        evaluate_scores(matrix, prepared, "val")


def test_outputs_that_cannot_be(small: Workspace, tmp_path: Path) -> None:
    _, videos, owners = names(small, "toy")
    matrix = Matrix(save(tmp_path / "m.npy", distinct(owners, len(videos))))
    with pytest.raises(InputError, match=r"m\.npy is a file, a folder for the results was expected"):
        evaluate_scores(matrix, small, "toy", out=tmp_path / "m.npy")
    rules = Rules(video_to_text="max_caption_then_rank_videos")
    with pytest.raises(InputError, match="--trec writes rankings of captions, and max_caption_then_rank_videos ranks"):
        evaluate_scores(matrix, small, "toy", rules=rules, outputs=Outputs(trec=tmp_path / "trec"))


def test_queries_and_videos_that_have_nothing_to_do_with_each_other(small: Workspace, tmp_path: Path) -> None:
    queries, videos, owners = names(small, "toy")
    orders = lines(tmp_path / "q.txt", queries[:3]), lines(tmp_path / "v.txt", videos[3:5])
    matrix = Matrix(save(tmp_path / "m.npy", distinct(owners, len(videos))[:3, 3:5]), *orders)
    message = r"none of the 3 queries of .*q\.txt describes one of the 2 videos of .*v\.txt"
    with pytest.raises(InputError, match=message):
        evaluate_scores(matrix, small, "toy", available_only=True)


def test_files_that_are_not_there_and_a_layout_that_is_not_so(small: Workspace, tmp_path: Path) -> None:
    _, videos, owners = names(small, "toy")
    path = save(tmp_path / "m.npy", distinct(owners, len(videos)))
    for matrix, message in (
        (Matrix(tmp_path / "n.npy"), r"n\.npy cannot be read: No such file"),
        (Matrix(path, tmp_path / "q.txt"), r"q\.txt cannot be read: No such file"),
        (Matrix(path, transposed=True), "has shape 10 x 30, 30 x 10 was expected"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate_scores(matrix, small, "toy")


def test_a_video_and_its_caption_are_the_same_query_twice(small: Workspace, tmp_path: Path) -> None:
    queries, videos, owners = names(small, "toy-single")
    order = lines(tmp_path / "q.txt", swapped(queries, 4, videos[0]))
    matrix = Matrix(save(tmp_path / "m.npy", distinct(owners, len(videos))), order)
    with pytest.raises(InputError, match=rf"1 there twice \({queries[0]} as {queries[0]} and {videos[0]}\)"):
        evaluate_scores(matrix, small, "toy-single", available_only=True)


def test_a_bank_of_training_queries_is_not_in_a_matrix(small: Workspace, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"--post qb_norm needs a bank.*Choose from dual_softmax, inverted_softmax, or"
    ):
        evaluate_scores(Matrix(tmp_path / "m.npy"), small, "toy", rules=Rules(post="qb_norm"))


def test_scores_are_saved_as_npy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"scores\.npz ends in '\.npz', \.npy was expected"):
        Outputs(save_scores=tmp_path / "scores.npz")


def test_the_workspace_is_the_given_one_or_the_only_one_here(
    small: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_workspace(small.root).root == small.root
    with pytest.raises(WorkspaceError, match=r"holds no workspace.*--workspace"):
        find_workspace(None)
    Workspace.create(tmp_path / "first")
    assert find_workspace(None).root.resolve() == tmp_path / "first"
    Workspace.create(tmp_path / "second")
    with pytest.raises(WorkspaceError, match=r"holds several workspaces \(first, second\).*--workspace"):
        find_workspace(None)
    monkeypatch.chdir(tmp_path / "second")
    assert find_workspace(None).root.resolve() == tmp_path / "second"
    with pytest.raises(WorkspaceError, match=r"nowhere does not exist, a workspace was expected"):
        find_workspace(Path("nowhere"))


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("bare", r"bare test has no query captions.*Choose another --part or --split"),
        ("bear", r"no split 'bear'.*'bare'"),
    ],
)
def test_a_split_must_be_there_and_have_queries(tmp_path: Path, split: str, message: str) -> None:
    videos = tuple(Video(name) for name in ("a", "b"))
    report = prepare_annotations(Annotations(videos, ()), [Split("bare", (), (), ("a", "b"))], tmp_path / "ws")
    matrix = Matrix(save(tmp_path / "m.npy", np.ones((2, 2))))
    with pytest.raises(VtrError, match=message) as raised:
        evaluate_scores(matrix, report.workspace, split)
    assert isinstance(raised.value, WorkspaceError)
