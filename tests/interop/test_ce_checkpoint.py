"""Our CE with released weights answers as the released code does (reference outputs of the public implementation)."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtr.errors import InputError
from vtr.interop.ce_checkpoint import LENGTHS, load_ce_checkpoint
from vtr.similarity import score_matrix
from vtr.types import ExpertBatch, TextBatch, VideoBatch

CASES = ("case_0", "case_1")
POOLED = ("audio", "ocr", "speech")

Arrays = Mapping[str, NDArray[Any]]


def folder_of(shared: Path, case: str = CASES[0]) -> Path:
    return shared / "reference" / "ce" / case


def expert_dims(shared: Path) -> dict[str, int]:
    dims: dict[str, int] = json.loads((folder_of(shared) / "meta.json").read_text())["expert_dims"]
    return dims


def stored_batch(shared: Path, case: str) -> dict[str, NDArray[Any]]:
    with np.load(folder_of(shared, case) / "batch.npz") as content:
        return dict(content)


def padded_lengths(stored: Arrays) -> dict[str, int]:
    return {name: stored[f"features/{name}"].shape[1] for name in POOLED} | {"text": stored["text"].shape[2]}


def as_videos(stored: Arrays, experts: tuple[str, ...], *, cut: bool) -> VideoBatch:
    """Return the stored videos, padded as stored, or cut to the longest sequence as vtr loads them."""
    found, present = {}, []
    for name in experts:
        values = torch.from_numpy(stored[f"features/{name}"])
        available = torch.from_numpy(stored[f"available/{name}"]) > 0
        sequence = values if name in POOLED else values[:, None]
        mask = (sequence != 0).any(-1)
        assert torch.equal(mask.any(1), available)
        if cut:
            longest = int(mask.sum(1).max())
            sequence, mask = sequence[:, :longest], mask[:, :longest]
        unused = torch.full((len(values), values.shape[-1]), torch.nan)  # the model pools these itself
        aggregate = unused if name in POOLED else values
        found[name] = ExpertBatch(sequence, torch.full(mask.shape, torch.nan), mask, aggregate)
        present.append(available)
    return VideoBatch(tuple(map(str, range(len(present[0])))), found, torch.stack(present, 1))


def as_texts(stored: Arrays) -> TextBatch:
    states = torch.from_numpy(stored["text"]).flatten(0, 1)
    mask = torch.ones(states.shape[:2], dtype=torch.long)
    return TextBatch(tuple(map(str, range(len(states)))), attention_mask=mask, token_states=states)


@pytest.mark.parametrize("cut", [False, True], ids=["as stored", "as loaded"])
@pytest.mark.parametrize("case", CASES)
def test_embeddings_and_scores_equal_the_released_code(shared: Path, case: str, cut: bool) -> None:
    stored = stored_batch(shared, case)
    path = folder_of(shared, case) / "checkpoint.pth"
    model = load_ce_checkpoint(path, expert_dims(shared), lengths=padded_lengths(stored))
    assert not model.training
    with torch.inference_mode():
        videos = model.embed_videos(as_videos(stored, model.experts, cut=cut))
        texts = model.embed_texts(as_texts(stored))
        scores = score_matrix(texts, videos)
    for place, name in enumerate(model.experts):
        # both sides stand in the release's cases as unit vectors
        np.testing.assert_allclose(videos.vectors[:, place].numpy(), stored[f"vid_embds/{name}"], atol=1e-5, rtol=0)
        expected = stored[f"text_embds/{name}"].reshape(len(texts.ids), -1)
        np.testing.assert_allclose(texts.vectors[:, place].numpy(), expected, atol=1e-5, rtol=0)
    np.testing.assert_allclose(scores.numpy(), stored["similarities"], atol=1e-5, rtol=0)
    assert not videos.present.all()


def test_experts_may_be_given_in_any_order(shared: Path) -> None:
    path, dims = folder_of(shared) / "checkpoint.pth", expert_dims(shared)
    first = load_ce_checkpoint(path, dims).state_dict()
    again = load_ce_checkpoint(path, dict(reversed(dims.items()))).state_dict()
    assert all(torch.equal(again[name], value) for name, value in first.items())


def rewritten(shared: Path, to: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Save a reference checkpoint again, changed."""
    content = torch.load(folder_of(shared) / "checkpoint.pth", weights_only=True)
    change(content)
    torch.save(content, to)
    return to


def with_settings(shared: Path, to: Path, settings: dict[str, Any]) -> Path:
    return rewritten(shared, to, lambda content: content.update(config=settings))


def test_the_released_lengths_are_used_where_nothing_says_otherwise(shared: Path) -> None:
    model = load_ce_checkpoint(folder_of(shared) / "checkpoint.pth", expert_dims(shared))
    assert {name: vlad.length for name, vlad in model.config.vlad.items()} == {"audio": 29, "ocr": 49, "speech": 32}
    assert model.config.text_vlad.length == 37
    assert set(LENGTHS) == {*POOLED, "text"}
    assert model.config.self_pairs
    assert not model.keep_missing


