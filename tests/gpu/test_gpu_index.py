"""An index of FAISS's on a GPU gives what sorting all scores gives."""

from __future__ import annotations

from needs import needs

needs(__name__, "faiss", "matplotlib", "pyarrow", "pydantic")

from pathlib import Path

import faiss
import numpy as np
import pytest
from parts import make_part

from vtr.index.build import build_index
from vtr.index.search import RetrievalIndex
from vtr.similarity import exact_scores


@pytest.mark.parametrize("place", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("missing", [0.0, 0.3])
@pytest.mark.parametrize(("factory", "parameters"), [("Flat", ""), ("IVF8,Flat", "nprobe=8")])
def test_the_best_are_those_of_sorted_scores(
    tmp_path: Path, factory: str, parameters: str, missing: float, place: str
) -> None:
    if place == "cuda" and not hasattr(faiss, "StandardGpuResources"):
        pytest.skip(f"faiss {faiss.__version__} is its CPU build; faiss-gpu is needed")
    part = make_part(1500, 1, missing=missing)
    build_index(tmp_path, part, embed_output="x", factory=factory, parameters=parameters)
    found = RetrievalIndex.open(tmp_path, part, device=place).videos_for(part.texts, 10)
    scores = exact_scores(part.texts, part.videos).numpy()
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    np.testing.assert_array_equal(found.rows, expected)
    np.testing.assert_array_equal(found.scores, np.take_along_axis(scores, expected, 1))
