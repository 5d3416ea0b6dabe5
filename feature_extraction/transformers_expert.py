"""What all experts share whose model `transformers` loads: finding, checking and loading the weights."""

from __future__ import annotations

import os
from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from feature_extraction.damage import UNREADABLE, first_sentence
from feature_extraction.extractor import ModelExpert
from feature_extraction.hub import expert_folder, model_of, weights_sha256
from feature_extraction.quiet import quiet_transformers
from vtr.errors import ConfigError, UnavailableError
from vtr.experts import find_expert
from vtr.extract_config import ExpertConfig, ExtractConfig, Precision
from vtr.types import ExpertSpec, Modality

DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
CPU_BATCH, GPU_BATCH = 8, 64


def worker_device(config: ExtractConfig) -> str:
    """Return where a model runs that every worker has a copy of: workers share the GPUs that are set, by process id."""
    if not torch.cuda.is_available() or "cpu" in config.devices:
        return "cpu"
    named = [device for device in config.devices if device != "auto"]
    devices = named or [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return devices[os.getpid() % len(devices)]


def load_config(folder: Path, expert: str) -> Any:
    """Return a model's configuration.

    Raises:
        UnavailableError: `transformers` cannot read it.
    """
    from transformers import AutoConfig

    quiet_transformers()
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except UNREADABLE as error:
        raise UnavailableError(_unreadable(folder, expert, error)) from error


def load_model(
    model_class: Any, folder: Path, expert: str, config: Any = None, optional: tuple[str, ...] = ()
) -> tuple[Any, set[str]]:
    """Load a model's weights, and refuse a model of which parts would stay at random values.

    Args:
        model_class: a class of `transformers`.
        folder: where its weights are.
        expert: the expert, for errors.
        config: the configuration; by default the folder's.
        optional: beginnings of the names of weights that may be missing, as nothing uses them then.

    Returns:
        The model, for evaluation, and the names of the optional weights that are missing.

    Raises:
        UnavailableError: the weights cannot be read, or some are missing.
    """
    quiet_transformers()
    try:
        model, info = model_class.from_pretrained(
            folder,
            config=config,
            output_loading_info=True,
            local_files_only=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # they are reported below
        )
    except UNREADABLE as error:
        raise UnavailableError(_unreadable(folder, expert, error)) from error
    for name, found, wanted in info["mismatched_keys"]:
        raise UnavailableError(
            f"expert {expert}: the weights in {folder} are not those of its config.json: {name} has shape "
            f"{tuple(found)}, {tuple(wanted)} was expected. Download the model completely, or set "
            f"settings.{expert}.model to another."
        )
    missing = set(info["missing_keys"])
    needed = sorted(key for key in missing if not key.startswith(optional))
    if needed:
        raise UnavailableError(
            f"expert {expert}: the weights in {folder} lack {len(needed)} tensors of {model_class.__name__}, first "
            f"{needed[0]}. Weights of that kind of model were expected; set settings.{expert}.model to others."
        )
    return model.eval(), missing


def _unreadable(folder: Path, expert: str, error: Exception) -> str:
    return (
        f"expert {expert}: the model in {folder} cannot be loaded ({first_sentence(error)}). A model in "
        f"Hugging Face layout that this version of transformers knows was expected; set settings.{expert}.model to one."
    )


class TransformersExpert(ModelExpert):
    """A model of `transformers`, in a local folder or from the hub.

    Args:
        config: the settings; `settings.NAME` says model, pooling, precision and batch.
        name: the expert's name.

    Attributes:
        folder: where the weights are.
        model_config: the model's configuration.

    Raises:
        ConfigError, UnavailableError: see `expert_folder`.
    """

    def __init__(self, config: ExtractConfig, name: str) -> None:
        self.name = name
        self.own: ExpertConfig = config.of(name)
        self.model = model_of(config, name)
        self.folder = expert_folder(config, name)
        self.model_config = load_config(self.folder, name)
        self.batch = self.own.batch or CPU_BATCH
        self._line = find_expert(name, config.settings)
        self._dtype = DTYPES[self.own.precision]
        self._device = torch.device("cpu")
        self._loaded: Any = None

    def load(self, device: str) -> None:
        """Load the model onto a device, in the precision that is set. See `ModelExpert.load`."""
        self._device = torch.device(device)
        self._loaded = self._load().to(self._device, self._dtype)
        if self._device.type == "cuda" and self.own.batch is None:
            self.batch = GPU_BATCH

    @torch.inference_mode()
    def embed(self, items: NDArray[Any]) -> NDArray[np.float32]:
        """Return the features [n, D] of at most `batch` items. See `ModelExpert.embed`."""
        values: NDArray[np.float32] = self._embed(torch.from_numpy(items).to(self._device)).float().cpu().numpy()
        return values

    @abstractmethod
    def _load(self) -> Any:
        """Return the model, on the CPU in float32."""

    @abstractmethod
    def _embed(self, items: Tensor) -> Tensor:
        """Return the features [n, D] of items on the model's device; the model wants `_dtype`."""

    def _pooling(self, default: str, possible: tuple[str, ...]) -> str:
        """Return the pooling that is set, "default" replaced by what it is."""
        pooling = default if self.own.pooling == "default" else self.own.pooling
        if pooling not in possible:
            raise ConfigError(
                f"settings.{self.name}.pooling is {pooling}, which {self.model} ({self.model_config.model_type}) does "
                f"not have. It has: default, {', '.join(possible)}."
            )
        return pooling

    def _spec(self, dim: int, modality: Modality, window_seconds: float | None, pooling: str) -> ExpertSpec:
        return ExpertSpec(
            name=self.name,
            dim=dim,
            modality=modality,
            window_seconds=window_seconds,
            model_id=f"{self.model} ({pooling}, {self.own.precision})",
            weights_sha256=weights_sha256(self.folder),
            pretrained_on=self._line.pretrained_on if self.model == self._line.model else "see the model",
        )
