"""What experts share whose weights are a published file that the user downloads: finding, reading and running them."""

from __future__ import annotations

import re
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from feature_extraction.damage import UNREADABLE, first_sentence, weights_damage
from feature_extraction.extractor import ModelExpert
from feature_extraction.preparations import reduced
from feature_extraction.releases import RELEASES, not_whole, released_file
from vtr.errors import UnavailableError
from vtr.extract_config import ExtractConfig
from vtr.files import sha256_file
from vtr.types import ExpertSpec, Modality

COUNTER = "num_batches_tracked"
"""Batch norms count batches since PyTorch 0.4.1; older files lack the counters, and evaluation does not use them."""


class WeightFileExpert(ModelExpert):
    """A network of this package with the weights of a file, `settings.NAME.model`.

    Args:
        config: the settings; `settings.NAME` says the file, precision and batch.
        name: the expert's name.

    Attributes:
        release: the weights it expects, of `RELEASES`.
        head: how the names of the classifier's tensors begin, which the file holds and no feature needs.
        batches: items at a time on a CPU and on a GPU, unless `settings.NAME.batch` says otherwise.

    Raises:
        UnavailableError: see `released_file`.
    """

    head: ClassVar[tuple[str, ...]] = ()
    batches: ClassVar[tuple[int, int]] = (4, 64)

    def __init__(self, config: ExtractConfig, name: str) -> None:
        self.name = name
        self.own = config.of(name)
        self.release = RELEASES[name]
        self.path = released_file(config, name)
        self.batch = self.own.batch or self.batches[0]
        self._device = torch.device("cpu")

    def load(self, device: str) -> None:
        """Load the network onto a device.

        Raises:
            UnavailableError: the file is damaged, wants to run code, or holds another network.
        """
        read = read_weights(self.path, self.name, self.release.again)
        weights = {self.rename(name): value for name, value in read.items()}
        with torch.device("meta"):
            network = self.network()
        body = {name: value for name, value in weights.items() if not name.startswith(self.head or ("\0",))}
        fill(network, body, f"expert {self.name}: {self.path} is not {self.release.file} ({self.release.url})")
        self._device = torch.device(device)
        self._network: Any = network.eval().to(self._device)
        self.batch = self.own.batch or self.batches[self._device.type != "cpu"]

    @torch.inference_mode()
    def embed(self, items: NDArray[Any]) -> NDArray[np.float32]:
        """Return the features [n, D] of at most `batch` items. See `ModelExpert.embed`."""
        inputs = self.inputs(torch.from_numpy(items).to(self._device))
        with reduced(self._device, self.own.precision):
            values: Tensor = self._network(inputs)
        found: NDArray[np.float32] = values.float().cpu().numpy()
        return found

    def rename(self, name: str) -> str:
        """Return what this package calls the tensor that the file calls `name`."""
        return name

    @abstractmethod
    def network(self) -> nn.Module:
        """Return the network up to its feature, with any weights."""

    @abstractmethod
    def inputs(self, items: Tensor) -> Tensor:
        """Return the network's input, float32, of items [n, ...] on its device."""

    def _spec(self, dim: int, modality: Modality, window_seconds: float | None) -> ExpertSpec:
        return ExpertSpec(
            name=self.name,
            dim=dim,
            modality=modality,
            window_seconds=window_seconds,
            model_id=f"{self.release.model} ({self.own.precision})",
            weights_sha256=sha256_file(self.path),
            pretrained_on=self.release.pretrained_on,
        )


def read_weights(path: Path, expert: str, mend: str = "download it again") -> dict[str, Tensor]:
    """Return the tensors of a PyTorch file, by name without "module.". It is read so that it cannot run code.

    Args:
        path: a state dict, or a checkpoint that holds one as `state_dict`; also as Python 2 wrote them.
        expert: the expert, for errors.
        mend: what to do about a damaged file, for errors.

    Raises:
        UnavailableError: the file cannot be read, is damaged, wants to run code, or holds no tensors.
    """
    if wrong := weights_damage(path):
        raise UnavailableError(not_whole(path, expert, wrong, mend))
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise UnavailableError(not_whole(path, expert, _why(error), mend)) from error
    weights = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UnavailableError(
            f"expert {expert}: {path} holds {type(content).__name__}, a state dict of tensors was expected; {mend}."
        )
    return {str(name).removeprefix("module."): value for name, value in weights.items()}


def _why(error: Exception) -> str:
    """Return in words why `torch.load` refused a file; its own advice is to trust the file."""
    names = re.search(r"GLOBAL (\S+\.\w+)\s", str(error))
    if names:
        return f"names {names[1]}, which is no tensor and could run code"
    said = "" if "weights_only" in str(error) else f" ({first_sentence(error)})"
    return f"is damaged{said}"


def fill(network: nn.Module, weights: dict[str, Tensor], wrong: str) -> None:
    """Give a network made on the device "meta" its weights, all of them and no others.

    Args:
        network: changed in place.
        weights: name -> tensor; counters of batch norms may be missing, and are added.
        wrong: how the error begins.

    Raises:
        UnavailableError: tensors are missing, left over, or of other shapes.
    """
    wanted = network.state_dict()
    for name in wanted:
        if name.endswith(COUNTER):
            weights.setdefault(name, torch.zeros((), dtype=torch.int64))
    missing, foreign = sorted(wanted.keys() - weights.keys()), sorted(weights.keys() - wanted.keys())
    reshaped = [name for name in wanted if name in weights and weights[name].shape != wanted[name].shape]
    if missing or foreign or reshaped:
        parts = [f"it lacks {len(missing)} tensors, first {missing[0]}"] if missing else []
        parts += [f"it holds {len(foreign)} that do not belong there, first {foreign[0]}"] if foreign else []
        if reshaped:
            name = reshaped[0]
            parts.append(f"{name} has shape {tuple(weights[name].shape)}, {tuple(wanted[name].shape)} was expected")
        raise UnavailableError(f"{wrong}: {'; '.join(parts)}. Set the file that was released.")
    network.load_state_dict(
        {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}, assign=True
    )
