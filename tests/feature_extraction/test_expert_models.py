"""Experts that load models through transformers, against the same models used as their documentation says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file
from tiny_models import save_tiny

from feature_extraction.experts import make_extractor
from feature_extraction.extractor import Frames, Media, ModelExpert, VideoInfo
from vtr.errors import ConfigError, UnavailableError
from vtr.extract_config import ExtractConfig

IMAGES = np.random.default_rng(1).integers(0, 255, (9, 60, 90, 3), dtype=np.uint8)
INFO = VideoInfo("made by hand", 9.0, 90, 60, 1.0, True)
MEDIA = Media(INFO, Frames(IMAGES, np.arange(9.0)), np.random.default_rng(2).normal(0, 0.1, 40000).astype(np.float32))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tiny models")


def extracted(name: str, path: Path, **own: object) -> np.ndarray:
    config = ExtractConfig.model_validate({"settings": {name: {"model": str(path), **own}}})
    expert = make_extractor(name, config)
    assert isinstance(expert, ModelExpert)
    expert.load("cpu")
    found = expert.extract(MEDIA)
    assert found is not None
    assert found.features.dim == expert.spec.dim
    return found.features.values


def pixels(path: Path, images: np.ndarray) -> torch.Tensor:
    processor = tf.AutoImageProcessor.from_pretrained(path, backend="pil")
    return processor(list(images), return_tensors="pt")["pixel_values"]


def same(found: np.ndarray, expected: torch.Tensor) -> None:
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_clip_features_are_those_that_captions_are_compared_with(folder: Path) -> None:
    path = save_tiny("clip", folder)
    model = tf.CLIPModel.from_pretrained(path).eval()
    same(extracted("clip", path), model.get_image_features(pixel_values=pixels(path, IMAGES)).pooler_output)
    out = model.vision_model(pixel_values=pixels(path, IMAGES))
    same(extracted("clip", path, pooling="cls"), out.pooler_output)
    same(extracted("clip", path, pooling="mean"), out.last_hidden_state[:, 1:].mean(dim=1))


@torch.no_grad()
def test_siglip_features_are_those_that_captions_are_compared_with(folder: Path) -> None:
    path = save_tiny("siglip", folder)
    model = tf.SiglipModel.from_pretrained(path).eval()
    same(extracted("clip", path), model.get_image_features(pixel_values=pixels(path, IMAGES)).pooler_output)
    patches = model.vision_model(pixel_values=pixels(path, IMAGES)).last_hidden_state
    assert patches.shape[1] == 16  # 4 x 4 patches and no class token
    same(extracted("clip", path, pooling="mean"), patches.mean(dim=1))


@torch.no_grad()
def test_dinov2_features_are_the_class_token(folder: Path) -> None:
    path = save_tiny("dinov2", folder)
    out = tf.AutoModel.from_pretrained(path).eval()(pixel_values=pixels(path, IMAGES))
    same(extracted("appearance_vit", path), out.pooler_output)
    same(extracted("appearance_vit", path, pooling="mean"), out.last_hidden_state[:, 1:].mean(dim=1))


@pytest.mark.parametrize("kind", ["dinov2", "dinov2_with_registers", "deit", "vit"])
@torch.no_grad()
def test_the_mean_is_that_of_the_patches_alone(folder: Path, kind: str) -> None:
    path = save_tiny(kind, folder)
    tokens = tf.AutoModel.from_pretrained(path).eval()(pixel_values=pixels(path, IMAGES)).last_hidden_state
    same(extracted("scene", path, pooling="mean"), tokens[:, -16:].mean(dim=1))  # 4 x 4 patches come last
    same(extracted("scene", path), tokens[:, 0])


@torch.no_grad()
def test_clip_without_its_projection_has_its_class_token(folder: Path) -> None:
    path = folder / "clip vision alone"
    shutil.copytree(save_tiny("clip", folder), path)
    tf.CLIPVisionModel.from_pretrained(path).save_pretrained(path)
    expected = tf.CLIPVisionModel.from_pretrained(path).eval()(pixel_values=pixels(path, IMAGES)).pooler_output
    same(extracted("clip", path, pooling="cls"), expected)
    with pytest.raises(UnavailableError, match=r"lack 1 tensors.*visual_projection"):
        extracted("clip", path)


@pytest.mark.parametrize(
    ("name", "kind"), [("scene", "vit"), ("motion_timesformer", "timesformer"), ("motion_videomae", "videomae")]
)
@torch.no_grad()
def test_a_classifiers_features_are_what_its_head_reads(folder: Path, name: str, kind: str) -> None:
    path = save_tiny(kind, folder)
    given = (
        pixels(path, IMAGES) if kind == "vit" else torch.cat([pixels(path, IMAGES[at : at + 4]) for at in (0, 4, 5)])
    )
    auto = tf.AutoModelForImageClassification if kind == "vit" else tf.AutoModelForVideoClassification
    model = auto.from_pretrained(path).eval()
    same(model.classifier(torch.from_numpy(extracted(name, path))).numpy(), model(pixel_values=given).logits)


@torch.no_grad()
def test_videomae_without_a_classifier_gives_the_mean_of_its_tokens(folder: Path) -> None:
    path = folder / "videomae before fine-tuning"
    shutil.copytree(save_tiny("videomae", folder), path)
    tf.AutoModelForVideoClassification.from_pretrained(path).videomae.save_pretrained(path)
    given = torch.cat([pixels(path, IMAGES[at : at + 4]) for at in (0, 4, 5)])
    tokens = tf.VideoMAEModel.from_pretrained(path).eval()(pixel_values=given).last_hidden_state
    same(extracted("motion_videomae", path), tokens.mean(dim=1))


@torch.no_grad()
def test_xclip_features_are_those_that_captions_are_compared_with(folder: Path) -> None:
    path = save_tiny("xclip", folder)
    clips = torch.stack([pixels(path, IMAGES[at : at + 4]) for at in (0, 4, 5)])
    model = tf.XCLIPModel.from_pretrained(path).eval()
    same(extracted("motion_xclip", path), model.get_video_features(pixel_values=clips).pooler_output)


@torch.no_grad()
def test_ast_features_are_what_its_head_reads(folder: Path) -> None:
    path = save_tiny("ast", folder)
    model = tf.ASTForAudioClassification.from_pretrained(path).eval()
    spectra = tf.AutoFeatureExtractor.from_pretrained(path)
    assert MEDIA.sound is not None
    pieces = [MEDIA.sound[start : start + 16640] for start in (0, 16640, 40000 - 16640)]
    given = spectra(pieces, sampling_rate=16000, return_tensors="pt")["input_values"]
    expected = model(input_values=given).logits
    same(model.classifier(torch.from_numpy(extracted("audio_ast", path))).numpy(), expected)


def test_weights_of_another_kind_are_refused(folder: Path) -> None:
    for name, kind in (("clip", "videomae"), ("motion_xclip", "clip"), ("audio_ast", "vit"), ("speech_whisper", "ast")):
        with pytest.raises(ConfigError, match=rf"expert {name}.*model of type.*settings\.{name}\.model"):
            extracted(name, save_tiny(kind, folder))


def test_missing_tensors_are_not_filled_at_random(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "holes"
    shutil.copytree(save_tiny("dinov2", folder), path)
    tensors = load_file(path / "model.safetensors")
    del tensors["layernorm.weight"]
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnavailableError, match=r"lack 1 tensors.*layernorm\.weight"):
        extracted("appearance_vit", path)


@pytest.mark.parametrize(
    ("name", "kind", "own", "message"),
    [
        ("clip", "siglip", {"pooling": "cls"}, r"settings\.clip\.pooling is cls.*projection, mean"),
        ("scene", "vit", {"pooling": "projection"}, r"pooling is projection.*cls, mean"),
        ("motion_videomae", "videomae", {"window": 16}, r"window is 16.*windows of 4 frames"),
        ("motion_videomae", "videomae", {"sampling": "shots"}, r"sampling is shots.*fps, uniform or all"),
        ("motion_videomae", "videomae", {"sampling": "uniform"}, r"uniform without max_frames"),
        ("audio_ast", "ast", {"window_seconds": 3.0}, r"window_seconds is 3.*hears 1\.04 s"),
        ("speech_whisper", "whisper", {"language": "xx"}, r"language is xx.*de, en"),
    ],
)
def test_settings_that_do_not_fit_the_model_are_refused(
    folder: Path, name: str, kind: str, own: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        extracted(name, save_tiny(kind, folder), **own)


def test_a_model_without_its_preprocessing_is_incomplete(folder: Path, tmp_path: Path) -> None:
    for name, kind in (("clip", "clip"), ("audio_ast", "ast")):
        path = tmp_path / kind
        shutil.copytree(save_tiny(kind, folder), path)
        (path / "preprocessor_config.json").unlink()
        with pytest.raises(UnavailableError, match=r"preprocessor_config\.json.*download the model completely"):
            extracted(name, path)


def test_pictures_of_no_fixed_size_are_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "clip"
    shutil.copytree(save_tiny("clip", folder), path)
    settings = json.loads((path / "preprocessor_config.json").read_text())
    (path / "preprocessor_config.json").write_text(json.dumps({**settings, "do_center_crop": False}))
    with pytest.raises(UnavailableError, match="no fixed size"):
        extracted("clip", path)


def test_windows_are_read_at_the_rate_that_is_set(folder: Path) -> None:
    def needs(**own: object) -> tuple[object, ...]:
        settings = {"motion_videomae": {"model": str(save_tiny("videomae", folder)), **own}}
        expert = make_extractor(
            "motion_videomae", ExtractConfig.model_validate({"settings": settings, "max_frames": 5})
        )
        assert expert.frames is not None
        sampling = expert.frames.sampling
        return sampling.kind, sampling.per_second, sampling.most, expert.spec.window_seconds

    assert needs() == ("fps", 7.5, None, 4 / 7.5)  # `max_frames` is for experts of single frames
    assert needs(frames_per_second=2.0) == ("fps", 2.0, None, 2.0)
    assert needs(sampling="uniform", max_frames=8) == ("uniform", 7.5, 8, None)
