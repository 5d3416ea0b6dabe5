"""Captions on their way into a model: the wording MMT uses, tokens for a trained encoder, states of a frozen one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from vtr.config import TextConfig
from vtr.models.encoder import Pooling, find_pooling, identity, load_encoder, load_tokenizer, pool, state_dim
from vtr.types import TextBatch
from vtr.workspace import fingerprint

STATES_BATCH = 128


def caption_for_bert(text: str, max_words: int) -> str:
    """Return a caption as MMT words it: cut to `max_words`, capitalised, ended with a period unless it ends in .?!

    Capitalised as by `str.capitalize`: the first letter upper case, all others lower case. Runs of spaces become one.
    """
    sentence = " ".join(text.split()[:max_words])
    if not sentence:
        return ""
    if sentence[-1] not in ".?!":
        sentence += "."
    return sentence.capitalize()


class TextInput:
    """Makes TextBatches: tokens when the encoder is fine-tuned with the rest, its sentence states when it is frozen.

    Frozen states are pooled as the model's sentence-transformers layout says (the packaged one: mean over tokens,
    then L2 normalisation), and are the state of [CLS] for a model without such a layout.

    Args:
        config: the text section of a training config.

    Raises:
        UnavailableError: the tokeniser, or the frozen encoder, cannot be loaded.
    """

    def __init__(self, config: TextConfig) -> None:
        self.config = config
        self._tokenizer = load_tokenizer(config.model)
        self._pooling = find_pooling(config.model) if config.mode == "frozen" else Pooling("cls", normalised=False)
        self._encoder: nn.Module | None = None

    def key(self) -> str:
        """Return a hash of all that shapes frozen states: model, weights, wording. Cached states are valid under it."""
        return fingerprint([self.config.model_dump(mode="json"), self._pooling, identity(self.config.model)])

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
        if self._encoder is None:
            self._encoder = load_encoder(self.config.model).eval()
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        states = torch.zeros((len(texts), state_dim(self.config.model)))
        for at in range(0, len(order), STATES_BATCH):
            rows = order[at : at + STATES_BATCH]
            states[rows] = self._encode(self._encoder, [texts[row] for row in rows])
            if advance is not None:
                advance(len(rows))
        return states

    @torch.inference_mode()
    def _encode(self, encoder: nn.Module, texts: Sequence[str]) -> Tensor:
        tokens = self._tokens(texts)
        return pool(encoder(**tokens).last_hidden_state, tokens["attention_mask"], self._pooling)

    def _tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        sentences = [caption_for_bert(text, self.config.max_words) for text in texts]
        if self.config.lower_case:
            sentences = [sentence.lower() for sentence in sentences]
        tokens = self._tokenizer(
            sentences, padding=True, truncation=True, max_length=self.config.max_tokens, return_tensors="pt"
        )
        return {name: tokens[name] for name in ("input_ids", "attention_mask")}
