"""QB-Norm from end to end: banks of a run's training queries, figures and search against the published definition."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vtr import cli
from vtr.embeddings import EmbeddedPart, load_part
from vtr.errors import InputError
from vtr.evaluation.postprocess import QueryBank
from vtr.evaluation.protocols import Rules
from vtr.files import read_json, write_json
from vtr.models.saved import WEIGHTS, load_tensors, save_tensors
from vtr.retrieval import Hit, Retriever, query_bank
from vtr.retrieval.galleries import Indexed, embed_and_index
from vtr.retrieval.query_bank import Banks, query_banks
from vtr.similarity import exact_scores
from vtr.stages.evaluate import evaluate
from vtr.stages.index import index as build
from vtr.stages.search import Question, search
from vtr.types import PARTS, Part
from vtr.workspace import Run, Workspace

Rows = list[list[float]]
BETA = 20.0


def gallery_of(run: Run, part: Part = "test") -> Indexed:
    return embed_and_index(run, "full", part, device="cpu")


def scores_of(texts: EmbeddedPart, videos: EmbeddedPart) -> Rows:
    """Return the scores of one part's captions with another part's videos."""
    rows: Rows = exact_scores(texts.texts, videos.videos).double().tolist()
    return rows


def transposed(rows: Rows) -> Rows:
    return [list(column) for column in zip(*rows, strict=True)]


def sums(bank: Rows, beta: float = BETA) -> list[float]:
    """Return, for each item, the sum of exp(beta * score) over the queries of a bank."""
    return [math.fsum(math.exp(beta * score) for score in column) for column in zip(*bank, strict=True)]


def bests(rows: Rows) -> set[int]:
    return {row.index(max(row)) for row in rows}


def check_bank(found: QueryBank, bank: Rows, beta: float = BETA) -> None:
    np.testing.assert_allclose(np.exp(found.log_sums), sums(bank, beta), rtol=1e-4)
    assert set(np.flatnonzero(found.activated).tolist()) == bests(bank)
    assert (found.num_queries, found.beta, found.k) == (len(bank), beta, 1)


def check_banks(found: Banks, trained: EmbeddedPart, gallery: EmbeddedPart, beta: float = BETA) -> None:
    """Check banks against all training captions and training videos, embedded as a gallery of their own."""
    check_bank(found.texts, scores_of(trained, gallery), beta)
    assert found.videos is not None
    check_bank(found.videos, transposed(scores_of(gallery, trained)), beta)


def qb_norm(bank: Rows, rows: Rows, beta: float = BETA) -> Rows:
    """Divide a query's exp(beta * score) by the bank's sums, where its best item is a best item of the bank's."""
    activated, totals = bests(bank), sums(bank, beta)
    answer = []
    for row in rows:
        powers = [math.exp(beta * score) for score in row]
        divided = [power / total for power, total in zip(powers, totals, strict=True)]
        answer.append(divided if row.index(max(row)) in activated else row)
    return answer


def order(row: list[float]) -> list[int]:
    return sorted(range(len(row)), key=lambda item: -row[item])


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], list[str]]]:
    """What the banks embed from now on: ids of videos and of captions, one entry a call."""
    calls: list[tuple[list[str], list[str]]] = []
    original = query_bank.embed_some

    def embed_some(run: Run, corpus: Any, ids: Any, captions: Any, coverage: Any, **options: Any) -> EmbeddedPart:
        calls.append((list(ids), [caption.id for caption in captions]))
        return original(run, corpus, ids, captions, coverage, **options)

    monkeypatch.setattr(query_bank, "embed_some", embed_some)
    return calls


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("this was to be left as it is")


def test_banks_hold_the_training_part_and_nothing_else(run: Run) -> None:
    indexed, trained = gallery_of(run), gallery_of(run, "train").embedded
    found = query_banks(run, indexed, device="cpu")
    check_banks(found, trained, indexed.embedded)
    held = load_part(run.query_bank / "training")
    assert (sorted(held.videos.ids), sorted(held.texts.ids)) == (sorted(trained.videos.ids), sorted(trained.texts.ids))
    assert not set(held.videos.ids) & set(indexed.embedded.videos.ids)
    assert (len(held.videos.ids), len(held.texts.ids)) == (24, 48)


