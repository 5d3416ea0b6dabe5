"""The retriever of a small trained run against plain loops over its embeddings."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch

from vtr.errors import InputError
from vtr.files import read_json, write_json
from vtr.retrieval import Filters, Hit, Moment, Retriever, Stretch
from vtr.retrieval.galleries import index_part
from vtr.similarity import exact_scores
from vtr.store.reader import FeatureStore
from vtr.types import Annotations, ExpertFeatures, TextEmbeddings
from vtr.workspace import Run

TRAIN = {"split": "full", "part": "train"}
QUERIES = ("a red dog", "the boat is gold", "a green car")
Shares = Mapping[str, float]


def embedded(retriever: Retriever, query: str) -> TextEmbeddings:
    with torch.inference_mode():
        return retriever.model.embed_texts(retriever._text_input.batch([query], [query]))


def share(retriever: Retriever, texts: TextEmbeddings, video_row: int, text_row: int = 0) -> Shares:
    """Return what each expert adds to a score, one number at a time."""
    videos = retriever.part.videos
    counts = [float(w) * float(a) for w, a in zip(texts.weights[text_row], videos.present[video_row], strict=True)]
    found = {}
    for place, name in enumerate(retriever.part.experts):
        if counts[place] > 0:
            pairs = zip(texts.vectors[text_row, place].tolist(), videos.vectors[video_row, place].tolist(), strict=True)
            found[name] = counts[place] * sum(a * b for a, b in pairs) / sum(counts)
    return found


def found_by(hits: list[Hit]) -> list[tuple[str, float]]:
    return [(hit.video_id, hit.score) for hit in hits]


def test_the_three_lines_of_the_documentation(run: Run) -> None:
    """`from vtr.retrieval import Retriever` and two more."""
    hits = Retriever.load(run.root).search(["a man is cooking"], k=10)[0]
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5, 6]
    assert all(isinstance(hit.video_id, str) and hit.shares for hit in hits)


@pytest.mark.parametrize("k", [1, 4, 24])
def test_words_are_answered_as_by_plain_loops(run: Run, k: int) -> None:
    retriever = Retriever.load(run, **TRAIN)
    ids = retriever.part.videos.ids
    for query, hits in zip(QUERIES, retriever.search(QUERIES, k), strict=True):
        texts = embedded(retriever, query)
        shares = [share(retriever, texts, row) for row in range(24)]
        totals = [sum(of_one.values()) for of_one in shares]
        order = sorted(range(24), key=lambda row: -totals[row])[:k]
        assert [hit.video_id for hit in hits] == [ids[row] for row in order]
        for hit, row in zip(hits, order, strict=True):
            assert hit.shares == pytest.approx(shares[row], abs=1e-6)
            assert sum(hit.shares.values()) == pytest.approx(hit.score, abs=1e-6)
            assert hit.duration_seconds == 3.0 and hit.moment == Moment(0, 3)
            assert hit.category is None and not hit.has_speech and hit.snippet is None
    assert retriever.experts == ("appearance", "motion")
    if k == 24:
        assert any(set(hit.shares) == {"appearance"} for hit in hits)  # some videos lack motion


def test_a_video_is_like_others_by_the_mean_of_the_cosines_both_have(run: Run) -> None:
    retriever = Retriever.load(run, **TRAIN)
    videos, ids = retriever.part.videos, retriever.part.videos.ids
    for row, video_id in enumerate(ids):
        means = {}
        for other in range(24):
            both = [e for e in range(2) if videos.present[row, e] and videos.present[other, e]]
            cosines = [float(videos.vectors[row, e] @ videos.vectors[other, e]) for e in both]
            means[ids[other]] = sum(cosines) / len(both)
        del means[video_id]
        hits = retriever.similar(video_id, 5)
        assert [hit.video_id for hit in hits] == sorted(means, key=lambda name: -means[name])[:5]
        for hit in hits:
            assert hit.score == pytest.approx(means[hit.video_id], abs=1e-6)
            assert sum(hit.shares.values()) == pytest.approx(hit.score, abs=1e-6)
    with pytest.raises(InputError, match="the gallery has no video 'nowhere'"):
        retriever.similar("nowhere")


def held_features(run: Run, video_id: str) -> dict[str, ExpertFeatures]:
    store = FeatureStore(run.workspace.store)
    return {name: found[video_id] for name in store.experts if video_id in (found := store.read(name, [video_id]))}


def test_captions_carry_the_shares_of_their_scores(run: Run) -> None:
    retriever = Retriever.load(run, **TRAIN)
    row = next(row for row in range(24) if retriever.part.videos.present[row].all())
    video_id = retriever.part.videos.ids[row]
    hits = retriever.captions_for(held_features(run, video_id), 48)
    texts = retriever.part.texts
    totals = [sum(share(retriever, texts, row, text).values()) for text in range(48)]
    assert [hit.score for hit in hits] == pytest.approx(sorted(totals, reverse=True), abs=1e-5)
    assert sorted(hit.caption or "" for hit in hits) == sorted(retriever.part.texts_plain)
    for hit in hits:
        described = {
            retriever.part.texts_plain[text] for text in range(48) if texts.ids[text].startswith(hit.video_id + "#")
        }
        assert hit.caption in described
        assert sum(hit.shares.values()) == pytest.approx(hit.score, abs=1e-5)
        assert set(hit.shares) == {"appearance", "motion"} and hit.moment is None


def test_without_details_the_same_is_found(run: Run) -> None:
    retriever = Retriever.load(run, **TRAIN)
    features = held_features(run, retriever.part.videos.ids[0])
    asked: list[Callable[..., list[Hit]]] = [
        lambda **how: retriever.search(["a red dog"], 7, **how)[0],
        lambda **how: retriever.similar(retriever.part.videos.ids[3], 7, **how),
        lambda **how: retriever.similar_to(features, 7, **how),
        lambda **how: retriever.captions_for(features, 7, **how),
    ]
    for ask in asked:
        full, bare = ask(details=True), ask(details=False)
        assert [replace(hit, moment=None, shares={}, snippet=None) for hit in full] == bare
        assert all(hit.shares for hit in full)


def categorised(retriever: Retriever, run: Run) -> Retriever:
    """Return a retriever of the same gallery whose videos have their colours as categories."""
    videos = tuple(replace(v, category=v.id.partition("-")[2]) for v in retriever.annotations.videos)
    annotations = Annotations(videos, retriever.annotations.captions)
    store = FeatureStore(run.workspace.store, run.workspace.cache)
    return Retriever(retriever.model, retriever.config, retriever._searched.gallery.index, annotations, store=store)


def test_filters_leave_out_and_change_nothing_else(run: Run) -> None:
    retriever = categorised(Retriever.load(run, **TRAIN), run)
    colours = [name.partition("-")[2] for name in retriever.part.videos.ids]
    assert retriever.categories == {name: colours.count(name) for name in sorted(set(colours))}
    red = Filters(category="red", min_seconds=2.5, max_seconds=3)
    features = held_features(run, retriever.part.videos.ids[0])
    some = next(name for name in retriever.part.videos.ids if name.endswith("-red"))
    asked: list[Callable[..., list[Hit]]] = [
        lambda k, **how: retriever.search(["a blue boat"], k, **how)[0],
        lambda k, **how: retriever.similar(some, k, **how),
        lambda k, **how: retriever.similar_to(features, k, **how),
    ]
    for ask in asked:
        every = [hit for hit in ask(24) if hit.category == "red"]
        assert every
        for k in (2, 24):
            assert found_by(ask(k, filters=red)) == found_by(every)[:k]
        assert ask(24, filters=Filters(min_seconds=3.5)) == []
    assert retriever.has_durations and not retriever.has_speech
    with pytest.raises(InputError, match="no expert has listened"):
        retriever.search(["a dog"], filters=Filters(has_speech=False))
    assert retriever.duration_seconds(some) == 3.0 and retriever.duration_seconds("nowhere") is None


def test_rows_that_are_parts_of_videos(run: Run) -> None:
    """The 24 rows are parts of 5 videos: each is answered once, by its best row and within its stretch."""
    plain = Retriever.load(run, **TRAIN)
    ids = plain.part.videos.ids
    items = {row_id: Stretch(f"clips/{row % 5}", 0.5, 2.5) for row, row_id in enumerate(ids)}
    videos = tuple(replace(plain.annotations.videos[number], id=f"clips/{number}") for number in range(5))
    index = plain._searched.gallery.index
    retriever = Retriever(plain.model, plain.config, index, Annotations(videos, ()), items=items)
    assert retriever.num_videos == 5
    scores = exact_scores(embedded(plain, "a red dog"), plain.part.videos)[0]
    best = {f"clips/{n}": max(float(scores[row]) for row in range(24) if row % 5 == n) for n in range(5)}
    for k in (2, 10):
        hits = retriever.search(["a red dog"], k)[0]
        assert found_by(hits) == sorted(best.items(), key=lambda pair: -pair[1])[:k]
    vectors, present = plain.part.videos.vectors, plain.part.videos.present
    alike: dict[str, float] = {}
    for row in range(2, 24, 5):
        for other in range(24):
            both = [e for e in range(2) if present[row, e] and present[other, e]]
            mean = sum(float(vectors[row, e] @ vectors[other, e]) for e in both) / len(both)
            name = f"clips/{other % 5}"
            alike[name] = max(mean, alike.get(name, -2.0))
    del alike["clips/2"]
    hits = retriever.similar("clips/2", 3)
    assert [hit.video_id for hit in hits] == sorted(alike, key=lambda name: -alike[name])[:3]
    for hit in hits:
        assert hit.score == pytest.approx(alike[hit.video_id], abs=1e-6)
        assert sum(hit.shares.values()) == pytest.approx(hit.score, abs=1e-6)


def test_the_best_moment_is_the_window_the_model_scores_highest(run: Run) -> None:
    """Videos made of two others in turn; each window embedded and scored by hand."""
    retriever = Retriever.load(run, **TRAIN)
    names = [name for name in retriever.part.videos.ids if len(held_features(run, name)) == 2]
    chosen: list[int] = []
    for first, second in zip(names[0::2], names[1::2], strict=False):
        halves = held_features(run, first), held_features(run, second)
        joined = {
            name: ExpertFeatures(
                np.concatenate([half[name].values for half in halves]),
                np.arange(6, dtype=np.float32),
                np.arange(1, 7, dtype=np.float32),
            )
            for name in halves[0]
        }
        made = retriever._searched._moments
        assert made is not None
        stored, windows = made._stored, [slice(0, 2), slice(2, 4), slice(4, 6)]
        stored.read = lambda ids, joined=joined: dict.fromkeys(ids, joined)  # type: ignore[method-assign]
        for name in (first, second):
            thing, colour = name.removeprefix("clips/").split("-")
            asked = embedded(retriever, f"a {colour} {thing}")
            (best,) = made.best(asked, [f"{first}+{second}"])
            scores = []
            for window in windows:
                part = {
                    expert: ExpertFeatures(f.values[window], f.start_seconds[:2], f.end_seconds[:2])
                    for expert, f in joined.items()
                }
                scores.append(float(exact_scores(asked, retriever._embed(part))[0, 0]))
            at = int(np.argmax(scores))
            assert best == Moment(2 * at, 2 * at + 2)
            chosen.append(at)
    assert len(chosen) >= 14 and len(set(chosen)) == 3


def test_a_gallery_is_opened_anew_where_it_changed_on_disk(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    retriever = Retriever.load(run, **TRAIN)
    first = retriever.generation
    expected = found_by(retriever.search(["a red dog"], 5)[0])
    assert not retriever.refresh() and retriever.generation == first
    answers: list[list[tuple[str, float]]] = []
    ended = threading.Event()
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            while not ended.is_set() or len(answers) < 20:
                answers.append(found_by(retriever.search(["a red dog"], 5)[0]))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for factory in ("IVF1,Flat", "Flat", "HNSW8"):
        before = retriever.generation
        index_part(run, "full", "train", factory)
        assert retriever.refresh() and retriever.generation != before
        assert not retriever.refresh()
    ended.set()
    for thread in threads:
        thread.join()
    assert not failed
    assert all([name for name, _ in answer] == [name for name, _ in expected] for answer in answers)
    capsys.readouterr()
    manifest = run.index / "full-train" / "manifest.json"
    content = read_json(manifest)
    write_json(
        manifest, content | {"output": "another", "inputs": {"embed": "another"}, "checksums": {"ids.json": "x"}}
    )
    embeddings = run.embeddings / "full-train" / "manifest.json"
    made = read_json(embeddings)
    write_json(embeddings, made | {"inputs": made["inputs"] | {"train": "another model"}})
    assert not retriever.refresh() and not retriever.refresh()
    assert capsys.readouterr().err.count("was trained anew: its gallery is of model another model") == 1
    assert found_by(retriever.search(["a red dog"], 5)[0])[0][0] == expected[0][0]
    manifest.unlink()
    assert not retriever.refresh()


def test_what_is_known_of_the_gallery(run: Run) -> None:
    retriever = Retriever.load(run, **TRAIN)
    assert retriever.finds.startswith("Words find videos by what is seen (appearance, motion).")
    assert retriever.generation == read_json(run.index / "full-train" / "manifest.json")["output"]
    assert (retriever.num_videos, retriever.num_captions, retriever.categories) == (24, 48, {})
    said = Retriever(
        *(retriever.model, retriever.config, retriever._searched.gallery.index, retriever.annotations), finds="All."
    )
    assert said.finds == "All." and said.generation == "" and not said.refresh()
    assert said.search(["a red dog"], 1)[0][0].moment is None  # without a store
