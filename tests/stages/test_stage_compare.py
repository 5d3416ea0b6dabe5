"""Two evaluations on the same queries: the values by plain loops, what cannot be compared, runs that are stale."""

from __future__ import annotations

import csv
import io
import json
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from toy import make_workspace

import vtr.stages.compare
from vtr.annotations.tables import load_annotations, load_split
from vtr.errors import InputError, WorkspaceError
from vtr.evaluation.export import Outputs
from vtr.evaluation.protocols import Rules
from vtr.files import read_json, write_json
from vtr.stages.compare import Comparison, compare_runs
from vtr.stages.evaluate import EvaluateSummary, evaluate
from vtr.stages.evaluate_scores import Matrix, evaluate_scores
from vtr.stages.index import index
from vtr.types import Part
from vtr.workspace import Run, Workspace, read_manifest

Evaluated = list[tuple[str, str, str]]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Ten test videos with three captions each in the split toy."""
    return make_workspace(tmp_path_factory.mktemp("small") / "ws")


def some_scores(workspace: Workspace, lead: float, seed: int, part: Part = "test") -> NDArray[np.float64]:
    """Return random scores [T, V] of a part; the right ones lead by so much."""
    split = load_split(workspace, "toy")
    queries, videos = split.queries(part, load_annotations(workspace)), split.part(part)
    scores = np.random.default_rng(seed).normal(size=(len(queries), len(videos)))
    for row, query in enumerate(queries):
        scores[row, videos.index(query.video_id)] += lead
    return scores


def make_table(
    workspace: Workspace, out: Path, lead: float, seed: int, part: Part = "test", rules: Rules | None = None
) -> Path:
    """Write the ranks of random scores, as `vtr evaluate --scores` does."""
    out.mkdir()
    np.save(out / "scores.npy", some_scores(workspace, lead, seed, part))
    return evaluate_scores(Matrix(out / "scores.npy"), workspace, "toy", part, rules=rules, out=out).files[1]


@pytest.fixture(scope="module")
def tables(small: Workspace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The ranks of good scores, and of bad ones."""
    folder = tmp_path_factory.mktemp("tables")
    return make_table(small, folder / "good", 3.0, 1), make_table(small, folder / "bad", 0.0, 2)


def values_by_loops(path: Path) -> dict[tuple[str, str], float]:
    """Return the metrics of a table of ranks without ties, by their definitions."""
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    found = {}
    directions = ("text_to_video", "video_to_text")
    for direction in directions:
        ranks = [row["rank"] for row in rows if row["direction"] == direction]
        for at in (1, 5, 10, 50, 100):
            found[direction, f"R@{at}"] = 100 * sum(rank <= at for rank in ranks) / len(ranks)
        found[direction, "MedR"] = statistics.median(ranks)
        found[direction, "MeanR"] = statistics.mean(ranks)
        found[direction, "MRR"] = statistics.mean(1 / rank for rank in ranks)
    found["both_ways", "RSUM"] = sum(found[way, f"R@{at}"] for way in directions for at in (1, 5, 10))
    return found


def numbers(found: Comparison) -> list[tuple[object, ...]]:
    return [(d.direction, d.metric, d.first, d.second, d.low, d.high, d.p_value) for d in found.differences]


def same(one: Comparison, other: Comparison) -> None:
    """Check that two comparisons hold the same numbers, but for the order in which sums were taken."""
    for left, right in zip(numbers(one), numbers(other), strict=True):
        assert left[:2] == right[:2]
        assert left[2:] == pytest.approx(right[2:], abs=1e-9)


def test_values_and_differences_are_those_of_loops(tables: tuple[Path, Path]) -> None:
    found = compare_runs(*tables, permutations=2000)
    first, second = map(values_by_loops, tables)
    assert {(d.direction, d.metric) for d in found.differences} == first.keys()
    for one in found.differences:
        key = one.direction, one.metric
        assert (one.first, one.second) == pytest.approx((first[key], second[key])), key
        assert one.difference == pytest.approx(second[key] - first[key]), key
        assert one.low <= one.difference <= one.high, key
        assert (one.p_value is None) == (one.metric == "MedR")
    rsum = found.differences[-1]
    assert (rsum.direction, rsum.metric) == ("both_ways", "RSUM")
    assert rsum.high < 0
    assert rsum.p_value is not None
    assert rsum.p_value < 0.05
    assert (found.num_videos, found.num_queries) == (10, 30)
    assert found.title == "toy test; 3 captions a video"
    assert found.names == tuple(map(str, tables))


def test_the_other_way_round_the_signs_change(tables: tuple[Path, Path]) -> None:
    there, back = compare_runs(*tables), compare_runs(tables[1], tables[0])
    for one, other in zip(there.differences, back.differences, strict=True):
        assert (one.first, one.second) == (other.second, other.first)
        assert (one.low, one.high, one.p_value) == pytest.approx((-other.high, -other.low, other.p_value))


def test_a_table_against_itself(tables: tuple[Path, Path]) -> None:
    for one in compare_runs(tables[0], tables[0], samples=50, permutations=50).differences:
        assert (one.difference, one.low, one.high) == (0, 0, 0)
        assert one.p_value in (1, None)


