"""Hubs: videos that are near every text, and texts that are near every video; taken out of the scores."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vtr.model_config import HubCorrectionConfig
from vtr.types import TextEmbeddings, VideoEmbeddings

COLUMNS = 8
"""Numbers that each expert's vector gets: two, and zeros, as a product quantiser wants lengths that can be divided."""


class HubCorrection(nn.Module):
    """Training texts and videos that others are measured against, and what is taken from the scores.

    The score becomes `s(t, v) - h(v) - h(t)`, with `h(v) = 1/beta log mean_t' exp(beta s(t', v))` over the texts held
    and h(t) likewise over the videos held: the inverted softmax (Smith et al. 2017, arXiv 1702.03859) both ways, but
    against a bank of training data (as Bogolin et al. 2022, arXiv 2112.12777) instead of the queries at hand. h(v)
    orders the videos of a text anew, h(t) the texts of a video. Both are less their mean over the bank, so that scores
    stay about where they were.

    They are carried by more numbers of each expert's vector, so that an inner product still ranks.

    Args:
        config: beta.
        texts, videos: T and V, how many are held; 0 before `hold`.
        text_dim: H, the length of a text state.
        width: P, the length of a video's pooled features.
        experts: E.

    Attributes:
        states: [T, H], of texts.
        features: [V, P], of videos.
        present: [V, E] bool, which experts each has.
        predicted: [V, H], what the caption regression says of each without its source; zeros without a regression.
    """

    constant = True
    states: Tensor
    features: Tensor
    present: Tensor
    predicted: Tensor

    def __init__(
        self, config: HubCorrectionConfig, texts: int, videos: int, text_dim: int, width: int, experts: int
    ) -> None:
        super().__init__()
        self.beta = config.beta
        self.register_buffer("states", torch.zeros(texts, text_dim))
        self.register_buffer("features", torch.zeros(videos, width))
        self.register_buffer("present", torch.zeros(videos, experts, dtype=torch.bool))
        self.register_buffer("predicted", torch.zeros(videos, text_dim))

    def hold(self, states: Tensor, features: Tensor, present: Tensor, predicted: Tensor) -> None:
        """Take texts and videos to measure against; see the attributes."""
        for name, value in (
            ("states", states),
            ("features", features),
            ("present", present),
            ("predicted", predicted),
        ):
            setattr(self, name, value.detach().to(self.states.device))

    def level(self, scores: Tensor, dim: int) -> Tensor:
        """Return h, the soft maximum of scores [T, V] over one of their sides."""
        return ((self.beta * scores).logsumexp(dim) - math.log(scores.shape[dim])) / self.beta


def correct_videos(videos: VideoEmbeddings, level: Tensor) -> VideoEmbeddings:
    """Return embeddings [B, E, D + 8] whose scores with `correct_texts`'s are lower by h [B]."""
    ones = torch.ones_like(level)
    return VideoEmbeddings(videos.ids, _with(videos.vectors, ones, -level), videos.present)


def correct_texts(texts: TextEmbeddings, level: Tensor) -> TextEmbeddings:
    """Return embeddings [N, E, D + 8] whose scores with `correct_videos`'s are lower by h [N]."""
    ones = torch.ones_like(level)
    return TextEmbeddings(texts.ids, _with(texts.vectors, -level, ones), texts.weights)


def _with(vectors: Tensor, *numbers: Tensor) -> Tensor:
    columns = vectors.new_zeros((len(vectors), COLUMNS))
    columns[:, : len(numbers)] = torch.stack(numbers, dim=1)
    return torch.cat([vectors, columns.unsqueeze(1).expand(-1, vectors.shape[1], -1)], dim=2)
