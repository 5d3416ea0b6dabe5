"""Files of models that are torn, empty or something else: named in whole sentences, and by no traceback."""

from __future__ import annotations

import gzip
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import save_tiny

from feature_extraction.damage import first_sentence, read_object, weights_damage
from feature_extraction.experts import make_extractor
from feature_extraction.extractor import ModelExpert
from feature_extraction.text_embedding import SentenceEncoder
from vtr.errors import UnavailableError, VtrError
from vtr.extract_config import ExtractConfig
from vtr.packaged import minilm_folder

PAGE = b"<!DOCTYPE html>\n<html><head><title>404</title></head><body>Not found</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4665\nsize 12345\n"
SAFE, PICKLED = "model.safetensors", "pytorch_model.bin"


def write_tensors(path: Path, old: bool = False) -> bytes:
    tensors = {"a": torch.arange(1000.0), "b": torch.ones(3, dtype=torch.float16)}
    if path.suffix == ".safetensors":
        save_file(tensors, path, {"format": "pt"})
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=not old)
    return path.read_bytes()


@pytest.mark.parametrize(("name", "old"), [("w.safetensors", False), ("w.pt", False), ("w.bin", True)])
def test_whole_files_show_no_damage(tmp_path: Path, name: str, old: bool) -> None:
    write_tensors(tmp_path / name, old)
    assert weights_damage(tmp_path / name) == ""
    if name == "w.safetensors":
        save_file({}, tmp_path / name)
        assert weights_damage(tmp_path / name) == ""


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_a_file_cut_anywhere_shows_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    whole = write_tensors(path)
    for kept in (1, 7, 8, 9, 50, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        assert weights_damage(path) != "", kept
    path.write_bytes(whole[: len(whole) // 2])
    assert weights_damage(path).startswith("is torn")


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (PAGE, "is a web page"),
        (b"\n  <HTML>" + PAGE, "is a web page"),
        (POINTER, "git lfs pull"),
        (b"Access denied.\n", "is text"),
        (gzip.compress(PAGE, mtime=0), "format"),
        (bytes(range(256)) * 9, "format"),
    ],
)
def test_what_is_no_weights_is_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert said.replace("format", "safetensors file" if name.endswith("s") else "format") in weights_damage(
        tmp_path / name
    )


def test_other_archives_tables_and_folders_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("notes.txt", "hello")
    assert weights_damage(tmp_path / "w.pt") == "is an archive that torch.save did not write"
    table = json.dumps({"a": {"shape": [1]}}).encode()
    (tmp_path / "w.safetensors").write_bytes(len(table).to_bytes(8, "little") + table)
    assert weights_damage(tmp_path / "w.safetensors") == "is no safetensors file"
    assert weights_damage(tmp_path).startswith("cannot be read (")


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b'{"a": 1}', ""),
        (b"", "is empty"),
        (PAGE, "is a web page"),
        (b'{"a": ', "is no JSON, or is cut off"),
        (b"\xff\xfe\x00", "is no JSON"),
        (b"[1]", "holds no JSON object"),
    ],
)
def test_objects_are_read_or_what_is_wrong_is_said(tmp_path: Path, content: bytes, wrong: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    value, said = read_object(tmp_path / "config.json")
    assert value == ({"a": 1} if not wrong else {})
    assert said.startswith(wrong)
    assert bool(said) == bool(wrong)


def test_an_errors_first_sentence_is_whole() -> None:
    long = "Cannot connect to https://host.example/a.b?c=1 in 3.5 s"
    assert first_sentence(OSError(f"{long}.\n\nPlease read " + "on " * 99)) == f"OSError: {long}"
    assert first_sentence(KeyError()) == "KeyError"
    assert first_sentence(ValueError("no end" * 100)) == f"ValueError: {'no end' * 100}"


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def as_pickle(folder: Path) -> Path:
    torch.save(load_file(folder / SAFE), folder / PICKLED)
    (folder / SAFE).unlink()
    return folder / PICKLED


def lose_a_part(folder: Path) -> None:
    (folder / SAFE).rename(folder / "model-00001-of-00002.safetensors")
    parts = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))


