"""The adaptive offline quintuplet loss (AOQ)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vtr.losses.scores import Reduction, check_scores, negative_gaps, reduce


@dataclass(frozen=True, slots=True)
class OfflineScores:
    """The similarities with offline hard negatives.

    For pair i they are a video v'_i mined for its text and a text t'_i mined for its video.

    Attributes:
        text: [B], of text i with v'_i.
        video: [B], of video i with t'_i.
        pair: [B], of t'_i with v'_i, which shares no anchor with the pair; it counts twice. Or [2, B]: two such pairs,
            each counted once, as in the released code (t'_i with v'_i, and the text of v'_i with the video of t'_i).
    """

    text: Tensor
    video: Tensor
    pair: Tensor


def offline_quintuplet_loss(
    scores: Tensor,
    offline: OfflineScores,
    margin: float = 0.2,
    offline_margin: float = 0.0,
    alpha: float = 0.3,
    beta: float = 1.5,
    reduction: Reduction = "sum",
    *,
    positives: Tensor | None = None,
) -> Tensor:
    """Return the adaptive offline quintuplet loss, a scalar.

    For text i, with its positive s+, its hardest negative in the batch s_on and its offline one s_off:
    `(beta - (s_off - s_on) / alpha) [m + s_on - s+]_+ + [m_off + s_off - s+]_+`; the same for video i; and twice
    `[m_off + s(t'_i, v'_i) - s+]_+` (Chen et al. 2020, arXiv 2003.03669). The weight grows as the negative in the batch
    comes near the offline one, is not detached, and is negative where the offline one is harder by more than alpha
    beta. Without the offline terms and with weight 1, it is the hardest-negative triplet loss.

    Args:
        scores: [B, B], texts in rows, videos in columns, matching pairs on the diagonal.
        offline: similarities with offline negatives.
        margin, offline_margin: m and m_off.
        alpha, beta: how the offline negative sets the weight of the one in the batch; alpha > 0.
        reduction: "sum" over anchors, "mean" (divided by B), or "none" for [2, B], the pairs' terms shared evenly.
        positives: bool [B, B], True where a text is known to describe a video: no negative in the batch.

    Raises:
        ValueError: shapes do not fit, `alpha` is not positive, or `reduction` is unknown.
    """
    if alpha <= 0:
        raise ValueError(f"alpha is {alpha}, a positive number expected")
    scores = check_scores(scores, positives)
    own = scores.diagonal()
    shapes = [tuple(x.shape) for x in (offline.text, offline.video, offline.pair)]
    each = (len(scores),)
    if shapes[:2] != [each, each] or shapes[2] not in (each, (2, *each)):
        raise ValueError(f"offline scores have shapes {shapes}, [{len(scores)}] each (or [2, B] for pairs) expected")
    outside = torch.stack((offline.text, offline.video)).to(scores.dtype)
    pairs = offline.pair.to(scores.dtype).expand(2, -1)
    hardest = negative_gaps(scores, positives).amax(dim=-1)  # s_on - s+
    none = hardest.isinf()
    hardest = hardest.masked_fill(none, 0)
    weight = beta - (outside - own - hardest) / alpha
    online = (weight * (margin + hardest).clamp_min(0)).masked_fill(none, 0)
    beyond = (offline_margin + outside - own).clamp_min(0) + (offline_margin + pairs - own).clamp_min(0)
    return reduce(online + beyond, reduction)


class OfflineQuintupletLoss(nn.Module):
    """`offline_quintuplet_loss` with its parameters kept; the defaults are the paper's.

    Raises:
        ValueError: `alpha` is not positive.
    """

    def __init__(
        self,
        margin: float = 0.2,
        offline_margin: float = 0.0,
        alpha: float = 0.3,
        beta: float = 1.5,
        reduction: Reduction = "sum",
    ) -> None:
        super().__init__()
        if alpha <= 0:
            raise ValueError(f"alpha is {alpha}, a positive number expected")
        self.margin, self.offline_margin, self.alpha, self.beta = margin, offline_margin, alpha, beta
        self.reduction = reduction

    def forward(self, scores: Tensor, offline: OfflineScores, positives: Tensor | None = None) -> Tensor:
        """Return the loss of scores [B, B] and of those with offline negatives."""
        return offline_quintuplet_loss(
            scores,
            offline,
            self.margin,
            self.offline_margin,
            self.alpha,
            self.beta,
            self.reduction,
            positives=positives,
        )
