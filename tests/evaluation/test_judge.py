"""The judge against plain loops: every slice, note and example of a small gallery with all that can be odd in one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from math import comb
from typing import Any

import numpy as np
import plain_ranks as plain
import pytest
from numpy.typing import NDArray

from vtr.coverage import Coverage
from vtr.embeddings import EmbeddedPart
from vtr.errors import InputError
from vtr.evaluation import scores as score_module
from vtr.evaluation.breakdown import Slice
from vtr.evaluation.judge import NUM_PASSES, judge
from vtr.evaluation.protocols import Rules
from vtr.evaluation.ranks import TIE_RULES, TieRule
from vtr.evaluation.results import Evaluation
from vtr.evaluation.scores import EmbeddedScores, MatrixScores, score_embeddings
from vtr.evaluation.subject import Subject
from vtr.types import Annotations, Caption, RetrievalMetrics, Video

NUM_VIDEOS = 40
MAX_CAPTION = Rules(video_to_text="max_caption_then_rank_videos")
ALL_DIFFERENT, FEW_VALUES = "all scores differ", "many scores tie"
WAYS = ("text_to_video", "video_to_text")

Figures = dict[str, float]
Expected = dict[tuple[str, str], tuple[Figures | None, Figures | None]]


def make_videos() -> tuple[Video, ...]:
    """Ten of 40 share a source with training videos, five of these overlap one in time; the last has no source."""
    videos = []
    for row in range(NUM_VIDEOS):
        start, source = (0.0 if row < 5 else 10.0), f"source{row}"
        category = None if row == 7 else ("music", "sports", "food")[row % 3]
        videos.append(Video(f"video{row}", None, start, start + 5, source if row < 39 else None, category))
    return tuple(videos)


def make_subject() -> Subject:
    """0 to 4 captions a video, 1 to 26 words long, some of them of several videos; two captions of other galleries."""
    generator = np.random.default_rng(11)
    owners = np.repeat(np.arange(NUM_VIDEOS), np.arange(NUM_VIDEOS) % 5)
    lengths = [1, 5, 6, 8, 9, 12, 13, 20, 21, 26]
    texts = [" ".join([f"word{row}", *["a"] * (lengths[row % 10] - 1)]) for row in range(len(owners))]
    captions = [[text for text, video in zip(texts, owners, strict=True) if video == v] for v in range(NUM_VIDEOS)]
    for video, others in ((4, (9, 13)), (8, (14,)), (21, (22,))):  # the first caption of one is also one of others
        for other in others:
            texts[int(np.flatnonzero(owners == other)[0])] = captions[other][0] = captions[video][0]
    captions[12][1] = captions[12][0]  # twice of one video
    texts[int(np.flatnonzero(owners == 12)[1])] = captions[12][0]
    captions[0].append(captions[2][0])  # of a video that is no query, and known for its captions all the same
    owners = np.append(owners, [-1, -1])
    texts += ["of another gallery", captions[18][0]]
    order = generator.permutation(len(owners))
    return Subject(
        Coverage("full", "test", NUM_VIDEOS, NUM_VIDEOS),
        tuple(f"caption{row}" for row in order),
        tuple(texts[row] for row in order),
        owners[order],
        make_videos(),
        tuple(map(tuple, captions)),
        tuple(Video(f"train{row}", None, 2.0, 4.0, f"source{row}", None) for row in range(10)),
        frozenset({"video3", "video4", "another"}),
        {
            "ocr": np.zeros(NUM_VIDEOS, bool),
            "motion": np.ones(NUM_VIDEOS, bool),
            "audio": generator.random(NUM_VIDEOS) < 0.6,
        },
    )


def make_scores(subject: Subject, kind: str, seed: int = 0) -> NDArray[np.float32]:
    """Return scores [T, V] that put the right video first, or near it, for some texts."""
    generator = np.random.default_rng(seed)
    shape = (len(subject.texts), NUM_VIDEOS)
    scores = generator.integers(0, 6, shape).astype(np.float32)
    asked = np.flatnonzero(subject.video_of_text >= 0)
    own = generator.choice([1, 4, 5, 6, 7], len(asked))
    scores[asked, subject.video_of_text[asked]] = own
    if kind == ALL_DIFFERENT:
        scores += generator.permutation(scores.size).reshape(shape).astype(np.float32) / (2 * scores.size)
    return scores / 8


def place(scores: Sequence[float], right: set[int], ties: TieRule) -> float:
    """Return the rank of the best right item, from a sorted list."""
    if ties == "average":
        return plain.mean_place_of_best(scores, sorted(right))
    right_first = ties == "optimistic"
    order = sorted(range(len(scores)), key=lambda item: (-scores[item], (item in right) != right_first))
    return plain.first_right(order, sorted(right))


def figures(queries: Sequence[tuple[list[float], set[int]]], ties: TieRule = "average") -> Figures | None:
    """Return the metrics of queries: the scores of all items, and which of these are right."""
    if not queries:
        return None
    places = [place(scores, right, ties) for scores, right in queries]
    tops = [(scores, max(scores[item] for item in right)) for scores, right in queries]
    recalls = {
        f"R@{at}": 100 * sum(found < at + 1 for found in places) / len(places) for at in (5, 10, 50, 100)
    }  # a tie at place 5.5 is a hit for R@5
    found = {
        "queries": len(queries),
        "items": len(queries[0][0]),
        "R@1": 100 * sum(found == 1 for found in places) / len(places),
        **recalls,
        "MedR": float(np.median(places)),
        "MeanR": sum(places) / len(places),
        "MRR": sum(1 / found for found in places) / len(places),
        "tied": sum(scores.count(top) > 1 for scores, top in tops),
    }
    if all(len(set(scores)) == len(scores) for scores, _ in queries):  # else there are too many orders to try
        orders = [(sorted(range(len(s)), key=lambda n, s=s: -s[n]), sorted(right)) for s, right in queries]
        found["nDCG"] = float(np.mean([plain.ndcg(*both) for both in orders]))
        found["mAP"] = float(np.mean([plain.average_precision(*both) for both in orders]))
    return found


def shown(metrics: RetrievalMetrics | None, expected: Figures | None) -> Figures | None:
    """Return what was found, of those figures that were expected."""
    if metrics is None:
        return None
    found = {f"R@{at}": recall for at, recall in metrics.recall.items()} | {
        "queries": metrics.num_queries,
        "items": metrics.num_items,
        "MedR": metrics.median_rank,
        "MeanR": metrics.mean_rank,
        "MRR": metrics.mean_reciprocal_rank,
        "tied": metrics.num_tied,
        "nDCG": metrics.ndcg_at_10,
        "mAP": metrics.mean_average_precision,
    }
    return {name: value for name, value in found.items() if expected is None or name in expected}  # type: ignore[misc]


class ByHand:
    """What a subject's queries are answered with, as lists and sets."""

    def __init__(self, subject: Subject, scores: NDArray[np.float32], rules: Rules) -> None:
        self.subject, self.ties = subject, rules.ties
        self.rows: list[list[float]] = scores.tolist()
        self.columns: list[list[float]] = scores.T.tolist()
        self.owners: list[int] = subject.video_of_text.tolist()
        self.asked = [row for row, video in enumerate(self.owners) if video >= 0]
        self.captioned = sorted({self.owners[row] for row in self.asked})
        self.as_one_item = rules.video_to_text == MAX_CAPTION.video_to_text

    def texts(self, chosen: Callable[[int], bool]) -> Figures | None:
        """The metrics of the captions, by row, that are chosen."""
        return figures([(self.rows[row], {self.owners[row]}) for row in self.asked if chosen(row)], self.ties)

    def videos(self, chosen: Callable[[int], bool]) -> Figures | None:
        """The metrics of the videos, by column, that are chosen."""
        queries = []
        for video in filter(chosen, self.captioned):
            column = self.columns[video]
            own = {row for row in self.asked if self.owners[row] == video}
            if self.as_one_item:
                groups = [[row for row in self.asked if self.owners[row] == other] for other in self.captioned]
                groups += [[row] for row, owner in enumerate(self.owners) if owner < 0]
                column = [max(column[row] for row in group) for group in groups]
                own = {self.captioned.index(video)}
            queries.append((column, own))
        return figures(queries, self.ties)

    def both(self, chosen: Callable[[int], bool]) -> tuple[Figures | None, Figures | None]:
        """The metrics of the queries that belong to the videos that are chosen."""
        return self.texts(lambda row: chosen(self.owners[row])), self.videos(chosen)

    def by_text(self) -> tuple[Figures | None, Figures | None]:
        """The metrics where any video that carries the identical caption is right."""
        carried = [set(captions) for captions in self.subject.captions]
        pairs = [
            (row, video)
            for row, text in enumerate(self.subject.texts)
            for video in range(NUM_VIDEOS)
            if text in carried[video]
        ]
        t2v = [(self.rows[row], {v for t, v in pairs if t == row}) for row in sorted({t for t, _ in pairs})]
        v2t = [(self.columns[video], {t for t, v in pairs if v == video}) for video in sorted({v for _, v in pairs})]
        return figures(t2v, self.ties), None if self.as_one_item else figures(v2t, self.ties)

    def slices(self) -> Expected:
        """All slices, by group and label."""
        subject = self.subject
        found: Expected = {("identical captions", "any video that carries the caption is right"): self.by_text()}
        source = "source shared with training videos"
        found[source, "without them"] = self.both(lambda video: video >= 10)
        found[source, "without those that overlap in time"] = self.both(lambda video: video >= 5)
        found[source, "only them"] = self.both(lambda video: video < 10)
        for name in ("food", "music", "sports"):
            found["category", name] = self.both(lambda video, name=name: subject.videos[video].category == name)
        for low, high in ((1, 5), (6, 8), (9, 12), (13, 20), (21, 99)):
            label = f"{low} to {high}" if high < 99 else "21 or more"
            within = self.texts(lambda row, low=low, high=high: low <= subject.texts[row].count(" ") + 1 <= high)
            found["words in the caption", label] = within, None
        heard = subject.present["audio"].tolist()
        found["expert", "with audio"] = self.both(lambda video: heard[video])
        found["expert", "without audio"] = self.both(lambda video: not heard[video])
        return found


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
    assert learnt.notes == ("The model was trained on 1 of these 40 videos: this is no test.",)
    assert "source shared with training videos" not in {one.group for one in learnt.slices}


@pytest.mark.parametrize("what", ["no training videos", "no sources", "none shared", "all shared", "no times"])
def test_slices_by_source_are_there_only_where_they_tell_something(what: str) -> None:
    subject = make_subject()
    one = subject.train[0]
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
    if what in ("no training videos", "no sources"):
        assert notes == ()
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
