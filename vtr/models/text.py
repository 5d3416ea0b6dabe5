"""Captions on their way into a model: the wording MMT uses, tokens for a trained encoder, states of a frozen one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from vtr.config import TextConfig
from vtr.errors import UnavailableError
from vtr.files import sha256_file
from vtr.packaged import resolve_text_model
from vtr.types import TextBatch
from vtr.workspace import fingerprint

STATES_BATCH = 128


def caption_for_bert(text: str, max_words: int) -> str:
    """Return a caption as MMT words it: cut to `max_words`, capitalised, ended with a period unless it ends in .?!"""
    words = text.split()[:max_words]
    sentence = " ".join(words)
    if not sentence:
        return ""
    if sentence[-1] not in ".?!":
        sentence += "."
    return sentence.capitalize()


class TextInput:
    """Makes TextBatches: tokens when the encoder is fine-tuned with the rest, its sentence states when it is frozen.

    Frozen states are mean-pooled and L2-normalised for sentence-transformers models (their folder says so), and the
    state of [CLS] for others.

    Args:
        config: the text section of a training config.

    Raises:
        UnavailableError: the tokeniser, or the frozen encoder, cannot be loaded.
    """

    def __init__(self, config: TextConfig) -> None:
        self.config = config
        self._source = resolve_text_model(config.model)
        self._tokenizer = _load(config.model, lambda auto: auto.AutoTokenizer.from_pretrained(self._source))
        self._encoder: nn.Module | None = None

    def key(self) -> str:
        """Return a hash of all that shapes frozen states: model, weights, wording. Cached states are valid under it."""
        weights = Path(self._source) / "model.safetensors"
        checksum = sha256_file(weights) if weights.exists() else ""
        return fingerprint([self.config.model_dump(mode="json"), checksum])

    def batch(self, ids: Sequence[str], texts: Sequence[str]) -> TextBatch:
        """Return a batch of N texts."""
        if self.config.mode == "frozen":
            return TextBatch(tuple(ids), states=self.states(texts))
        tokens = self._tokens(texts)
        return TextBatch(tuple(ids), input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])

    def states(self, texts: Sequence[str], advance: Callable[[int], None] | None = None) -> Tensor:
        """Return the frozen encoder's states [N, H] of N texts; `advance` is called with the number done.

        Texts are encoded in order of length, so that little is spent on padding.
        """
        encoder = self._frozen_encoder()
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        states = torch.zeros((len(texts), int(encoder.config.hidden_size)))  # type: ignore[union-attr, arg-type]
        for at in range(0, len(order), STATES_BATCH):
            rows = order[at : at + STATES_BATCH]
            states[rows] = self._encode(encoder, [texts[row] for row in rows])
            if advance is not None:
                advance(len(rows))
        return states

    @torch.inference_mode()
    def _encode(self, encoder: nn.Module, texts: Sequence[str]) -> Tensor:
        tokens = self._tokens(texts)
        hidden: Tensor = encoder(**tokens).last_hidden_state
        if not (Path(self._source) / "modules.json").exists():
            return hidden[:, 0]
        mask = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        return normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)

    def _tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        sentences = [caption_for_bert(text, self.config.max_words) for text in texts]
        if self.config.lower_case:
            sentences = [sentence.lower() for sentence in sentences]
        tokens = self._tokenizer(
            sentences, padding=True, truncation=True, max_length=self.config.max_tokens, return_tensors="pt"
        )
        return {name: tokens[name] for name in ("input_ids", "attention_mask")}

    def _frozen_encoder(self) -> nn.Module:
        if self._encoder is None:
            self._encoder = load_encoder(self.config.model).eval()
        return self._encoder


def load_encoder(model: str) -> nn.Module:
    """Return a pretrained encoder.

    Raises:
        UnavailableError: it cannot be loaded.
    """
    source = resolve_text_model(model)
    encoder = _load(model, lambda auto: auto.AutoModel.from_pretrained(source))
    assert isinstance(encoder, nn.Module)
    return encoder


def encoder_from_config(values: dict[str, Any]) -> nn.Module:
    """Return an encoder with random weights from a saved `transformers` configuration."""
    import transformers

    config = transformers.AutoConfig.for_model(**values)
    encoder: nn.Module = transformers.AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    return encoder


def _load(model: str, load: Callable[[Any], Any]) -> Any:
    import transformers

    try:
        with _quiet():
            return load(transformers)
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"the text model '{model}' cannot be loaded ({str(error).strip().splitlines()[0]}). Set text.model to a "
            "local folder in Hugging Face layout, a hub name this machine can reach, or packaged:all-minilm-l6-v2."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' notes and bars off the terminal while something loads."""
    from transformers.utils import logging

    level: int = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()  # type: ignore[no-untyped-call]
