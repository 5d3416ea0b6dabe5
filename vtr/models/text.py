"""Captions on their way into a model: the wording MMT uses, tokens for a trained encoder, states of a frozen one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

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
    """Makes TextBatches: tokens when the encoder is fine-tuned with the rest, its states when it is frozen.

    Frozen sentence states are pooled as the model's sentence-transformers layout says (the packaged one: mean over
    tokens, then L2 normalisation), and are the state of [CLS] for a model without such a layout.

    Args:
        config: the text section of a training config.

    Raises:
        UnavailableError: the tokeniser, or the frozen encoder, cannot be loaded. Where the captions' states were
            imported (`config.features`), it is raised when another text comes.
    """

    def __init__(self, config: TextConfig) -> None:
        self.config = config
        self._pooling = find_pooling(config.model) if config.mode == "frozen" else Pooling("cls", normalised=False)
        if config.features is None:
            _ = self._tokenizer

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self.config.model, lower_case=self.config.lower_case)

    @cached_property
    def _encoder(self) -> nn.Module:
        return load_encoder(self.config.model).eval()

    @cached_property
    def dim(self) -> int:
        """H, the length of a state."""
        return state_dim(self.config.model)

    def key(self) -> str:
        """Return a hash of all that shapes frozen states: model, weights, wording. Cached states are valid under it."""
        return fingerprint([self.config.model_dump(mode="json"), self._pooling, identity(self.config.model)])

    def batch(self, ids: Sequence[str], texts: Sequence[str]) -> TextBatch:
        """Return a batch of N texts."""
        if self.config.mode == "frozen":
            return TextBatch(tuple(ids), states=self.states(texts))
        if self.config.mode == "frozen_tokens":
            states = self.token_states(texts)
            mask = pad_sequence([of_one.new_ones(len(of_one), dtype=torch.long) for of_one in states], True)
            return TextBatch(tuple(ids), attention_mask=mask, token_states=pad_sequence(states, batch_first=True))
        tokens = self._tokens(texts)
        return TextBatch(tuple(ids), input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each of N texts."""
        return self._tokenizer(self._sentences(texts), truncation=True, max_length=self.config.max_tokens)["input_ids"]  # type: ignore[no-any-return]

    def says_nothing(self, texts: Sequence[str]) -> list[bool]:
        """Return of each of N texts whether its tokens are only special ones, the unknown one and full stops."""
        empty = {*self._tokenizer.all_special_ids, *self._tokenizer(".", add_special_tokens=False)["input_ids"]}
        return [empty.issuperset(ids) for ids in self.token_ids(texts)]

    @property
    def padding(self) -> int:
        """The token id that padding holds."""
        return int(self._tokenizer.pad_token_id)

    def states(self, texts: Sequence[str], advance: Callable[[int], None] | None = None) -> Tensor:
        """Return the frozen encoder's sentence states [N, H] of N texts; `advance` is called with the number done."""
        states = torch.zeros((len(texts), self.dim))
        for rows, hidden, mask in self._encoded(texts, advance):
            states[rows] = pool(hidden, mask, self._pooling)
        return states

    def token_states(self, texts: Sequence[str], advance: Callable[[int], None] | None = None) -> list[Tensor]:
        """Return the frozen encoder's states [L, H] of the L tokens of each of N texts; `advance` as in `states`."""
        states: dict[int, Tensor] = {}
        for rows, hidden, mask in self._encoded(texts, advance):
            states |= {row: of_one[seen > 0] for row, of_one, seen in zip(rows, hidden, mask, strict=True)}
        return [states[row] for row in range(len(texts))]

    @torch.inference_mode()
    def _encoded(
        self, texts: Sequence[str], advance: Callable[[int], None] | None
    ) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """Yield places of some texts, their token states [n, L, H] and mask [n, L].

        Texts are encoded in order of length, so that little is spent on padding.
        """
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for at in range(0, len(order), STATES_BATCH):
            rows = order[at : at + STATES_BATCH]
            tokens = self._tokens([texts[row] for row in rows])
            yield rows, self._encoder(**tokens).last_hidden_state, tokens["attention_mask"]
            if advance is not None:
                advance(len(rows))

    def _tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        tokens = self._tokenizer(
            self._sentences(texts),
            padding=True,
            truncation=True,
            max_length=self.config.max_tokens,
            return_tensors="pt",
        )
        return {name: tokens[name] for name in ("input_ids", "attention_mask")}

    def _sentences(self, texts: Sequence[str]) -> list[str]:
        sentences = [caption_for_bert(text, self.config.max_words) for text in texts]
        return [sentence.lower() for sentence in sentences] if self.config.lower_case else sentences