def test_a_large_training_part_is_cut_to_a_fixed_choice(
    run: Run, monkeypatch: pytest.MonkeyPatch, embedded: list[tuple[list[str], list[str]]]
) -> None:
    monkeypatch.setattr(query_bank, "BANK_SIZE", 10)
    indexed = gallery_of(run)
    found = query_banks(run, indexed, device="cpu")
    assert found.videos is not None
    assert found.texts.num_queries == found.videos.num_queries == 10
    videos, captions = embedded[0]
    assert len(set(videos)) == len(set(captions)) == 10
    assert {caption.split("#")[0] for caption in captions} <= set(videos)
    assert set(videos) <= set(gallery_of(run, "train").embedded.videos.ids)
    (run.query_bank / "training" / "manifest.json").unlink()
    query_banks(run, indexed, device="cpu")
    assert embedded[1] == embedded[0]
    check_banks(found, load_part(run.query_bank / "training"), indexed.embedded)


def test_what_is_current_is_not_made_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    indexed = gallery_of(run)
    first = query_banks(run, indexed, device="cpu")
    monkeypatch.setattr(query_bank, "embed_some", never)
    monkeypatch.setattr(QueryBank, "gather", never)
    again = query_banks(Run.open(run.root), gallery_of(run), beta=BETA, device="cpu")
    assert again.videos is not None
    assert first.videos is not None
    for one, other in ((first.texts, again.texts), (first.videos, again.videos)):
        np.testing.assert_array_equal(one.log_sums, other.log_sums)
        np.testing.assert_array_equal(one.activated, other.activated)


