"""Sentence embeddings of the text that experts find on screen and in speech."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from feature_extraction.damage import UNREADABLE, first_sentence
from feature_extraction.hub import sentence_folder, weights_sha256
from feature_extraction.quiet import quiet_transformers
from vtr.errors import UnavailableError
from vtr.packaged import MINILM

BATCH = 64
MAX_TOKENS = 128


class SentenceEncoder:
    """A `transformers` encoder, mean-pooled over tokens and L2-normalised, as sentence-transformers' MiniLM models are.

    Args:
        model: "packaged:all-minilm-l6-v2", a local folder, or a hub name.

    Raises:
        UnavailableError: the model cannot be loaded.
    """

    def __init__(self, model: str) -> None:
        from transformers import AutoModel, AutoTokenizer

        quiet_transformers()
        folder = sentence_folder(model)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        except UNREADABLE as error:
            raise UnavailableError(
                f"the sentence model in {folder} cannot be loaded ({first_sentence(error)}). Set sentence_model to a "
                f"model in Hugging Face layout that this version of transformers knows, or to {MINILM}."
            ) from error
        self.model_id = model
        self.dim = int(self._model.config.hidden_size)
        self.weights_sha256 = weights_sha256(folder)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return [N, dim] unit vectors of N texts, N >= 1."""
        batches = [self._encode(texts[at : at + BATCH]) for at in range(0, len(texts), BATCH)]
        return np.concatenate(batches)

    def _encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        tokens = self._tokenizer(list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        states = self._model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)
        pooled = (states * mask).sum(1) / mask.sum(1)
        vectors: NDArray[np.float32] = torch.nn.functional.normalize(pooled, dim=-1).numpy()
        return vectors


@lru_cache(maxsize=1)
def sentence_encoder(model: str) -> SentenceEncoder:
    """Return the encoder of a model, loaded once for all experts of a process. See `SentenceEncoder`."""
    return SentenceEncoder(model)
