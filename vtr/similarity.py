"""The only definition of the text-video score.

`score(t, v) = sum_e w_e(t) a_e(v) <t_e, v_e> / sum_e w_e(t) a_e(v)`, with `w` the text's mixture weights and `a` the
video's expert availability (Miech et al. 2018, arXiv 1804.02516, Eq. 3; Gabeur et al. 2020, arXiv 2007.10639).

The numerator is one inner product of E*D-dimensional vectors with the weights folded into the text side, so an
inner-product index ranks by it; the denominator is a small matrix product, and 1 where all experts are present.
Scores are `scores[t, v]`: texts in rows, videos in columns. A [T, V, E] tensor is never made.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vtr.types import TextEmbeddings, VideoEmbeddings

TINY = 1e-8
"""Below this weight on the experts a video has, there is nothing to compare and the score is 0."""


BLOCK = 2048
"""Texts that are scored at once."""

PAIRS_BLOCK = 256
"""Pairs that are scored at once: each takes both embeddings in float64."""


def flat_texts(texts: TextEmbeddings) -> Tensor:
    """Return [T, E*D]: each expert's text vector times its mixture weight."""
    return (texts.vectors * texts.weights.unsqueeze(-1)).flatten(1)


def flat_videos(videos: VideoEmbeddings) -> Tensor:
    """Return [V, E*D]: each expert's video vector, zero where the expert does not count."""
    return (videos.vectors * videos.present.to(videos.vectors.dtype).unsqueeze(-1)).flatten(1)


def _divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    nothing = denominator <= TINY  # not the other way round: NaN must stay NaN
    return torch.where(nothing, numerator.new_zeros(()), numerator / denominator.clamp_min(TINY))


def _check(texts: TextEmbeddings, videos: VideoEmbeddings) -> None:
    if texts.vectors.shape[1:] != videos.vectors.shape[1:]:
        raise ValueError(
            f"text vectors {tuple(texts.vectors.shape)} and video vectors {tuple(videos.vectors.shape)}: "
            "[T, E, D] and [V, E, D] with the same experts expected"
        )


def score_matrix(texts: TextEmbeddings, videos: VideoEmbeddings) -> Tensor:
    """Return scores [T, V]; 0 where a text puts no weight on any expert the video has.

    Where no gradient is asked for, they are computed a block of texts at a time: beyond embeddings and scores, that
    takes the memory of the videos' embeddings and of one block.

    Raises:
        ValueError: texts and videos differ in experts or dimension.
    """
    _check(texts, videos)
    held = (texts.vectors, texts.weights, videos.vectors)
    if torch.is_grad_enabled() and any(values.requires_grad for values in held):
        return flat_scores(flat_texts(texts), flat_videos(videos), texts.weights, videos.present)
    gallery = flat_videos(videos)
    scores = gallery.new_empty((len(texts.ids), len(videos.ids)))
    for rows, some in _blocks(texts):
        scores[rows] = flat_scores(flat_texts(some), gallery, some.weights, videos.present)
    return scores


def _blocks(texts: TextEmbeddings, size: int = BLOCK) -> Iterator[tuple[slice, TextEmbeddings]]:
    """Yield the rows of some texts, and those texts."""
    for at in range(0, len(texts.ids), size):
        rows = slice(at, at + size)
        yield rows, TextEmbeddings(texts.ids[rows], texts.vectors[rows], texts.weights[rows])


def flat_scores(texts: Tensor, videos: Tensor, weights: Tensor, present: Tensor) -> Tensor:
    """Return `score_matrix` [T, V] from what `flat_texts` and `flat_videos` made.

    Args:
        texts, videos: [T, E*D] and [V, E*D].
        weights, present: [T, E] mixture weights and [V, E] availability.
    """
    numerator = texts @ videos.T
    return _divide(numerator, weights.to(numerator.dtype) @ present.to(numerator.dtype).T)


def _in_float64(texts: TextEmbeddings) -> TextEmbeddings:
    return TextEmbeddings(texts.ids, texts.vectors.double(), texts.weights.double())


