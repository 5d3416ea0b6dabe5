"""Scores and what is known of their texts and videos, to an evaluation with the checks that make it honest."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtr.evaluation.breakdown import Counted, Slice, breakdown
from vtr.evaluation.confidence import QueryRanks, intervals
from vtr.evaluation.duplicates import ceiling
from vtr.evaluation.leaks import leaks
from vtr.evaluation.metrics import both_ways, chance, count
from vtr.evaluation.protocols import Rules, describe, selection_notes
from vtr.evaluation.ranks import VIDEO_TO_TEXT, Counts, Ranks
from vtr.evaluation.results import Evaluation, Example
from vtr.evaluation.scores import ScoreSource
from vtr.evaluation.subject import Subject

NUM_EXAMPLES = 8
TOP_OF_EXAMPLE = 5
DUPLICATES, SOURCES = "identical captions", "source shared with training videos"
NUM_PASSES = 4
MOST_PLACES = 1 << 23
"""Queries times right answers up to which all right answers are placed. MSR-VTT full takes most of it."""

Advance = Callable[[int, str], None]


@dataclass(frozen=True, eq=False, slots=True)
class Judged:
    """An evaluation, and the counts of every query behind it.

    Attributes:
        evaluation: without ablation and index.
        t2v, v2t: where the right answers of each query stand.
    """

    evaluation: Evaluation
    t2v: Counts
    v2t: Counts


def judge(
    subject: Subject,
    t2v_scores: ScoreSource,
    v2t_scores: ScoreSource,
    rules: Rules,
    *,
    experts: Mapping[str, float] | None = None,
    advance: Advance = lambda _, __: None,
) -> Judged:
    """Return the evaluation of scores.

    Args:
        subject: the texts in the rows and the videos in the columns.
        t2v_scores, v2t_scores: scores [T, V] to rank videos by, and to rank texts by; the same object where nothing
            was done to them.
        rules: tie rule, protocol, and what was done to the scores.
        experts: see `Evaluation`.
        advance: told after each of `NUM_PASSES` passes, with its name.

    Raises:
        InputError: scores are NaN.
        ValueError: the scores have another shape than the subject.
    """
    t2v, v2t = count(t2v_scores, v2t_scores, subject.right, rules.video_to_text)
    advance(1, "ranks")
    counted = Counted(subject, t2v, v2t, rules.ties)
    protocol = describe(subject.video_of_text, len(subject.videos), rules, subject.left_out)
    found = intervals(*query_ranks(counted))
    advance(1, "confidence")
    duplicates = list(_duplicates(subject, t2v_scores, v2t_scores, rules))
    advance(1, "identical captions")
    notes, leaking = _leaks(counted)
    asked = subject.right.texts
    limits = ceiling([subject.texts[row] for row in asked], subject.video_of_text[asked])
    evaluation = Evaluation(
        coverage=subject.coverage,
        protocol=protocol,
        experts=experts or {},
        metrics=both_ways(t2v, v2t, ties=rules.ties, protocols=(protocol.text_to_video, protocol.video_to_text)),
        chance=chance(t2v, v2t),
        intervals=found,
        notes=(
            *subject.notes,
            *selection_notes([v.id for v in subject.videos], [v.id for v in subject.train], subject.selected_by),
            *notes,
        ),
        ceiling=limits,
        slices=tuple(
            one for one in (*duplicates, *leaking, *breakdown(counted)) if one.text_to_video or one.video_to_text
        ),
        ranks={
            "text_to_video": summarise_ranks(t2v.ranks(rules.ties)),
            "video_to_text": summarise_ranks(v2t.ranks(rules.ties)),
        },
        examples=tuple(_examples(counted, t2v_scores)),
    )
    advance(1, "breakdown")
    return Judged(evaluation, t2v, v2t)


def query_ranks(counted: Counted) -> tuple[QueryRanks, QueryRanks]:
    """Return the ranks of both directions with the video that each query belongs to."""
    owners = counted.subject.video_of_text[counted.t2v.queries]
    return (
        QueryRanks(counted.t2v.ranks(counted.ties), owners),
        QueryRanks(counted.v2t.ranks(counted.ties), counted.v2t.queries),
    )


def _duplicates(subject: Subject, t2v_scores: ScoreSource, v2t_scores: ScoreSource, rules: Rules) -> Iterator[Slice]:
    """Yield the metrics in which every video that carries the identical caption is a right answer, where any is.

    Where a caption is so common that it has very many right answers, only the best of them is looked for, and nDCG and
    mAP are None.
    """
    right = subject.right_by_text
    if len(right.texts) == len(subject.right.texts):
        return
    places = max(len(per) * per.max() for per in (np.bincount(right.texts), np.bincount(right.videos)))
    t2v, v2t = count(t2v_scores, v2t_scores, right, which="all" if places <= MOST_PLACES else "best")
    found = both_ways(t2v, v2t, ties=rules.ties, protocols=("any video with the identical caption is right",) * 2)
    v2t_of_rule = found.video_to_text if rules.video_to_text == VIDEO_TO_TEXT[0] else None
    yield Slice(DUPLICATES, "any video that carries the caption is right", found.text_to_video, v2t_of_rule)


def _leaks(counted: Counted) -> tuple[list[str], list[Slice]]:
    """Return what the gallery shares with the training videos, in words and as metrics with and without it.

    Nothing where the gallery is all training videos, or the data set knows no sources. A video that was trained on
    shares its source with itself.
    """
    subject = counted.subject
    learnt = {video.id for video in subject.train}
    if not learnt or all(video.id in learnt for video in subject.videos):
        return [], []
    found = leaks(subject.videos, subject.train)
    if not (found.known or found.known_train):
        return [], []
    sentence = str(found)
    notes = [sentence[0].upper() + sentence[1:] + "."]
    if not found.num_shared or found.shared.all():
        return notes, []
    slices = [counted.of_videos(SOURCES, "without them", ~found.shared)]
    slices.append(counted.of_videos(SOURCES, "only them", found.shared))
    if found.num_overlapping:
        slices.insert(1, counted.of_videos(SOURCES, "without those that overlap in time", ~found.overlapping))
    return notes, slices


def _examples(counted: Counted, scores: ScoreSource) -> Iterator[Example]:
    subject, places = counted.subject, counted.t2v.ranks(counted.ties)
    chosen = choose_examples(places, subject.video_of_text[counted.t2v.queries])
    rows = counted.t2v.queries[chosen]
    for place, row, values in zip(chosen, rows.tolist(), scores.rows(rows), strict=True):
        best = np.argsort(-values, kind="stable")[:TOP_OF_EXAMPLE]
        shown = np.nan_to_num(values[best])  # JSON has no infinity
        yield Example(
            subject.text_ids[row],
            subject.texts[row],
            subject.videos[subject.video_of_text[row]].id,
            float(places[place]),
            tuple(subject.videos[column].id for column in best),
            tuple(shown.tolist()),
        )


def summarise_ranks(ranks: Ranks) -> dict[str, float]:
    """Return how many of the ranks lie where, and their quartiles."""
    counts, _ = np.histogram(ranks, [1, 1.25, 5.75, 10.75, 50.75, np.inf])  # ranks end in .0 or .5
    names = ("first", "to_5", "to_10", "to_50", "beyond_50")
    quartiles = {f"percentile_{q}": float(np.percentile(ranks, q)) for q in (25, 50, 75, 90)}
    return {name: float(count) for name, count in zip(names, counts, strict=True)} | quartiles


def choose_examples(ranks: Ranks, video_of_query: NDArray[np.int64], count: int = NUM_EXAMPLES) -> list[int]:
    """Return the places of a fixed choice of queries: half answered right, half wrong, spread over the part.

    Where there are too few of one kind the other fills up; no video is asked for twice.
    """
    _, first = np.unique(video_of_query, return_index=True)
    kinds = {right: [int(row) for row in first if (ranks[row] == 1) == right] for right in (True, False)}
    num_right = min(len(kinds[True]), max(count // 2, count - len(kinds[False])))
    chosen = _spread(kinds[True], num_right) + _spread(kinds[False], count - num_right)
    return sorted(chosen)


def _spread(rows: list[int], count: int) -> list[int]:
    count = min(count, len(rows))
    return [rows[(2 * place + 1) * len(rows) // (2 * count)] for place in range(count)]
