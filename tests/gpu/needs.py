"""For tests that may run where vtr is not installed: what they need beside torch, by name."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


def needs(*packages: str) -> None:
    """Skip the module that calls this unless all packages are there; those that are missing are named."""
    if missing := [name for name in packages if find_spec(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}", allow_module_level=True)
