"""What a user has to mend is said at once: before processes start, models load or videos are decoded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fake_experts
import pytest
from fake_experts import MeanModel
from tiny_models import save_tiny
from toy import ROOT

from feature_extraction import one_video, pipeline
from feature_extraction.checks import check_weights
from feature_extraction.experts import make_extractors
from feature_extraction.one_video import extract_one
from feature_extraction.pipeline import extract
from vtr.annotations.prepare import prepare_folder
from vtr.errors import ConfigError, InputError, UnavailableError
from vtr.extract_config import ExtractConfig
from vtr.store.reader import FeatureStore
from vtr.workspace import Workspace

FAKES = {"mean": "fake_experts:Mean", "model": "fake_experts:MeanModel", "refusing": "test_checks:Refusing"}


pytestmark = pytest.mark.usefixtures("empty_hub")


class Refusing(MeanModel):
    """Its settings never fit."""

    def __init__(self, config: ExtractConfig, name: str) -> None:
        del config
        raise ConfigError(f"settings.{name} do not fit")


@pytest.fixture
def workspace(clip: Path, tmp_path: Path) -> Workspace:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / clip.name).symlink_to(clip)
    return prepare_folder(tmp_path / "videos", None, tmp_path / "ws").workspace


def settings(*experts: str, **own: dict[str, object]) -> ExtractConfig:
    return ExtractConfig.model_validate({"experts": experts, "workers": 1, "devices": ("cpu",), "settings": own})


def no_engine(*_: object) -> None:
    raise AssertionError("processes were started")


def test_without_any_weights_one_message_says_what_to_do_for_each(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "Pool", no_engine)
    with pytest.raises(UnavailableError) as caught:
        extract(workspace, settings("s3d", "clip", "scene"))
    first, *reasons = str(caught.value).splitlines()
    assert first == "none of the experts can run."
    assert [line.split(":")[0].strip() for line in reasons] == ["clip", "s3d", "scene"]
    for line, part in zip(
        reasons, ("hf download openai/clip", "--set settings.s3d.model=", "--set settings.scene.model="), strict=True
    ):
        assert part in line


def test_the_others_go_on_and_what_is_finished_needs_no_weights(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torn = tmp_path / "S3D_kinetics400.pt"
    torn.write_bytes(b"PK\x03\x04 and no more")
    summary = extract(workspace, settings("motion", "s3d", s3d={"model": str(torn)}))
    assert summary.extracted == 1
    assert list(summary.unavailable) == ["s3d"]
    assert summary.unavailable["s3d"].startswith(f"{torn} is torn")
    assert list(FeatureStore(workspace.features).read("motion"))
    monkeypatch.setattr(pipeline, "Pool", no_engine)
    again = extract(workspace, settings("motion", "s3d"))
    assert again.extracted == 0
    assert again.unavailable["s3d"].startswith("settings.s3d.model is not set")
    monkeypatch.setattr(pipeline, "check_weights", no_engine)
    assert extract(workspace, settings("motion")).done_before == 1


def test_one_video_is_not_read_without_weights(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_video, "VideoWorker", no_engine)
    with pytest.raises(UnavailableError, match=r"none of the experts can run.\n  vggish: settings\.vggish\.model"):
        extract_one(clip, settings("vggish"))


def test_models_of_other_types_are_named_together(model_files: Path) -> None:
    vit = {"model": str(save_tiny("vit", model_files))}
    with pytest.raises(ConfigError) as caught:
        check_weights(settings(clip=vit, motion_xclip=vit, audio_ast=vit), ["audio_ast", "clip", "motion_xclip"])
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["expert audio_ast", "expert motion_xclip"]
    assert all("type 'vit'" in line and "Set settings." in line for line in lines)


@pytest.mark.parametrize("expert", ["ocr", "speech", "speech_whisper"])
def test_the_sentence_model_is_looked_for(expert: str, model_files: Path) -> None:
    own = {"speech_whisper": {"model": str(save_tiny("whisper", model_files))}}
    config = ExtractConfig.model_validate({"sentence_model": "/no/such/model", "settings": own})
    here, lost = check_weights(config, [expert, "motion"])
    assert here == ["motion"]
    assert lost[expert].startswith("the sentence model: sentence_model is /no/such/model")


def test_looking_for_weights_loads_no_library_of_models(model_files: Path) -> None:
    clip = save_tiny("clip", model_files)
    script = f"""
import sys
from feature_extraction import pipeline
from vtr.extract_config import ExtractConfig
config = ExtractConfig.model_validate({{"settings": {{"clip": {{"model": {str(clip)!r}}}}}}})
assert pipeline.check_weights(config, ["clip", "s3d", "ocr"])[0] == ["clip", "ocr"]
print(*(name for name in ("torch", "transformers") if name in sys.modules))
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


def test_settings_that_do_not_fit_show_before_any_model_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object) -> None:
        raise AssertionError("an expert that loads as it is made was made first")

    monkeypatch.setattr(fake_experts.Mean, "__init__", load)
    with pytest.raises(ConfigError, match=r"settings\.refusing do not fit"):
        make_extractors(["mean", "model", "refusing"], ExtractConfig(), FAKES)
    made, unavailable = make_extractors(["mean", "model"], ExtractConfig(), FAKES, models_only=True)
    assert (list(made), unavailable) == (["model"], {})


def test_an_empty_file_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "none.mp4").touch()
    with pytest.raises(InputError, match=r"none\.mp4 cannot be read as a video .*is empty.*Give another file"):
        extract_one(tmp_path / "none.mp4", settings("motion"))