def test_the_order_of_rows_does_not_matter(tables: tuple[Path, Path], tmp_path: Path) -> None:
    shuffled = []
    for seed, path in enumerate(tables):
        table = pq.read_table(path)
        shuffled.append(tmp_path / f"{seed}.parquet")
        pq.write_table(table.take(np.random.default_rng(seed).permutation(len(table))), shuffled[-1])
        assert pq.read_table(shuffled[-1])["query_id"] != table["query_id"]
    expected = compare_runs(*tables)
    same(compare_runs(tables[0], shuffled[1]), expected)
    same(compare_runs(shuffled[0], tables[1]), expected)


def test_draws_swaps_and_seed_are_the_callers(tables: tuple[Path, Path]) -> None:
    few = compare_runs(*tables, samples=20, permutations=9)
    assert (few.samples, few.permutations) == (20, 9)
    assert all(one.p_value is None or round(10 * one.p_value, 9).is_integer() for one in few.differences)
    assert numbers(few) == numbers(compare_runs(*tables, samples=20, permutations=9))
    assert numbers(few) != numbers(compare_runs(*tables, samples=20, permutations=9, seed=1))


def test_other_parts_and_protocols_are_an_error(small: Workspace, tables: tuple[Path, Path], tmp_path: Path) -> None:
    part = make_table(small, tmp_path / "part", 3.0, 1, "validation")
    with pytest.raises(InputError) as raised:
        compare_runs(tables[0], part)
    assert f"{tables[0]} is of toy test, {part} of toy validation. Evaluate both on the same" in str(raised.value)
    worst = make_table(small, tmp_path / "worst", 3.0, 1, rules=Rules("pessimistic"))
    with pytest.raises(InputError) as raised:
        compare_runs(tables[0], worst)
    words = str(raised.value)
    assert f"{tables[0]} and {worst} were evaluated under different protocols" in words
    assert "First: 3 captions a video; each of 30 captions ranks 10 videos; ties share the mean" in words
    assert "Second: 3 captions a video; ties take the worst of their places; each of 30" in words


def test_another_gallery_of_the_same_size_is_an_error(tables: tuple[Path, Path], tmp_path: Path) -> None:
    table = pq.read_table(tables[0])
    facts = json.loads(table.schema.metadata[b"vtr"])
    other = table.replace_schema_metadata({b"vtr": json.dumps({**facts, "items": "of other videos"})})
    pq.write_table(other, tmp_path / "other.parquet")
    with pytest.raises(InputError, match="have the same queries, and ranked other videos or captions"):
        compare_runs(tables[0], tmp_path / "other.parquet")


def test_options_that_contradict_a_table_are_an_error(tables: tuple[Path, Path]) -> None:
    for options, message in (
        ({"split": "another"}, "is of toy test, which --split and --part contradict"),
        ({"part": "train"}, "is of toy test, which --split and --part contradict"),
        ({"rules": Rules("optimistic")}, "was evaluated under other rules than those asked for"),
    ):
        with pytest.raises(InputError, match=message):
            compare_runs(*tables, **options)  # type: ignore[arg-type]


def test_other_queries_are_an_error_and_one_is_named(small: Workspace, tmp_path: Path) -> None:
    ids = [query.id for query in load_split(small, "toy").queries("test", load_annotations(small))]
    scores, paths = some_scores(small, 3.0, 1), []
    for without in (4, 8):
        folder = tmp_path / str(without)
        folder.mkdir()
        np.save(folder / "scores.npy", np.delete(scores, without, axis=0))
        (folder / "queries.txt").write_text("\n".join(ids[:without] + ids[without + 1 :]))
        matrix = Matrix(folder / "scores.npy", folder / "queries.txt")
        paths.append(evaluate_scores(matrix, small, "toy", out=folder, available_only=True).files[1])
    with pytest.raises(InputError) as raised:
        compare_runs(paths[0], paths[1])
    message = f"{paths[0]} and {paths[1]} differ in 2 queries, text to video, for example {ids[4]}. Evaluate both"
    assert message in str(raised.value)


def damaged(path: Path) -> str:
    path.write_bytes(b"PAR1 and no more")
    return "is not a table of ranks"


def another(path: Path) -> str:
    pq.write_table(pa.table({"rank": [1.0]}), path)
    return "is not a table of ranks"


def absent(_: Path) -> str:
    return "cannot be read"


@pytest.mark.parametrize("spoil", [damaged, another, absent])
def test_a_table_that_is_none(tables: tuple[Path, Path], tmp_path: Path, spoil: Callable[[Path], str]) -> None:
    path = tmp_path / "some.parquet"
    message = spoil(path)
    for pair in ((tables[0], path), (path, tables[0])):
        with pytest.raises(InputError, match=rf"some\.parquet {message}.*Give a run, or a .*`vtr evaluate` wrote"):
            compare_runs(*pair)


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> Evaluated:
    """Which runs, splits and parts `compare_runs` has evaluated so far."""
    seen: Evaluated = []

    def watched(run: Run, split: str, part: Part, **settings: Any) -> EvaluateSummary:
        seen.append((run.root.name, split, part))
        return evaluate(run, split, part, **settings)

    monkeypatch.setattr(vtr.stages.compare, "evaluate", watched)
    return seen


