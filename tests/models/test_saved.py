"""Models come back from disk as they were, and what is not a whole model is refused in words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vtr.config import TrainConfig
from vtr.errors import ConfigError, WorkspaceError
from vtr.models import build_model
from vtr.models.saved import load_model, save_model, save_tensors
from vtr.models.text import TextInput
from vtr.types import VideoBatch

DIMS = {"audio": 5, "face": 3, "motion": 4}


@pytest.fixture
def saved(tmp_path: Path, toy_config: Callable[..., TrainConfig]) -> Path:
    save_model(tmp_path, build_model(toy_config(), DIMS, 32), toy_config())
    return tmp_path


def edit(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("mode", ["frozen", "fine_tuned"])
def test_a_saved_model_answers_as_before(
    tmp_path: Path, toy_config: Callable[..., TrainConfig], tiny_bert: Path, videos: VideoBatch, mode: str
) -> None:
    config = toy_config(text={"model": str(tiny_bert), "mode": mode})
    model = build_model(config, DIMS, 32)
    save_model(tmp_path, model, config)
    loaded, loaded_config = load_model(tmp_path)
    assert loaded_config == config
    assert not loaded.training
    model.eval()
    texts = TextInput(config.text).batch(("1", "2"), ("a dog runs", "the cat sleeps in the park"))
    with torch.inference_mode():
        assert torch.equal(loaded.embed_videos(videos).vectors, model.embed_videos(videos).vectors)
        assert torch.equal(loaded.embed_texts(texts).vectors, model.embed_texts(texts).vectors)
        assert torch.equal(loaded.embed_texts(texts).weights, model.embed_texts(texts).weights)


@pytest.mark.parametrize("mode", ["frozen", "fine_tuned"])
def test_a_new_model_depends_on_the_seed_alone(
    tmp_path: Path, toy_config: Callable[..., TrainConfig], tiny_bert: Path, mode: str
) -> None:
    shutil.copytree(tiny_bert, tmp_path / "bert")
    weights = {n: w for n, w in load_file(tiny_bert / "model.safetensors").items() if "pooler" not in n}
    save_file(weights, tmp_path / "bert" / "model.safetensors", {"format": "pt"})  # a pooler has to be drawn
    text = {"model": str(tmp_path / "bert"), "mode": mode}
    first = build_model(toy_config(text=text, seed=1), DIMS, 32).state_dict()
    torch.rand(3)
    again = build_model(toy_config(text=text, seed=1), DIMS, 32).state_dict()
    other = build_model(toy_config(text=text, seed=2), DIMS, 32).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["reduce.face.weight"], other["reduce.face.weight"])


def test_no_model_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"holds no model.*vtr train"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format=99, vtr="9.9"), r"vtr 9\.9 in format 99.*Install the newer vtr"),
        (lambda c: c.pop("format"), "does not describe a model"),
        (lambda c: c.pop("model"), "does not describe a model"),
        (lambda c: c["model"].pop("text_dim"), "does not describe a model"),
        (lambda c: c["model"].update(expert_ids={}), "does not describe a model"),
        (lambda c: c["model"]["expert_dims"].update(face=9), r"reduce\.face\.weight is \[16, 3\], \[16, 9\] expected"),
    ],
)
def test_a_wrong_description_is_refused(
    saved: Path, change: Callable[[dict[str, object]], object], message: str
) -> None:
    edit(saved / "model.json", change)
    with pytest.raises(WorkspaceError, match=message):
        load_model(saved)


def test_a_config_of_another_vtr_names_its_key(saved: Path) -> None:
    edit(saved / "model.json", lambda c: c["config"].update(sheds=1))  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"model\.json: unknown key 'sheds'"):
        load_model(saved)


def test_files_cut_in_half_are_refused(saved: Path) -> None:
    weights, description = saved / "model.safetensors", saved / "model.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WorkspaceError, match="damaged"):
        load_model(saved)
    weights.unlink()
    with pytest.raises(WorkspaceError, match="missing"):
        load_model(saved)
    description.write_text(description.read_text()[:50])
    with pytest.raises(WorkspaceError, match="not whole JSON"):
        load_model(saved)


def test_missing_and_foreign_tensors_are_named(saved: Path) -> None:
    path = saved / "model.safetensors"
    tensors = load_file(path)
    tensors["spare"] = tensors.pop("mixture.linear.bias")
    save_file(tensors, path)
    with pytest.raises(WorkspaceError, match=r"mixture\.linear\.bias is missing; spare is not the model's \(2 in all"):
        load_model(saved)


def test_a_full_disk_is_an_error_in_words(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.symlink_to("/dev/full")
    with pytest.raises(WorkspaceError, match="No space left on device"):
        save_tensors(path, {"a": torch.zeros(3)})
