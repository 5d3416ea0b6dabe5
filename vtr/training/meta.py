"""The update of a weight network on validation batches (our reading of Meta-SPN; see docs/losses.md).

The network's weights theta enter the training loss. A step of the model on a training batch, `w' = w - rate *
dL_train/dw`, depends on them, and so does the validation loss after it. Its gradient is

    dL_val(w')/dtheta = -rate * d/dtheta < dL_train/dw, g >,    g = dL_val/dw at w',

and as the scores S depend on w alone, `< dL_train/dw, g > = < dL_train/dS, dS/dw g >`: one forward-mode derivative of
the scores along g, and second derivatives of the loss only, never of the model.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from vtr.losses import MetaWeightedLoss
from vtr.types import Batch


def meta_gradients(
    model: nn.Module,
    loss: MetaWeightedLoss,
    validation_loss: nn.Module,
    train: Batch,
    validation: Batch,
    rate: float,
    *,
    positives: Tensor | None = None,
) -> Sequence[Tensor]:
    """Return the gradients of the validation loss after one step on the parameters of the loss's network.

    The model is used without dropout and is not changed; the step is one of plain gradient descent.

    Args:
        model: batch to scores [B, B].
        loss: the training loss, with its network.
        validation_loss: scores to a scalar.
        train, validation: the batches.
        rate: the step's learning rate.
        positives: bool [B, B] of the training batch, see `MetaWeightedLoss`.
    """
    weights = {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}

    def scores(at: dict[str, Tensor], batch: Batch) -> Tensor:
        found: Tensor = functional_call(model, at, (batch,))
        return found.float() if found.dtype != torch.float64 else found

    def gradient(of: Callable[[dict[str, Tensor]], Tensor], at: dict[str, Tensor]) -> dict[str, Tensor]:
        leaves = {name: value.detach().requires_grad_() for name, value in at.items()}
        found = torch.autograd.grad(of(leaves), list(leaves.values()), allow_unused=True, materialize_grads=True)
        return dict(zip(leaves, found, strict=True))

    # the fused attention kernels have no forward-mode derivative
    with _without_dropout(model), sdpa_kernel(SDPBackend.MATH):
        step = gradient(lambda at: loss(scores(at, train), positives=positives), weights)
        moved = {name: value - rate * step[name] for name, value in weights.items()}
        wanted = gradient(lambda at: validation_loss(scores(at, validation)), moved)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, when it first loads its derivatives
            now, along, *_ = jvp(lambda at: scores(at, train), (weights,), (wanted,))
        leaf = now.detach().requires_grad_()
        (of_scores,) = torch.autograd.grad(loss(leaf, positives=positives), leaf, create_graph=True)
        effect = -rate * (of_scores * along.detach()).sum()
        return torch.autograd.grad(effect, list(loss.network.parameters()), allow_unused=True, materialize_grads=True)


@contextlib.contextmanager
def _without_dropout(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode while the block runs."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
