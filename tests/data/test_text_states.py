"""Captions as a model takes them: token ids, and token states computed here or imported."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy import write_features

from vtr.config import TextConfig
from vtr.data.corpus import load_corpus
from vtr.data.texts import CaptionTable
from vtr.errors import UnavailableError, WorkspaceError
from vtr.models.text import TextInput
from vtr.types import Caption, ExpertFeatures
from vtr.workspace import Workspace

ROWS = (3, 0, 7)


def captions(toy: Workspace) -> tuple[Caption, ...]:
    return load_corpus(toy, "toy", parts=("train",), available_only=False).annotations.captions[:12]


def test_token_states_are_those_of_the_encoder_padded_with_zeros_and_computed_once(
    toy: Workspace, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModel, AutoTokenizer

    held = captions(toy)
    config = TextConfig(model=str(tiny_bert), mode="frozen_tokens")
    table = CaptionTable(held, TextInput(config), toy)
    assert table.dim == 32
    batch = table.batch(ROWS)
    model, tokenizer = AutoModel.from_pretrained(tiny_bert).eval(), AutoTokenizer.from_pretrained(tiny_bert)
    assert batch.token_states is not None and batch.attention_mask is not None
    for row, mask, states in zip(ROWS, batch.attention_mask, batch.token_states, strict=True):
        with torch.inference_mode():
            alone = model(**tokenizer(held[row].text + ".", return_tensors="pt")).last_hidden_state[0]
        assert mask.sum() == len(alone)
        torch.testing.assert_close(states[: len(alone)], alone, atol=1e-5, rtol=1e-4)
        assert not states[len(alone) :].any()

    def unwanted(*_: object) -> None:
        raise AssertionError("computed again")

    source = TextInput(config)
    monkeypatch.setattr(source, "token_states", unwanted)
    again = CaptionTable(held, source, toy).batch(ROWS)
    assert again.token_states is not None and torch.equal(again.token_states, batch.token_states)
    direct = TextInput(config).batch(["a", "b"], [held[3].text, held[0].text])
    assert direct.token_states is not None
    torch.testing.assert_close(direct.token_states[0], batch.token_states[0, : direct.token_states.shape[1]])


def test_token_ids_are_those_of_the_tokeniser(toy: Workspace, tiny_bert: Path) -> None:
    held, source = captions(toy), TextInput(TextConfig(model=str(tiny_bert), mode="fine_tuned", max_tokens=6))
    batch = CaptionTable(held, source, toy).batch(ROWS)
    expected = source.batch([held[row].id for row in ROWS], [held[row].text for row in ROWS])
    assert batch.ids == expected.ids
    for ours, theirs in ((batch.input_ids, expected.input_ids), (batch.attention_mask, expected.attention_mask)):
        assert ours is not None and theirs is not None and torch.equal(ours, theirs)


def import_states(toy: Workspace, names: list[str], dim: int = 5) -> dict[str, np.ndarray]:
    """Write token states of some captions into a workspace, as an import does."""
    draw = np.random.default_rng(0)
    states = {name: draw.normal(size=(1 + at % 4, dim)).astype(np.float32) for at, name in enumerate(names)}
    nowhere = {name: np.full(len(values), np.nan, np.float32) for name, values in states.items()}
    features = {name: ExpertFeatures(values, nowhere[name], nowhere[name]) for name, values in states.items()}
    write_features(SimpleNamespace(features=toy.text_features), "gpt", features, names, {})  # type: ignore[arg-type]
    return states


def test_imported_states_are_used_without_the_text_model_and_other_captions_left_out(toy: Workspace) -> None:
    every = [
        caption.id for caption in load_corpus(toy, "toy", parts=("test",), available_only=False).annotations.captions
    ]
    without = {every[0], every[-1]}  # of a training and of a test video
    states = import_states(toy, [name for name in every if name not in without])
    corpus = load_corpus(toy, "toy", parts=("train", "test"), available_only=False, text_features="gpt")
    assert {c.id for c in corpus.captions("train")} | {c.id for c in corpus.queries("test")} <= states.keys()
    assert len(corpus.captions("train")) == 119 and len(corpus.queries("test")) == 29
    source = TextInput(TextConfig(model="./nowhere", mode="frozen_tokens", features="gpt"))
    table = CaptionTable(corpus.captions("train"), source, toy)
    assert table.dim == 5
    batch = table.batch([5, 2, 0])
    assert batch.token_states is not None and batch.attention_mask is not None
    for name, mask, found in zip(batch.ids, batch.attention_mask, batch.token_states, strict=True):
        np.testing.assert_array_equal(found[mask > 0].numpy(), states[name])
        assert not found[mask == 0].any()
    with pytest.raises(UnavailableError, match=r"'\./nowhere' cannot be loaded"):
        source.batch(["query"], ["a dog runs"])
    again = CaptionTable(corpus.captions("train"), source, toy).batch([5, 2, 0])
    assert again.token_states is not None and torch.equal(again.token_states, batch.token_states)
    absent = TextInput(TextConfig(model="./nowhere", mode="frozen_tokens", features="bert"))
    with pytest.raises(WorkspaceError, match=r"no imported text features 'bert'\. Run `vtr import ce-features`"):
        CaptionTable(corpus.captions("train"), absent, toy)
    with pytest.raises(WorkspaceError, match=r"no imported text features 'bert': it has gpt\. Run `vtr import"):
        load_corpus(toy, "toy", parts=("test",), available_only=False, text_features="bert")


def test_a_cased_tokeniser_lower_cases_and_drops_accents_as_mmts_does(tmp_path: Path, tiny_bert: Path) -> None:
    from transformers import BertTokenizer

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "cafe", "a"]
    folder = tmp_path / "cased"
    folder.mkdir()
    for file in tiny_bert.glob("*.*"):
        (folder / file.name).write_bytes(file.read_bytes())
    BertTokenizer(vocab={token: n for n, token in enumerate(tokens)}, do_lower_case=False).save_pretrained(folder)
    config = TextConfig(model=str(folder), mode="fine_tuned")
    assert TextInput(config).token_ids(["A Café"]) == [[2, 7, 6, 5, 3]]
    released = BertTokenizer.from_pretrained(folder, do_lower_case=True)  # as MMT makes it of bert-base-cased
    for text in ("A Café", "à CAFE café", "Caf\u0065\u0301 a"):
        assert TextInput(config).token_ids([text])[0] == released(f"{text.capitalize()}.")["input_ids"]
    cased = config.model_copy(update={"lower_case": False})
    assert TextInput(cased).token_ids(["A Café"])[0][2] == tokens.index("[UNK]")


def test_a_tokeniser_without_padding_of_its_own_pads_all_the_same(tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

    plain = Tokenizer(WordLevel({"<unk>": 0, "a": 1, "dog": 2, ".": 3}, unk_token="<unk>"))
    plain.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>").save_pretrained(tmp_path)
    GPT2Model(GPT2Config(vocab_size=4, n_positions=16, n_embd=8, n_layer=1, n_head=2)).save_pretrained(tmp_path)
    source = TextInput(TextConfig(model=str(tmp_path), mode="frozen_tokens"))
    batch = source.batch(["x", "y"], ["a dog", "dog"])
    assert batch.attention_mask is not None and batch.attention_mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch.token_states is not None
    torch.testing.assert_close(batch.token_states[1, :2], source.token_states(["dog"])[0])
