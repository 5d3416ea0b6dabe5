"""What the benchmarks' pages share: the processor's name, and paragraphs of a width."""

from __future__ import annotations

import platform
import textwrap
from pathlib import Path


def paragraph(text: str) -> list[str]:
    """Return the lines of a paragraph."""
    return textwrap.wrap(text, 120, break_on_hyphens=False)


def cpu() -> str:
    """Return the processor's name."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
