"""Other programs' formats: TREC files through trec_eval, CSV, LaTeX, JSON, NumPy and tables, read back and compared."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytrec_eval
from numpy.typing import NDArray

from vtr.coverage import Coverage
from vtr.embeddings import EmbeddedPart
from vtr.errors import InputError
from vtr.evaluation import scores as score_module
from vtr.evaluation.ablation import Ablated
from vtr.evaluation.export import Outputs, as_csv, as_latex, render, save_scores, write_trec
from vtr.evaluation.judge import judge
from vtr.evaluation.metrics import RECALL_AT, BothWays, evaluate_scores
from vtr.evaluation.protocols import Rules
from vtr.evaluation.results import Evaluation, IndexCheck
from vtr.evaluation.scores import EmbeddedScores, MatrixScores
from vtr.evaluation.subject import Subject
from vtr.evaluation.table import as_text, breakdown_tables
from vtr.evaluation.trec import write_qrels
from vtr.types import RetrievalMetrics, Video

NUM_VIDEOS = 30
WAYS = ("text_to_video", "video_to_text")


def make_subject(seed: int = 5) -> Subject:
    """1 to 4 captions a video but the first, which has none; some written for two videos; one of another gallery."""
    generator = np.random.default_rng(seed)
    owners = generator.permutation(np.repeat(np.arange(1, NUM_VIDEOS), np.arange(1, NUM_VIDEOS) % 4 + 1))
    texts = [f"words {row // 2 if row < 20 else row}" + " more" * (row % 9) for row in range(len(owners))]
    for row in range(0, 20, 2):
        texts[row + 1] = texts[row]
    captions = [tuple(text for text, owner in zip(texts, owners, strict=True) if owner == v) for v in range(NUM_VIDEOS)]
    videos = tuple(Video(f"video {row}", category=("music", "sports")[row % 2]) for row in range(NUM_VIDEOS))
    return Subject(
        Coverage("full", "test", NUM_VIDEOS, 40),
        (*(f"video#{row}" for row in range(len(owners))), "elsewhere#0"),
        (*texts, "of another gallery"),
        np.append(owners, -1),
        videos,
        tuple(captions),
        present={"audio": np.arange(NUM_VIDEOS) % 3 > 0},
    )


def make_scores(subject: Subject, seed: int = 0) -> NDArray[np.float32]:
    """Return scores [T, V] that all differ, the right ones among the higher."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(size=(len(subject.texts), NUM_VIDEOS))
    asked = np.flatnonzero(subject.video_of_text >= 0)
    scores[asked, subject.video_of_text[asked]] += 1.5
    places = np.argsort(np.argsort(scores, axis=None)).reshape(scores.shape)
    return (places / scores.size).astype(np.float32)


def trec_means(run: Path, qrels: Path) -> dict[str, float]:
    """Return trec_eval's means over the queries."""
    with run.open(encoding="utf-8") as run_lines, qrels.open(encoding="utf-8") as qrel_lines:
        evaluator = pytrec_eval.RelevanceEvaluator(
            pytrec_eval.parse_qrel(qrel_lines), {"success", "recip_rank", "map", "ndcg_cut"}
        )
        answers = evaluator.evaluate(pytrec_eval.parse_run(run_lines))
    names = next(iter(answers.values()))
    return {"queries": len(answers)} | {
        name: float(np.mean([answer[name] for answer in answers.values()])) for name in names
    }


def check_means(found: RetrievalMetrics, means: dict[str, float]) -> None:
    assert means["queries"] == found.num_queries
    assert means["recip_rank"] == pytest.approx(found.mean_reciprocal_rank, abs=1e-6)
    assert means["map"] == pytest.approx(found.mean_average_precision, abs=1e-6)
    assert means["ndcg_cut_10"] == pytest.approx(found.ndcg_at_10, abs=1e-6)
    for at in (1, 5, 10):
        assert 100 * means[f"success_{at}"] == pytest.approx(found.recall[at], abs=1e-6)
    assert 5 < found.recall[1] < 95


def test_trec_eval_finds_our_figures(tmp_path: Path) -> None:
    subject = make_subject()
    t2v, v2t = make_scores(subject), make_scores(subject, seed=1)
    sources = MatrixScores(t2v), MatrixScores(v2t)
    paths = write_trec(tmp_path / "trec", subject, *sources, depth=len(subject.texts))
    assert [path.name for path in paths] == [f"{way}.{kind}" for way in WAYS for kind in ("run", "qrels")]
    assert sorted(paths) == sorted((tmp_path / "trec").iterdir())
    check_means(evaluate_scores(t2v, subject.right).text_to_video, trec_means(paths[0], paths[1]))
    check_means(evaluate_scores(v2t, subject.right).video_to_text, trec_means(paths[2], paths[3]))


