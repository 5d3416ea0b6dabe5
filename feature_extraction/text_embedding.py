"""Sentence embeddings of the text that experts find on screen and in speech."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vtr.errors import UnavailableError
from vtr.files import sha256_file
from vtr.packaged import resolve_text_model

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
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]

        source = resolve_text_model(model)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(source)
            self._model = AutoModel.from_pretrained(source).eval()
        except (OSError, ValueError) as error:
            raise UnavailableError(
                f"the sentence model '{model}' cannot be loaded ({str(error).splitlines()[0]}). Set sentence_model to "
                "a local folder in Hugging Face layout, or to packaged:all-minilm-l6-v2."
            ) from error
        self.model_id = model
        self.dim = int(self._model.config.hidden_size)
        weights = Path(source) / "model.safetensors"
        self.weights_sha256 = sha256_file(weights) if weights.exists() else ""

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
