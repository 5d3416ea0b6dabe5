"""Where weights come from: a folder, the hub's cache, and errors that say what to do where there is neither."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import huggingface_hub
import pytest
from tiny_models import save_tiny

from feature_extraction.hub import model_folder, weight_files, weights_sha256
from vtr.errors import UnavailableError


def folder_of(model: str) -> Path:
    return model_folder(model, "expert clip", "settings.clip.model")


@pytest.fixture(autouse=True)
def cache(empty_hub: Path) -> Path:
    return empty_hub


def put_in_cache(cache: Path, name: str, folder: Path) -> Path:
    """Lay a model into the cache as the hub's library does."""
    home = cache / f"models--{name.replace('/', '--')}"
    snapshot = home / "snapshots" / ("a" * 40)
    shutil.copytree(folder, snapshot)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("a" * 40)
    return snapshot


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    path = save_tiny("dinov2", tmp_path)
    assert folder_of(str(path)) == path
    assert [file.name for file in weight_files(path)] == ["model.safetensors"]
    assert weights_sha256(path) == hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()


def test_what_the_cache_holds_needs_no_network(tmp_path: Path, cache: Path) -> None:
    snapshot = put_in_cache(cache, "someone/tiny", save_tiny("dinov2", tmp_path))
    assert folder_of("someone/tiny") == snapshot


def test_a_cache_without_the_weights_is_not_enough(tmp_path: Path, cache: Path) -> None:
    snapshot = put_in_cache(cache, "someone/tiny", save_tiny("dinov2", tmp_path))
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(UnavailableError, match="could not be downloaded"):
        folder_of("someone/tiny")


def test_without_network_the_message_says_what_to_do() -> None:
    with pytest.raises(UnavailableError) as caught:
        folder_of("openai/clip-vit-base-patch32")
    message = str(caught.value)
    for part in (
        "expert clip",
        "Name or service not known",
        "hf download openai/clip-vit-base-patch32",
        "settings.clip.model",
    ):
        assert part in message


def test_a_download_takes_one_kind_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Info:
        def __init__(self, *names: str) -> None:
            self.siblings = [huggingface_hub.hf_api.RepoSibling(rfilename=name) for name in names]

    def download(model: str, **how: object) -> str:
        if "local_files_only" in how:
            raise FileNotFoundError(model)
        asked.append(how["allow_patterns"])
        return str(save_tiny("dinov2", tmp_path))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    for names in (("config.json", "model.safetensors", "pytorch_model.bin"), ("config.json", "pytorch_model.bin")):
        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *_, names=names, **__: Info(*names))
        model_folder.cache_clear()
        folder_of("someone/tiny")
    assert ["*.safetensors" in patterns for patterns in asked] == [True, False]
    assert ["pytorch_model*.bin" in patterns for patterns in asked] == [False, True]


@pytest.mark.parametrize("model", ["/no/such/folder", "./here", "a/b/c"])
def test_a_path_that_is_no_folder_is_not_asked_of_the_hub(model: str) -> None:
    with pytest.raises(UnavailableError, match=r"settings\.clip\.model.*no folder"):
        folder_of(model)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UnavailableError, match=r"no model in Hugging Face layout.*settings\.clip\.model"):
        folder_of(str(tmp_path))


def test_weights_in_parts_have_a_hash_of_their_own(tmp_path: Path) -> None:
    for name in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        (tmp_path / name).write_bytes(name.encode())
    first = weights_sha256(tmp_path)
    assert len(first) == 64
    assert first not in {hashlib.sha256(file.read_bytes()).hexdigest() for file in weight_files(tmp_path)}