def test_trec_eval_finds_our_figures_where_identical_captions_are_right(tmp_path: Path) -> None:
    subject = make_subject()
    scores = make_scores(subject)
    source, right = MatrixScores(scores), subject.right_by_text
    run, _, reverse, _ = write_trec(tmp_path, subject, source, source, depth=len(subject.texts))
    videos = [video.id for video in subject.videos]
    write_qrels(tmp_path / "t2v", right.texts, right.videos, subject.text_ids, videos)
    write_qrels(tmp_path / "v2t", right.videos, right.texts, videos, subject.text_ids)
    assert len(right.texts) > len(subject.right.texts)
    expected = evaluate_scores(scores, right)
    assert expected != evaluate_scores(scores, subject.right)
    check_means(expected.text_to_video, trec_means(run, tmp_path / "t2v"))
    check_means(expected.video_to_text, trec_means(reverse, tmp_path / "v2t"))


def test_a_trec_run_is_as_deep_as_asked(tmp_path: Path) -> None:
    subject = make_subject()
    source = MatrixScores(make_scores(subject))
    run, _, reverse, _ = write_trec(tmp_path, subject, source, source, depth=3)
    num_texts, captioned = len(subject.texts), NUM_VIDEOS - 1
    for path, num_queries, num_items in ((run, num_texts, NUM_VIDEOS), (reverse, captioned, num_texts)):
        lines = path.read_text().splitlines()
        assert len(lines) == 3 * num_queries
        assert len({line.split()[0] for line in lines}) == num_queries
        assert len({line.split()[2] for line in lines}) <= num_items


@pytest.fixture
def evaluation() -> Evaluation:
    """An evaluation with slices of all kinds, an ablation and an index."""
    subject = make_subject()
    subject = replace(
        subject,
        videos=tuple(replace(v, source_id=f"s{n}") for n, v in enumerate(subject.videos)),
        train=tuple(Video(f"train{row}", source_id=f"s{row}") for row in range(9)),
    )
    t2v, v2t = (MatrixScores(make_scores(subject, seed)) for seed in (0, 1))
    other = evaluate_scores(make_scores(subject, 2), subject.right)
    through = BothWays(replace(other.text_to_video, ndcg_at_10=None, mean_average_precision=None), other.video_to_text)
    share = dict.fromkeys(WAYS, 99.5)
    checked = IndexCheck(
        "IVF3,Flat",
        False,
        100,
        through,
        dict.fromkeys(WAYS, 20),
        share,
        {way: {"median": 12.0, "most": 30.0} for way in WAYS},
        dict.fromkeys(WAYS, 29),
        1,
        ("text to video, video#3: rank 2 and 1",),
    )
    found = judge(subject, t2v, v2t, Rules(), experts={"audio": 2 / 3}).evaluation
    return replace(found, ablation=(Ablated("only audio", 0.5, other),), index=checked)


def expected_rows(evaluation: Evaluation) -> Iterator[tuple[tuple[str, str, str], RetrievalMetrics]]:
    """Yield group, label and direction of each row a CSV must have, and its metrics."""
    groups: list[tuple[str, str, Any]] = [
        ("all", "all queries", evaluation.metrics),
        ("chance", "a random order", evaluation.chance),
        *((one.group, one.label, one) for one in evaluation.slices),
        *(("ablation", some.label, some.metrics) for some in evaluation.ablation),
    ]
    if evaluation.index is not None:
        groups.append(("index", "IVF3,Flat", evaluation.index.metrics))
    for group, label, both in groups:
        for way in WAYS:
            if getattr(both, way) is not None:
                yield (group, label, way), getattr(both, way)


