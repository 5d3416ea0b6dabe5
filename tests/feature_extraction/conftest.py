"""Clips that several tests read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import httpx
import huggingface_hub
import pytest
from painted_clips import ffmpeg, painted, render

from feature_extraction.extractor import Expert, ModelExpert
from feature_extraction.hub import model_folder
from feature_extraction.media import Decoder
from vtr.extract_config import ExtractConfig


@pytest.fixture(scope="session")
def decoder() -> Iterator[Decoder]:
    """One decoder for all tests that do not break it."""
    with Decoder() as decoder:
        yield decoder


@pytest.fixture
def empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, empty, where there is no network."""

    def unreachable(*_: object, **__: object) -> None:
        raise httpx.ConnectError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    model_folder.cache_clear()
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 painted frames at 25 a second, H.264 in MP4."""
    return render(tmp_path_factory.mktemp("clips") / "painted.mp4", map(painted, range(50)))


@pytest.fixture(scope="session")
def clip_with_sound(clip: Path) -> Path:
    """The same with a 440 Hz tone."""
    path = clip.with_name("with sound.mp4")
    ffmpeg("-i", clip, "-f", "lavfi", "-i", "sine=440:d=2", "-c:v", "copy", "-c:a", "aac", path)
    return path


@pytest.fixture(scope="session")
def model_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where tests save the models they make, so that each is made once."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def extractor() -> Callable[[str], Expert]:
    """Return a function that loads an expert, once for all tests; skipped where its packages are not installed."""
    from feature_extraction.experts import make_extractor, missing_packages

    @cache
    def load(name: str) -> Expert:
        if missing := missing_packages(name):
            pytest.skip(f"the expert {name} needs {', '.join(missing)}: pip install 'vtr[experts]'")
        expert = make_extractor(name, ExtractConfig())
        if isinstance(expert, ModelExpert):
            expert.load("cpu")
        return expert

    return load
