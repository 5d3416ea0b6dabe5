"""A small gallery with all that can be odd in one, and its evaluation by plain loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import plain_ranks as plain
from numpy.typing import NDArray

from vtr.coverage import Coverage
from vtr.evaluation.protocols import Rules
from vtr.evaluation.ranks import TieRule
from vtr.evaluation.subject import Subject
from vtr.types import RetrievalMetrics, Video

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