def test_settings_in_the_file_are_used_and_arguments_come_first(shared: Path, tmp_path: Path) -> None:
    args = {"keep_missing_modalities": True, "include_self": 0, "use_ce": "pairwise", "use_mish": 1}
    most = {"audio": 5, "ocr": 4, "speech": 3, "text": 7}
    settings = {"arch": {"type": "CENet", "args": args}, "data_loader": {"args": {"max_tokens": most}}}
    path = with_settings(shared, tmp_path / "trained.pth", settings)
    dims = expert_dims(shared)
    model = load_ce_checkpoint(path, dims)
    assert model.keep_missing
    assert not model.config.self_pairs
    assert [model.vlads[model.vlad_of[name]].length for name in POOLED] == [5, 4, 3]
    assert model.text_vlad.length == 7
    told = load_ce_checkpoint(path, dims, lengths={"ocr": 6}, keep_missing=False, self_pairs=True)
    assert not told.keep_missing
    assert told.config.self_pairs
    assert [told.vlads[told.vlad_of[name]].length for name in POOLED] == [5, 6, 3]
    stored = stored_batch(shared, CASES[0])
    whole = load_ce_checkpoint(path, dims, lengths=padded_lengths(stored), keep_missing=False, self_pairs=True)
    batch, texts = as_videos(stored, whole.experts, cut=False), as_texts(stored)
    with torch.inference_mode():
        scores = score_matrix(whole.embed_texts(texts), whole.embed_videos(batch))
        other = score_matrix(model.embed_texts(texts), model.embed_videos(batch))
    np.testing.assert_allclose(scores.numpy(), stored["similarities"], atol=1e-5, rtol=0)
    assert (other - scores).abs().max() > 1e-3


def test_keeping_missing_experts_counts_them_in_the_score(shared: Path) -> None:
    """The published score with nothing left out is the plain sum of weighted inner products."""
    stored = stored_batch(shared, CASES[0])
    path = folder_of(shared) / "checkpoint.pth"
    model = load_ce_checkpoint(path, expert_dims(shared), lengths=padded_lengths(stored), keep_missing=True)
    with torch.inference_mode():
        texts, videos = (
            model.embed_texts(as_texts(stored)),
            model.embed_videos(as_videos(stored, model.experts, cut=True)),
        )
        scores = score_matrix(texts, videos).numpy()
    assert videos.present.all()
    for t, row in enumerate(scores):
        for v, score in enumerate(row):
            terms = [
                float(texts.weights[t, e])
                * float(stored[f"text_embds/{name}"].reshape(len(scores), -1)[t] @ stored[f"vid_embds/{name}"][v])
                for e, name in enumerate(model.experts)
            ]
            assert score == pytest.approx(sum(terms), abs=1e-5)


def test_names_from_training_on_several_gpus_load(shared: Path, tmp_path: Path) -> None:
    def rename(content: dict[str, Any]) -> None:
        content["state_dict"] = {f"module.{name}": value for name, value in content["state_dict"].items()}

    path = rewritten(shared, tmp_path / "parallel.pth", rename)
    loaded = load_ce_checkpoint(path, expert_dims(shared)).state_dict()
    expected = load_ce_checkpoint(folder_of(shared) / "checkpoint.pth", expert_dims(shared)).state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], value) for name, value in expected.items())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("use_ce", ""),
        ("use_ce", "pairwise-star"),
        ("use_ce", False),
        ("use_mish", 0),
        ("use_bn_reason", 0),
        ("num_h_layers", 1),
        ("l2renorm", True),
    ],
)
def test_another_variant_named_in_the_file_is_refused(shared: Path, tmp_path: Path, name: str, value: object) -> None:
    path = with_settings(shared, tmp_path / "variant.pth", {"arch": {"args": {name: value}}})
    with pytest.raises(
        InputError, match=rf"variant\.pth is another variant of CE: its {name} is {value!r}, .*expected"
    ):
        load_ce_checkpoint(path, expert_dims(shared))


def test_the_variant_that_is_read_may_be_named_in_full(shared: Path, tmp_path: Path) -> None:
    args = {"use_ce": "pairwise", "use_mish": 1, "use_bn_reason": 1, "num_h_layers": 0, "l2renorm": False}
    path = with_settings(shared, tmp_path / "same.pth", {"arch": {"args": args}, "trainer": {"epochs": 100}})
    assert load_ce_checkpoint(path, expert_dims(shared)).config.gating == "pairwise"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda dims: dims.pop("flow"),
            "its 8 experts have the sizes 384, 24, 20,.*those given audio 384, face 24, inst",
        ),
        (lambda dims: dims.update(rgb=9), "its 8 experts have the sizes .*rgb 9"),
        (lambda dims: dims.update(face=25), "sizes 384, 24.*those given audio 384, face 25"),
        (lambda dims: dims.update(audio=129), "sizes 384, 24.*those given audio 387"),
        (lambda dims: dims.pop("ocr"), "it pools ocr, which is not among the experts given"),
        (lambda dims: dims.update(zoom=dims.pop("face")), "its 8 experts have the sizes"),  # comes last in the alphabet
    ],
    ids=["one fewer", "one more", "another dim", "another dim of a pooled one", "a pooled one less", "another order"],
)
def test_experts_that_are_not_the_files_are_refused(
    shared: Path, change: Callable[[dict[str, int]], object], message: str
) -> None:
    dims = expert_dims(shared)
    change(dims)
    with pytest.raises(InputError, match=message):
        load_ce_checkpoint(folder_of(shared) / "checkpoint.pth", dims)


