"""Which caption of which video goes into which training batch. It depends on seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from vtr.config import DataConfig, Sampling

Pair = tuple[int, int]
"""A video row and the row of one of its captions."""


def epoch_batches(
    captions_of: Mapping[int, Sequence[int]], config: DataConfig, *, seed: int, epoch: int
) -> Iterator[list[Pair]]:
    """Yield an epoch's batches of (video row, caption row) pairs.

    A batch lies within one pass over the videos; `config.sampling` says what a pass visits. Where an epoch is made of
    passes, the last batch of each may be short, and one of a single pair is left out, as it has no negatives. Where it
    is made of steps, all batches are whole and the rest of a pass is left out, another one in each pass.

    Args:
        captions_of: video row -> its caption rows; videos without captions are not visited.
        config: the `data` section of a training config.
        seed, epoch: what the draw depends on.
    """
    size = config.batch_size
    if config.steps_per_epoch is None:
        generator = np.random.default_rng((seed, epoch))
        for _ in range(config.passes):
            pairs = _one_pass(captions_of, config.sampling, generator)
            yield from (batch for at in range(0, len(pairs), size) if len(batch := pairs[at : at + size]) > 1)
        return
    visits = visits_per_pass(captions_of, config.sampling)
    size = min(size, visits)
    if size < 2:
        return  # a single pair has no negatives
    first, left = epoch * config.steps_per_epoch, config.steps_per_epoch
    number, skipped = divmod(first, visits // size)
    while left > 0:
        pairs = _one_pass(captions_of, config.sampling, np.random.default_rng((seed, number)))
        for at in range(skipped, min(visits // size, skipped + left)):
            yield pairs[at * size : (at + 1) * size]
            left -= 1
        number, skipped = number + 1, 0


def _one_pass(
    captions_of: Mapping[int, Sequence[int]], sampling: Sampling, generator: np.random.Generator
) -> list[Pair]:
    if sampling == "each_caption":
        every = [(video, caption) for video, captions in captions_of.items() for caption in captions]
        return [every[at] for at in generator.permutation(len(every))]
    videos = np.array([video for video, captions in captions_of.items() if captions], np.int64)
    drawn = generator.permutation(videos) if sampling == "each_video" else generator.choice(videos, len(videos))
    return [(video, int(generator.choice(captions_of[video]))) for video in drawn.tolist()]


def visits_per_pass(captions_of: Mapping[int, Sequence[int]], sampling: Sampling = "each_video") -> int:
    """Return how many pairs a pass of `epoch_batches` visits."""
    each = sampling == "each_caption"
    return sum(len(captions) if each else 1 for captions in captions_of.values() if captions)


def cut_batches(visits: int, config: DataConfig) -> str:
    """Return in words that a pass has fewer pairs than a batch was to hold; "" where it has not."""
    if visits >= config.batch_size:
        return ""
    return f"data.batch_size is {config.batch_size} and a pass has {visits} pairs: every batch holds {visits}"


def batches_per_epoch(visits: int, config: DataConfig) -> int:
    """Return how many batches `epoch_batches` yields, with so many visits a pass."""
    if config.steps_per_epoch is not None:
        return config.steps_per_epoch
    whole, rest = divmod(visits, config.batch_size)
    return config.passes * (whole + (rest > 1))
