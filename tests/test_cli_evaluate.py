"""`vtr evaluate` and `vtr compare` as a user meets them: which options go together, and what goes to which stream."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toy import make_workspace

from vtr.cli import main
from vtr.workspace import Workspace

Ran = tuple[int, str, str]
Vtr = Callable[..., Ran]
NUM_QUERIES, NUM_VIDEOS = 30, 10


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Ten test videos with three captions each in the split toy."""
    return make_workspace(tmp_path_factory.mktemp("small") / "ws")


@pytest.fixture
def here(small: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: scores of the split toy in m_1.npy, worse ones in bad.npy."""
    owners = np.repeat(np.arange(NUM_VIDEOS), NUM_QUERIES // NUM_VIDEOS)
    for name, lead in (("m_1", 2.0), ("bad", 0.0)):
        scores = np.random.default_rng(int(lead)).normal(size=(NUM_QUERIES, NUM_VIDEOS))
        scores[np.arange(NUM_QUERIES), owners] += lead
        np.save(tmp_path / f"{name}.npy", scores)
    (tmp_path / "ws").symlink_to(small.root)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def vtr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Vtr:
    """Runs a command line; returns its status, its output and what it wrote to the other stream."""
    monkeypatch.setenv("COLUMNS", "200")  # help and messages are not broken into lines

    def go(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["vtr", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, error = (re.sub(r"\x1b\[[0-9;]*m", "", text) for text in capsys.readouterr())  # colours
        return int(ended.value.code or 0), out, error

    return go


MATRIX = ("evaluate", "--scores", "m_1.npy", "--split", "toy")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["evaluate"], ["RUN", "the run is needed, or --scores FILE.npy"]),
        (["evaluate", "run", "--scores", "m_1.npy"], ["RUN", "the run and --scores cannot both be given"]),
        (["evaluate", "--scores", "m_1.npy"], ["--split", "is needed with --scores: full, 1k-A, 1k-B or an own"]),
        (["evaluate", "run", "--workspace", "ws"], ["--workspace", "belongs to --scores, not to a run"]),
        (["evaluate", "run", "--query-order", "q.txt"], ["--query-order", "belongs to --scores"]),
        (["evaluate", "run", "--video-order", "v.txt"], ["--video-order", "belongs to --scores"]),
        (["evaluate", "run", "--out", "out", "--transposed"], ["--out", "--transposed", "belongs to --scores"]),
        (["evaluate", "run", "--format", "xml"], ["xml", "latex"]),
        ([*MATRIX, "--ties", "none"], ["none", "pessimistic"]),
        ([*MATRIX, "--trec", "trec", "--trec-depth", "0"], ["--trec-depth"]),
        (["compare", "run"], ["RUN_B"]),
        (["compare", "a", "b", "--format", "latex"], ["latex", "csv"]),
        (["compare", "a", "b", "--permutations", "0"], ["--permutations"]),
    ],
)
def test_wrong_usage_exits_with_two_and_says_what_is_wrong(
    here: Path, vtr: Vtr, arguments: list[str], expected: list[str]
) -> None:
    before = sorted(here.iterdir())
    status, out, error = vtr(*arguments)
    assert (status, out) == (2, "")
    assert [words for words in expected if words not in error] == []
    assert sorted(here.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["evaluate", "run"], "run does not exist, a run was expected"),
        (["evaluate", "--scores", "none.npy", "--split", "toy"], "none.npy cannot be read: No such file"),
        (["evaluate", "--scores", "m_1.npy", "--split", "toi"], "has no split 'toi'. Did you mean 'toy'?"),
        ([*MATRIX, "--part", "train"], "m_1.npy has shape 30 x 10, 120 x 40 was expected"),
        ([*MATRIX, "--transposed"], "m_1.npy has shape 10 x 30, 30 x 10 was expected"),
        ([*MATRIX, "--workspace", "none"], "none does not exist, a workspace was expected"),
        ([*MATRIX, "--post", "qb_norm"], "--post qb_norm needs a bank of training queries"),
        ([*MATRIX, "--post", "dual_softmax", "--scale", "-1"], "scale is -1.0, a positive number was expected"),
        ([*MATRIX, "--save-scores", "kept.npz"], "kept.npz ends in '.npz', .npy was expected"),
        (["compare", "none.parquet", "none.parquet"], "none.parquet cannot be read"),
        (["compare", "ws", "ws"], "ws is not a run"),
    ],
)
def test_a_mistake_gives_one_clear_line(here: Path, vtr: Vtr, arguments: list[str], expected: str) -> None:
    status, out, error = vtr(*arguments)
    assert (status, out) == (1, "")
    assert error.startswith("error: ")
    assert expected in error
    assert error.count("\n") == 1
    assert sorted(path.name for path in here.iterdir()) == ["bad.npy", "m_1.npy", "ws"]


def test_a_table_and_what_was_written_are_printed_together(here: Path, vtr: Vtr) -> None:
    status, out, error = vtr(*MATRIX, "--out", "out", "--save-scores", "kept.npy")
    assert status == 0
    assert out.startswith("toy test: 10 of 10; 3 captions a video\n")
    assert "written to" not in error
    written = [line.removeprefix("written to ") for line in out.splitlines() if line.startswith("written to ")]
    assert written == [
        "out/toy-test.json",
        "out/toy-test.ranks.parquet",
        "kept.npy",
        "kept.queries.txt",
        "kept.videos.txt",
    ]
    assert all((here / name).exists() for name in written)
    assert "By words in the caption" not in out
    with_parts = vtr(*MATRIX, "--breakdown")[1]
    assert "By words in the caption" in with_parts
    assert "written to" not in with_parts
    again = vtr("evaluate", "--scores", "kept.npy", "--split", "toy", "--query-order", "kept.queries.txt")[1]
    assert again.strip() == out[: out.index("\n\nwritten to")].strip()


@pytest.mark.parametrize("form", ["json", "csv", "latex"])
def test_other_forms_have_the_output_to_themselves(here: Path, vtr: Vtr, form: str) -> None:
    status, out, error = vtr(*MATRIX, "--out", "out", "--format", form)
    assert status == 0
    assert "written to" not in out
    assert [line for line in error.splitlines() if line.startswith("written to")] == [
        "written to out/toy-test.json",
        "written to out/toy-test.ranks.parquet",
    ]
    figures = json.loads((here / "out" / "toy-test.json").read_text())["metrics"]
    recall = figures["text_to_video"]["recall"]["1"]
    assert 20 < recall < 100
    if form == "json":
        assert json.loads(out)["metrics"] == figures
    elif form == "csv":
        rows = list(csv.DictReader(io.StringIO(out)))
        whole = {row["direction"]: row for row in rows if row["group"] == "all"}
        assert whole.keys() == figures.keys()
        for direction, row in whole.items():
            assert float(row["R@1"]) == figures[direction]["recall"]["1"]
            assert float(row["MeanR"]) == figures[direction]["mean_rank"]
            assert (row["split"], row["part"], row["queries"]) == (
                "toy",
                "test",
                str(figures[direction]["num_queries"]),
            )
    else:
        *comments, last = out.rstrip("\n").splitlines()
        assert all(line.startswith("%") for line in comments)
        assert last.endswith(r" \\")
        cells = last.removesuffix(r"\\").split("&")
        assert cells[0].strip() == r"m\_1"
        assert len(cells) == 12
        assert cells[1].strip() == f"{recall:.1f}"


def test_a_matrix_laid_out_otherwise_gives_the_same_table(here: Path, vtr: Vtr) -> None:
    plain = vtr(*MATRIX)[1]
    scores = np.load("m_1.npy")
    vtr(*MATRIX, "--save-scores", "kept.npy")
    for what in ("queries", "videos"):
        ids = Path(f"kept.{what}.txt").read_text().split()
        (here / f"{what}.json").write_text(json.dumps(ids[::-1]))
    np.savez("turned.npz", scores=scores[::-1, ::-1].T)
    orders = ("--query-order", "queries.json", "--video-order", "videos.json")
    turned = ("evaluate", "--scores", "turned.npz", "--split", "toy", "--workspace", "ws", "--transposed", *orders)
    status, out, _ = vtr(*turned)
    assert (status, out) == (0, plain)
    assert vtr(*turned[:-2])[1] != plain


def test_compare_tells_two_matrices_apart(here: Path, vtr: Vtr) -> None:
    for name in ("m_1", "bad"):
        assert vtr("evaluate", "--scores", f"{name}.npy", "--split", "toy", "--out", name)[0] == 0
    tables = [f"{name}/toy-test.ranks.parquet" for name in ("m_1", "bad")]
    status, out, error = vtr("compare", *tables, "--samples", "200", "--permutations", "999")
    assert (status, error) == (0, "")
    assert out.startswith("toy test; 3 captions a video\n")
    assert "*" in out
    status, out, _ = vtr("compare", *tables, "--format", "json", "--samples", "200", "--permutations", "999")
    found = json.loads(out)
    assert (found["names"], found["samples"], found["permutations"]) == (tables, 200, 999)
    rows = list(csv.DictReader(io.StringIO(vtr("compare", *tables, "--format", "csv", "--samples", "200")[1])))
    for entry, row in zip(found["differences"], rows, strict=True):
        assert float(row["difference"]) == entry["difference"] == entry["second"] - entry["first"]
    assert found["differences"][-1]["metric"] == "RSUM"
    assert found["differences"][-1]["difference"] < 0
    for way, place in (("text_to_video", 0), ("video_to_text", 8)):
        values = [json.loads((here / name / "toy-test.json").read_text())["metrics"][way] for name in ("m_1", "bad")]
        entry = found["differences"][place]
        assert (entry["direction"], entry["metric"]) == (way, "R@1")
        assert (entry["first"], entry["second"]) == pytest.approx(tuple(v["recall"]["1"] for v in values))


def test_help_tells_the_options_of_a_matrix_apart(vtr: Vtr) -> None:
    status, out, _ = vtr("evaluate", "--help")
    assert status == 0
    common, of_a_matrix = out.split("Somebody's similarity matrix instead of a run")
    for option in ("--scores", "--workspace", "--query-order", "--video-order", "--transposed", "--out"):
        assert f" {option} " in of_a_matrix
        assert f" {option} " not in common
    for option in ("--split", "--ties", "--video-to-text", "--post", "--format", "--breakdown", "--trec", "--help"):
        assert f" {option} " in common
        assert f" {option} " not in of_a_matrix
    status, out, _ = vtr("compare", "--help")
    assert status == 0
    assert all(words in out for words in ("RUN_A", "RUN_B", "--permutations", "--samples", "--seed", "p-values"))
