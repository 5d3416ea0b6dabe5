"""Which caption of which video goes into which training batch. It depends on seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

Pair = tuple[int, int]
"""A video row and the row of one of its captions."""


def epoch_batches(
    captions_of: Mapping[int, Sequence[int]],
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    passes: int = 1,
    repeat_videos: bool = False,
) -> Iterator[list[Pair]]:
    """Yield an epoch's batches of (video row, caption row) pairs.

    A pass visits every video once, in random order, with one of its captions drawn at random; a batch lies within one
    pass, so it never holds a video twice (which would make a positive pair a negative). A last batch of one is left
    out, as it has no negatives.

    Args:
        captions_of: video row -> its caption rows; videos without captions are not visited.
        batch_size: B.
        seed, epoch: what the draw depends on.
        passes: how often an epoch visits each video.
        repeat_videos: a pass visits every caption once instead; then a batch may hold a video twice.
    """
    generator = np.random.default_rng((seed, epoch))
    videos = np.array([video for video, captions in captions_of.items() if captions], np.int64)
    every = [(video, caption) for video, captions in captions_of.items() for caption in captions]
    for _ in range(passes):
        if repeat_videos:
            pairs = [every[at] for at in generator.permutation(len(every))]
        else:
            order = generator.permutation(videos).tolist()
            pairs = [(video, int(generator.choice(captions_of[video]))) for video in order]
        for at in range(0, len(pairs), batch_size):
            if len(batch := pairs[at : at + batch_size]) > 1:
                yield batch


def visits_per_pass(captions_of: Mapping[int, Sequence[int]], repeat_videos: bool = False) -> int:
    """Return how many pairs a pass of `epoch_batches` visits."""
    return sum(len(captions) if repeat_videos else 1 for captions in captions_of.values() if captions)


def batches_per_epoch(visits: int, batch_size: int, passes: int = 1) -> int:
    """Return how many batches `epoch_batches` yields, with so many visits a pass."""
    whole, rest = divmod(visits, batch_size)
    return passes * (whole + (rest > 1))
