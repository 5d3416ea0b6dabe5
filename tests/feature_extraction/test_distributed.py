"""The Ray engine against the local one, on a cluster of a head and two machines that all run here."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from painted_clips import render
from toy import ROOT

from feature_extraction import distributed
from feature_extraction.distributed import RayEngine, actor_size
from feature_extraction.ledger import Ledger
from feature_extraction.pipeline import ExtractSummary, extract
from feature_extraction.plan import Task
from feature_extraction.pool import Outcome
from feature_extraction.ray_actor import ActorFolder, Setup
from vtr.annotations.prepare import prepare_folder
from vtr.errors import ConfigError, UnavailableError, VtrError
from vtr.extract_config import ExtractConfig
from vtr.store.reader import FeatureStore
from vtr.workspace import Workspace

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:ray.*", "ignore::FutureWarning:ray.*", "ignore::ResourceWarning"
)  # Ray's own

HERE = Path(__file__).parent
STORE_BYTES = 80 * 2**20
EXPERTS = {
    "mean": "fake_experts:Mean",
    "clumsy": "fake_experts:Clumsy",
    "assassin": "deadly_experts:Assassin",
}
COLOURS = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220), "black": (0, 0, 0)}
RUN = f"""
import sys
from pathlib import Path
from feature_extraction.pipeline import extract
from vtr.extract_config import ExtractConfig
from vtr.workspace import Workspace
config = ExtractConfig(experts=("mean",), workers=1, shard_videos=3, frames_per_second=4.0, engine="ray")
if __name__ == "__main__":
    extract(Workspace.open(Path(sys.argv[1])), config, extractors={EXPERTS!r})
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without CPUs, for the driver, and two machines of one CPU; all processes must be gone at the end."""
    utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed: pip install 'vtr[ray]'")
    import ray

    mark = f"VTR_TEST_CLUSTER={uuid.uuid4()}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(*mark.split("="))
        patch.setenv("PYTHONPATH", f"{HERE}{os.pathsep}{ROOT}")
        patch.setenv("FAKE_SECONDS", "0.2")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        quickly = {
            "health_check_initial_delay_ms": 0,
            "health_check_period_ms": 500,
            "health_check_failure_threshold": 6,
        }
        made = utils.Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "object_store_memory": STORE_BYTES,
                "include_dashboard": False,
                "_system_config": quickly,
            },
        )
        try:
            for _ in range(2):
                made.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
            patch.setenv("RAY_ADDRESS", made.address)
            yield made
        finally:
            ray.shutdown()
            made.shutdown()
    _wait_until_ended(mark)


def _wait_until_ended(mark: str) -> None:
    """Fail when processes started with `mark` in their environment outlive their cluster."""
    deadline = time.monotonic() + 30
    while left := list(_processes(mark)):
        assert time.monotonic() < deadline, f"processes are left behind: {left}"
        time.sleep(0.1)


def _processes(mark: str) -> Iterator[str]:
    """Yield the command lines of processes, without those that only wait to be reaped and Python's own tracker."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended, or is not ours
            continue
        if mark.encode() in environment and line and "multiprocessing.resource_tracker" not in line:
            yield line


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve short clips of plain colours, and one that is no video."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(12):
        name, colour = list(COLOURS.items())[number % len(COLOURS)]
        frame = np.full((48, 64, 3), np.array(colour) * (1 - number / 60), np.uint8)
        render(folder / f"{number:02d} {name}.mp4", [frame] * 5, rate=5)
    (folder / "12 broken.mp4").write_bytes((folder / "00 red.mp4").read_bytes()[:600])
    return folder


