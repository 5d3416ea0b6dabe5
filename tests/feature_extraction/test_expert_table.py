"""The table of experts and what makes them: names that agree, own names, and errors that say what to do."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import subprocess
import sys
from typing import get_args

import pytest

from feature_extraction import experts
from feature_extraction.experts import (
    AUDIO,
    EXTRACTORS,
    IMAGE,
    KIND_EXTRACTORS,
    VIDEO,
    make_extractor,
    missing_packages,
)
from feature_extraction.experts.hf_audio import AUDIO_MODELS
from feature_extraction.experts.hf_image import IMAGE_MODELS
from feature_extraction.experts.hf_video import VIDEO_MODELS
from feature_extraction.releases import RELEASES
from feature_extraction.shaping import FIXED, differences, shaping_settings
from vtr.errors import ConfigError, UnavailableError
from vtr.experts import EXPERTS, KINDS, check_experts, find_expert
from vtr.extract_config import ExpertConfig, ExtractConfig
from vtr.packaged import dlib_model, efficientnet_weights, minilm_folder, whisper_folder


def own(**settings: dict[str, object]) -> ExtractConfig:
    return ExtractConfig.model_validate({"settings": settings})


def test_experts_whose_frames_are_fixed_take_no_notice_of_settings_of_frames() -> None:
    """So those do not stand in the way of more of their features; for the others they do."""
    other = ExtractConfig(sampling="uniform", frames_per_second=7.0, max_frames=3, frame_side=99)
    for name, path in EXTRACTORS.items():
        if EXPERTS[name].needs == "packaged" and not missing_packages(name):
            same = make_extractor(name, ExtractConfig()).frames == make_extractor(name, other).frames
            assert same == (name in FIXED), name
        elif EXPERTS[name].needs != "packaged":  # it is made only where its weights are
            module, _, factory = path.partition(":")
            classes = getattr(importlib.import_module(module), factory).__mro__
            ours = [one for one in classes if one.__module__.startswith("feature_extraction.experts")]
            assert any("self.frames =" in inspect.getsource(one) for one in ours) == (name not in FIXED), name
        differ = {
            setting
            for setting, _, _ in differences(
                name, shaping_settings(ExtractConfig(), name), shaping_settings(other, name)
            )
        }
        assert differ == (set() if name in FIXED else {"sampling", "frames_per_second", "max_frames", "frame_side"})


def test_the_tables_list_the_same_experts() -> None:
    assert sorted(EXTRACTORS) == sorted(EXPERTS)
    kinds = set(get_args(get_args(ExpertConfig.model_fields["kind"].annotation)[0]))
    assert set(KINDS) == set(KIND_EXTRACTORS) == kinds


@pytest.mark.parametrize("name", EXPERTS)
def test_every_expert_is_one_class_of_its_module(name: str) -> None:
    module, _, factory = EXTRACTORS[name].partition(":")
    assert callable(getattr(importlib.import_module(module), factory))


def test_the_default_experts_need_no_download() -> None:
    assert {EXPERTS[name].needs for name in ExtractConfig().experts} == {"packaged"}


def test_every_default_model_has_its_data_and_licence_named() -> None:
    for expert in EXPERTS.values():
        named = expert.model is not None or expert.needs != "hub or folder"
        assert ("see the model" not in (expert.pretrained_on, expert.licence)) == named


def test_the_table_needs_no_torch() -> None:
    code = "import sys, vtr.experts, vtr.stages.experts as e; e.experts(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_are_sorted_and_given_once() -> None:
    assert check_experts(["speech", "clip", "speech"]) == ("clip", "speech")


def test_a_name_of_ones_own_is_an_expert_of_its_kind() -> None:
    settings = own(sharp={"kind": "image", "model": "google/siglip-base-patch16-224"}).settings
    assert check_experts(["sharp", "audio"], settings) == ("audio", "sharp")
    line = find_expert("sharp", settings)
    assert (line.name, line.modality, line.model) == ("sharp", "image", "google/siglip-base-patch16-224")
    assert line.licence == line.pretrained_on == "see the model"
    assert missing_packages("sharp", settings) == ()


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (["sound"], {}, r"no expert 'sound'.*appearance.*speech.*settings\.sound\.kind"),
        (["clipp"], {}, r"Did you mean 'clip'"),
        (["shrap"], {"sharp": {"kind": "image", "model": "m"}}, r"Did you mean 'sharp'"),
        (["clip"], {"speach": {"language": "en"}}, r"no expert 'speach'.*Did you mean 'speech'"),
        (["sharp"], {"sharp": {"kind": "image"}}, r"settings\.sharp\.model is missing"),
        (["clip"], {"clip": {"kind": "video"}}, r"settings\.clip\.kind is video.*kind is fixed"),
        ([], {}, r"no expert was named"),
        (
            ["face"],
            {"face": {"model": "x"}},
            r"settings\.face\.model is x.*face takes: sampling, frames_per_second, max_",
        ),
        (["clip"], {"audio": {"batch": 3}}, r"settings\.audio\.batch is 3.*audio takes no settings of its own"),
        (["sharp"], {"sharp": {"kind": "image", "model": "m", "window": 3}}, r"settings\.sharp\.window is 3"),
    ],
)
def test_names_and_settings_that_cannot_be_are_refused(
    names: list[str], settings: dict[str, dict[str, object]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_experts(names, own(**settings).settings)


def test_an_unknown_expert_is_named_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"'sound'.*appearance.*speech"):
        make_extractor("sound", ExtractConfig())


def test_an_expert_without_default_weights_asks_for_some() -> None:
    with pytest.raises(UnavailableError, match=r"settings\.scene\.model is not set"):
        make_extractor("scene", ExtractConfig())


def test_missing_packages_are_unavailable_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experts, "has_module", lambda name: name != "dlib")
    assert missing_packages("face") == ("dlib",)
    assert missing_packages("motion") == ()
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(UnavailableError, match=r"expert face.*pip install"):
        make_extractor("face", ExtractConfig())


@pytest.mark.parametrize("name", ["appearance", "appearance_lite0", "appearance_lite1", "face", "ocr", "speech"])
def test_weights_are_named_by_their_hash(name: str) -> None:
    if missing := missing_packages(name):
        pytest.skip(f"the expert {name} needs {', '.join(missing)}: pip install 'vtr[experts]'")
    files = {
        "appearance": lambda: efficientnet_weights(2),
        "appearance_lite0": lambda: efficientnet_weights(0),
        "appearance_lite1": lambda: efficientnet_weights(1),
        "face": lambda: dlib_model("dlib_face_recognition_resnet_model_v1.dat"),
        "ocr": lambda: minilm_folder() / "model.safetensors",
        "speech": lambda: whisper_folder() / "model.bin",
    }
    expected = hashlib.sha256(files[name]().read_bytes()).hexdigest()
    assert make_extractor(name, ExtractConfig()).spec.weights_sha256 == expected


def test_the_weights_of_objects_are_named_by_the_hash_of_their_hashes() -> None:
    if missing := missing_packages("objects"):
        pytest.skip(f"the expert objects needs {', '.join(missing)}: pip install 'vtr[experts]'")
    hashes = [hashlib.sha256(efficientnet_weights(number).read_bytes()).hexdigest() for number in (2, 1, 0)]
    expected = hashlib.sha256("".join(hashes).encode()).hexdigest()
    assert make_extractor("objects", ExtractConfig()).spec.weights_sha256 == expected


def test_settings_left_at_their_defaults_may_stand() -> None:
    every = {name: ExpertConfig().model_dump() for name in EXPERTS}
    assert check_experts(EXPERTS, own(**every).settings) == tuple(sorted(EXPERTS))


@pytest.mark.parametrize("name", EXPERTS)
def test_each_setting_is_taken_or_refused(name: str) -> None:
    others = {"sampling": "all", "precision": "bfloat16", "pooling": "mean", "model": "m", "language": "en"}
    for setting in ExpertConfig.model_fields.keys() - {"kind"}:
        settings = own(**{name: {setting: others.get(setting, 3)}}).settings
        if setting in EXPERTS[name].takes:
            check_experts([name], settings)
            continue
        with pytest.raises(ConfigError, match=rf"settings\.{name}\.{setting} is .*does not read {setting}"):
            check_experts([name], settings)


def test_the_table_names_the_types_of_models_that_are_read() -> None:
    read = {IMAGE: IMAGE_MODELS, VIDEO: VIDEO_MODELS, AUDIO: AUDIO_MODELS}
    for name, extractor in EXTRACTORS.items():
        if extractor in read:
            assert set(EXPERTS[name].model_types) == set(read[extractor])
        assert bool(EXPERTS[name].model_types) == (EXPERTS[name].needs == "hub or folder")


def test_every_expert_with_a_file_of_weights_has_a_release() -> None:
    assert {name for name, line in EXPERTS.items() if line.needs == "a file of weights"} == set(RELEASES)
