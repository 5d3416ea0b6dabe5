"""S3D: the network against a plain one, the published size, and how windows of frames reach it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from plain_networks import Weights, plain_s3d
from released_weights import random_weights, save_released

from feature_extraction.experts.s3d import S3D, S3DExpert
from feature_extraction.extractor import Frames, Media, VideoInfo
from feature_extraction.frames import Sampling
from vtr.errors import ConfigError, UnavailableError
from vtr.extract_config import ExpertConfig, ExtractConfig


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_weights("s3d")


@pytest.fixture(scope="module")
def path(model_files: Path) -> Path:
    return save_released("s3d", model_files)


def expert(path: Path | None, **settings: object) -> S3DExpert:
    own = ExpertConfig(model=str(path) if path else None, **settings)
    return S3DExpert(ExtractConfig(settings={"s3d": own}), "s3d")


def video(frames: int, height: int = 120, width: int = 160) -> Media:
    small = np.random.default_rng(5).integers(0, 255, (frames, 6, 8, 3), dtype=np.uint8)
    images = np.stack([np.asarray(Image.fromarray(image).resize((width, height))) for image in small])
    info = VideoInfo("made by hand", frames / 25, width, height, 25.0, False)
    return Media(info, Frames(images, np.arange(frames) / 25))


def test_the_network_is_as_published(weights: Weights) -> None:
    assert weights.parameters() == 8_320_048  # torchvision's page of its S3D for 400 classes


def test_features_are_what_a_plain_network_reads_its_classes_off(weights: Weights, path: Path) -> None:
    made = expert(path)
    made.load("cpu")
    clips = torch.rand(2, 3, 24, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    expected, logits = plain_s3d(weights, clips)
    with torch.inference_mode():
        found = made._network(clips)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    classes, offset = weights.tensors["fc.0.weight"][:, :, 0, 0, 0], weights.tensors["fc.0.bias"]
    torch.testing.assert_close(found @ classes.T + offset, logits, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(expected[0], expected[1], rtol=0.1)


def test_a_video_becomes_windows_of_pictures(weights: Weights, path: Path) -> None:
    made = expert(path, window=16)
    made.load("cpu")
    media = video(20)
    found = made.extract(media).features
    pictures = []
    for image in media.frames.images:
        scaled = Image.fromarray(image).resize((341, 256), Image.BILINEAR)
        pictures.append(np.asarray(scaled)[16:240, 58:282])
    clips = np.stack([pictures[:16], pictures[4:]]).astype(np.float32) / 255 * 2 - 1
    expected, _ = plain_s3d(weights, torch.from_numpy(clips).permute(0, 4, 1, 2, 3))
    cosine = torch.nn.functional.cosine_similarity(torch.from_numpy(found.values), expected)
    assert cosine.min() > 0.9999
    np.testing.assert_allclose(found.start_seconds, [0, 4 / 25], atol=1e-6)
    np.testing.assert_allclose(found.end_seconds, [16 / 25, 20 / 25], atol=1e-6)
    assert (made.spec.dim, made.spec.window_seconds, made.spec.modality) == (1024, 16 / 25, "video")


def test_low_precision_is_close(path: Path) -> None:
    clips = video(16, 32, 32).frames.images[None]  # of any size, as the network takes it
    values = []
    for precision in ("float32", "bfloat16"):
        made = expert(path, precision=precision)
        made.load("cpu")
        values.append(made.embed(clips)[0])
    exact, low = values
    assert exact @ low / np.linalg.norm(exact) / np.linalg.norm(low) > 0.99
    assert not np.array_equal(exact, low)


def test_its_sampling_and_times_follow_the_settings(path: Path) -> None:
    plain = expert(path)
    assert plain.frames.sampling == Sampling("fps", 25, None)
    assert plain.spec.window_seconds == pytest.approx(2.56)
    assert expert(path, window=32, frames_per_second=10).spec.window_seconds == pytest.approx(3.2)
    assert expert(path, sampling="uniform", max_frames=64).spec.window_seconds is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 8}, r"settings\.s3d\.window is 8.*at least 16"),
        ({"sampling": "shots"}, r"settings\.s3d\.sampling is shots"),
        ({"sampling": "uniform"}, r"settings\.s3d\.sampling is uniform.*max_frames"),
    ],
)
def test_settings_it_cannot_follow_are_refused(path: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        expert(path, **settings)


def test_a_missing_file_says_where_it_is_to_be_had(tmp_path: Path) -> None:
    for path, found in ((None, r"settings\.s3d\.model is not set"), (tmp_path / "none.pt", r"no file .*none\.pt")):
        with pytest.raises(
            UnavailableError, match=rf"{found}.*S3D_kinetics400\.pt from https://github\.com/kylemin/S3D"
        ):
            expert(path)


def test_no_frames_no_features(path: Path) -> None:
    made = expert(path)
    made.load("cpu")
    assert made.begin(VideoInfo("made by hand", 1.0, 64, 64, 25.0, False)).finish(None) is None


def test_a_network_of_another_kind_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pt"
    torch.save({f"{name}x": value for name, value in S3D().state_dict().items()}, wrong)
    with pytest.raises(UnavailableError, match=r"is not S3D_kinetics400\.pt.*lacks .* first base\.0"):
        expert(wrong).load("cpu")
