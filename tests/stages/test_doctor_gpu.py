"""What `vtr doctor` says of FAISS beside torch, with stand-ins for both: no GPU is here."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vtr.stages import doctor


class FlatIndex:
    """Inner products by numpy, off by `error`."""

    def __init__(self, error: float) -> None:
        self._error = error

    def add(self, vectors: np.ndarray) -> None:
        self._vectors = vectors

    def search(self, asked: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        scores = asked @ self._vectors.T + self._error
        rows = np.argsort(-scores, axis=1)[:, :count]
        return np.take_along_axis(scores, rows, axis=1), rows


class Tensor:
    """As much of a tensor on a GPU as the check uses."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def __mul__(self, factor: float) -> Tensor:
        return Tensor(self._values * factor)

    def __matmul__(self, other: Tensor) -> Tensor:
        return Tensor(self._values @ other._values)

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> np.ndarray:
        return self._values

    def diag(self) -> Tensor:
        return Tensor(np.diag(self._values))

    def tolist(self) -> list[float]:
        return list(self._values.tolist())


def finding(
    monkeypatch: pytest.MonkeyPatch,
    *,
    installed: tuple[str, ...] = ("faiss-gpu",),
    cuda: bool = True,
    gpus: int = 1,
    error: float = 0.0,
    fails: bool = False,
) -> doctor.Finding:
    """Return what the doctor says of FAISS on a machine like that."""

    def move(*_: object) -> FlatIndex:
        if fails:
            raise RuntimeError("CUDA driver version is insufficient for CUDA runtime version")
        return FlatIndex(error)

    faiss: dict[str, Any] = {"__version__": "1.15.1", "IndexFlatIP": lambda _: None}
    if "faiss-gpu" in installed:
        faiss |= {"StandardGpuResources": object, "get_num_gpus": lambda: gpus, "index_cpu_to_gpu": move}
    torch = SimpleNamespace(
        cuda=SimpleNamespace(is_available=lambda: cuda), eye=lambda size, **_: Tensor(np.eye(size, dtype="f"))
    )
    monkeypatch.setitem(sys.modules, "faiss", SimpleNamespace(**faiss))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(doctor, "has_module", lambda _: True)
    monkeypatch.setattr(doctor, "_version", lambda name: "1.15.1" if name in installed else None)
    return doctor._faiss()


def test_both_on_the_gpu_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    found = finding(monkeypatch, gpus=2)
    assert (found.state, found.text) == ("ok", "1.15.1 (GPU build), 2 GPUs, side by side with torch")


@pytest.mark.parametrize(
    ("machine", "state", "text"),
    [
        ({"cuda": False, "gpus": 0}, "optional", "torch finds no GPU"),
        ({"gpus": 0}, "broken", "FAISS finds no GPU, though torch does"),
        ({"fails": True}, "broken", "driver version is insufficient"),
        ({"error": 1.0}, "broken", "FAISS's inner products are [5.0"),
        ({"installed": ("faiss-cpu",)}, "optional", "CPU build), and there is a GPU"),
        ({"installed": ("faiss-cpu", "faiss-gpu")}, "broken", "both installed"),
        ({"installed": ("faiss-cpu",), "cuda": False}, "ok", "CPU build"),
    ],
)
def test_anything_else_is_told(machine: dict[str, Any], state: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = finding(monkeypatch, **machine)
    assert found.state == state and text in found.text
    assert bool(found.mend) == (state != "ok")


def test_the_line_for_the_gpu_build_brings_its_cuda_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    mend = finding(monkeypatch, installed=("faiss-cpu",)).mend
    assert "faiss-gpu==" in mend and "--no-deps" not in mend  # faiss-gpu does not load without NVIDIA's wheels