def test_runs_are_evaluated_where_that_is_missing_or_stale(run: Run, evaluated: Evaluated) -> None:
    other = shutil.copytree(run.root, run.root.with_name("other"))
    found = compare_runs(run.root, other, device="cpu", samples=50, permutations=50)
    assert evaluated == [("run", "full", "test"), ("other", "full", "test")]
    assert {one.difference for one in found.differences} == {0}
    assert (found.num_videos, found.num_queries) == (6, 12)
    again = compare_runs(run.root, other, device="cpu", samples=50, permutations=50)
    assert len(evaluated) == 2
    assert again == found
    index(run, None, None, factory="IVF3,Flat")
    compare_runs(run.root, other, device="cpu", samples=50, permutations=50)
    assert evaluated[2:] == [("run", "full", "test")]
    made_from = read_json(run.evaluation / "full-test.json")["inputs"]
    assert made_from["index"] == read_manifest(run.index / "full-test", "")["output"]
    (other / "evaluation" / "full-test.ranks.parquet").unlink()
    compare_runs(run.root, other, device="cpu", samples=50, permutations=50)
    assert evaluated[3:] == [("other", "full", "test")]
    write_json(other / "evaluation" / "full-test.json", {"scores": "of somebody's matrix, written here by mistake"})
    compare_runs(run.root, other, device="cpu", samples=50, permutations=50)
    assert evaluated[4:] == [("other", "full", "test")]


def test_a_run_against_somebodys_matrix(run: Run, evaluated: Evaluated, tmp_path: Path) -> None:
    path = tmp_path / "scores.npy"
    rules = Rules("pessimistic")
    evaluate(run, None, "validation", rules=rules, outputs=Outputs(save_scores=path), device="cpu")
    tables = {}
    for name, scores in (("same", np.load(path)), ("turned", -np.load(path))):
        np.save(tmp_path / f"{name}.npy", scores)
        matrix = Matrix(tmp_path / f"{name}.npy")
        summary = evaluate_scores(matrix, run.workspace, "full", "validation", rules=rules, out=tmp_path / name)
        tables[name] = summary.files[1]
    found = compare_runs(tables["same"], run.root, rules=rules, device="cpu", samples=50, permutations=50)
    assert {one.difference for one in found.differences} == {0}
    assert found.title == "full validation; 2 captions a video; ties take the worst of their places"
    found = compare_runs(run.root, tables["turned"], "full", "validation", rules=rules, device="cpu", samples=50)
    assert found.differences[-1].difference < 0
    assert evaluated == []  # the run's own table is current
    with pytest.raises(InputError) as raised:
        compare_runs(run.root, tables["same"], rules=rules, device="cpu")
    assert f"{run.root} is of full test, {tables['same']} of full validation" in str(raised.value)


def test_a_folder_that_is_no_run(tables: tuple[Path, Path], small: Workspace) -> None:
    with pytest.raises(WorkspaceError, match="is not a run"):
        compare_runs(tables[0], small.root)


def test_all_forms_hold_the_same_numbers(tables: tuple[Path, Path]) -> None:
    found = compare_runs(*tables, samples=100, permutations=500)
    content = json.loads(found.render("json"))
    rows = list(csv.DictReader(io.StringIO(found.render("csv"))))
    lines = found.render("table").splitlines()
    assert (content["title"], content["names"]) == (found.title, list(found.names))
    assert len(content["differences"]) == len(rows) == len(found.differences) == 17
    for one, entry, row in zip(found.differences, content["differences"], rows, strict=True):
        expected = (one.first, one.second, one.difference, one.low, one.high, one.p_value)
        values = ("first", "second", "difference", "low", "high")
        assert (*(entry[name] for name in values), entry["p_value"]) == expected
        assert (*(float(row[name]) for name in values), float(row["p"]) if row["p"] else None) == expected
        assert (row["direction"], row["metric"]) == (entry["direction"], entry["metric"]) == (one.direction, one.metric)
        assert (row["first_run"], row["second_run"]) == found.names
        way = one.direction.replace("_", " ")
        (line,) = [text for text in lines if text.startswith(f"{way} {one.metric} ")]
        assert line.endswith("*") == (one.p_value is not None and one.p_value < 0.05)
        shown = [float(cell) for cell in line.removeprefix(f"{way} {one.metric}").replace(" to ", " ").split()[:5]]
        assert shown == pytest.approx(expected[:5], abs=0.051)
        assert one.p_value is None or f"{one.p_value:.4f}" in line
    assert {line.endswith("*") for line in lines if line.startswith(("text to", "video to"))} == {True, False}
    text = found.render("table")
    assert text == str(found)
    assert f"first: {tables[0]}\n" in text
    assert f"second: {tables[1]}\n" in text
    assert "100 bootstrap draws of the 10 videos. p: 500 random swaps" in text
    assert "looking at 17 metrics" in text
