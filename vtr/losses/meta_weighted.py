"""The unified loss with pair weights from a small network that is learnt on validation batches (after Meta-SPN)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vtr.losses.scores import Reduction, both_ways, check_gamma, check_scores, negative_gaps
from vtr.losses.weighted import weighted_unified_loss


class PairWeights(nn.Module):
    """A pair's similarity and its similarity relative to the anchor's, to a weight in (0, 2); 1 everywhere at first.

    Args:
        hidden: width of the one hidden layer.
    """

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        last = nn.Linear(hidden, 1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), last)

    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Return weights [2, B, B] of scores [B, B], anchors in rows. No gradient flows to the scores.

        A negative's relative similarity is s_negative - s_positive, a positive's is its own less the hardest
        negative's.
        """
        s = check_scores(scores, positives).detach()
        gaps = negative_gaps(s, positives)
        hardest = gaps.amax(dim=-1)
        hardest = hardest.masked_fill(hardest.isinf(), 0)
        relative = gaps.masked_fill(gaps.isinf(), 0).diagonal_scatter(-hardest, dim1=1, dim2=2)
        found: Tensor = self.layers(torch.stack((both_ways(s), relative), dim=-1).float()).squeeze(-1)
        return 2 * found.sigmoid()


class MetaWeightedLoss(nn.Module):
    """The weighted unified loss whose weights a small network learns on validation batches.

    This is our reading of the meta self-paced network (Meta-SPN; Wei et al. 2021), whose code is not public: a small
    fully connected network maps a pair's self and relative similarity to its weight, and is updated so that a step of
    the model on a training batch lowers the loss on a validation batch (`vtr.training.meta`). The weights enter Eq. 24
    of arXiv 2209.13869, and all are 1 at the start, where the loss is Eq. 5.

    Args:
        margin, gamma, reduction: see `weighted_unified_loss`.
        hidden: width of the network's hidden layer.

    Raises:
        ValueError: `gamma` is not positive.
    """

    def __init__(
        self, margin: float = 0.2, gamma: float = 50.0, reduction: Reduction = "sum", hidden: int = 64
    ) -> None:
        super().__init__()
        check_gamma(gamma)
        self.margin, self.gamma, self.reduction = margin, gamma, reduction
        self.network = PairWeights(hidden)

    def forward(self, scores: Tensor, positives: Tensor | None = None) -> Tensor:
        """Return the loss of scores [B, B]."""
        weights = self.network(scores, positives)
        return weighted_unified_loss(scores, weights, self.margin, self.gamma, self.reduction, positives=positives)
