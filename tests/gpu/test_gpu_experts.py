"""Experts give the same features on a GPU as on the CPU: tiny models and whole networks, all of random weights."""

from __future__ import annotations

from needs import needs

needs(__name__, "pydantic", "yaml", "PIL", "transformers", "pyarrow")

from pathlib import Path

import numpy as np
import pytest
from expert_cases import HEARING, MODELS, Case, media_for

from feature_extraction.experts import make_extractor, missing_packages
from feature_extraction.extractor import ModelExpert
from vtr.experts import EXPERTS


@pytest.mark.gpu
@pytest.mark.parametrize("case", MODELS, ids=str)
def test_the_features_are_those_of_the_cpu(case: Case, tmp_path: Path) -> None:
    missing = missing_packages(case.name) if case.name in EXPERTS else []
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    if case.name in HEARING:
        pytest.importorskip("scipy")
        pytest.importorskip("espeakng_loader")
    found = {}
    for device in ("cpu", "cuda"):
        expert = make_extractor(case.name, case.config(tmp_path))
        assert isinstance(expert, ModelExpert)
        expert.load(device)
        extracted = expert.extract(media_for(case, expert, Path()))
        assert extracted is not None
        found[device] = extracted.features.values
    largest = np.abs(found["cpu"]).max()  # a GPU's convolutions round to TF32, 10 bits
    np.testing.assert_allclose(found["cuda"], found["cpu"], rtol=1e-3, atol=1e-3 * largest)