def exact_scores(texts: TextEmbeddings, videos: VideoEmbeddings, block: int = BLOCK) -> Tensor:
    """Return `score_matrix` [T, V] computed in float64, a block of texts at a time, and rounded to float32.

    The last bits of a float32 product depend on what it is computed together with. Rounded from float64, a pair has
    the same score in every block and among any candidates, and captions with equal embeddings tie.

    Raises:
        ValueError: texts and videos differ in experts or dimension.
    """
    gallery = ExactGallery(videos)
    scores = torch.empty((len(texts.ids), len(videos.ids)), dtype=torch.float32)
    for rows, some in _blocks(texts, block):
        scores[rows] = gallery.score(some)
    return scores


class ExactGallery:
    """V videos that texts are scored with again and again, as `exact_scores` does.

    It holds the videos' vectors in float64, 8 bytes for each of V * E * D numbers.
    """

    def __init__(self, videos: VideoEmbeddings) -> None:
        self.videos = videos
        self._present = videos.present.double()
        flat = videos.vectors.to(torch.float64, copy=True)
        self._flat = flat.mul_(self._present.unsqueeze(-1)).flatten(1)

    def score(self, texts: TextEmbeddings) -> Tensor:
        """Return the scores [T, V] of some texts, float32.

        Raises:
            ValueError: texts and videos differ in experts or dimension.
        """
        _check(texts, self.videos)
        some = _in_float64(texts)
        return flat_scores(flat_texts(some), self._flat, some.weights, self._present).float()


def exact_pairs(texts: TextEmbeddings, videos: VideoEmbeddings, text_rows: Tensor, video_rows: Tensor) -> Tensor:
    """Return the scores [N] of pairs of a text and a video, in float64 and rounded to float32 like `exact_scores`.

    Args:
        texts, videos: T texts and V videos.
        text_rows, video_rows: [N] int64 each, the pairs.

    Raises:
        ValueError: texts and videos differ in experts or dimension.
    """
    _check(texts, videos)
    scores = torch.empty(len(text_rows), dtype=torch.float32)
    for at in range(0, len(text_rows), PAIRS_BLOCK):
        pairs = slice(at, at + PAIRS_BLOCK)
        rows, columns = text_rows[pairs], video_rows[pairs]
        weights, present = texts.weights[rows].double(), videos.present[columns].double()
        counted = (weights * present).unsqueeze(-1)
        numerators = (texts.vectors[rows].double() * videos.vectors[columns].double() * counted).flatten(1).sum(1)
        scores[pairs] = _divide(numerators, counted.flatten(1).sum(1)).float()
    return scores


def expert_shares(
    texts: TextEmbeddings, videos: VideoEmbeddings, text_rows: Tensor, video_rows: Tensor, dim: int
) -> Tensor:
    """Return [N, E + 1] float64: what each expert adds to the scores of N pairs of a text and a video.

    An expert's share is `w_e(t) a_e(v) <t_e, v_e> / sum_e w_e(t) a_e(v)` over the first `dim` numbers of the vectors.
    The numbers behind them correct for hubs, and what they add is the last column. A row adds up to the pair's score.

    Args:
        texts, videos: T texts and V videos.
        text_rows, video_rows: [N] int64 each, the pairs.
        dim: how many numbers of each expert's vector compare; the rest of them correct.

    Raises:
        ValueError: texts and videos differ in experts or dimension.
    """
    _check(texts, videos)
    shares = torch.empty((len(text_rows), texts.vectors.shape[1] + 1), dtype=torch.float64)
    for at in range(0, len(text_rows), PAIRS_BLOCK):
        pairs = slice(at, at + PAIRS_BLOCK)
        rows, columns = text_rows[pairs], video_rows[pairs]
        counted = texts.weights[rows].double() * videos.present[columns].double()
        products = texts.vectors[rows].double() * videos.vectors[columns].double() * counted.unsqueeze(-1)
        whole = counted.sum(1, keepdim=True)
        shares[pairs, :-1] = _divide(products[..., :dim].sum(2), whole)
        shares[pairs, -1:] = _divide(products[..., dim:].sum((1, 2)).unsqueeze(1), whole)
    return shares
