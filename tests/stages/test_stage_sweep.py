"""A sweep from end to end: killed, resumed, one variant that fails; its table from the runs' own files."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from toy import ROOT, make_workspace

from vtr.cli import main
from vtr.config import TrainConfig
from vtr.errors import ConfigError, WorkspaceError
from vtr.files import lock, locked_by, read_json
from vtr.stages import sweep_runs
from vtr.stages.sweep import plan_sweep, sweep
from vtr.stages.sweep_runs import How
from vtr.workspace import Workspace

MakeConfig = Callable[..., TrainConfig]
VARIANTS: dict[str, dict[str, Any]] = {
    "released": {"set": {"loss.name": "max_margin"}},
    "unified": {"search": {"loss.margin": [0.1, 0.4]}},
}
BROKEN = {"broken": {"set": {"text.model": "/no/such/model"}}}
METRICS = ("t2v R@1", "t2v R@5", "t2v R@10", "v2t R@1", "v2t R@5", "v2t R@10", "RSUM")


@dataclass
class Swept:
    """A sweep that was killed and resumed.

    Attributes:
        out: its folder.
        config: of all three variants, one of which cannot be trained.
        sound: a config without that one.
        before: when the files were written of the runs that were finished at the kill.
        ended: the second call.
    """

    workspace: Workspace
    out: Path
    config: Path
    sound: Path
    before: dict[Path, int]
    ended: subprocess.CompletedProcess[str]


def write_config(path: Path, base: TrainConfig, variants: dict[str, Any]) -> Path:
    values = {"train": base.model_dump(mode="json"), "seeds": [0, 1], "baseline": "released", "variants": variants}
    path.write_text(yaml.safe_dump(values))
    return path


def command(workspace: Workspace, config: Path, out: Path) -> list[str]:
    own = [sys.executable, "-m", "vtr.cli", "sweep", str(workspace.root), "--config", str(config), "--out", str(out)]
    return [*own, "--device", "cpu", "--parallel", "2"]


def locks(out: Path) -> list[Path]:
    return [path for path in out.rglob(".lock") if locked_by(path) is not None]


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, "the sweep ended early"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory, toy_config: MakeConfig) -> Swept:
    folder = tmp_path_factory.mktemp("swept")
    workspace, base = make_workspace(folder / "ws"), toy_config(epochs=2)
    config = write_config(folder / "sweep.yaml", base, VARIANTS | BROKEN)
    out, options = folder / "out", {"cwd": ROOT, "text": True}
    with subprocess.Popen(command(workspace, config, out), stderr=subprocess.DEVNULL, **options) as process:  # type: ignore[call-overload]
        wait_for(lambda: list(out.glob("runs/**/manifest.json")), process)
        process.send_signal(signal.SIGKILL)
    before = {
        path: path.stat().st_mtime_ns
        for manifest in out.glob("runs/*/**/manifest.json")
        if (manifest.parent / "run.json").exists()
        for path in (manifest, manifest.with_name("log.jsonl"))
    }
    until = time.monotonic() + 30
    while locks(out) and time.monotonic() < until:
        time.sleep(0.02)
    assert not locks(out), "processes of the killed sweep go on"
    ended = subprocess.run(command(workspace, config, out), capture_output=True, check=False, **options)  # type: ignore[call-overload]
    return Swept(workspace, out, config, write_config(folder / "sound.yaml", base, VARIANTS), before, ended)


def manifest(swept: Swept, run: str) -> dict[str, Any]:
    found: dict[str, Any] = read_json(swept.out / "runs" / run / "manifest.json")
    return found


def metrics_by_loops(swept: Swept, run: str) -> dict[str, float]:
    rows = pq.read_table(swept.out / "runs" / run / "evaluation" / "toy-test.ranks.parquet").to_pylist()
    found = {}
    for short, direction in (("t2v", "text_to_video"), ("v2t", "video_to_text")):
        ranks = [row["rank"] for row in rows if row["direction"] == direction]
        for at in (1, 5, 10):
            hits = sum(rank == 1 if at == 1 else rank < at + 1 for rank in ranks)
            found[f"{short} R@{at}"] = 100 * hits / len(ranks)
    return found | {"RSUM": sum(found.values())}


def test_what_was_finished_before_the_kill_is_not_done_again(swept: Swept) -> None:
    assert swept.before
    assert {path: path.stat().st_mtime_ns for path in swept.before} == swept.before
    assert "run 5 of 7: " in swept.ended.stderr  # two of the seven cannot be trained
    assert "run 6 of 7: " not in swept.ended.stderr


def test_the_failed_run_is_reported_and_the_others_are_done(swept: Swept) -> None:
    assert swept.ended.returncode == 3
    for seed in (0, 1):
        log = swept.out / "logs" / "broken" / f"seed-{seed}.txt"
        assert (
            f"failed: broken seed {seed}: vtr train ended with status 1; all it said is in {log}" in swept.ended.stdout
        )
    assert "/no/such/model" in swept.ended.stdout
    content = read_json(swept.out / "results.json")
    assert [line["name"] for line in content["variants"]] == ["released", "unified"]
    assert len(content["failed"]) == 2
    assert all(len(line["seeds"]) == 2 for line in content["variants"])


def test_validation_alone_chooses(swept: Swept) -> None:
    rsums = {
        margin: manifest(swept, f"unified/margin={margin}/seed-0")["best_validation_rsum"] for margin in (0.1, 0.4)
    }
    best = max(rsums, key=lambda margin: (rsums[margin], -margin))  # of equals the first
    other = 0.5 - best
    content = read_json(swept.out / "results.json")
    assert content["variants"][1]["chosen"] == {"loss.margin": best}
    assert [(one["chosen"], one["validation"], one["best"]) for one in content["searched"]] == [
        ({"loss.margin": margin}, rsum, margin == best) for margin, rsum in rsums.items()
    ]
    assert not (swept.out / "runs" / "unified" / f"margin={other:g}" / "seed-0" / "evaluation").exists()
    assert not (swept.out / "runs" / "unified" / f"margin={other:g}" / "seed-1").exists()


def test_the_table_is_that_of_the_ranks(swept: Swept) -> None:
    content = read_json(swept.out / "results.json")
    margin = content["variants"][1]["chosen"]["loss.margin"]
    of_seed = {
        "released": [metrics_by_loops(swept, f"released/seed-{seed}") for seed in (0, 1)],
        "unified": [metrics_by_loops(swept, f"unified/margin={margin:g}/seed-{seed}") for seed in (0, 1)],
    }
    for line in content["variants"]:
        values = of_seed[line["name"]]
        for metric in METRICS:
            seeds = [one[metric] for one in values]
            assert line["report"][metric]["by_seed"] == pytest.approx(seeds)
            assert line["report"][metric]["mean"] == pytest.approx(statistics.fmean(seeds))
            assert line["report"][metric]["deviation"] == pytest.approx(statistics.stdev(seeds))
    found = content["variants"][1]["differences"]
    for metric in METRICS:
        pairs = zip(of_seed["released"], of_seed["unified"], strict=True)
        expected = statistics.fmean(other[metric] - one[metric] for one, other in pairs)
        assert found[metric]["difference"] == pytest.approx(expected)
        assert found[metric]["low"] <= expected <= found[metric]["high"]
    assert content["variants"][0]["differences"] is None
    rsums = [manifest(swept, f"released/seed-{seed}")["best_validation_rsum"] for seed in (0, 1)]
    assert content["variants"][0]["validation_rsum"]["by_seed"] == rsums


def test_all_that_is_written_is_there(swept: Swept) -> None:
    names = ("results.json", "results.csv", "results.md", "figure3.png", "report.html")
    assert all(str(swept.out / name) in swept.ended.stdout for name in names)
    page = (swept.out / "report.html").read_text()
    assert 'src="data:image/png;base64,' in page
    assert "http" not in page.split("<details>")[0]
    assert "broken seed 0" in page
    rows = (swept.out / "results.csv").read_text().splitlines()
    assert len(rows) == 3
    assert rows[0].startswith("variant,chosen,seeds,validation RSUM,")
    assert "| released |" in (swept.out / "results.md").read_text()


def test_a_second_call_starts_nothing(swept: Swept, monkeypatch: pytest.MonkeyPatch) -> None:
    out = swept.out.with_name("again")
    shutil.copytree(swept.out, out)  # it writes the results of its own variants

    def none(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(sweep_runs.subprocess, "Popen", none)
    plan = plan_sweep(swept.workspace, swept.sound, How())
    summary = sweep(swept.workspace, plan, out, How())
    assert summary.whole
    assert [line.name for line in summary.results.lines] == ["released", "unified"]


def test_a_folder_in_use_or_of_something_else_is_refused(swept: Swept, tmp_path: Path) -> None:
    plan = plan_sweep(swept.workspace, swept.sound, How())
    with lock(swept.out / ".lock", "test"), pytest.raises(WorkspaceError, match=f"process {os.getpid()} is already"):
        sweep(swept.workspace, plan, swept.out, How())
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(WorkspaceError, match="holds other files"):
        sweep(swept.workspace, plan, tmp_path, How())
    other = make_workspace(tmp_path / "other")
    with pytest.raises(WorkspaceError, match=r"is a sweep on .*, not on .*other"):
        sweep(other, plan, swept.out, How())


def test_another_config_is_refused_before_anything_trains(swept: Swept, toy_config: MakeConfig, tmp_path: Path) -> None:
    config = write_config(tmp_path / "s.yaml", toy_config(epochs=2, data={"batch_size": 8}), VARIANTS)
    with pytest.raises(ConfigError, match=r"was begun with another config \(data changed\)"):
        sweep(swept.workspace, plan_sweep(swept.workspace, config, How()), swept.out, How())


def test_fewer_epochs_or_other_features_are_refused(swept: Swept, toy_config: MakeConfig, tmp_path: Path) -> None:
    config = write_config(tmp_path / "s.yaml", toy_config(epochs=1), VARIANTS)
    with pytest.raises(ConfigError, match=r"was begun with another config \(epochs changed\)"):
        sweep(swept.workspace, plan_sweep(swept.workspace, config, How()), swept.out, How())
    path = swept.workspace.features / "motion" / "manifest.json"
    before = path.read_text()
    path.write_text(before.replace('"output": "', '"output": "f'))
    try:
        with pytest.raises(WorkspaceError, match="was begun before extract changed"):
            sweep(swept.workspace, plan_sweep(swept.workspace, swept.sound, How()), swept.out, How())
    finally:
        path.write_text(before)


def test_ctrl_c_ends_all_processes(swept: Swept, toy_config: MakeConfig, tmp_path: Path) -> None:
    config = write_config(tmp_path / "long.yaml", toy_config(epochs=100_000), VARIANTS)
    out = tmp_path / "out"
    # a shell that runs the tests in the background has them ignore SIGINT, which a child would inherit
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    sweeping = command(swept.workspace, config, out)
    began = subprocess.Popen(sweeping, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    with began as process:
        wait_for(lambda: len([path for path in locks(out) if path.parent != out]) == 2, process)
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
    assert process.returncode == 130
    assert "the same command resumes" in said
    assert not locks(out)


def test_the_dry_run_lists_and_makes_nothing(
    swept: Swept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "none"
    monkeypatch.setattr(sys, "argv", ["vtr", *command(swept.workspace, swept.config, out)[3:], "--dry-run"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "7 runs of 3 variants; compared with released"
    assert len(lines) == 8
    assert not out.exists()
