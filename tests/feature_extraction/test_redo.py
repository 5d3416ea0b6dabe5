"""A video whose file has been replaced is read once more when asked; what was made of the former file goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from painted_clips import painted, render

from feature_extraction.ledger import ALL_EXPERTS, read_ledger
from feature_extraction.pipeline import ExtractSummary, extract
from vtr.annotations.prepare import prepare_folder
from vtr.errors import InputError
from vtr.extract_config import ExtractConfig
from vtr.store.reader import FeatureStore
from vtr.workspace import Workspace


def run(workspace: Workspace, *redo: str) -> ExtractSummary:
    config = ExtractConfig(experts=("mean",), workers=1)
    return extract(workspace, config, redo=redo, extractors={"mean": "fake_experts:Mean"})


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    folder = tmp_path / "clips"
    folder.mkdir()
    for index, name in enumerate(("kept", "other")):
        render(folder / f"{name}.mp4", [painted(170 + index)] * 30)
    workspace = prepare_folder(folder, None, tmp_path / "ws").workspace
    run(workspace)
    return workspace


def test_it_is_as_if_the_new_file_had_always_been_there(workspace: Workspace, tmp_path: Path) -> None:
    before = FeatureStore(workspace.features).read("mean")
    new = render(tmp_path / "clips" / "other.mp4", [painted(85)] * 30)
    assert run(workspace).extracted == 0
    summary = run(workspace, "other")
    assert (summary.extracted, summary.done_before, summary.failures) == (1, 1, 0)
    now = FeatureStore(workspace.features).read("mean")
    assert not np.array_equal(now["other"].values, before["other"].values)
    np.testing.assert_array_equal(now["kept"].values, before["kept"].values)
    (tmp_path / "alone").mkdir()
    new.rename(tmp_path / "alone" / "other.mp4")
    fresh = prepare_folder(tmp_path / "alone", None, tmp_path / "ws2").workspace
    run(fresh)
    np.testing.assert_array_equal(FeatureStore(fresh.features).read("mean")["other"].values, now["other"].values)
    assert FeatureStore(workspace.features).verify("mean") == []


def test_what_cannot_be_read_any_more_has_no_features(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "clips" / "other.mp4").write_bytes(b"no video" * 99)
    summary = run(workspace, "other")
    assert (summary.extracted, summary.failed) == (0, 1)
    assert FeatureStore(workspace.features).video_ids("mean") == ("kept",)
    (entry,) = read_ledger(workspace.ledger)
    assert (entry.video_id, entry.expert, entry.status) == ("other", ALL_EXPERTS, "failed")


def test_ids_that_are_not_there_are_named(workspace: Workspace) -> None:
    with pytest.raises(InputError, match=r"--redo names othre: no such video with a file"):
        run(workspace, "kept", "othre")
