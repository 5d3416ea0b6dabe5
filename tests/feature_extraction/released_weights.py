"""For tests: random weights of the networks whose weights the user downloads, saved as each of them was released."""

from __future__ import annotations

import pickle
import re
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from plain_networks import Weights, plain_densenet, plain_s3d, plain_vggish


def random_weights(expert: str) -> Weights:
    """Return weights of a network of published size; the same every time."""
    made = Weights(counters=expert != "densenet")  # PyTorch 0.2 kept none
    if expert == "s3d":
        plain_s3d(made, torch.zeros(1, 3, 16, 32, 32))
    elif expert == "vggish":
        plain_vggish(made, torch.zeros(1, 96, 64))
    else:
        plain_densenet(made, torch.zeros(1, 3, 32, 32), classes=365)
    return made


def save_released(expert: str, folder: Path) -> Path:
    """Save the weights of `random_weights` once, and return their file."""
    name, save = RELEASES[expert]
    path = folder / name
    if not path.exists():
        save(random_weights(expert), path)
    return path


def _save_s3d(weights: Weights, path: Path) -> None:
    """Save a state dict of a network that was trained on several GPUs."""
    torch.save({f"module.{name}": value for name, value in weights.tensors.items()}, path)


def _save_vggish(weights: Weights, path: Path) -> None:
    torch.save(weights.tensors, path)


class _Python2Pickler(pickle._Pickler):
    """Writes text as Python 2 wrote its `str`."""

    dispatch = pickle._Pickler.dispatch.copy()

    def save_bytes_string(self, text: str) -> None:
        raw = text.encode("ascii")
        self.write(pickle.SHORT_BINSTRING + bytes([len(raw)]) + raw)
        self.memoize(text)

    dispatch[str] = save_bytes_string


def _save_densenet(weights: Weights, path: Path) -> None:
    """Save a checkpoint of several GPUs, PyTorch 0.2 and Python 2, with names like norm.1."""
    old = {"module." + re.sub(r"(norm|conv)([12])[.]", r"\1.\2.", name): v for name, v in weights.tensors.items()}
    assert "module.features.denseblock1.denselayer1.norm.1.weight" in old
    assert "module.features.transition1.norm.weight" in old
    content = {"epoch": 90, "arch": "densenet161", "state_dict": old, "best_prec1": 56.1}
    python2: Any = types.SimpleNamespace(
        Pickler=_Python2Pickler,
        dump=lambda value, file, protocol: _Python2Pickler(file, protocol).dump(value),
        __name__="pickle",
    )
    torch.save(content, path, pickle_module=python2, _use_new_zipfile_serialization=False)


RELEASES: Mapping[str, tuple[str, Callable[[Weights, Path], None]]] = {
    "s3d": ("S3D_kinetics400.pt", _save_s3d),
    "vggish": ("vggish-10086976.pth", _save_vggish),
    "densenet": ("densenet161_places365.pth.tar", _save_densenet),
}
"""Expert -> its release's file, and how that was written."""
