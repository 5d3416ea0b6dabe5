"""Captions that were written, word for word, for more than one video: what they cost, and which pairs they make.

Captions are the same when their strings are equal, with no normalisation. Lower case and stripped ends leave MSR-VTT's
figures as they are; ignoring inner spacing or punctuation finds a few more.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What identical query captions leave for text-to-video retrieval to reach.

    Attributes:
        share: percent of the query captions that are also a query caption of another video.
        recall: K -> the highest R@K, in percent, of a system that ranks by text alone and without ties.
    """

    share: float
    recall: Mapping[int, float]


def ceiling(texts: Sequence[str], video_of_text: NDArray[np.int64], at: Sequence[int] = (1, 5, 10)) -> Ceiling:
    """Return the highest text-to-video R@K that query captions allow, and how many of them are shared by videos.

    Identical captions rank the videos identically, so for each distinct caption the best K places go to the K videos
    that it was written for most often. The bound is for rankings without ties: a tie can count as a hit for more than
    K videos, because its places are averaged.

    Args:
        texts: T query captions.
        video_of_text: [T], the row of each text's video.
        at: the K of R@K.

    Raises:
        ValueError: there are no texts, the shapes do not fit, a text has no video (-1), or a K is below 1.
    """
    owners = _owners(texts, video_of_text)
    if not len(owners):
        raise ValueError("there are no texts, at least one query was expected")
    if owners.min() < 0:
        raise ValueError(f"video_of_text holds {owners.min()}: leave out the queries that have no video")
    if min(at, default=1) < 1:
        raise ValueError(f"at holds {min(at)}, a number of places from 1 on was expected")
    written: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for text, video in zip(texts, owners.tolist(), strict=True):
        written[text][video] += 1
    counts = [sorted(videos.values(), reverse=True) for videos in written.values()]
    return Ceiling(
        share=100.0 * sum(sum(count) for count in counts if len(count) > 1) / len(owners),
        recall={places: 100.0 * sum(sum(count[:places]) for count in counts) / len(owners) for places in at},
    )


def identical_captions(
    queries: Sequence[str], video_of_query: NDArray[np.int64], captions_of_video: Sequence[Sequence[str]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of a query and a video that has a caption identical to it; a query's own video is always one.

    Args:
        queries: T query captions.
        video_of_query: [T], the column of each query's own video; -1 where it has none in the gallery.
        captions_of_video: for each of the V videos all of its captions, also those that are no queries.

    Returns:
        [P] rows and [P] columns of the pairs, sorted by row, then by column; each pair is there once.

    Raises:
        ValueError: the shapes do not fit, or a query names a column outside -1 to V - 1.
    """
    owners, num_videos = _owners(queries, video_of_query), len(captions_of_video)
    if len(owners) and not (owners.min() >= -1 and owners.max() < num_videos):
        raise ValueError(
            f"video_of_query holds columns {owners.min()} to {owners.max()}, -1 to {num_videos - 1} was expected"
        )
    described: defaultdict[str, set[int]] = defaultdict(set)
    for column, captions in enumerate(captions_of_video):
        for caption in captions:
            described[caption].add(column)
    pairs = [
        sorted(described.get(query, set()) | ({own} if own >= 0 else set()))
        for query, own in zip(queries, owners.tolist(), strict=True)
    ]
    rows = np.repeat(np.arange(len(pairs), dtype=np.int64), [len(columns) for columns in pairs])
    return rows, np.fromiter((column for columns in pairs for column in columns), np.int64, len(rows))


def _owners(texts: Sequence[str], video_of_text: NDArray[np.int64]) -> NDArray[np.int64]:
    owners = np.asarray(video_of_text, np.int64)
    if owners.shape != (len(texts),):
        raise ValueError(f"{len(texts)} texts and videos of shape {owners.shape}: T and [T] expected")
    return owners
