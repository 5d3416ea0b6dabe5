"""What is logged of similarities and gradients, against plain loops over floats."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vtr.training.monitor import KEYS, Monitor


def batches(seed: int, count: int = 4) -> list[tuple[Tensor, Tensor, Tensor | None]]:
    """Return scores, losses and masks of steps; the second has no mask."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for step in range(count):
        size = int(torch.randint(2, 6, (1,), generator=draw))
        positives = torch.rand((size, size), generator=draw) < 0.4
        scores = torch.randn((size, size), generator=draw)
        found.append((scores, torch.rand((), generator=draw), None if step == 1 else positives))
    return found


def plain(steps: list[tuple[Tensor, Tensor, Tensor | None]]) -> dict[str, float]:
    losses, matching, hardest = [], [], []
    for scores, loss, positives in steps:
        size = len(scores)
        losses.append(loss.item())
        matching.append(sum(scores[i, i].item() for i in range(size)) / size)
        largest = []
        for i in range(size):
            for pairs in ([(i, j) for j in range(size)], [(j, i) for j in range(size)]):
                others = [
                    scores[t, v].item() for t, v in pairs if t != v and (positives is None or not positives[t, v])
                ]
                largest += [max(others)] if others else []
        if largest:
            hardest.append(sum(largest) / len(largest))
    found = {"loss": losses, "positive_similarity": matching, "hardest_negative_similarity": hardest}
    return {key: sum(values) / len(values) for key, values in found.items() if values}


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_means_are_those_of_plain_loops(seed: int) -> None:
    monitor, steps = Monitor(), batches(seed)
    for scores, loss, positives in steps:
        monitor.add(scores, loss, positives)
    assert monitor.means() == pytest.approx(plain(steps), rel=1e-9)
    monitor.reset()
    assert monitor.means() == {}


def test_a_batch_without_negatives_does_not_count() -> None:
    monitor = Monitor()
    monitor.add(torch.eye(2), 1.0, torch.ones(2, 2, dtype=torch.bool))
    assert monitor.means() == {"loss": 1.0, "positive_similarity": 1.0}
    monitor.add(torch.tensor([[0.5, -0.25], [-0.75, 0.5]]), torch.tensor(2.0))
    # text 0 and video 1 have -0.25, text 1 and video 0 have -0.75
    assert monitor.means() == {"loss": 1.5, "positive_similarity": 0.75, "hardest_negative_similarity": -0.5}
    with pytest.raises(ValueError, match=r"shape \(2, 3\), \[B, B\] was expected"):
        monitor.add(torch.zeros(2, 3), 0.0)


def test_gradient_norms_at_the_embeddings() -> None:
    monitor, draw = Monitor(), torch.Generator().manual_seed(0)
    norms: dict[str, list[float]] = {"text": [], "video": []}
    for scale in (1.0, 512.0, torch.tensor(64.0)):
        texts, videos = (torch.randn((5, 2, 3), generator=draw, requires_grad=True) for _ in range(2))
        embedded = {"text": texts * 2, "video": videos * 3}
        monitor.watch(embedded["text"], "text", scale)
        monitor.watch(embedded["video"], "video", scale)
        loss = (embedded["text"].flatten(1) @ embedded["video"].flatten(1).T).exp().mean()
        (loss * scale).backward()
        # what flows into the leaves is 2 or 3 times what flows into the embeddings
        for side, leaf, factor in (("text", texts, 2), ("video", videos, 3)):
            assert leaf.grad is not None
            squares = sum(value * value for value in leaf.grad.flatten().tolist())
            norms[side].append(math.sqrt(squares) / factor / float(scale))
    found = monitor.means()
    assert found == pytest.approx({f"gradient_norm_{side}": sum(n) / 3 for side, n in norms.items()}, rel=1e-5)
    monitor.watch(torch.zeros(2), "text")  # as in evaluation


@pytest.mark.parametrize("stop", [0, 1, 3])
def test_a_monitor_that_was_saved_in_between_has_the_same_means_to_the_bit(stop: int) -> None:
    whole, broken = Monitor(), Monitor()
    for step, (scores, loss, positives) in enumerate(batches(7)):
        if step == stop:
            saved = json.loads(json.dumps(broken.state()))
            broken = Monitor()
            broken.load_state(saved)
        for monitor in (whole, broken):
            vectors = scores.clone().requires_grad_()
            monitor.watch(vectors, "video")
            vectors.square().sum().backward()
            monitor.add(scores, loss, positives)
    assert whole.means() == broken.means()
    assert whole.state() == broken.state()
    assert whole.means().keys() == set(KEYS) - {"gradient_norm_text"}


class NothingIsRead(TorchDispatchMode):
    """Fails where a tensor's value is asked for, which would wait for the device."""

    def __torch_dispatch__(
        self, function: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the operator, unless it reads a value."""
        assert "_local_scalar_dense" not in str(function) and "nonzero" not in str(function), function
        return function(*args, **(kwargs or {}))


def test_nothing_is_read_until_it_is_asked_for() -> None:
    monitor, steps = Monitor(), batches(3)
    with NothingIsRead():
        for scores, loss, positives in steps:
            vectors = scores.clone().requires_grad_()
            monitor.watch(vectors, "text", torch.tensor(2.0))
            vectors.square().sum().backward()
            monitor.add(scores, loss, positives)
        with pytest.raises(AssertionError, match="_local_scalar_dense"):
            monitor.means()
    assert len(monitor.means()) == 4
