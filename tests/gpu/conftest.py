"""A GPU for tests that are marked `gpu`: without one they are skipped, or fail where one is expected.

Nothing here imports vtr or another package than torch, so that `make test-gpu` begins on a machine that has no more.
"""

from __future__ import annotations

import os

import pytest
import torch

EXPECTED = "VTR_EXPECT_GPU"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is None or torch.cuda.is_available():
        return
    if os.environ.get(EXPECTED) == "1":
        item.session.shouldfail = "one GPU test stands for all"
        pytest.fail(f"torch {torch.__version__} finds no GPU, and {EXPECTED}=1 says that there is one", pytrace=False)
    pytest.skip(f"torch {torch.__version__} finds no GPU")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """The CPU, so that a test's own logic is run everywhere, then the GPU."""
    return torch.device(request.param)
