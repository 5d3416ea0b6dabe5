"""TREC files: what pytrec_eval, which is trec_eval's own C code, makes of them against plain loops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vtr.errors import InputError
from vtr.evaluation.trec import trec_id, write_qrels, write_run

NUM_VIDEOS, NUM_TEXTS = 30, 100
MEASURES = ("success_1", "success_5", "success_10", "recip_rank", "map", "ndcg_cut_10")


@pytest.fixture
def owners() -> NDArray[np.int64]:
    """[T]: the video of each of 100 captions, 1 to 5 captions a video."""
    sizes = [1, 2, 3, 4, 5] * 6
    sizes[:25:5] = [3] * 5
    return np.random.default_rng(3).permutation(np.repeat(np.arange(NUM_VIDEOS), sizes))


def names(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def read_run(path: Path) -> dict[str, list[tuple[str, int, float]]]:
    """Return query -> (item, rank, score) in the order of the lines."""
    run: dict[str, list[tuple[str, int, float]]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        query, _, item, rank, score, _ = line.split(" ")
        run.setdefault(query, []).append((item, int(rank), float(score)))
    return run


def trec_eval(run: Path, qrels: Path) -> dict[str, dict[str, float]]:
    """Return query -> measure -> value."""
    with run.open(encoding="utf-8") as run_lines, qrels.open(encoding="utf-8") as qrel_lines:
        evaluator = pytrec_eval.RelevanceEvaluator(
            pytrec_eval.parse_qrel(qrel_lines), {"success", "recip_rank", "map", "ndcg_cut"}
        )
        answers: dict[str, dict[str, float]] = evaluator.evaluate(pytrec_eval.parse_run(run_lines))
    return answers


def plain(row: Sequence[float], right: set[int], depth: int) -> dict[str, float]:
    """Return the measures of one query, from their definitions; items beyond `depth` are never found."""
    order = sorted(range(len(row)), key=lambda item: row[item], reverse=True)[:depth]
    places = [place for place, item in enumerate(order, 1) if item in right]
    best = min(places, default=math.inf)
    gain = sum(1 / math.log2(place + 1) for place in places if place <= 10)
    ideal = sum(1 / math.log2(place + 1) for place in range(1, min(10, len(right)) + 1))
    return {f"success_{k}": float(best <= k) for k in (1, 5, 10)} | {
        "recip_rank": 1 / best,
        "map": sum(found / place for found, place in enumerate(places, 1)) / len(right),
        "ndcg_cut_10": gain / ideal,
    }


@pytest.mark.parametrize("depth", [NUM_TEXTS, 7])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_video_to_text_agrees_with_trec_eval(
    tmp_path: Path, owners: NDArray[np.int64], depth: int, dtype: type[Any]
) -> None:
    scores = np.random.default_rng(0).normal(size=(NUM_VIDEOS, NUM_TEXTS)).astype(dtype)
    scores[owners, np.arange(NUM_TEXTS)] += 1.5
    videos, texts = names("video", NUM_VIDEOS), names("caption#", NUM_TEXTS)
    write_run(tmp_path / "run", np.array_split(scores, 4), videos, texts, depth=depth)
    write_qrels(tmp_path / "qrels", owners, np.arange(NUM_TEXTS), videos, texts)
    answers = trec_eval(tmp_path / "run", tmp_path / "qrels")
    assert len(owners) == NUM_TEXTS and list(answers) == videos
    for video, name in enumerate(videos):
        right = {text for text in range(NUM_TEXTS) if owners[text] == video}
        expected = plain(scores[video].tolist(), right, depth)
        assert {measure: answers[name][measure] for measure in MEASURES} == pytest.approx(expected, abs=1e-12)
    mean = np.mean([answers[name]["success_1"] for name in videos])
    assert 0.2 < mean < 0.98  # neither all right nor all wrong


def test_the_best_items_are_kept_in_order(tmp_path: Path) -> None:
    scores = np.random.default_rng(1).normal(size=(5, 40)).astype(np.float32)
    write_run(tmp_path / "run", [scores], names("q", 5), names("d", 40), depth=3, tag="mine")
    for query, lines in enumerate(read_run(tmp_path / "run").values()):
        order = sorted(range(40), key=lambda item: -scores[query, item])[:3]
        assert lines == [(f"d{item}", place, float(scores[query, item])) for place, item in enumerate(order, 1)]
    first = (tmp_path / "run").read_text().splitlines()[0].split(" ")
    assert first[1] == "Q0" and first[5] == "mine"


def test_a_tie_across_the_cut_keeps_the_ids_that_come_last(tmp_path: Path) -> None:
    scores = np.asarray([[1.0, 2.0, 1.0, 1.0, 0.0]])
    write_run(tmp_path / "run", [scores], ["q"], ["d10", "d0", "d9", "d2", "d3"], depth=3)
    assert [item for item, _, _ in read_run(tmp_path / "run")["q"]] == ["d0", "d9", "d2"]


@pytest.mark.parametrize("values", [[0.0, 1.0, 2.0], [0.5, 0.5 + 1e-12, 0.5 - 1e-12], [0.0, -0.0, 1e300, 2e300]])
def test_the_rank_column_is_the_place_trec_eval_gives(tmp_path: Path, values: list[float]) -> None:
    """With ties, also with those that only 32-bit floats have: each item in turn is the right one."""
    items = ["d2", "d10", "D2", "video 1", "é", "d", "d%", "z", "日本", "d1"]
    scores = np.random.default_rng(2).choice(values, size=(1, len(items)))
    write_run(tmp_path / "run", [scores], ["q"], items)
    lines = read_run(tmp_path / "run")["q"]
    assert [rank for _, rank, _ in lines] == list(range(1, len(items) + 1))
    for number, item in enumerate(items):
        write_qrels(tmp_path / "qrels", [0], [number], ["q"], items)
        (rank,) = (rank for name, rank, _ in lines if unquote(name) == item)
        assert trec_eval(tmp_path / "run", tmp_path / "qrels")["q"]["recip_rank"] == pytest.approx(1 / rank)


def test_different_scores_stay_different(tmp_path: Path) -> None:
    single = np.nextafter(np.float32(0.3), np.float32(1), dtype=np.float32)
    for scores in (np.asarray([[0.3, np.nextafter(0.3, 1)]]), np.asarray([[np.float32(0.3), single]])):
        write_run(tmp_path / "run", [scores], ["q"], ["a", "b"])
        assert {name: score for name, _, score in read_run(tmp_path / "run")["q"]} == dict(
            zip("ab", scores[0].tolist(), strict=True)
        )


def test_rows_come_one_block_at_a_time(tmp_path: Path) -> None:
    blocks = np.random.default_rng(4).normal(size=(6, 3))
    write_run(tmp_path / "whole", [blocks], names("q", 6), names("d", 3))
    write_run(tmp_path / "parts", (blocks[at : at + 1] for at in range(6)), names("q", 6), names("d", 3))
    assert (tmp_path / "whole").read_text() == (tmp_path / "parts").read_text()
    assert len((tmp_path / "whole").read_text().splitlines()) == 18


@given(st.text(min_size=1))
def test_an_id_is_one_column_and_reversible(name: str) -> None:
    written = trec_id(name)
    assert unquote(written) == name
    assert written.split() == [written]
    if "%" not in name and name.split() == [name]:
        assert written == name


def test_an_id_with_white_space_is_percent_encoded(tmp_path: Path) -> None:
    assert trec_id("my cat 50%.mp4") == "my%20cat%2050%25.mp4"
    write_qrels(tmp_path / "qrels", [1], [0], ["a", "b\tc"], ["my cat"])
    assert (tmp_path / "qrels").read_text() == "b%09c 0 my%20cat 1\n"
    with pytest.raises(ValueError, match="empty"):
        trec_id("")


def test_nan_names_the_queries_and_nothing_is_written(tmp_path: Path) -> None:
    scores = np.zeros((4, 2))
    scores[3, 1] = np.nan
    with pytest.raises(InputError, match="NaN: q3"):
        write_run(tmp_path / "run", [scores[:2], scores[2:]], names("q", 4), ["a", "b"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(3, 2), (5, 2), (4, 3), (4,)])
def test_shapes_that_do_not_fit_are_an_error(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected"):
        write_run(tmp_path / "run", [np.zeros(shape)], names("q", 4), ["a", "b"])
    with pytest.raises(ValueError, match=r"query_rows \(1,\) and item_rows \(2,\)"):
        write_qrels(tmp_path / "qrels", [0], [0, 1], ["q"], ["a", "b"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("depth", "tag"), [(0, "vtr"), (1, ""), (1, "two words")])
def test_depth_and_tag_are_checked(tmp_path: Path, depth: int, tag: str) -> None:
    with pytest.raises(ValueError, match="a positive depth and a tag of one word"):
        write_run(tmp_path / "run", [np.zeros((1, 1))], ["q"], ["a"], depth=depth, tag=tag)
