"""Which videos a gallery answers with, against sorting the exact scores: filters, and rows that are parts of videos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vtr.embeddings import EmbeddedPart
from vtr.errors import InputError
from vtr.evaluation.postprocess import QueryBank
from vtr.index.build import build_index
from vtr.index.search import RetrievalIndex
from vtr.retrieval import Filters, Stretch
from vtr.retrieval.gallery import Gallery
from vtr.similarity import exact_scores
from vtr.types import Annotations, Video

MakePart = Callable[..., EmbeddedPart]
ROWS, VIDEOS = 60, 13
SPORTS = Filters(category="sports", min_seconds=4, max_seconds=9)


def long_videos() -> dict[str, Stretch]:
    """Row n is of video n % 13."""
    return {f"video{row}": Stretch(f"long{row % VIDEOS}", row // VIDEOS, row // VIDEOS + 1) for row in range(ROWS)}


def gallery(
    folder: Path, part: EmbeddedPart, items: dict[str, Stretch] | None, bank: QueryBank | None = None
) -> Gallery:
    names = part.videos.ids if items is None else tuple(f"long{number}" for number in range(VIDEOS))
    categories = ("music", "sports", None)
    videos = tuple(
        Video(name, None, 10.0, None if number % 5 == 4 else 10.0 + number, None, categories[number % 3])
        for number, name in enumerate(names)
    )
    build_index(folder, part, embed_output="x")
    return Gallery(RetrievalIndex.open(folder, part, embed_output="x"), Annotations(videos, ()), bank, items=items)


def expected(
    scores: NDArray[np.float32], video_ids: tuple[str, ...], wanted: int, allowed: Callable[[str], bool]
) -> list[tuple[str, float]]:
    """Return the best videos of a text, by plain sorting: each once, by its best row."""
    best: list[tuple[str, float]] = []
    for row in sorted(range(len(scores)), key=lambda row: (-scores[row], row)):
        video_id = video_ids[row]
        if allowed(video_id) and video_id not in [name for name, _ in best]:
            best.append((video_id, float(scores[row])))
    return best[:wanted]


def number_of(video_id: str) -> int:
    return int(video_id[len("long") if video_id.startswith("long") else len("video") :])


def allowed_by(filters: Filters) -> Callable[[str], bool]:
    """Say by hand which videos SPORTS lets through; anything else lets all through."""
    if filters == Filters():
        return lambda _: True
    kept = {number for number in range(ROWS) if number % 3 == 1 and number % 5 != 4 and 4 <= number <= 9}
    return lambda video_id: number_of(video_id) in kept


@pytest.mark.parametrize("items", [None, long_videos()], ids=["videos", "parts"])
@pytest.mark.parametrize("filters", [Filters(), SPORTS], ids=["all", "filtered"])
@pytest.mark.parametrize("wanted", [1, 2, 7, 50])
@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_the_best_videos_equal_sorted_scores(
    tmp_path: Path,
    make_part: MakePart,
    items: dict[str, Stretch] | None,
    filters: Filters,
    wanted: int,
    missing: float,
) -> None:
    part = make_part(ROWS, 1, missing)
    searched = gallery(tmp_path, part, items)
    scores = exact_scores(part.texts, part.videos).numpy()
    found = searched.best(part.texts, wanted, filters)
    assert len(found) == ROWS
    for query, picks in enumerate(found):
        right = expected(scores[query], searched.video_ids, wanted, allowed_by(filters))
        assert [(searched.video_ids[pick.row], pick.score) for pick in picks] == right
        assert {pick.query for pick in picks} <= {query}
    if filters is SPORTS and wanted == 50:
        assert {number_of(searched.video_ids[pick.row]) for pick in found[0]} == {7}


def test_qb_norm_orders_what_the_filter_lets_through(tmp_path: Path, make_part: MakePart) -> None:
    part, bank_part = make_part(ROWS, 1), make_part(ROWS, 1, seed=7)
    bank = QueryBank.gather([exact_scores(bank_part.texts, part.videos).numpy()], beta=20.0)
    searched = gallery(tmp_path, part, None, bank)
    scores = exact_scores(part.texts, part.videos).numpy()
    keys, allowed = bank.normalise(scores), allowed_by(SPORTS)
    assert len(searched.best(part.texts, 3, Filters(category="sports"), normalised=True)[0]) == 3
    for query, picks in enumerate(searched.best(part.texts, 5, SPORTS, normalised=True)):
        rows = [row for row in np.argsort(-keys[query], kind="stable").tolist() if allowed(part.videos.ids[row])]
        assert [pick.row for pick in picks] == rows
        assert [pick.score for pick in picks] == scores[query, rows].tolist()


def test_filters_that_no_video_can_answer_are_errors(tmp_path: Path, make_part: MakePart) -> None:
    part = make_part(9, 1)
    searched = gallery(tmp_path, part, None)
    with pytest.raises(InputError, match=r"no video has the category 'sport'\. Did you mean 'sports'\?.*music, sports"):
        searched.best(part.texts, 1, Filters(category="sport"))
    with pytest.raises(InputError, match="no expert has listened for words here"):
        searched.best(part.texts, 1, Filters(has_speech=True))
    assert searched.row_facts.categories == {"music": 3, "sports": 3}
    bare = Gallery(searched.index, Annotations(tuple(Video(name) for name in part.videos.ids), ()))
    with pytest.raises(InputError, match="the duration of no video is known"):
        bare.best(part.texts, 1, Filters(max_seconds=3))
    with pytest.raises(InputError, match="have no categories here"):
        bare.best(part.texts, 1, Filters(category="music"))
    assert not bare.row_facts.has_durations


@pytest.mark.parametrize(
    "bounds", [{"min_seconds": -1}, {"max_seconds": float("nan")}, {"min_seconds": 3, "max_seconds": 2}]
)
def test_bounds_that_are_none(bounds: dict[str, float]) -> None:
    with pytest.raises(InputError, match="seconds"):
        Filters(**bounds)
