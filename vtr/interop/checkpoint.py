"""Reading other people's checkpoints without running what is in them."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vtr.errors import InputError


class _Inert:
    """Stands for an object that the authors' trainer pickled beside the weights. It takes anything, does nothing."""

    def __new__(cls, *_: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.state = state


_BESIDE_THE_WEIGHTS = (
    "parse_config.ConfigParser",
    "argparse.Namespace",
    "pathlib.Path",
    "pathlib.PosixPath",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "_codecs.encode",
)
"""The whole run configuration and the best metric, as `base_trainer.py` of the releases saves them; all made inert."""


@dataclass(frozen=True)
class Checkpoint:
    """What a released checkpoint holds.

    Attributes:
        weights: name -> tensor.
        settings: the run's configuration as nested containers; empty where the file holds none.
    """

    weights: Mapping[str, Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def setting(self, *keys: str | int) -> Any:
        """Return one value of the configuration by the keys that lead to it, or None."""
        value: Any = self.settings
        for key in keys:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return None
        return value


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a `.pth` file as MMT and CE released them, with `weights_only=True`: it cannot run code.

    Raises:
        InputError: the file is missing, damaged, wants to run code, or holds no `state_dict` of tensors.
    """
    not_whole = f"{path} is not a checkpoint, or not a whole one. Fetch it again."
    try:
        with torch.serialization.safe_globals([(_Inert, name) for name in _BESIDE_THE_WEIGHTS]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted is None:
            raise InputError(not_whole) from error
        raise InputError(
            f"{path} is refused: it wants to run {wanted[1]}, only tensors and plain containers are admitted. "
            "Do not open it with anything else unless you trust its author."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise InputError(not_whole) from error
    weights = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise InputError(f"{path} holds no state_dict of tensors; the released checkpoints do.")
    return Checkpoint({_plain(name): value for name, value in weights.items()}, _settings(content.get("config")))


def _plain(name: str) -> str:
    """Return a tensor's name without what training on several GPUs puts before it."""
    return name.removeprefix("module.")


def _settings(config: Any) -> Mapping[str, Any]:
    """Return a pickled configuration as plain containers, whether it was saved as such or within a ConfigParser."""
    if isinstance(config, _Inert):
        state = getattr(config, "state", None)
        config = state.get("_config") if isinstance(state, dict) else None
    return config if isinstance(config, Mapping) else {}


class Taken(Mapping[str, Tensor]):
    """Tensors, and which of their names have been asked for."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = weights
        self._taken: set[str] = set()

    def __getitem__(self, name: str) -> Tensor:
        self._taken.add(name)
        return self._weights[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)

    def left(self) -> list[str]:
        """Return the names that nobody asked for, in alphabetical order."""
        return sorted(set(self._weights) - self._taken)


def below(weights: Mapping[str, Tensor], prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Yield (rest of the name, tensor) of the tensors whose names begin with `prefix`."""
    for name in weights:
        if name.startswith(prefix):
            yield name.removeprefix(prefix), weights[name]