def test_another_beta_or_gallery_needs_no_embedding(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    indexed, trained = gallery_of(run), gallery_of(run, "train").embedded
    query_banks(run, indexed, device="cpu")
    monkeypatch.setattr(query_bank, "embed_some", never)
    check_banks(query_banks(run, indexed, beta=3.0, device="cpu"), trained, indexed.embedded, 3.0)
    check_banks(query_banks(run, indexed, device="cpu"), trained, indexed.embedded)
    other = gallery_of(run, "validation")
    check_banks(query_banks(run, other, device="cpu"), trained, other.embedded)
    check_banks(query_banks(run, indexed, device="cpu"), trained, indexed.embedded)
    for beta in (0.0, -1.0, math.nan):
        with pytest.raises(InputError, match="beta is"):
            query_banks(run, indexed, beta=beta, device="cpu")
    check_banks(query_banks(run, indexed, device="cpu"), trained, indexed.embedded)


def test_a_run_that_was_trained_again_has_new_banks(run: Run, embedded: list[tuple[list[str], list[str]]]) -> None:
    before = query_banks(run, gallery_of(run), device="cpu")
    generator = torch.Generator().manual_seed(0)
    weights = load_tensors(run.checkpoints / "best" / WEIGHTS)
    noisy = {
        name: values * (0.5 + torch.rand(values.shape, generator=generator)) if values.is_floating_point() else values
        for name, values in weights.items()
    }
    save_tensors(run.checkpoints / "best" / WEIGHTS, noisy)
    write_json(run.root / "manifest.json", read_json(run.root / "manifest.json") | {"output": "another"})
    after = query_banks(run, gallery_of(run), device="cpu")
    assert embedded == embedded[:1] * 2
    check_banks(after, gallery_of(run, "train").embedded, gallery_of(run).embedded)
    assert not np.allclose(after.texts.log_sums, before.texts.log_sums, rtol=1e-2)


def test_a_gallery_without_captions_has_no_bank_of_videos(run: Run, other_workspace: Callable[..., Workspace]) -> None:
    trained = gallery_of(run, "train").embedded
    bare = Run.open(run.root, other_workspace("bare", captions_a_video=0).root)
    indexed = gallery_of(bare)
    found = query_banks(bare, indexed, device="cpu")
    assert found.videos is None
    check_bank(found.texts, scores_of(trained, indexed.embedded))
    retriever = Retriever.load(bare, split="full", part="test", qb_norm=True)
    assert len(retriever.search(["a red dog"], 10)[0]) == 6


def places(row: list[float], right: set[int]) -> float:
    """Return the place of the best right item; no score ties with it."""
    best = max(row[item] for item in right)
    assert row.count(best) == 1
    return 1.0 + sum(score > best for score in row)


def figures(ranks: list[float]) -> list[float]:
    return [*(100 * sum(rank <= at for rank in ranks) / len(ranks) for at in (1, 5, 10)), sum(ranks) / len(ranks)]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("beta", [None, 200.0])
def test_an_evaluation_is_the_published_definition(run: Run, part: Part, beta: float | None) -> None:
    found = evaluate(run, "full", part, rules=Rules(post="qb_norm", scale=beta), device="cpu").evaluation
    trained, gallery = gallery_of(run, "train").embedded, gallery_of(run, part).embedded
    raw, used = scores_of(gallery, gallery), BETA if beta is None else beta
    owners: list[int] = gallery.video_of_text.tolist()
    of_texts = qb_norm(scores_of(trained, gallery), raw, used)
    of_videos = qb_norm(transposed(scores_of(gallery, trained)), transposed(raw), used)
    own = [{text for text, owner in enumerate(owners) if owner == video} for video in range(len(gallery.videos.ids))]
    t2v = [places(row, {owner}) for row, owner in zip(of_texts, owners, strict=True)]
    v2t = [places(row, right) for row, right in zip(of_videos, own, strict=True)]
    for ranks, metrics in ((t2v, found.metrics.text_to_video), (v2t, found.metrics.video_to_text)):
        assert [*(metrics.recall[at] for at in (1, 5, 10)), metrics.mean_rank] == pytest.approx(figures(ranks))
    moved = [order(row) != order(before) for row, before in zip(of_texts, raw, strict=True)]
    assert any(moved)


def rankings(run: Run) -> Iterator[tuple[str, list[int], list[float]]]:
    """Yield each test caption, the videos in the order of QB-Norm, and their scores as they are."""
    trained, gallery = gallery_of(run, "train").embedded, gallery_of(run).embedded
    raw = scores_of(gallery, gallery)
    normalised = qb_norm(scores_of(trained, gallery), raw)
    for text, row, before in zip(gallery.texts_plain, normalised, raw, strict=True):
        yield text, order(row), [before[item] for item in order(row)]


def found_ids(hits: list[Hit]) -> list[str]:
    return [hit.video_id for hit in hits]


def test_a_single_query_gets_the_order_of_its_row_and_raw_scores(run: Run) -> None:
    ids, expected = gallery_of(run).embedded.videos.ids, list(rankings(run))
    asked = {"split": "full", "part": "test"}
    normalised, plain = Retriever.load(run, **asked, qb_norm=True), Retriever.load(run, **asked)
    moved = 0
    for text, items, scores in expected:
        found = normalised.search([text], 6)[0]
        assert found_ids(found) == [ids[item] for item in items]
        assert [hit.score for hit in found] == pytest.approx(scores, abs=1e-5)
        assert found_ids(normalised.search([text], 2)[0]) == found_ids(found)[:2]
        before = plain.search([text], 6)[0]
        assert [hit.score for hit in before] == pytest.approx(sorted(scores, reverse=True), abs=1e-5)
        moved += found_ids(before) != found_ids(found)
    assert moved > 0
    together = normalised.search([text for text, _, _ in expected], 6)
    assert [found_ids(hits) for hits in together] == [[ids[item] for item in items] for _, items, _ in expected]


def test_the_kind_of_index_does_not_matter(run: Run) -> None:
    """An approximate index would look into one of three lists; QB-Norm looks at every video."""
    ids, expected = gallery_of(run).embedded.videos.ids, list(rankings(run))
    build(run, "full", "test", factory="IVF3,Flat", parameters="nprobe=1")
    asked = {"split": "full", "part": "test"}
    normalised, plain = Retriever.load(run, **asked, qb_norm=True), Retriever.load(run, **asked)
    for text, items, _ in expected:
        assert found_ids(normalised.search([text], 6)[0]) == [ids[item] for item in items]
    assert min(len(plain.search([text], 6)[0]) for text, _, _ in expected) < 6


def test_the_answer_shows_the_order_and_the_raw_scores(run: Run) -> None:
    text, items, scores = next(found for found in rankings(run) if found[2] != sorted(found[2], reverse=True))
    ids = gallery_of(run).embedded.videos.ids
    asked = {"top": 6, "split": "full", "part": "test", "as_json": True, "qb_norm": True}
    (found,) = search(run, Question(text), **asked, extract=never)
    answer = json.loads(found)
    assert [hit["video_id"] for hit in answer["results"]] == [ids[item] for item in items]
    assert [hit["score"] for hit in answer["results"]] == pytest.approx(scores, abs=1e-5)
    assert [hit["rank"] for hit in answer["results"]] == [1, 2, 3, 4, 5, 6]


def test_a_video_cannot_be_answered_in_the_order_of_qb_norm(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"any")
    monkeypatch.setattr("sys.argv", ["vtr", "search", str(run.root), "--video", str(clip), "--post", "qb_norm"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code not in (0, None)
    assert "--post qb_norm orders videos for words, and a video was given" in capsys.readouterr().err
    assert not run.query_bank.exists()
