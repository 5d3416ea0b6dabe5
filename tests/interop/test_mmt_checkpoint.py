"""Our MMT with released weights answers as the released code does (reference outputs of the public implementation)."""

from __future__ import annotations

import argparse
import collections
import json
import os
import pathlib
import shutil
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vtr.errors import InputError
from vtr.interop.mmt_checkpoint import load_mmt_checkpoint
from vtr.models.mmt import MMT
from vtr.similarity import score_matrix
from vtr.types import ExpertBatch, TextBatch, VideoBatch

CASES = ("drop_missing_0", "drop_missing_1", "keep_missing_0", "keep_missing_1")


def load_case(shared: Path, case: str) -> tuple[MMT, VideoBatch, TextBatch, dict[str, np.ndarray]]:
    folder = shared / "reference" / "mmt" / case
    meta = json.loads((folder / "meta.json").read_text())
    with np.load(folder / "batch.npz") as content:
        batch = dict(content)
    model = load_mmt_checkpoint(
        folder / "checkpoint.pth",
        meta["text_bert"],
        heads=meta["video_bert"]["num_attention_heads"],
        keep_missing=meta["keep_missing_modalities"],
        expert_ids=meta["expert_type_ids"],
    )
    experts, present = {}, []
    for name in meta["expert_order"]:
        mask = torch.from_numpy(batch[f"mask/{name}"]) > 0
        # the released code writes the position itself: 0 for no token, 1 for a feature without time
        position = torch.from_numpy(batch[f"times/{name}"]).float()
        seconds = torch.where(position == 1, torch.nan, position - 2)
        values = torch.from_numpy(batch[f"features/{name}"])
        aggregate = torch.from_numpy(batch[f"maxpool/{name}"])
        experts[name] = ExpertBatch(values, seconds, mask, aggregate)
        present.append(mask.any(1))
    count = len(present[0])
    videos = VideoBatch(tuple(map(str, range(count))), experts, torch.stack(present, 1))
    tokens = torch.from_numpy(batch["token_ids"]).flatten(0, 1)
    texts = TextBatch(tuple(map(str, range(len(tokens)))), input_ids=tokens[..., 0], attention_mask=tokens[..., 1])
    return model, videos, texts, batch


@pytest.mark.parametrize("case", CASES)
def test_embeddings_weights_and_scores_equal_the_released_code(shared: Path, case: str) -> None:
    model, videos, texts, batch = load_case(shared, case)
    with torch.inference_mode():
        video_embeddings, text_embeddings = model.embed_videos(videos), model.embed_texts(texts)
        scores = score_matrix(text_embeddings, video_embeddings)
    expected_texts = batch["text_embds"].transpose(0, 2, 1, 3).reshape(len(texts.ids), len(model.experts), -1)
    np.testing.assert_allclose(video_embeddings.vectors.numpy(), batch["vid_embds"], atol=1e-5)
    np.testing.assert_allclose(text_embeddings.vectors.numpy(), expected_texts, atol=1e-5)
    np.testing.assert_allclose(
        text_embeddings.weights.numpy(), batch["text_weights"].reshape(-1, len(model.experts)), atol=1e-5
    )
    np.testing.assert_allclose(scores.numpy(), batch["similarities"], atol=1e-5)


def rewritten(shared: Path, to: Path, change: Callable[[dict[str, Any]], object], **how: Any) -> Path:
    """Save a reference checkpoint again, changed."""
    content = torch.load(shared / "reference" / "mmt" / CASES[0] / "checkpoint.pth", weights_only=True)
    change(content)
    torch.save(content, to, **how)
    return to


