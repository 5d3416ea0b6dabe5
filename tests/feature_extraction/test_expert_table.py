"""What holds for every expert: the specs agree with the table, the features with the specs, absence with None."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from painted_clips import media

from feature_extraction import experts
from feature_extraction.experts import EXTRACTORS, make_extractor, missing_packages
from feature_extraction.extractor import Frames
from vtr.config import ExtractConfig
from vtr.errors import ConfigError, UnavailableError
from vtr.experts import EXPERTS
from vtr.packaged import dlib_model, efficientnet_folder, minilm_folder, whisper_folder

GREY = np.full((3, 120, 160, 3), 128, np.uint8)
NOISE = np.random.default_rng(0).integers(0, 255, (26, 112, 112), dtype=np.uint8)
HUM = (0.2 * np.sin(np.arange(32000) * 0.1)).astype(np.float32)


def busy():
    """Grey frames, moving noise and a hum: something for the experts that describe whatever is there."""
    return media(GREY, motion=Frames(NOISE, np.arange(26) * 0.08), sound=HUM)


def test_the_tables_list_the_same_experts() -> None:
    assert sorted(EXTRACTORS) == sorted(EXPERTS)


@pytest.mark.parametrize("name", EXPERTS)
def test_an_experts_spec_fits_its_line_of_the_table_and_its_features(extractor, name: str) -> None:
    expert = extractor(name)
    assert (expert.spec.name, expert.spec.modality) == (name, EXPERTS[name].modality)
    assert expert.scaler
    assert expert.needs_motion == (name == "motion")
    assert expert.needs_sound == (name in ("audio", "speech"))
    assert (expert.spec.weights_sha256 == "") == (expert.spec.pretrained_on == "nothing") == (name == "motion")
    found = expert.extract(busy())
    if name in ("face", "ocr", "speech"):
        assert found is None  # no face, no text, no words there
        return
    assert found.features.dim == expert.spec.dim
    assert found.texts is None
    assert (found.features.end_seconds > found.features.start_seconds).all()
    again = expert.extract(busy())
    np.testing.assert_array_equal(again.features.values, found.features.values)


@pytest.mark.parametrize("name", ["audio", "speech", "motion"])
def test_what_was_not_decoded_is_absent(extractor, name: str) -> None:
    assert extractor(name).extract(media(GREY)) is None


@pytest.mark.parametrize("name", ["audio", "speech"])
def test_a_silent_track_is_absent(extractor, name: str) -> None:
    assert extractor(name).extract(replace(busy(), sound=np.zeros(32000, np.float32))) is None


def test_weights_are_named_by_their_hash(extractor) -> None:
    files = {
        "appearance": next(efficientnet_folder().glob("*.pth")),
        "face": dlib_model("dlib_face_recognition_resnet_model_v1.dat"),
        "ocr": minilm_folder() / "model.safetensors",
        "speech": whisper_folder() / "model.bin",
    }
    for name, path in files.items():
        assert extractor(name).spec.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_unknown_expert_is_named_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"'sound'.*appearance.*speech"):
        make_extractor("sound", ExtractConfig())


def test_missing_packages_are_unavailable_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experts, "has_module", lambda name: name != "dlib")
    assert missing_packages("face") == ("dlib",)
    assert missing_packages("motion") == ()
    monkeypatch.setitem(__import__("sys").modules, "dlib", None)
    with pytest.raises(UnavailableError, match=r"expert face.*pip install"):
        make_extractor("face", ExtractConfig())
