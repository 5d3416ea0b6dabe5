"""How much memory a process has held at most."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path


def peak_bytes(pid: int | None = None) -> int:
    """Return the most bytes of memory a running process has held since it began; 0 when that cannot be told.

    Args:
        pid: the process; by default this one.
    """
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid or 'self'}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 if pid is None else 0
