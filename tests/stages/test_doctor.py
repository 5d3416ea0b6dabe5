"""What `vtr doctor` says of a whole machine, and of one that lacks or has broken what it looks for."""

from __future__ import annotations

import importlib
import platform
import shutil
import subprocess
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from vtr.experts import EXPERTS
from vtr.stages import doctor
from vtr.stages.doctor import EXTRAS, Finding

Look = Callable[[], dict[str, Finding]]


@pytest.fixture
def look() -> Look:
    """Looks at the machine; findings by name."""
    return lambda: {finding.name: finding for finding in doctor.doctor().findings}


def without(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Let modules not be installed; all of them where none is named."""
    has_module = doctor.has_module
    monkeypatch.setattr(doctor, "has_module", lambda name: bool(modules) and name not in modules and has_module(name))


def replaced(monkeypatch: pytest.MonkeyPatch, module: str, by: Callable[[], object]) -> None:
    """Let importing a module do something else."""
    own = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", lambda name: by() if name == module else own(name))


def test_a_machine_that_has_everything(look: Look) -> None:
    found = look()
    assert {*EXPERTS} == {name.removeprefix("expert ") for name in found if name.startswith("expert ")}
    for name in ("vtr", "Python", "torch", "decord", "PyAV", "ffmpeg", "faiss", "transformers", "pyarrow"):
        assert (found[name].state, found[name].mend) == ("ok", ""), found[name]
    assert found["Python"].text == platform.python_version()
    assert found["torch"].text.startswith(torch.__version__)


def test_the_lines_are_one_below_the_other_and_say_what_mends(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "decord")
    lines = str(doctor.doctor()).splitlines()
    (place,) = [number for number, line in enumerate(lines) if line.startswith("missing   decord ")]
    assert lines[place + 1].strip().startswith("mend: pip install 'decord")


def test_what_is_not_installed_is_missing_and_extras_are_optional(monkeypatch: pytest.MonkeyPatch, look: Look) -> None:
    without(monkeypatch)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    found = look()
    for name in ("torch", "decord", "PyAV", "faiss", "transformers", "pyarrow", "ffmpeg"):
        assert found[name].state == "missing" and found[name].mend.startswith("pip install"), found[name]
    for extra, *modules in EXTRAS:
        assert found[f"extra {extra}"].state == "optional"
        assert found[f"extra {extra}"].text == f"lacks {', '.join(modules)}"
    for name, expert in EXPERTS.items():
        assert (found[f"expert {name}"].state == "missing") == bool(expert.packages)


def test_audio_without_whisper_is_told(monkeypatch: pytest.MonkeyPatch, look: Look) -> None:
    without(monkeypatch, "faster_whisper")
    assert look()["expert audio"].text == "ready with log-mel statistics (not pretrained), as it lacks faster_whisper"


def test_a_module_that_cannot_be_imported_is_broken(monkeypatch: pytest.MonkeyPatch, look: Look) -> None:
    def broken() -> object:
        raise OSError("libavcodec.so.61: cannot open\n  shared object file")

    replaced(monkeypatch, "av", broken)
    found = look()["PyAV"]
    assert found.state == "broken"
    assert found.text == "cannot be imported: libavcodec.so.61: cannot open shared object file"


def test_both_builds_of_faiss_are_one_too_many(monkeypatch: pytest.MonkeyPatch, look: Look) -> None:
    monkeypatch.setattr(doctor, "_version", lambda _: "1.0")
    found = look()["faiss"]
    assert found.state == "broken" and "keep one" in found.text
    assert found.mend.startswith("pip uninstall -y faiss-cpu faiss-gpu && pip install 'faiss-gpu")


def test_the_cpu_build_of_faiss_beside_a_gpu_is_pointed_out(monkeypatch: pytest.MonkeyPatch, look: Look) -> None:
    replaced(monkeypatch, "faiss", lambda: SimpleNamespace(__version__="1.2.3"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"GPU {number}")
    found = look()
    assert found["torch"].text == f"{torch.__version__}, GPU 0, GPU 1"
    assert found["faiss"].state == "optional"
    assert found["faiss"].text == "1.2.3 (CPU build), and there is a GPU"


def test_an_ffmpeg_that_does_not_start_is_broken(monkeypatch: pytest.MonkeyPatch, look: Look) -> None:
    def fail(*_: object, **__: object) -> object:
        raise subprocess.CalledProcessError(127, ["ffmpeg"])

    monkeypatch.setattr(subprocess, "run", fail)
    found = look()["ffmpeg"]
    assert found.state == "broken" and "non-zero exit status 127" in found.text


@pytest.mark.parametrize("carries", [True, False])
def test_without_one_on_the_path_ffmpeg_is_that_of_imageio(
    monkeypatch: pytest.MonkeyPatch, look: Look, carries: bool
) -> None:
    def path() -> str:
        if not carries:
            raise RuntimeError("No ffmpeg exe could be found")
        return "/carried/ffmpeg"

    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="ffmpeg version 7.1-static Copyright")
    )
    replaced(monkeypatch, "imageio_ffmpeg", lambda: SimpleNamespace(get_ffmpeg_exe=path))
    found = look()["ffmpeg"]
    assert found.text == (
        "7.1-static, carried by imageio-ffmpeg: /carried/ffmpeg" if carries else "neither on PATH nor in imageio-ffmpeg"
    )


def test_a_disk_that_is_nearly_full_is_told(monkeypatch: pytest.MonkeyPatch, look: Look) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1.25e9))
    assert look()["disk"].state == "missing"
    assert look()["disk"].text.startswith("1.2 GB free in ")
