"""What a checkpoint was made with, and whether training can go on from it to the same bits."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vtr
from vtr import __version__
from vtr.errors import ConfigError, some
from vtr.files import read_json
from vtr.training.checkpoint import STATE

CHECKPOINT_FORMAT = 2
"""Raised when what a checkpoint holds changes."""

SHAPING = ("data", "losses", "models", "training", "evaluation/metrics.py", "evaluation/ranks.py", "similarity.py")
"""The parts of vtr that shape what a step does, or which model is kept."""

BESIDE = frozenset({"dry_run.py", "embed.py", "log.py", "mine.py", "tracking.py"})
"""Files of vtr/training that do not."""


def made_with(processes: int = 1, device: str = "cpu") -> dict[str, Any]:
    """Return what must be the same for training to go on to the same bits: versions, code, device, processes."""
    return {
        "vtr": __version__,
        "checkpoint format": CHECKPOINT_FORMAT,
        "processes": processes,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": device,
        "code": _code(),
    }


@functools.cache
def _code() -> dict[str, str]:
    """Return a short hash of each source file that shapes what a step does."""
    root = Path(vtr.__file__).parent
    files = [path for part in SHAPING for path in ([root / part] if "." in part else (root / part).rglob("*.py"))]
    files = [path for path in files if path.name not in BESIDE]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in sorted(files)}


def check_made_with(folder: Path, now: Mapping[str, Any], *, allow_changed: bool) -> list[str]:
    """Check that a checkpoint was made with the same versions, code and number of processes.

    Args:
        folder: the checkpoint.
        now: this process's `made_with`.
        allow_changed: go on all the same, where only code or versions differ.

    Returns:
        The differences that are gone over.

    Raises:
        ConfigError: there are differences; it names them.
    """
    before = read_json(folder / STATE).get("made_with", {})
    fixed = [_change(key, before, now) for key in ("checkpoint format", "processes") if before.get(key) != now[key]]
    if fixed:
        raise ConfigError(
            f"{folder} cannot be gone on from: {'; '.join(fixed)}. Start as many processes as before, with the vtr "
            "that made it; or choose another --out."
        )
    found = [_change(key, before, now) for key in ("vtr", "torch", "numpy", "device") if before.get(key) != now[key]]
    old, new = before.get("code", {}), now["code"]
    if changed := sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name)):
        found.append(f"code that has changed: {some([f'vtr/{name}' for name in changed])}")
    if found and not allow_changed:
        raise ConfigError(
            f"{folder} was made by other code or elsewhere: {'; '.join(found)}. Choose another --out to train from the "
            "start, or pass --allow-changed-code to go on; the result is then neither code's alone."
        )
    return found


def _change(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return f"{key}: {before.get(key, 'not recorded')} -> {now[key]}"