def test_csv_holds_every_figure_in_its_row(evaluation: Evaluation) -> None:
    rows = list(csv.DictReader(as_csv(evaluation).splitlines()))
    found = {(row["group"], row["label"], row["direction"]): row for row in rows}
    expected = dict(expected_rows(evaluation))
    assert list(found) == list(expected)
    assert len(rows) == len(found) > 20
    assert {group for group, _, _ in found} >= {"category", "expert", "words in the caption", "identical captions"}
    for key, metrics in expected.items():
        row = found[key]
        figures = {f"R@{at}": metrics.recall[at] for at in RECALL_AT}
        figures |= {"MedR": metrics.median_rank, "MeanR": metrics.mean_rank, "MRR": metrics.mean_reciprocal_rank}
        figures |= {"queries": metrics.num_queries, "gallery": metrics.num_items, "tied_queries": metrics.num_tied}
        assert {name: float(row[name]) for name in figures} == figures, key
        product = metrics.recall[1] * metrics.recall[5] * metrics.recall[10]
        assert float(row["geometric_mean"]) ** 3 == pytest.approx(product)
        for name, value in (("nDCG@10", metrics.ndcg_at_10), ("mAP", metrics.mean_average_precision)):
            assert row[name] == ("" if value is None else repr(value)), (key, name)
        facts = {"split": "full", "part": "test", "coverage": "full test: 30 of 40", "ties": "average"}
        facts |= {"video_to_text": "best_own_caption_among_all_captions", "post_processing": "none"}
        assert {name: row[name] for name in facts} == facts


def test_csv_without_ablation_and_index_has_no_such_rows(evaluation: Evaluation) -> None:
    bare = replace(evaluation, ablation=(), index=None)
    groups = {row["group"] for row in csv.DictReader(as_csv(bare).splitlines())}
    assert not groups & {"ablation", "index"}
    assert len(as_csv(evaluation).splitlines()) - len(as_csv(bare).splitlines()) == 4


def test_latex_has_a_figure_below_every_head(evaluation: Evaluation) -> None:
    title, heads, row = as_latex(evaluation, "our_run 50%").splitlines()
    assert title == f"% {evaluation.title}"
    assert heads.startswith("% method & ")
    assert row.endswith(r" \\")
    names, cells = (line.removesuffix(r" \\").split(" & ") for line in (heads.removeprefix("% "), row))
    assert len(names) == len(cells) == 12
    assert cells[0] == r"our\_run 50\%"
    expected = {}
    for way, name in zip(WAYS, ("t2v", "v2t"), strict=True):
        found: RetrievalMetrics = getattr(evaluation.metrics, way)
        expected |= {rf"{name} R@{at}": found.recall[at] for at in (1, 5, 10)}
        expected |= {f"{name} MedR": found.median_rank, f"{name} MeanR": found.mean_rank}
    expected["RSUM"] = sum(value for name, value in expected.items() if "R@" in name)
    assert {name: float(cell) for name, cell in zip(names[1:], cells[1:], strict=True)} == pytest.approx(
        expected, abs=0.051
    )


def test_json_comes_back_as_it_was(evaluation: Evaluation) -> None:
    values = json.loads(render(evaluation, "json", "run"))
    assert Evaluation.from_json(values, "the file") == evaluation
    assert values["rsum"] == pytest.approx(
        sum(getattr(evaluation.metrics, way).recall[at] for way in WAYS for at in (1, 5, 10))
    )
    assert values["coverage_in_words"] == "full test: 30 of 40"
    assert values["agreement"].startswith("The index (IVF3,Flat) is approximate: 1 queries have another rank")
    bare = replace(evaluation, ablation=(), index=None)
    assert Evaluation.from_json(json.loads(render(bare, "json", "run")), "the file") == bare
    for damage in ({"metrics": {}}, {"slices": [{}]}, {"ceiling": None}, {"protocol": {"title": "x"}}):
        with pytest.raises(InputError, match=r"the file is not an evaluation .*Run `vtr evaluate RUN` again"):
            Evaluation.from_json(values | damage, "the file")


def cells_of(text: str, title: str) -> dict[str, list[str]]:
    """Return head -> cells of the rows of one table."""
    lines = text.splitlines()
    start = lines.index(title)
    rows = []
    for line in lines[start + 3 :]:
        if not line.strip() or line.startswith("By "):
            break
        rows.append(line)
    return {row.split("  ")[0].strip(): row.split("  ", 1)[1].split() for row in rows}


