"""What this machine has and what it lacks, with the line that mends it."""

from __future__ import annotations

import importlib
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from vtr import __version__
from vtr.experts import EXPERTS
from vtr.packaged import INSTALL_EXPERTS, has_module

CORE = "pip install -c constraints.txt -e ."
LOW_DISK_GB = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One line.

    Attributes:
        name: what was looked for.
        good: whether it is there.
        text: what was found.
        mend: the line that mends it; "" when nothing is wrong.
    """

    name: str
    good: bool
    text: str
    mend: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All findings."""

    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        width = max(len(finding.name) for finding in self.findings)
        lines = []
        for finding in self.findings:
            lines.append(f"{'ok     ' if finding.good else 'missing'}  {finding.name.ljust(width)}  {finding.text}")
            if finding.mend:
                lines.append(f"{' ' * (width + 11)}{finding.mend}")
        return "\n".join(lines)


def doctor() -> Diagnosis:
    """Look at Python, the libraries, ffmpeg, the experts, the extras and the disk. Never fails."""
    findings = [
        Finding("vtr", True, __version__),
        Finding("Python", sys.version_info >= (3, 11), platform.python_version(), ""),
        _torch(),
        _package("decord", "decord", CORE),
        _package("PyAV", "av", CORE),
        _ffmpeg(),
        _faiss(),
        _package("transformers", "transformers", CORE),
        _package("pyarrow", "pyarrow", CORE),
    ]
    for expert in EXPERTS.values():
        missing = [package for package in expert.packages if not has_module(package)]
        text = f"lacks {', '.join(missing)}" if missing else expert.summary
        findings.append(Finding(f"expert {expert.name}", not missing, text, INSTALL_EXPERTS if missing else ""))
    for extra, module in (("serve", "fastapi"), ("ray", "ray")):
        there = has_module(module)
        text = "installed" if there else "not installed (optional)"
        findings.append(Finding(f"extra {extra}", there, text, "" if there else f"pip install -e '.[{extra}]'"))
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    mend = "" if free > LOW_DISK_GB else "free some disk space: features of 10,000 clips take some GB"
    findings.append(Finding("disk", free > LOW_DISK_GB, f"{free:.0f} GB free in {Path.cwd()}", mend))
    return Diagnosis(tuple(findings))


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _package(name: str, module: str, mend: str) -> Finding:
    if not has_module(module):
        return Finding(name, False, "not installed", mend)
    return Finding(name, True, _version(module) or "installed")


def _torch() -> Finding:
    if not has_module("torch"):
        return Finding("torch", False, "not installed", CORE)
    torch = importlib.import_module("torch")
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "CPU only"
    return Finding("torch", True, f"{torch.__version__}, {device}")


def _faiss() -> Finding:
    gpu, cpu = _version("faiss-gpu"), _version("faiss-cpu")
    if gpu and cpu:
        return Finding("faiss", False, "faiss-cpu and faiss-gpu are both installed", "pip uninstall faiss-cpu")
    if gpu or cpu:
        return Finding("faiss", True, f"{gpu} (GPU build)" if gpu else f"{cpu} (CPU build)")
    return Finding("faiss", False, "not installed", CORE)


def _ffmpeg() -> Finding:
    path, source = shutil.which("ffmpeg"), "on PATH"
    if path is None and has_module("imageio_ffmpeg"):
        try:
            path = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
            source = "carried by imageio-ffmpeg"
        except RuntimeError:
            path = None
    if path is None:
        return Finding("ffmpeg", False, "not found", "pip install imageio-ffmpeg")
    done = subprocess.run([path, "-version"], capture_output=True, text=True, check=False, timeout=60)
    words = done.stdout.split()
    return Finding("ffmpeg", done.returncode == 0, f"{words[2] if len(words) > 2 else '?'}, {source}: {path}")
