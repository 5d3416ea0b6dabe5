"""What a model takes from the training videos in closed form, before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from vtr.model_config import ModelConfig, MoEEConfig
from vtr.models import Fitted, MoEE, RetrievalModel
from vtr.progress import say
from vtr.training.data import TrainingData

VIDEOS_AT_ONCE = 256


def fit(model: RetrievalModel, data: TrainingData, source_of: Mapping[str, str], *, quiet: bool = False) -> None:
    """Fit a model's caption regression and give it what hubs are measured against, where it has these.

    On one machine it is the same each time, and random generators are left as they are.

    Args:
        model: a new model.
        data: what it is to learn from, with frozen states of the captions.
        source_of: video id -> what it was cut from.
        quiet: say nothing.
    """
    if not isinstance(model, MoEE):
        return
    regression, hubs = model.config.caption_regression, model.config.hub_correction
    if regression is not None:
        rows, sources = _stored(data, source_of, regression.videos)
        if not quiet:
            say(f"fitting the caption regression to {len(rows)} videos")
        captions = [(place, caption) for place, row in enumerate(rows) for caption in data.train[row]]
        model.fit_regression(
            *_pooled(model, data, rows),
            _states(data, [caption for _, caption in captions]),
            torch.tensor([place for place, _ in captions]),
            sources,
        )
    if hubs is not None:
        generator = np.random.default_rng(0)
        rows = _some(_usable(data), hubs.videos, generator)
        texts = _some([caption for of_video in data.train.values() for caption in of_video], hubs.texts, generator)
        model.hold_hubs(*_pooled(model, data, rows), _states(data, texts))


def will_hold(config: ModelConfig, videos: int, captions: int) -> Fitted:
    """Return how much of the training data a model will hold at most, once it is fitted.

    Args:
        config: the model's.
        videos, captions: how many there are to learn from.
    """
    if not isinstance(config, MoEEConfig):
        return Fitted()
    regression, hubs = config.caption_regression, config.hub_correction
    return Fitted(
        0 if regression is None else min(videos, regression.videos),
        0 if hubs is None else min(captions, hubs.texts),
        0 if hubs is None else min(videos, hubs.videos),
    )


def _stored(data: TrainingData, source_of: Mapping[str, str], limit: int) -> tuple[list[int], list[str]]:
    """Return the rows of the videos that the regression is to hold, and what each is left out together with.

    Of more than `limit`, whole sources are drawn. Where that leaves less than half of it, as most are of one source,
    videos are drawn, and each is left out alone.
    """
    rows = _usable(data)
    source = {row: source_of[data.table.video_ids[row]] for row in rows}
    chosen = rows if len(rows) <= limit else _whole_sources(rows, source, limit)
    if len(chosen) >= min(len(rows), limit) / 2 and len({source[row] for row in chosen}) > 1:
        return chosen, [source[row] for row in chosen]
    chosen = _some(rows, limit, np.random.default_rng(0))
    return chosen, [data.table.video_ids[row] for row in chosen]


def _usable(data: TrainingData) -> list[int]:
    """Return the rows of the training videos that have captions and features."""
    return [row for row, captions in data.train.items() if captions and data.table.has_features(row)]


def _some(values: Sequence[int], count: int, generator: np.random.Generator) -> list[int]:
    """Return at most `count` of some values, drawn, in their order."""
    places = generator.permutation(len(values))[:count]
    return [values[place] for place in sorted(places.tolist())]


def _whole_sources(rows: Sequence[int], source: Mapping[int, str], count: int) -> list[int]:
    """Return at most `count` rows, drawn by sources: all videos of one or none."""
    of_source: dict[str, list[int]] = {}
    for row in rows:
        of_source.setdefault(source[row], []).append(row)
    sources = list(of_source.values())
    chosen: list[int] = []
    for place in np.random.default_rng(0).permutation(len(sources)):
        if len(chosen) + len(sources[place]) <= count:
            chosen += sources[place]
    return sorted(chosen)


def _pooled(model: MoEE, data: TrainingData, rows: Sequence[int]) -> tuple[list[str], Tensor, Tensor]:
    """Return the ids of the videos at `rows`, and their pooled features and experts, see `MoEE.pooled`."""
    device = next(model.parameters()).device
    found = []
    for at in range(0, len(rows), VIDEOS_AT_ONCE):
        found.append(model.pooled(data.table.batch(rows[at : at + VIDEOS_AT_ONCE]).to(device)))
    features, present = (torch.cat(parts) for parts in zip(*found, strict=True))
    return [data.table.video_ids[row] for row in rows], features, present


def _states(data: TrainingData, captions: Sequence[int]) -> Tensor:
    states = data.captions.batch(captions).states
    assert states is not None, "check_text_mode lets no other texts through"
    return states
