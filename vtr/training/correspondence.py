"""Telling training pairs that match from pairs that do not (NCR, Huang et al. 2021, Sec. 3.2-3.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtr.config import TrainConfig
from vtr.data.sampling import Pair
from vtr.loss_config import AdaptiveMarginUnifiedLossConfig
from vtr.losses import unified_loss
from vtr.losses.scores import both_ways
from vtr.models.base import RetrievalModel
from vtr.similarity import flat_scores, flat_texts, flat_videos
from vtr.training.data import TrainingData
from vtr.training.embedding import embed_texts, embed_videos

TOP_SHARE = 10
"""A prediction is 1 for a pair as good as the mean of a batch's best tenth."""


@dataclass(frozen=True)
class Judgement:
    """What a model makes of every training pair, in the order of the pairs.

    Attributes:
        loss: [N], the pair's loss, both directions.
        prediction: [N], how well the pair matches, 0 to 1.
    """

    loss: NDArray[np.float64]
    prediction: NDArray[np.float32]


def judge(
    model: RetrievalModel,
    data: TrainingData,
    pairs: list[Pair],
    config: TrainConfig,
    device: torch.device,
    seed: tuple[int, ...],
) -> Judgement:
    """Return a model's judgement of all pairs: each against the others of a random batch, known positives aside.

    Args:
        model: the model.
        data: holds the pairs.
        pairs: N (video row, caption row).
        config: the run's configuration, with the adaptive-margin loss.
        device: where the model is.
        seed: draws the batches, which are of equal size.
    """
    loss = config.loss
    assert isinstance(loss, AdaptiveMarginUnifiedLossConfig)
    rows = sorted({video for video, _ in pairs})
    place = {video: at for at, video in enumerate(rows)}
    videos = embed_videos(model, data.table, rows, device)
    texts = embed_texts(model, data.captions, [caption for _, caption in pairs], device)
    text_rows, video_rows = flat_texts(texts), flat_videos(videos)
    losses, predictions = np.zeros(len(pairs)), np.zeros(len(pairs), np.float32)
    order = np.random.default_rng(seed).permutation(len(pairs))
    for batch in np.array_split(order, math.ceil(len(pairs) / config.data.batch_size)):
        of_videos = torch.tensor([place[pairs[at][0]] for at in batch])
        scores = flat_scores(text_rows[batch], video_rows[of_videos], texts.weights[batch], videos.present[of_videos])
        positives = data.positives.mask([pairs[at] for at in batch])
        per_anchor = unified_loss(scores, loss.margin, loss.gamma, "none", positives=positives)
        losses[batch] = per_anchor.sum(dim=0).double().numpy()
        predictions[batch] = predict(scores, loss.margin, positives).numpy()
    return Judgement(losses, predictions)


def predict(scores: Tensor, margin: float, positives: Tensor) -> Tensor:
    """Return how well each pair of a batch matches, [B] from 0 to 1 (NCR, Eq. 6, as its code computes it).

    It is `[m - h_i]_+ / t`, at most 1: h_i is the mean of the hinges `[m + s_ij - s_ii]_+` over the batch, of both
    directions, and t the mean of the best tenth of the numerators.

    Args:
        scores: [B, B].
        margin: m.
        positives: bool [B, B], known positives, whose hinge is 0.
    """
    hinges = (both_ways(scores) - scores.diagonal().unsqueeze(1) + margin).clamp_min(0)
    mean = hinges.masked_fill(both_ways(positives), 0).mean(dim=(0, 2))
    left = (margin - mean).clamp_min(0)
    best = left.topk(len(left) // TOP_SHARE + 1).values.mean()
    return (left / best.clamp_min(1e-12)).clamp_max(1)


def clean_probability(losses: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return for each pair the probability that it matches: of the lower of two Gaussians fitted to the losses.

    The losses are first brought to 0 to 1, as in NCR. Equal losses tell nothing: all are 1 then.

    Args:
        losses: [N].
    """
    from sklearn.mixture import GaussianMixture

    low, high = losses.min(), losses.max()
    if len(losses) < 2 or high <= low:
        return np.ones(len(losses), np.float32)
    scaled = ((losses - low) / (high - low)).reshape(-1, 1)
    mixture = GaussianMixture(n_components=2, tol=1e-2, reg_covar=5e-4, random_state=0).fit(scaled)
    probability: NDArray[np.float32] = mixture.predict_proba(scaled)[:, mixture.means_.argmin()].astype(np.float32)
    return probability


def soft_labels(
    clean: NDArray[np.bool_], peer_probability: NDArray[np.float32], own: NDArray[np.float32], peer: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the soft correspondence labels [N] that a model learns from (NCR, Eq. 5).

    Clean pairs: `y = p + (1 - p) P_own`, with the peer's probability p. Noisy pairs: `y = (P_own + P_peer) / 2`.

    Args:
        clean: [N], which pairs the peer takes for clean.
        peer_probability: [N], p.
        own, peer: [N], the two models' predictions.
    """
    rectified = peer_probability + (1 - peer_probability) * own
    labels: NDArray[np.float32] = np.where(clean, rectified, (own + peer) / 2).astype(np.float32)
    return labels
