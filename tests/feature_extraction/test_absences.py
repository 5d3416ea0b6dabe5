"""Where there is nothing for an expert to read, the ledger says so, and it is no failure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from painted_clips import FAST_START, ffmpeg, render

from feature_extraction.ledger import read_ledger
from feature_extraction.pipeline import extract
from feature_extraction.report import report
from vtr.annotations.prepare import prepare_folder
from vtr.extract_config import ExtractConfig
from vtr.store.reader import FeatureStore
from vtr.workspace import Workspace

H264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p")


def prepared(folder: Path, *output: str, silent: bool = False) -> Workspace:
    """Return a workspace of one clip of 4 seconds without sound, or with a silent track."""
    noise = np.random.default_rng(0).integers(90, 150, (100, 48, 64, 3), dtype=np.uint8)
    (folder / "clips").mkdir()
    path = render(folder / "slides.mp4", list(noise), *output)
    if silent:
        sound = ("-f", "lavfi", "-i", "anullsrc", "-shortest")
        ffmpeg("-i", path, *sound, "-c:v", "copy", folder / "clips" / path.name)
    else:
        path.rename(folder / "clips" / path.name)
    return prepare_folder(folder / "clips", None, folder / "ws").workspace


def test_a_video_without_sound_is_absent_for_sound_experts_and_no_failure(tmp_path: Path) -> None:
    workspace = prepared(tmp_path, *H264)
    summary = extract(workspace, ExtractConfig(experts=("audio",), workers=1))
    assert summary.failures == 0
    assert FeatureStore(workspace.features).video_ids("audio") == ()
    (entry,) = read_ledger(workspace.ledger)
    assert (entry.expert, entry.kind, entry.status) == ("audio", "no_audio", "absent")


def test_a_damaged_video_without_sound_is_partial_for_experts_of_frames_only(tmp_path: Path) -> None:
    workspace = prepared(tmp_path, *FAST_START)
    path = tmp_path / "clips" / "slides.mp4"
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    extract(workspace, ExtractConfig(experts=("audio", "motion"), workers=1))
    entries = {entry.expert: (entry.kind, entry.status) for entry in read_ledger(workspace.ledger)}
    assert entries == {"audio": ("no_audio", "absent"), "motion": ("truncated", "partial")}


def test_too_little_is_absent_with_its_reason_and_no_failure(tmp_path: Path) -> None:
    workspace = prepared(tmp_path, *H264, "-r", "1", silent=True)
    summary = extract(workspace, ExtractConfig(experts=("audio", "motion"), workers=1))
    assert (summary.extracted, summary.failures, summary.partial) == (1, 0, 0)
    entries = {entry.expert: entry for entry in read_ledger(workspace.ledger)}
    assert {(entry.kind, entry.status) for entry in entries.values()} == {("too_little", "absent")}
    assert "silence" in entries["audio"].message
    assert "1 frames a second, motion is seen from 4 on" in entries["motion"].message
    assert "slides  motion" in report(workspace, whole=True)