def resize(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["hidden_size"] = 64
    (folder / "config.json").write_text(json.dumps(config))


def of_another_model(folder: Path) -> None:
    shutil.copy(save_tiny("vit", folder / "other") / SAFE, folder / SAFE)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty weights": (lambda folder: (folder / SAFE).write_bytes(b""), r"model\.safetensors is empty"),
    "half the weights": (lambda folder: halve(folder / SAFE), r"model\.safetensors is torn: it has"),
    "a page": (lambda folder: (folder / SAFE).write_bytes(PAGE), r"model\.safetensors is a web page"),
    "a pointer": (lambda folder: (folder / SAFE).write_bytes(POINTER), r"model\.safetensors is Git LFS's pointer"),
    "half a pickle": (lambda folder: halve(as_pickle(folder)), r"pytorch_model\.bin is torn"),
    "no pickle": (lambda folder: as_pickle(folder).write_bytes(b"hello"), r"pytorch_model\.bin is text"),
    "a lost part": (lose_a_part, r"model-00002-of-00002\.safetensors is missing"),
    "no config": (lambda folder: (folder / "config.json").unlink(), r"no model in Hugging Face layout"),
    "half a config": (lambda folder: halve(folder / "config.json"), r"config\.json is no JSON, or is cut off"),
    "a page as config": (lambda folder: (folder / "config.json").write_bytes(PAGE), r"config\.json is a web page"),
    "no type": (
        lambda folder: (folder / "config.json").write_text("{}"),
        r"a model of type 'None' by its config\.json",
    ),
    "no preprocessing": (
        lambda folder: (folder / "preprocessor_config.json").unlink(),
        r"does not tell how pictures are scaled",
    ),
    "a list as preprocessing": (
        lambda folder: (folder / "preprocessor_config.json").write_text("[]"),
        r"preprocessor_config\.json holds no JSON object",
    ),
    "other sizes": (resize, r"not those of its config\.json: \S+ has shape"),
    "another model's weights": (of_another_model, r"lack \d+ tensors of CLIP"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_model_is_named_with_what_to_do(tmp_path: Path, model_files: Path, kind: str) -> None:
    folder = tmp_path / "a model"
    shutil.copytree(save_tiny("clip", model_files), folder)
    damage, said = DAMAGE[kind]
    damage(folder)
    with pytest.raises(VtrError, match=said) as caught:
        clip(folder)
    message = str(caught.value)
    assert message.startswith("expert clip: ")
    assert str(folder) in message
    assert "expected" in message
    assert "settings.clip.model" in message or "download the model completely" in message
    assert message.endswith(".")


def clip(folder: Path) -> None:
    """Make and load the expert, as a worker does."""
    made = make_extractor("clip", ExtractConfig.model_validate({"settings": {"clip": {"model": str(folder)}}}))
    assert isinstance(made, ModelExpert)
    made.load("cpu")


def test_weights_as_pytorch_wrote_them_are_read(tmp_path: Path, model_files: Path) -> None:
    shutil.copytree(save_tiny("clip", model_files), tmp_path / "a model")
    as_pickle(tmp_path / "a model")
    clip(tmp_path / "a model")


def test_an_index_beside_whole_weights_is_not_read(tmp_path: Path, model_files: Path) -> None:
    """As transformers does: the authors of a model may have left it there."""
    folder = tmp_path / "a model"
    shutil.copytree(save_tiny("clip", model_files), folder)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "none.safetensors"}}))
    clip(folder)


def test_a_torn_sentence_model_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "sentences"
    folder.mkdir()
    for file in minilm_folder().iterdir():
        if file.is_file():
            shutil.copy(file, folder / file.name)
    halve(folder / SAFE)
    with pytest.raises(UnavailableError, match=r"^the sentence model: .*safetensors is torn.*set sentence_model to"):
        SentenceEncoder(str(folder))
