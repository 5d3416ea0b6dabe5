"""For tests that may run where vtr is not installed: what they need beside torch, by name."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


def needs(module: str, *packages: str) -> None:
    """Skip the test module that calls this unless all packages are there; those that are missing are named."""
    if missing := [name for name in packages if find_spec(name) is None]:
        pytest.skip(f"{module} needs {', '.join(missing)}, not installed here", allow_module_level=True)
