"""File after file is read with models that were loaded once, each as `vtr extract` would have read it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from feature_extraction import one_video
from feature_extraction.one_video import ExtractLike, extract_like
from feature_extraction.pipeline import extract
from feature_extraction.worker import VideoWorker
from vtr.annotations.prepare import prepare_folder
from vtr.errors import InputError
from vtr.extract_config import ExtractConfig
from vtr.store.reader import FeatureStore
from vtr.workspace import Run, write_manifest

PLAIN = {"experts": ("motion",), "workers": 1, "devices": ("cpu",)}


@pytest.fixture
def run(clip: Path, tmp_path: Path) -> Run:
    """A run on a workspace of one extracted clip."""
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "one.mp4").symlink_to(clip)
    workspace = prepare_folder(tmp_path / "videos", None, tmp_path / "ws").workspace
    extract(workspace, ExtractConfig.model_validate(PLAIN))
    made = Run.create(tmp_path / "run", workspace)
    write_manifest(made.root, "train", output="0", inputs={}, config={}, experts=["motion"])
    return made


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[ExtractConfig]:
    """The settings of each time that experts were loaded."""
    times: list[ExtractConfig] = []

    class Counted(VideoWorker):
        def __init__(self, config: ExtractConfig, *rest: object) -> None:
            times.append(config)
            super().__init__(config, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(one_video, "VideoWorker", Counted)
    return times


def test_models_are_loaded_once_and_features_are_those_of_the_workspace(
    run: Run, clip: Path, tmp_path: Path, loaded: list[ExtractConfig]
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    stored = dict(FeatureStore(run.workspace.store).read("motion"))["one"]
    reader = ExtractLike(run)
    found = [reader(clip)]
    with pytest.raises(InputError, match=r"broken\.mp4 cannot be read as a video"):
        reader(broken)
    with pytest.raises(InputError, match="not there"):
        reader(tmp_path / "nowhere.mp4")
    found.append(reader(clip))
    assert len(loaded) == 1
    reader.close()
    for features in (*found, extract_like(run, clip)):
        np.testing.assert_array_equal(features["motion"].values.astype(stored.values.dtype), stored.values)
    assert len(loaded) == 2


def test_settings_that_changed_are_taken_up(
    run: Run, clip: Path, loaded: list[ExtractConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = ExtractLike(run)
    before = reader(clip)
    wanted = ExtractConfig.model_validate(PLAIN | {"max_seconds": 1.0})
    monkeypatch.setattr(one_video, "store_config", lambda *_: wanted)
    after = reader(clip)
    reader.close()
    assert [config.max_seconds for config in loaded] == [ExtractConfig().max_seconds, 1.0]
    assert len(after["motion"].values) < len(before["motion"].values)