@pytest.fixture(scope="module")
def local(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """What the local engine makes of the clips."""
    workspace = prepare_folder(clips, None, tmp_path_factory.mktemp("local") / "ws").workspace
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{HERE}{os.pathsep}{ROOT}")
        run(workspace, "mean", "clumsy", engine="local")
    return workspace


def run(workspace: Workspace, *experts: str, engine: str = "ray") -> ExtractSummary:
    values = {"experts": experts, "workers": 1, "shard_videos": 3, "frames_per_second": 4.0, "engine": engine}
    return extract(workspace, ExtractConfig.model_validate(values), extractors=EXPERTS)


def rows(workspace: Workspace, expert: str) -> dict[str, tuple[bytes, bytes, bytes]]:
    found = FeatureStore(workspace.features).read(expert)
    return {
        video_id: (row.values.tobytes(), row.start_seconds.tobytes(), row.end_seconds.tobytes())
        for video_id, row in found.items()
    }


def failures(workspace: Workspace) -> set[tuple[str, str, str, str]]:
    return {(f.video_id, f.expert, f.stage, f.message) for f in Ledger(workspace.ledger)}


def assert_equal(one: Workspace, other: Workspace, *experts: str) -> None:
    """Hold two stores against each other: rows with their times, and who was examined."""
    for expert in experts:
        assert rows(one, expert) == rows(other, expert)
        stores = FeatureStore(one.features), FeatureStore(other.features)
        assert stores[0].examined(expert) == stores[1].examined(expert)
        assert stores[0].verify(expert) == []


def test_rows_and_failures_are_those_of_the_local_engine(
    cluster: Any, clips: Path, local: Workspace, tmp_path: Path
) -> None:
    del cluster
    workspace = prepare_folder(clips, None, tmp_path / "ws").workspace
    summary = run(workspace, "mean", "clumsy")
    assert (summary.extracted, summary.failed, summary.done_before) == (12, 1, 0)
    assert_equal(workspace, local, "mean", "clumsy")
    assert failures(workspace) == failures(local)
    assert len(failures(local)) == 7  # three that raise, three that kill their worker, one that is no video
    assert run(workspace, "mean", "clumsy").extracted == 0


def test_a_machine_that_dies_costs_nothing(
    cluster: Any, clips: Path, local: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = prepare_folder(clips, None, tmp_path / "ws").workspace
    machine = next(iter(cluster.worker_nodes))
    seen: list[str] = []
    run_tasks = RayEngine.run

    def run_and_kill(self: RayEngine, tasks: Sequence[Task]) -> Iterator[Outcome]:
        for task, found in run_tasks(self, tasks):
            seen.append(task.video_id)
            if len(seen) == 3:
                cluster.remove_node(machine, allow_graceful=False)
            yield task, found

    monkeypatch.setattr(RayEngine, "run", run_and_kill)
    try:
        summary = run(workspace, "mean")
    finally:
        cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    assert summary.extracted + summary.failed == len(seen) == len(set(seen)) == 13
    assert_equal(workspace, local, "mean")
    assert len(failures(workspace)) == 1  # the one that is no video


def test_a_killed_run_goes_on_where_it_was(cluster: Any, clips: Path, local: Workspace, tmp_path: Path) -> None:
    del cluster
    workspace = prepare_folder(clips, None, tmp_path / "ws").workspace
    script = tmp_path / "script.py"
    script.write_text(RUN)
    driver = subprocess.Popen([sys.executable, str(script), str(workspace.root)], stderr=subprocess.DEVNULL)
    try:
        while driver.poll() is None and len(_spooled(workspace)) < 2:
            time.sleep(0.02)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    done = sum(len(FeatureStore(workspace.features).examined(e)) for e in FeatureStore(workspace.features).experts)
    done += len(_spooled(workspace))
    summary = run(workspace, "mean")
    assert 0 < summary.extracted + summary.failed <= 13 - done
    assert_equal(workspace, local, "mean")


def _spooled(workspace: Workspace) -> list[Path]:
    return list((workspace.features / ".spool").glob("[!.]*.parquet"))


def test_a_video_that_kills_actors_is_found_and_costs_only_itself(
    cluster: Any, clips: Path, local: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del cluster
    monkeypatch.setattr(distributed, "BLOCK_TRIES", 1)
    folder = tmp_path / "clips"
    folder.mkdir()
    for path in sorted(clips.iterdir())[:4]:
        (folder / path.name).symlink_to(path)
    workspace = prepare_folder(folder, None, tmp_path / "ws").workspace
    run(workspace, "assassin")
    (failure,) = Ledger(workspace.ledger)
    assert (failure.video_id, failure.expert, failure.kind) == ("01 green", "*", "crash")
    assert "Ray actor that read it was lost" in failure.message
    expected = rows(local, "mean")
    assert rows(workspace, "assassin") == {name: expected[name] for name in ("00 red", "02 blue")}


def test_what_killed_processes_left_in_the_temporary_folder_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    (tmp_path / "vtr-ray-left" / "spool").mkdir(parents=True)
    first = ActorFolder()
    assert not (tmp_path / "vtr-ray-left").exists()
    assert Path(tempfile.mkdtemp()).parent == first.path
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    second = ActorFolder()
    assert first.path.is_dir()  # its process, this one, lives
    assert second.path.is_dir()
    second.remove()
    assert sorted(tmp_path.iterdir()) == [first.path]
    first.remove()
    assert list(tmp_path.iterdir()) == []


def test_other_versions_on_the_machines_are_refused(
    cluster: Any, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del cluster
    workspace = prepare_folder(clips, None, tmp_path / "ws").workspace
    monkeypatch.setattr(distributed, "Setup", functools.partial(Setup, version="0.0.7"))
    with pytest.raises(VtrError, match=r"machine .* of the Ray cluster: vtr .* is installed, the driver has 0\.0\.7"):
        run(workspace, "mean")


def test_without_ray_the_error_says_how_to_install_it(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "has_module", lambda name: name != "ray")
    workspace = prepare_folder(clips, None, tmp_path / "ws").workspace
    with pytest.raises(UnavailableError, match=r"pip install 'vtr\[ray\]'"):
        run(workspace, "mean")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere"])
def test_a_cluster_that_does_not_answer_is_named(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'vtr[ray]'").shutdown()
    monkeypatch.setenv("RAY_ADDRESS", address)
    workspace = prepare_folder(clips, None, tmp_path / "ws").workspace
    with pytest.raises(UnavailableError, match=f"the Ray cluster {address} cannot be reached .*ray start --head"):
        run(workspace, "mean")


@pytest.mark.parametrize(
    ("nodes", "settings", "expected"),
    [
        ([{"CPU": 8.0}], {}, (8, 0, 1)),
        ([{}, {"CPU": 8.0}, {"CPU": 5.0}], {"workers": 2}, (2, 0, 6)),
        ([{"CPU": 8.0}, {"CPU": 5.0}], {}, (5, 0, 2)),
        ([{"CPU": 32.0, "GPU": 4.0}, {"CPU": 16.0}, {"CPU": 20.0, "GPU": 2.0}], {}, (8, 1, 6)),
        ([{"CPU": 6.0, "GPU": 4.0}], {"workers": 2}, (2, 1, 3)),
        ([{"CPU": 6.0, "GPU": 4.0}], {"devices": ("cpu",)}, (6, 0, 1)),
        ([{"CPU": 2.0, "GPU": 4.0}], {"ray_actors": 2}, (1, 1, 2)),
    ],
)
def test_actors_fill_the_machines(
    nodes: list[dict[str, float]], settings: dict[str, Any], expected: tuple[int, int, int]
) -> None:
    size = actor_size(nodes, ExtractConfig.model_validate(settings))
    assert (size.cpus, size.gpus, size.actors) == expected


def test_clusters_on_which_no_actor_fits_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"workers is 9: .* has 8\. Set workers to at most 8"):
        actor_size([{"CPU": 8.0}], ExtractConfig(workers=9))
    with pytest.raises(UnavailableError, match="none of the 1 machines of the Ray cluster offers a GPU"):
        actor_size([{"CPU": 8.0}], ExtractConfig(devices=("cuda:0",)))
    with pytest.raises(UnavailableError, match="offers a CPU core"):
        actor_size([{}], ExtractConfig())
