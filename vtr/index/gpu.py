"""FAISS on a GPU, where its GPU build and a GPU are there, else on the CPU. Scores are the CPU's either way."""

from __future__ import annotations

import threading
from typing import Any

import faiss

from vtr.errors import UnavailableError
from vtr.index.segment import Items, Rows, Vectors, read_blocks

MOST_LISTED = 2048
"""FAISS lists no more on a GPU. Longer lists are made on the CPU."""


def gpu_wanted(device: str) -> bool:
    """Return whether FAISS is to search on a GPU.

    Args:
        device: "cpu", "cuda", or "auto" for a GPU where there is one.

    Raises:
        UnavailableError: "cuda" was asked for and there is no GPU, or FAISS's build knows none.
    """
    count = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0
    if device == "cuda" and not count:
        raise UnavailableError(
            f"FAISS {faiss.__version__} finds no GPU, device 'cuda' needs one. On a machine with a GPU "
            "`vtr doctor` has the line that puts faiss-gpu in the place of faiss-cpu; elsewhere use --device cpu."
        )
    return device != "cpu" and count > 0


class OnGpu:
    """An index on a GPU. FAISS's may be asked by one thread at a time there, so threads take turns.

    Args:
        index: FAISS's.
    """

    def __init__(self, index: Any) -> None:
        self._index = index
        self._turn = threading.Lock()

    def search(self, asked: Vectors, count: int) -> tuple[Vectors, Rows]:
        """Return the largest inner products [Q, count] and their rows; at most `MOST_LISTED` are listed."""
        with self._turn:
            found: tuple[Vectors, Rows] = self._index.search(asked, count)
        return found


def to_gpu(items: Items) -> OnGpu | None:
    """Return an index of some items on the GPU, None where FAISS has no such kind there.

    Exact kinds are copied there as a flat index of float32; others are moved as they are.
    """
    index = items.approximate
    if index is None:
        index = faiss.IndexFlatIP(items.vectors.shape[1])
        for _, block in read_blocks(items):
            index.add(block)
    try:
        return OnGpu(faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index))
    except RuntimeError:  # HNSW, for one
        return None
