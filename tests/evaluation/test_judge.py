"""The judge against plain loops: every slice, note and example of a small gallery with all that can be odd in one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from math import comb
from typing import Any

import numpy as np
import plain_ranks as plain
import pytest
from numpy.typing import NDArray
from plain_judge import (
    ALL_DIFFERENT,
    FEW_VALUES,
    MAX_CAPTION,
    NUM_VIDEOS,
    WAYS,
    ByHand,
    make_scores,
    make_subject,
    shown,
)

from vtr.coverage import Coverage
from vtr.embeddings import EmbeddedPart
from vtr.errors import InputError
from vtr.evaluation import scores as score_module
from vtr.evaluation.breakdown import Slice
from vtr.evaluation.judge import NUM_PASSES, judge
from vtr.evaluation.protocols import Rules
from vtr.evaluation.ranks import TIE_RULES
from vtr.evaluation.results import Evaluation
from vtr.evaluation.scores import EmbeddedScores, MatrixScores, score_embeddings
from vtr.evaluation.subject import Subject
from vtr.types import Annotations, Caption, RetrievalMetrics, Video


@pytest.mark.parametrize("rules", [*(Rules(ties=ties) for ties in TIE_RULES), MAX_CAPTION])
@pytest.mark.parametrize("kind", [ALL_DIFFERENT, FEW_VALUES])
def test_metrics_and_slices_equal_plain_loops(kind: str, rules: Rules) -> None:
    subject = make_subject()
    scores = make_scores(subject, kind)
    source = MatrixScores(scores)
    found = judge(subject, source, source, rules).evaluation
    by_hand = ByHand(subject, scores, rules)
    whole = by_hand.both(lambda _: True)
    assert [shown(getattr(found.metrics, way), figures) for way, figures in zip(WAYS, whole, strict=True)] == [
        pytest.approx(figures) for figures in whole
    ]
    expected = by_hand.slices()
    assert [(one.group, one.label) for one in found.slices] == list(expected)
    for one in found.slices:
        for way, answer in zip(WAYS, expected[one.group, one.label], strict=True):
            got = shown(getattr(one, way), answer)
            assert got == (None if answer is None else pytest.approx(answer)), (one.group, one.label, way)
    assert whole[0] is not None
    assert 10 < whole[0]["R@1"] < 90  # neither all right nor all wrong
    assert (whole[0]["tied"] > 0) == (kind == FEW_VALUES) == ("mAP" not in whole[0])


def num_queries(slices: Iterable[Slice], way: str) -> int:
    return sum(getattr(one, way).num_queries for one in slices if getattr(one, way) is not None)


def test_the_slices_of_a_group_add_up_to_all_queries() -> None:
    made = make_subject()
    subject = replace(made, videos=tuple(replace(video, category=video.category or "food") for video in made.videos))
    source = MatrixScores(make_scores(subject, FEW_VALUES))
    found = judge(subject, source, source, Rules()).evaluation
    counts = {"text_to_video": 80, "video_to_text": 32}
    assert {way: getattr(found.metrics, way).num_queries for way in counts} == counts
    for group in ("category", "expert", "words in the caption"):
        some = [one for one in found.slices if one.group == group]
        assert num_queries(some, "text_to_video") == 80, group
        assert num_queries(some, "video_to_text") == (0 if group == "words in the caption" else 32), group
    shared = [one for one in found.slices if one.label in ("without them", "only them")]
    assert {way: num_queries(shared, way) for way in counts} == counts
    assert Counter(one.group for one in found.slices)["category"] == 3


@pytest.mark.parametrize("rules", [Rules(), MAX_CAPTION])
def test_scores_of_each_direction_are_used_for_it_alone(rules: Rules) -> None:
    subject = make_subject()
    first, second = (MatrixScores(make_scores(subject, FEW_VALUES, seed)) for seed in (0, 1))
    mixed = judge(subject, first, second, rules).evaluation
    one, other = (judge(subject, source, source, rules).evaluation for source in (first, second))
    assert one.metrics != other.metrics
    assert mixed.metrics.text_to_video == one.metrics.text_to_video
    assert mixed.metrics.video_to_text == other.metrics.video_to_text
    for got, left, right in zip(mixed.slices, one.slices, other.slices, strict=True):
        assert got == Slice(left.group, left.label, left.text_to_video, right.video_to_text)
    assert mixed.examples == one.examples
    assert mixed.intervals["text_to_video"] == one.intervals["text_to_video"]
    assert mixed.intervals["video_to_text"] == other.intervals["video_to_text"]


def judged(subject: Subject, rules: Rules | None = None, kind: str = FEW_VALUES) -> Evaluation:
    source = MatrixScores(make_scores(subject, kind))
    return judge(subject, source, source, rules or Rules(), experts={"audio": 0.5}).evaluation


def test_notes_say_what_was_used_before() -> None:
    subject = make_subject()
    found = judged(subject)
    assert found.notes == (
        "The checkpoint was chosen by 2 of these 40 videos, so the figures are optimistic.",
        "10 of these 40 videos are cut from a source that training videos are cut from, 5 of them overlap one in time "
        "(39 of 40 and 10 of 10 sources are known).",
    )
    assert (found.experts, found.coverage) == ({"audio": 0.5}, subject.coverage)
    learnt = judged(replace(subject, train=(subject.videos[3], *subject.train), selected_by=()))
    assert learnt.notes == (
        "The model was trained on 1 of these 40 videos: this is no test.",
        "10 of these 40 videos are cut from a source that training videos are cut from, 5 of them overlap one in time "
        "(39 of 40 and 11 of 11 sources are known).",
    )
    whole = judged(replace(subject, train=subject.videos, selected_by=()))
    assert whole.notes == ("The model was trained on 40 of these 40 videos: this is no test.",)
    assert "source shared with training videos" not in {one.group for one in whole.slices}


def test_a_video_that_was_trained_on_leaks_itself() -> None:
    subject = make_subject()
    lone = next(n for n, video in enumerate(subject.videos) if n >= 10 and video.source_id)
    found = judged(replace(subject, train=(subject.videos[lone],)))
    assert "1 of these 40 videos is cut from a source" in found.notes[-1]
    without = next(one for one in found.slices if one.label == "without them")
    whole = found.metrics.text_to_video.num_queries
    assert without.text_to_video is not None
    assert without.text_to_video.num_queries == whole - int((subject.video_of_text == lone).sum())


@pytest.mark.parametrize("what", ["no training videos", "no sources", "none shared", "all shared", "no times"])
def test_slices_by_source_are_there_only_where_they_tell_something(what: str) -> None:
    subject = make_subject()
    one = subject.train[1]  # video 0 has no captions
    changed = {
        "no training videos": replace(subject, train=()),
        "no sources": replace(subject, videos=tuple(replace(video, source_id=None) for video in subject.videos)),
        "none shared": replace(subject, train=(replace(one, source_id="elsewhere"),)),
        "all shared": replace(subject, videos=tuple(replace(video, source_id="source0") for video in subject.videos)),
        "no times": replace(subject, train=(replace(one, start_seconds=None, end_seconds=None),)),
    }[what]
    found = judged(changed)
    labels = [part.label for part in found.slices if part.group == "source shared with training videos"]
    assert labels == (["without them", "only them"] if what == "no times" else [])
    notes = found.notes[1:]  # after that on the checkpoint
    if what == "no training videos":
        assert notes == ()
    elif what == "no sources":
        assert "cannot be told: 0 of 40 and 10 of 10 sources are known." in notes[0]
        nowhere = tuple(replace(video, source_id=None) for video in subject.train)
        assert judged(replace(changed, train=nowhere)).notes == found.notes[:1]
    else:
        count = {"none shared": "None", "all shared": "40", "no times": "1"}[what]
        assert notes[0].startswith(f"{count} of these 40 videos")


def test_captions_of_one_video_only_have_no_slice_of_identical_captions() -> None:
    subject = make_subject()
    texts = tuple(f"{text} {text_id}" for text, text_id in zip(subject.texts, subject.text_ids, strict=True))
    found = judged(replace(subject, texts=texts))
    assert "identical captions" not in {one.group for one in found.slices}
    assert found.ceiling.share == 0
    assert set(found.ceiling.recall.values()) == {100}


def test_of_very_many_right_answers_only_the_best_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = judged(make_subject()).slices[0].text_to_video
    monkeypatch.setattr("vtr.evaluation.judge.MOST_PLACES", 1)
    best = judged(make_subject()).slices[0].text_to_video
    assert whole is not None
    assert best == replace(whole, ndcg_at_10=None, mean_average_precision=None)


def test_the_ceiling_is_that_of_the_queries() -> None:
    subject = make_subject()
    written: dict[str, Counter[int]] = {}
    for text, owner in zip(subject.texts, subject.video_of_text.tolist(), strict=True):
        if owner >= 0:
            written.setdefault(text, Counter())[owner] += 1
    limits = judged(subject).ceiling
    assert limits.share == pytest.approx(100 * sum(sum(c.values()) for c in written.values() if len(c) > 1) / 80)
    assert limits.share == pytest.approx(100 * 7 / 80)  # three videos' caption, and twice two videos'
    assert limits.recall[1] == pytest.approx(100 * sum(max(c.values()) for c in written.values()) / 80)


def test_places_of_the_ranks_add_up_to_the_recalls() -> None:
    found = judged(make_subject())
    for way in WAYS:
        metrics, ranks, counted = getattr(found.metrics, way), found.ranks[way], 0.0
        for name, at in (("first", 1), ("to_5", 5), ("to_10", 10), ("to_50", 50)):
            counted += ranks[name]
            assert 100 * counted / metrics.num_queries == pytest.approx(metrics.recall[at])
        assert counted + ranks["beyond_50"] == metrics.num_queries
        assert ranks["percentile_50"] == metrics.median_rank
        assert ranks["percentile_25"] <= ranks["percentile_50"] <= ranks["percentile_75"] <= ranks["percentile_90"]


def check_even_chance(found: RetrievalMetrics, num_queries: int, num_items: int) -> None:
    """Check what one right answer among some items can expect: any place is as likely as any other."""
    places = range(1, num_items + 1)
    assert (found.num_queries, found.num_items) == (num_queries, num_items)
    assert found.mean_rank == found.median_rank == pytest.approx((num_items + 1) / 2)
    assert found.recall == pytest.approx({at: 100 * min(at, num_items) / num_items for at in (1, 5, 10, 50, 100)})
    for share in (found.mean_reciprocal_rank, found.mean_average_precision):
        assert share == pytest.approx(np.mean([1 / k for k in places]))


def test_chance_is_that_of_the_protocol() -> None:
    subject = make_subject()
    check_even_chance(judged(subject).chance.text_to_video, 80, 40)
    as_one = judged(subject, MAX_CAPTION).chance
    check_even_chance(as_one.text_to_video, 80, 40)
    check_even_chance(as_one.video_to_text, 32, 34)  # 32 videos with captions, and two captions of other galleries


def test_chance_of_several_captions_a_video_is_what_random_orders_get() -> None:
    subject = make_subject()
    found = judged(subject).chance.video_to_text
    captions = [1, 2, 3, 4] * 8
    assert (found.num_queries, found.num_items) == (32, 82)
    misses = {at: np.mean([comb(82 - own, at) / comb(82, at) for own in captions]) for at in (1, 5, 10, 50)}
    assert found.recall == pytest.approx({at: 100 * (1 - miss) for at, miss in misses.items()} | {100: 100.0})
    assert found.mean_rank == pytest.approx(np.mean([83 / (own + 1) for own in captions]))
    generator, samples = np.random.default_rng(0), []
    for own in captions * 100:
        order, right = generator.permutation(82).tolist(), list(range(own))
        first = plain.first_right(order, right)
        samples.append((1 / first, plain.ndcg(order, right), plain.average_precision(order, right), first))
    mrr, ndcg, precision, _ = np.mean(samples, axis=0)
    shares = (found.mean_reciprocal_rank, found.ndcg_at_10, found.mean_average_precision)
    assert shares == pytest.approx((mrr, ndcg, precision), abs=0.006)
    assert found.median_rank == pytest.approx(np.median([sample[-1] for sample in samples]), abs=1.5)


def test_examples_are_half_right_half_wrong_with_their_best_videos() -> None:
    subject = make_subject()
    scores = make_scores(subject, FEW_VALUES)
    by_hand = ByHand(subject, scores, Rules())
    examples = judged(subject).examples
    assert len({example.video_id for example in examples}) == len(examples) == 8
    assert sum(example.rank == 1 for example in examples) == 4
    for example in examples:
        row = subject.text_ids.index(example.caption_id)
        line, own = by_hand.rows[row], by_hand.owners[row]
        assert (example.text, example.video_id) == (subject.texts[row], f"video{own}")
        assert example.rank == plain.mean_place_of_best(line, [own])
        best = sorted(range(NUM_VIDEOS), key=lambda video, line=line: -line[video])[:5]
        assert example.video_ids == tuple(f"video{video}" for video in best)
        assert example.scores == tuple(line[video] for video in best)


def embedded_subject(part: EmbeddedPart) -> Subject:
    """Captions 0 and 3 are identical, and so are their embeddings; caption 5 describes none of the videos."""
    part.texts.vectors[3], part.texts.weights[3] = part.texts.vectors[0], part.texts.weights[0]
    texts = tuple(part.texts_plain[0 if row == 3 else row] for row in range(len(part.texts_plain)))
    owners = np.where(np.arange(len(texts)) == 5, -1, part.video_of_text)
    captions = [tuple(text for text, owner in zip(texts, owners, strict=True) if owner == v) for v in range(NUM_VIDEOS)]
    return replace(make_subject(), text_ids=part.texts.ids, texts=texts, video_of_text=owners, captions=tuple(captions))


@pytest.mark.parametrize("rules", [Rules(), MAX_CAPTION])
@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_embeddings_are_judged_like_their_matrix(
    make_part: Callable[..., EmbeddedPart], monkeypatch: pytest.MonkeyPatch, rules: Rules, missing: float
) -> None:
    part = make_part(NUM_VIDEOS, 2, missing)
    subject = embedded_subject(part)
    held = score_embeddings(part.texts, part.videos, subject.right_by_text)
    monkeypatch.setattr(score_module, "MATRIX_BYTES", 0)
    monkeypatch.setattr(score_module, "EMBEDDED_BLOCK_VALUES", 7 * NUM_VIDEOS)
    streamed = score_embeddings(part.texts, part.videos, subject.right_by_text)
    assert (type(held), type(streamed)) == (MatrixScores, EmbeddedScores)
    expected, found = (judge(subject, source, source, rules) for source in (held, streamed))
    assert found.evaluation == expected.evaluation
    assert found.evaluation.slices[0].group == "identical captions"
    assert found.evaluation.metrics.video_to_text.num_tied > 0
    for way in ("t2v", "v2t"):
        one, other = getattr(found, way), getattr(expected, way)
        for name in ("queries", "num_right", "higher", "same", "same_right"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("rules", [Rules(), MAX_CAPTION])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_scores_that_are_nan_cannot_be_judged(rules: Rules, dtype: Any) -> None:
    subject = make_subject()
    scores = make_scores(subject, FEW_VALUES).astype(dtype)
    bad = scores.copy()
    bad[[4, 70], [0, 39]] = np.nan
    good, spoilt = MatrixScores(scores), MatrixScores(bad)
    for t2v, v2t in ((spoilt, spoilt), (spoilt, good), (good, spoilt)):
        with pytest.raises(InputError, match=r"scores of 2 texts are NaN: rows 4, 70\. NaN cannot be ranked"):
            judge(subject, t2v, v2t, rules)


def test_scores_of_another_shape_are_an_error() -> None:
    subject = make_subject()
    for shape in ((82, 39), (81, 40)):
        source = MatrixScores(np.zeros(shape))
        with pytest.raises(ValueError, match=r"82 texts and 40 videos"):
            judge(subject, source, source, Rules())


def test_progress_is_told_after_every_pass() -> None:
    subject, told = make_subject(), []
    source = MatrixScores(make_scores(subject, FEW_VALUES))
    judge(subject, source, source, Rules(), advance=lambda count, name: told.append((count, name)))
    assert [count for count, _ in told] == [1] * NUM_PASSES
    assert [name for _, name in told] == ["ranks", "confidence", "identical captions", "breakdown"]


def test_a_subject_of_annotations() -> None:
    videos = tuple(Video(name, category=name.upper()) for name in "abcd")
    owners = ("a", "b", "a", "d", "c")
    captions = tuple(Caption(f"{owner}#{n}", owner, f"text {n}") for n, owner in enumerate(owners))
    subject = Subject.of(
        Annotations(videos, captions),
        Coverage("full", "test", 2, 3),
        ["c#4", "a#2", "d#3"],
        ["c", "a"],
        train=["d"],
        selected_by=["b"],
        present={"audio": ["a", "d"], "ocr": []},
    )
    assert subject.text_ids == ("c#4", "a#2", "d#3")
    assert subject.texts == ("text 4", "text 2", "text 3")
    assert subject.video_of_text.tolist() == [0, 1, -1]  # video d is not in the gallery
    assert [video.id for video in subject.videos] == ["c", "a"]
    assert subject.captions == (("text 4",), ("text 0", "text 2"))
    assert (subject.train, subject.selected_by) == ((videos[3],), ["b"])
    assert {expert: there.tolist() for expert, there in subject.present.items()} == {
        "audio": [False, True],
        "ocr": [False, False],
    }
    for texts, gallery in ((["e#0"], ["a"]), (["a#0"], ["e"])):
        with pytest.raises(KeyError, match="e"):
            Subject.of(Annotations(videos, captions), Coverage("full", "test", 1, 1), texts, gallery)


def test_classes_without_queries_are_left_out() -> None:
    """Video 0 has no captions, and the only caption of more than 20 words is of another gallery."""
    made = make_subject()
    videos = (replace(made.videos[0], category="of no query"), *made.videos[1:])
    lone = made.text_ids.index("caption80")
    texts = [f"short {row}" if len(text.split()) > 20 else text for row, text in enumerate(made.texts)]
    texts[lone] = "long " * 30
    found = judged(replace(made, videos=videos, texts=tuple(texts)))
    assert made.video_of_text[lone] == -1
    assert all(one.text_to_video or one.video_to_text for one in found.slices)
    assert not {one.label for one in found.slices} & {"of no query", "21 or more"}


def test_a_pass_is_told_when_it_is_done() -> None:
    reads: list[int] = []

    class Counted(MatrixScores):
        def blocks(self) -> Iterator[tuple[slice, NDArray[Any]]]:
            reads.append(1)
            return super().blocks()

    subject, told = make_subject(), []
    source = Counted(make_scores(subject, FEW_VALUES))
    judge(subject, source, source, Rules(), advance=lambda _, name: told.append((name, len(reads))))
    assert told == [("ranks", 1), ("confidence", 1), ("identical captions", 2), ("breakdown", 2)]
