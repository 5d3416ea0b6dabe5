"""Sentence embeddings against sentence-transformers' own."""

from __future__ import annotations

import numpy as np
import pytest

from feature_extraction.text_embedding import SentenceEncoder, sentence_encoder
from vtr.errors import UnavailableError
from vtr.packaged import MINILM, minilm_folder

TEXTS = ["a man is cooking", "EXIT", "Übergröße 34号", "a much longer line of text, " * 12] + [
    f"line {n}" for n in range(70)
]


def test_embeddings_equal_sentence_transformers() -> None:
    library = pytest.importorskip("sentence_transformers")
    expected = library.SentenceTransformer(str(minilm_folder()), device="cpu").encode(TEXTS)
    found = sentence_encoder(MINILM).encode(TEXTS)
    assert found.shape == (len(TEXTS), 384)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_text_does_not_depend_on_its_neighbours() -> None:
    together = sentence_encoder(MINILM).encode(TEXTS[:4])
    alone = np.concatenate([sentence_encoder(MINILM).encode([text]) for text in TEXTS[:4]])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_model_is_loaded_once() -> None:
    assert sentence_encoder(MINILM) is sentence_encoder(MINILM)


def test_a_model_that_cannot_be_loaded_says_what_to_set(tmp_path) -> None:
    with pytest.raises(UnavailableError, match="sentence_model"):
        SentenceEncoder(str(tmp_path))
