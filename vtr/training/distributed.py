"""Training on several processes, one a GPU, started by `torchrun`.

Each embeds its share of a batch's pairs, and all see the scores of the whole batch. A step is the one that a single
process with the whole batch would do.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.nn.parallel import DistributedDataParallel

from vtr.config import DataConfig, TrainConfig
from vtr.errors import ConfigError, UnavailableError
from vtr.models.base import RetrievalModel
from vtr.models.norms import share_norms
from vtr.types import Batch

WAIT = datetime.timedelta(hours=2)
"""How long processes wait for one another: the first validates and writes checkpoints, and may cache texts, alone."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class World:
    """The processes that train one model together.

    Attributes:
        rank: this process's place; 0 writes files, validates, and speaks.
        size: how many there are.
        group: what they talk through; None where there is only one.
    """

    rank: int = 0
    size: int = 1
    group: ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.rank == 0

    def part(self, rows: int) -> slice | None:
        """Return which of a batch's rows this process embeds, None for all of them; shares differ by one at most."""
        if self.group is None:
            return None
        return slice(rows * self.rank // self.size, rows * (self.rank + 1) // self.size)

    @contextlib.contextmanager
    def first_alone(self) -> Iterator[None]:
        """Let the first process do the block before the others do."""
        if not self.first:
            self.tell(None)
        yield
        if self.first:
            self.tell(None)

    def tell(self, value: Value) -> Value:
        """Return the first process's value on every process; it must be picklable."""
        if self.group is None:
            return value
        held: list[Any] = [value]
        dist.broadcast_object_list(held, src=0, group=self.group)
        told: Value = held[0]
        return told

    def collect(self, value: Tensor) -> list[Tensor]:
        """Return every process's tensor, on every process; they must have one shape, and lie on the CPU."""
        if self.group is None:
            return [value]
        held: list[Any] = [None] * self.size
        dist.all_gather_object(held, value, group=self.group)
        return held


@contextlib.contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes that `torchrun` started, if it did, while the block runs.

    Args:
        device: "auto", "cpu" or "cuda", as in `choose_device`; with "cuda" each process takes the GPU of its place.

    Raises:
        UnavailableError: a machine has fewer GPUs than processes.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        yield World()
        return
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu:
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise UnavailableError(
                f"process {local + 1} of this machine has no GPU: there are {torch.cuda.device_count()}. Start "
                f"torchrun with --nproc-per-node {torch.cuda.device_count()}, or use --device cpu."
            )
        torch.cuda.set_device(local)
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=WAIT)
    try:
        yield World(dist.get_rank(), size, dist.group.WORLD)
        dist.barrier()  # none leaves while another still talks to it
    finally:
        dist.destroy_process_group()


def check_shareable(config: TrainConfig, world: World) -> None:
    """Check that several processes can do what a configuration asks for.

    Raises:
        ConfigError: they cannot.
    """
    if world.size == 1:
        return
    if config.noisy_correspondence is not None or config.loss.name == "meta_weighted":
        what = "noisy_correspondence is set" if config.noisy_correspondence else f"loss.name is {config.loss.name}"
        raise ConfigError(f"{what}, which one process trains, and there are {world.size}. Start `vtr train` itself.")
    if config.data.batch_size < 2 * world.size:
        raise ConfigError(
            f"data.batch_size is {config.data.batch_size}, of all {world.size} processes together: {2 * world.size} or "
            "more was expected."
        )


def check_rest(visits: int, config: DataConfig, world: World) -> None:
    """Check that the last batch of a pass has pairs for all processes.

    Args:
        visits: pairs of a pass.
        config: how they become batches.
        world: the processes.

    Raises:
        ConfigError: it has fewer.
    """
    rest = visits % config.batch_size
    if config.steps_per_epoch is None and 1 < rest < world.size:
        raise ConfigError(
            f"data.batch_size is {config.batch_size}, which leaves {rest} of a pass's {visits} pairs for the last "
            f"batch: {world.size} processes need as many or none. Use --set data.batch_size={config.batch_size + 1}, "
            "or set data.steps_per_epoch."
        )


class Embedder(nn.Module):
    """A batch to the four tensors its scores are made of, in float32: what DistributedDataParallel can wrap."""

    def __init__(self, model: RetrievalModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the texts' vectors and weights, and the videos' vectors and availabilities."""
        texts, videos = self.model.embed(batch)
        return texts.vectors, texts.weights, videos.vectors, videos.present.to(videos.vectors.dtype)


def shared(model: RetrievalModel, world: World) -> nn.Module:
    """Return what embeds this process's share of a batch; gradients and batch norms are then those of the whole.

    DistributedDataParallel averages gradients over processes. Each process's part of the gradient is to be summed
    instead: the loss has to be multiplied by `world.size` (see `vtr.losses.distributed.gather_rows`).
    """
    if world.group is None:
        return Embedder(model)
    share_norms(model, world.group)
    # an expert that no video of a batch has leaves its weights without a gradient: some may be unused
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, of the name of the argument
        return DistributedDataParallel(
            Embedder(model), broadcast_buffers=False, find_unused_parameters=True, process_group=world.group
        )
