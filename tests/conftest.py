"""Shared by all tests: where the real data lies, and torch on one thread per process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    torch.set_num_threads(1)  # two test processes share two cores


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and reference cases; its tests are skipped where it is absent."""
    folder = Path(os.environ.get("VTR_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"the real data is not here ({folder}); set VTR_SHARED to its folder")
    return folder