def test_the_breakdown_is_shown_when_asked_for(evaluation: Evaluation) -> None:
    short, text = render(evaluation, "table", "run"), render(evaluation, "table", "run", breakdown=True)
    assert text == as_text(evaluation, breakdown=True)
    assert text.startswith(short)
    groups = ("category", "words in the caption", "expert")
    assert [table.title for table in breakdown_tables(evaluation)] == [
        f"By {group}: some of the queries, the whole gallery" for group in groups
    ]
    for group in groups:
        title = f"By {group}: some of the queries, the whole gallery"
        assert title not in short
        found = cells_of(text, title)
        slices = [one for one in evaluation.slices if one.group == group]
        assert list(found) == [one.label for one in slices]
        for one in slices:
            expected = []
            for way in (one.text_to_video, one.video_to_text):
                if way is not None:
                    expected += [way.num_queries, *(way.recall[at] for at in (1, 5, 10)), way.median_rank]
            assert [float(cell) for cell in found[one.label]] == pytest.approx(expected, abs=0.051), one.label


def test_checks_are_always_shown(evaluation: Evaluation) -> None:
    found = cells_of(as_text(evaluation), "Checks: the same scores, counted otherwise")
    groups = ("identical captions", "source shared with training videos")
    checks = [evaluation.metrics, *(one for one in evaluation.slices if one.group in groups)]
    assert len(found) == len(checks) == 4
    for (label, cells), one in zip(found.items(), checks, strict=True):
        expected = []
        for way in (one.text_to_video, one.video_to_text):
            assert way is not None
            expected += [way.num_queries, *(way.recall[at] for at in (1, 5, 10)), way.median_rank]
        assert [float(cell) for cell in cells] == pytest.approx(expected, abs=0.051), label


def test_a_table_has_every_row_of_metrics(evaluation: Evaluation) -> None:
    lines = as_text(evaluation).splitlines()
    assert lines[0] == "full test: 30 of 40; 1 to 4 captions a video"
    for row, way in ((3, "text_to_video"), (6, "video_to_text")):
        found: RetrievalMetrics = getattr(evaluation.metrics, way)
        figures = [found.recall[at] for at in RECALL_AT] + [found.median_rank, found.mean_rank]
        assert lines[row].startswith(way.replace("_", " "))
        cells = lines[row].removeprefix(way.replace("_", " ")).split()
        assert [float(cell) for cell in cells] == pytest.approx(
            [*figures, found.num_queries, found.num_items], abs=0.051
        )
    assert float(lines[9].split()[-1]) == pytest.approx(evaluation.metrics.rsum, abs=0.051)


def saved(tmp_path: Path, subject: Subject, source: Any) -> NDArray[Any]:
    paths = save_scores(tmp_path / "some.scores.npy", subject, source)
    names = ("some.scores.npy", "some.scores.queries.txt", "some.scores.videos.txt")
    assert [path.name for path in paths] == list(names)
    assert paths[1].read_text().splitlines() == list(subject.text_ids)
    assert paths[2].read_text().splitlines() == [video.id for video in subject.videos]
    loaded: NDArray[Any] = np.load(paths[0], allow_pickle=False)
    return loaded


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_saved_scores_are_the_matrix(tmp_path: Path, dtype: Any, order: Any) -> None:
    subject = make_subject()
    matrix = np.asarray(make_scores(subject), dtype, order=order)
    loaded = saved(tmp_path, subject, MatrixScores(matrix))
    assert loaded.dtype == dtype
    np.testing.assert_array_equal(loaded, matrix)
    np.testing.assert_array_equal(np.load(tmp_path / "some.scores.npy", mmap_mode="r"), matrix)


def test_saved_scores_of_embeddings(
    make_part: Callable[..., EmbeddedPart], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = make_part(NUM_VIDEOS, 2, 0.3)
    subject = replace(
        make_subject(), text_ids=part.texts.ids, texts=part.texts_plain, video_of_text=part.video_of_text, captions=()
    )
    monkeypatch.setattr(score_module, "EMBEDDED_BLOCK_VALUES", 7 * NUM_VIDEOS)
    source = EmbeddedScores(part.texts, part.videos, subject.right)
    loaded = saved(tmp_path, subject, source)
    assert (loaded.dtype, loaded.shape) == (np.float32, (60, NUM_VIDEOS))
    np.testing.assert_array_equal(loaded, source.rows(np.arange(60)))


@pytest.mark.parametrize("name", ["scores", "scores.npz", "scores.npy.gz", ".npy"])
def test_scores_go_into_npy_files_only(name: str) -> None:
    with pytest.raises(InputError, match=r"\.npy was expected"):
        Outputs(save_scores=Path("folder") / name)
    assert Outputs(save_scores=Path("a.npy")).save_scores == Path("a.npy")
    assert Outputs().save_scores is None
