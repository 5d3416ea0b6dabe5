"""Over 1, 2 and 4 gloo processes, value and gradients are those of one process with the whole batch."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from loss_cases import draw
from torch import Tensor
from torch.nn.functional import normalize

from vtr.losses import (
    UnifiedLoss,
    gather_rows,
    self_polynomial_loss,
    triplet_hard_negative_loss,
    unified_loss,
    unified_loss_from_embeddings,
)
from vtr.similarity import score_matrix
from vtr.types import TextEmbeddings, VideoEmbeddings

SPLITS: dict[int, list[list[int]]] = {
    1: [[5]],
    2: [[4, 4], [5, 2], [0, 6]],
    4: [[2, 2, 2, 2], [3, 1, 4, 2], [2, 0, 5, 0]],
}
"""Number of processes -> batches, by how many pairs each process holds."""


def part(x: Tensor, rows: slice) -> Tensor:
    """Return a process's own rows, as the leaf of its own graph."""
    return x.detach()[rows].clone().requires_grad_(x.requires_grad)


def whole_tensors(size: int) -> list[Tensor]:
    return [normalize(draw((size, 4), seed), dim=1).requires_grad_() for seed in (1, 2)]


def whole_mixture(size: int) -> list[Tensor]:
    """Texts' and videos' vectors, mixture weights, and which experts are there; the second pair's video has none."""
    text, video = (normalize(draw((size, 3, 4), seed), dim=-1).requires_grad_() for seed in (3, 4))
    present = draw((size, 3), 6) > -0.2
    present[1] = False
    return [text, video, draw((size, 3), 5).softmax(dim=1).requires_grad_(), present]


def as_embeddings(text: Tensor, video: Tensor, weights: Tensor, present: Tensor) -> tuple[Any, Any]:
    ids = tuple(str(number) for number in range(len(text)))
    return TextEmbeddings(ids, text, weights), VideoEmbeddings(ids, video, present)


def check(ours: Callable[..., Tensor], alone: Callable[..., Tensor], leaves: list[Tensor], rows: slice) -> None:
    """Compare a loss over processes with one of the whole batch, on this process's rows.

    Args:
        ours: of this process's parts of the leaves.
        alone: of the whole leaves, without other processes.
        leaves: of the whole batch.
        rows: this process's.
    """
    parts = [part(x, rows) for x in leaves]
    found, expected = ours(*parts), alone(*leaves)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    mine = torch.autograd.grad(found, [x for x in parts if x.requires_grad])
    theirs = torch.autograd.grad(expected, [x for x in leaves if x.requires_grad])
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other[rows], rtol=1e-9, atol=1e-12)


def check_from_embeddings(size: int, rows: slice) -> None:
    """From tensors and from experts, whole or in chunks, with and without known positives, summed and as a mean."""
    known = draw((size, size), 7, 0.0, 1.0) < 0.25
    for chunk_size, positives, reduction in ((None, None, "sum"), (2, known, "sum"), (1, None, "mean")):
        module = UnifiedLoss(0.3, 20.0, reduction)  # type: ignore[arg-type]
        more = {"positives": None if positives is None else positives[rows], "group": dist.group.WORLD}

        def of_tensors(t: Tensor, v: Tensor, module: Any = module, more: Any = more, c: Any = chunk_size) -> Tensor:
            return module.from_embeddings(t, v, c, **more)

        def of_experts(*x: Tensor, module: Any = module, more: Any = more, c: Any = chunk_size) -> Tensor:
            return module.from_embeddings(*as_embeddings(*x), c, **more)

        def alone(t: Tensor, v: Tensor, reduction: Any = reduction, positives: Any = positives) -> Tensor:
            return unified_loss(t @ v.T, 0.3, 20.0, reduction, positives=positives)

        def alone_of_experts(*x: Tensor, reduction: Any = reduction, positives: Any = positives) -> Tensor:
            return unified_loss(score_matrix(*as_embeddings(*x)), 0.3, 20.0, reduction, positives=positives)

        check(of_tensors, alone, whole_tensors(size), rows)
        check(of_experts, alone_of_experts, whole_mixture(size), rows)


def check_gathered(size: int, rows: slice) -> None:
    """Any other loss, of rows gathered from all processes."""
    world = dist.group.WORLD
    assert world is not None
    whole = whole_tensors(size)
    gathered = gather_rows(part(whole[0], rows), world)
    assert torch.equal(gathered, whole[0])  # in the order of ranks
    for loss in (triplet_hard_negative_loss, self_polynomial_loss):

        def ours(t: Tensor, v: Tensor, loss: Any = loss) -> Tensor:
            return loss(gather_rows(t, world) @ gather_rows(v, world).T)

        def alone(t: Tensor, v: Tensor, loss: Any = loss) -> Tensor:
            return loss(t @ v.T)

        check(ours, alone, whole, rows)


def check_refusals() -> None:
    with pytest.raises(ValueError, match="there are no texts and videos"):
        unified_loss_from_embeddings(torch.zeros(0, 3), torch.zeros(0, 3), group=dist.group.WORLD)
    world = dist.get_world_size()
    with pytest.raises(ValueError, match=rf"bool \(2, {2 * world + 1}\), bool \(2, {2 * world}\) expected"):
        wrong = torch.zeros((2, 2 * world + 1), dtype=torch.bool)
        unified_loss_from_embeddings(torch.zeros(2, 3), torch.zeros(2, 3), positives=wrong, group=dist.group.WORLD)


def work(rank: int, world: int, meeting: str) -> None:
    """Run all checks as one of the processes."""
    warnings.simplefilter("error")  # as in the tests' own process
    torch.set_num_threads(1)
    patience = timedelta(minutes=2)  # for processes that wait for each other for ever
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world, timeout=patience)
    try:
        for counts in SPLITS[world]:
            rows = slice(sum(counts[:rank]), sum(counts[: rank + 1]))
            check_from_embeddings(sum(counts), rows)
            check_gathered(sum(counts), rows)
        check_refusals()
    finally:
        dist.destroy_process_group()
    (Path(meeting.removeprefix("file://")).parent / f"done-{rank}").touch()


@pytest.mark.parametrize("world", SPLITS)
def test_every_process_gets_the_loss_of_the_whole_batch_and_its_rows_part_of_the_gradient(
    world: int, tmp_path: Path
) -> None:
    multiprocessing.set_forkserver_preload(["torch", "torch.distributed", "vtr.losses", "pytest"])  # once for all
    arguments = (world, f"file://{tmp_path / 'store'}")
    torch.multiprocessing.start_processes(work, arguments, nprocs=world, start_method="forkserver")
    assert len(list(tmp_path.glob("done-*"))) == world