@pytest.mark.parametrize(
    "name",
    [
        "vid_bert.embeddings.position_embeddings.weight",
        "ce.moe_fc_vid.weight",
        "ce.h_reason.0.weight",
        "ce.vid_mods.weight",
        "pooling.flow.lstm.weight",
        "pooling.audio.lstm.weight",
        "text_pooling.gate.weight",
        "ce.text_GU.8.fc.weight",
        "ce.text_GU.0.cg.batch_norm2.weight",
        "ce.video_GU.0.fc.weight",
        "ce.g_reason_shared.1.weight",
    ],
)
def test_tensors_of_another_variant_are_refused_by_name(shared: Path, tmp_path: Path, name: str) -> None:
    path = rewritten(
        shared, tmp_path / "foreign.pth", lambda content: content["state_dict"].update({name: torch.ones(2)})
    )
    with pytest.raises(InputError, match=rf"foreign\.pth .*{name.replace('.', '[.]')}.*another variant"):
        load_ce_checkpoint(path, expert_dims(shared))


def test_each_tensor_that_is_missing_is_missed(shared: Path, tmp_path: Path) -> None:
    dims = expert_dims(shared)
    whole: dict[str, Tensor] = torch.load(folder_of(shared) / "checkpoint.pth", weights_only=True)["state_dict"]
    counters = {name for name in whole if name.endswith("num_batches_tracked")}
    kinds = {
        "".join("N" if letter.isdigit() else letter for letter in name): name for name in whole if name not in counters
    }
    for name in kinds.values():
        path = tmp_path / "incomplete.pth"
        torch.save({"state_dict": {n: value for n, value in whole.items() if n != name}}, path)
        with pytest.raises(InputError, match=r"incomplete\.pth"):
            load_ce_checkpoint(path, dims)


def test_weights_of_the_wrong_shape_are_refused_by_name(shared: Path, tmp_path: Path) -> None:
    path = tmp_path / "shape.pth"
    for name, ours in (
        ("ce.moe_fc.bias", "mixture.linear.bias"),
        ("pooling.ocr.batch_norm.bias", r"vlads.1.norm.bias"),
    ):
        rewritten(shared, path, lambda content, n=name: content["state_dict"].update({n: torch.zeros(3)}))
        with pytest.raises(InputError, match=ours):
            load_ce_checkpoint(path, expert_dims(shared))


class Harm:
    def __init__(self, function: object, *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("harm", "name"),
    [(Harm(os.system, "true"), r"posix\.system"), (Harm(shutil.rmtree, "no such folder"), r"shutil\.rmtree")],
)
@pytest.mark.parametrize("place", ["state_dict", "config"])
def test_a_checkpoint_that_wants_to_run_code_is_refused_by_name(
    tmp_path: Path, harm: Harm, name: str, place: str
) -> None:
    torch.save({"state_dict": {}} | {place: harm}, tmp_path / "harm.pth")
    with pytest.raises(InputError, match=rf"harm\.pth is refused: it wants to run {name}, only tensors"):
        load_ce_checkpoint(tmp_path / "harm.pth", {"face": 3})


def test_other_files_are_refused_in_words(shared: Path, tmp_path: Path) -> None:
    def refused(name: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            load_ce_checkpoint(tmp_path / name, {"face": 3})

    refused("none.pth", "cannot be read: No such file")
    torch.save({"state_dict": {}}, tmp_path / "bare.pth")
    refused("bare.pth", "not a checkpoint of CE with the experts face")
    torch.save({"weights": 1}, tmp_path / "other.pth")
    refused("other.pth", "no state_dict")
    content = (folder_of(shared) / "checkpoint.pth").read_bytes()
    (tmp_path / "half.pth").write_bytes(content[: len(content) // 2])
    refused("half.pth", "not a checkpoint, or not a whole one")


def test_lengths_that_are_no_lengths_are_refused(shared: Path, tmp_path: Path) -> None:
    path, dims = folder_of(shared) / "checkpoint.pth", expert_dims(shared)
    with pytest.raises(InputError, match="length"):
        load_ce_checkpoint(path, dims, lengths={"ocr": 0})
    odd = with_settings(shared, tmp_path / "odd.pth", {"data_loader": {"args": {"max_tokens": {"ocr": "many"}}}})
    with pytest.raises(InputError, match=r"odd\.pth.*length"):
        load_ce_checkpoint(odd, dims)