def text_config(shared: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((shared / "reference" / "mmt" / CASES[0] / "meta.json").read_text())[
        "text_bert"
    ]
    return config


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "torch 1.4"])
def test_what_the_authors_trainer_saves_beside_the_weights_does_not_hinder(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    module = types.ModuleType("parse_config")
    parser = type("ConfigParser", (), {"__module__": "parse_config"})
    module.ConfigParser = parser  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "parse_config", module)
    config = parser()
    config.__dict__.update(
        _config=collections.OrderedDict(name="mmt", trainer={"epochs": 50}),
        _args=argparse.Namespace(config="a.json", resume=None),
        _save_dir=Path("exps") / "mmt",
        _web_dirs=[Path("exps/mmt/visualisations")],
        cfg_fname=Path("configs/a.json"),
        only_eval=False,
    )

    def as_the_trainer_does(content: dict[str, Any]) -> None:
        content.update(config=config, monitor_best=np.float64(26.6))
        content["state_dict"]["txt_bert.embeddings.position_ids"] = torch.arange(64)[None]  # transformers 3 and 4 do

    path = rewritten(shared, tmp_path / "trained_model.pth", as_the_trainer_does, _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(sys.modules, "parse_config")
    loaded = load_mmt_checkpoint(path, text_config(shared), heads=4, keep_missing=False)
    expected, *_ = load_case(shared, CASES[0])
    for name, value in expected.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_what_does_not_fit_is_refused_in_words(shared: Path, tmp_path: Path) -> None:
    text, path = text_config(shared), tmp_path / "changed.pth"

    def refused(change: Callable[[dict[str, Any]], object], message: str, heads: int = 4, **ids: Any) -> None:
        rewritten(shared, path, lambda content: change(content["state_dict"]))
        with pytest.raises(InputError, match=message):
            load_mmt_checkpoint(path, text, heads=heads, keep_missing=True, **ids)

    refused(lambda w: w.update({"moe_fc_vid.rgb.weight": torch.zeros(1)}), "moe_fc_vid.rgb.weight.*another variant")
    refused(lambda w: w.pop("text_GU.rgb.cg.fc.bias"), r"text_GU\.rgb\.cg\.fc\.bias")
    refused(lambda w: w.pop("txt_bert.pooler.dense.bias"), r"text_encoder\.pooler\.dense\.bias")
    refused(lambda w: w.update({"moe_fc_txt.rgb.bias": torch.zeros(2)}), "mixture.linear.bias")
    refused(len, "heads is 5", heads=5)
    refused(len, "known embedding row are", expert_ids={"rgb": 5})
    refused(lambda w: w.update({"video_dim_reduce.rgb.fc.bias": 3}), "no state_dict of tensors")


class Harm:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("harm", "name"),
    [
        (Harm(os.system, "true"), r"posix\.system"),
        (Harm(eval, "1"), "eval"),
        (Harm(shutil.rmtree, "no such folder"), r"shutil\.rmtree"),
    ],
)
@pytest.mark.parametrize("place", ["state_dict", "config"])
def test_a_checkpoint_that_wants_to_run_code_is_refused_by_name(
    tmp_path: Path, harm: Harm, name: str, place: str
) -> None:
    torch.save({"state_dict": {}} | {place: harm}, tmp_path / "harm.pth")
    with pytest.raises(InputError, match=rf"harm\.pth is refused: it wants to run {name}, only tensors"):
        load_mmt_checkpoint(tmp_path / "harm.pth", {}, heads=4, keep_missing=True)


def test_what_is_made_inert_cannot_act(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names that are admitted besides tensors are not the real things."""
    written = tmp_path / "written"
    monkeypatch.setattr(argparse, "Namespace", lambda *_: written.write_text("ran"))
    monkeypatch.setattr(pathlib, "PosixPath", lambda *_: written.write_text("ran"))
    content = b"\x80\x02}(X\x01\x00\x00\x00acargparse\nNamespace\n)RX\x01\x00\x00\x00bcpathlib\nPosixPath\n)Ru."
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a/data.pkl", content)
        archive.writestr("a/version", b"3\n")
    with pytest.raises(InputError, match="no state_dict"):
        load_mmt_checkpoint(tmp_path / "a.pth", {}, heads=4, keep_missing=True)
    assert not written.exists()


def test_other_files_are_refused_in_words(tmp_path: Path) -> None:
    def refused(name: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            load_mmt_checkpoint(tmp_path / name, {}, heads=4, keep_missing=True)

    refused("none.pth", "cannot be read: No such file")
    (tmp_path / "folder.pth").mkdir()
    refused("folder.pth", "cannot be read: Is a directory")
    torch.save({"weights": 1}, tmp_path / "other.pth")
    refused("other.pth", "no state_dict")
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "foreign.pth")
    refused("foreign.pth", "another variant")
    torch.save({"state_dict": {}}, tmp_path / "bare.pth")
    refused("bare.pth", "not a checkpoint of MMT")
    whole = (tmp_path / "bare.pth").read_bytes()
    (tmp_path / "half.pth").write_bytes(whole[: len(whole) // 2])
    refused("half.pth", "not a checkpoint, or not a whole one")
    (tmp_path / "text.pth").write_text("hello")
    refused("text.pth", "not a checkpoint, or not a whole one")
    (tmp_path / "empty.pth").write_bytes(b"")
    refused("empty.pth", "not a checkpoint, or not a whole one")
