"""The wheel and the archive of sources: what is in them, and that vtr works from them, away from the checkout."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import urllib.request
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from toy import ROOT, make_workspace

from vtr import __version__

SOURCES = ("LICENSE", "MANIFEST.in", "README.md", "THIRD_PARTY.md", "constraints.txt", "pyproject.toml")
BUILD = "import setuptools.build_meta as backend, sys; backend.build_{kind}(sys.argv[1])"
CONFIGS = {path.relative_to(ROOT / "configs") for path in (ROOT / "configs").rglob("*.yaml")}
PATTERNS = ("testsrc", "testsrc2", "smptebars", "mandelbrot", "rgbtestsrc", "life", "yuvtestsrc", "pal75bars")
"""Pictures that ffmpeg draws."""


def files_of(folder: str, *endings: str) -> set[str]:
    """Return a package's files that have some endings, or names."""
    paths = (ROOT / folder).rglob("*")
    return {path.relative_to(ROOT).as_posix() for path in paths if path.suffix in endings or path.name in endings}


def build(sources: Path, kind: str, out: Path) -> Path:
    """Build a "wheel" or an "sdist" with what is installed, as pip does without isolation; return the file."""
    out.mkdir(exist_ok=True)
    command = [sys.executable, "-W", "error", "-c", BUILD.format(kind=kind), str(out)]
    done = subprocess.run(command, cwd=sources, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (built,) = out.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return built


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built, as building leaves files behind."""
    copy = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        shutil.copy(ROOT / name, copy)
    for name in ("configs", "vtr", "feature_extraction"):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "tests").mkdir()
    (copy / "tests" / "test_nothing.py").write_text("")
    return copy


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a checkout."""
    return build(sources, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the wheel is installed to, without what it needs."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*command, str(wheel)], check=True)
    return target


def run(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder with the wheel and what it needs; -S leaves out the link of an editable install."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["PYTHONPATH"] = os.pathsep.join([str(installed), sysconfig.get_path("purelib")])
    command = [sys.executable, "-S", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def names_in(wheel: Path) -> set[str]:
    """Return the names of a wheel's files."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_both_packages_with_their_files_and_nothing_else(wheel: Path) -> None:
    expected = {f"vtr/configs/{path.as_posix()}" for path in CONFIGS}
    for folder in ("vtr", "feature_extraction"):
        expected |= files_of(folder, ".py", ".html", ".css", ".js", "py.typed")
    found = {name for name in names_in(wheel) if ".dist-info/" not in name}
    assert found == expected
    assert {"vtr/py.typed", "feature_extraction/py.typed", "vtr/serving/static/page.html"} <= found


def test_the_licence_and_the_notices_come_along(wheel: Path) -> None:
    info = f"vtr-{__version__}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        for name in ("LICENSE", "THIRD_PARTY.md"):
            assert archive.read(f"{info}/licenses/{name}") == (ROOT / name).read_bytes()
        metadata = archive.read(f"{info}/METADATA").decode()
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "\nRequires-Python: <3.14,>=3.11\n" in metadata


def test_the_archive_of_sources_makes_the_same_wheel(sources: Path, wheel: Path, tmp_path: Path) -> None:
    archive = build(sources, "sdist", tmp_path / "sdist")
    with tarfile.open(archive) as files:
        assert not [name for name in files.getnames() if "/tests" in name]
        files.extractall(tmp_path, filter="data")
    again = build(tmp_path / f"vtr-{__version__}", "wheel", tmp_path / "wheel")
    assert names_in(again) == names_in(wheel)
    with zipfile.ZipFile(again) as ours, zipfile.ZipFile(wheel) as theirs:
        assert all(ours.read(name) == theirs.read(name) for name in names_in(wheel) if "configs" in name)


def test_the_command_works_away_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    where = run(installed, tmp_path, "-c", "import vtr, feature_extraction as f; print(vtr.__file__, f.__file__)")
    assert where.stdout.split() == [str(installed / name / "__init__.py") for name in ("vtr", "feature_extraction")]
    script = str(installed / "bin" / "vtr")
    assert run(installed, tmp_path, script, "--version").stdout == f"vtr {__version__}\n"
    for command in ("--help", "losses", "experts"):
        done = run(installed, tmp_path, script, command)
        assert done.returncode == 0 and done.stdout and not done.stderr, done.stderr


def test_configurations_are_found_by_name(installed: Path, tmp_path: Path) -> None:
    script = str(installed / "bin" / "vtr")
    listed = run(installed, tmp_path, script, "configs").stdout.splitlines()
    assert {line.split()[0] for line in listed} == {path.with_suffix("").as_posix() for path in CONFIGS}
    printed = run(installed, tmp_path, script, "configs", "losses_mmt").stdout
    assert yaml.safe_load(printed)["train"] == "msrvtt_clips"
    (tmp_path / "mine.yaml").write_text(printed)
    read = "import pathlib, vtr.sweep_config as s; print(s.load_sweep(pathlib.Path('mine.yaml'))[1].split)"
    assert run(installed, tmp_path, "-c", read).stdout == "clips-holdout\n"
    refused = run(installed, tmp_path, script, "train", ".", "--config", "mmt_1ka_unifed", "--dry-run")
    assert refused.returncode == 1 and "Did you mean 'mmt_1ka_unified'?" in refused.stderr


def test_a_workspace_is_read(installed: Path, tmp_path: Path) -> None:
    make_workspace(tmp_path / "ws")
    dry = ("train", "ws", "--config", "small", "--set", "split=toy", "--set", "experts=null", "--dry-run")
    done = run(installed, tmp_path, str(installed / "bin" / "vtr"), *dry)
    assert done.returncode == 0, done.stderr
    assert re.search(r"40 (videos|training)", done.stdout), done.stdout


def calling(environment: Path, folder: Path) -> Callable[..., str]:
    """Return what calls a program of a virtual environment in a folder, and gives what it prints."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}

    def call(program: str, *arguments: str) -> str:
        command = [str(environment / "bin" / program), *arguments]
        done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout[-2000:]} {done.stderr[-4000:]}"
        return done.stdout

    return call


@pytest.mark.slow
def test_a_fresh_environment_extracts_trains_searches_and_serves(wheel: Path, tmp_path: Path) -> None:
    """Installs gigabytes from the package index."""
    venv.create(tmp_path / "venv", with_pip=True)
    call = calling(tmp_path / "venv", tmp_path)
    constraints = str(ROOT / "constraints.txt")
    call("pip", "install", "--quiet", "-c", constraints, f"vtr[experts,serve] @ {wheel.as_uri()}")
    assert f"{tmp_path}/venv/" in call("python", "-c", "import vtr; print(vtr.__file__)")
    found = dict(reversed(line.split(maxsplit=2)[:2]) for line in call("vtr", "doctor").splitlines() if line[0] != " ")
    assert {found[name] for name in ("vtr", "torch", "decord", "PyAV", "faiss", "transformers")} == {"ok"}
    make_videos(call, tmp_path)
    call("vtr", "prepare", "folder", "clips", "--captions", "captions.csv", "--out", "ws")
    call("vtr", "extract", "ws")
    chosen = ("--set", "experts=[appearance,motion,objects]", "--set", "epochs=1")
    call("vtr", "train", "ws", "--config", "small", *chosen, "--out", "run")
    call("vtr", "embed", "run")
    assert "e.g. a picture of" in call("vtr", "search", "run", "bars")
    check_server(tmp_path / "venv" / "bin" / "vtr", tmp_path)


def make_videos(call: Callable[..., str], folder: Path) -> None:
    """Write clips and captions, with the ffmpeg that came along."""
    clips = folder / "clips"
    clips.mkdir()
    ffmpeg = call("python", "-c", "import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())").strip()
    lines = ["video,caption"]
    for name in PATTERNS:
        drawn = ["-f", "lavfi", "-i", f"{name}=size=160x120:rate=8", "-t", "2", "-pix_fmt", "yuv420p"]
        subprocess.run([ffmpeg, "-v", "error", *drawn, str(clips / f"{name}.mp4")], check=True)
        lines += [f"{name}.mp4,a picture of {name}", f"{name}.mp4,{name} moves"]
    (folder / "captions.csv").write_text("\n".join(lines) + "\n")


def check_server(vtr: Path, folder: Path) -> None:
    """Serve a run on a free port, ask for its health and its page, and stop."""
    with subprocess.Popen(
        [vtr, "serve", "run", "--port", "0"], cwd=folder, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        said = next((line for line in server.stderr if "Ctrl-C ends" in line), "")
        try:
            address = re.search(r"http://\S+", said)
            assert address, said
            with urllib.request.urlopen(f"{address[0]}/health") as answer:
                assert json.load(answer)["status"] == "ok"
            with urllib.request.urlopen(address[0]) as answer:
                assert b"<html" in answer.read()
        finally:
            server.send_signal(signal.SIGTERM)
