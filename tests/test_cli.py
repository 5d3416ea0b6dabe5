"""The command line as a user meets it: help that suffices, one clear line for a mistake, 130 for Ctrl-C."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from toy import ROOT, make_workspace

from vtr.cli import main
from vtr.config import TrainConfig, dump

STAGES = (
    "prepare msrvtt", "prepare folder", "prepare list", "prepare split", "prepare holdout",
    "import mmt-features", "import ce-features",
    "import mmt-checkpoint", "import ce-checkpoint", "extract", "experts",
    "features list", "features compact", "train", "mine", "embed", "index", "evaluate", "search",
    "report", "status", "doctor", "losses", "configs", "serve", "demo",
)  # fmt: skip
TEXT = ("--text-model", "./none", "--workspace")
MAIN = [sys.executable, "-c", "from vtr.cli import main; main()"]


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["vtr", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_help(stage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, *stage.split(), "--help") == 0
    assert f"vtr {stage}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["prepare", "folder", "{tmp}/none", "--out", "{tmp}/out"], "none does not exist. Give the folder"),
        (["prepare", "folder", "{tmp}/empty", "--out", "{tmp}/out"], "holds no video"),
        (["prepare", "folder", "{tmp}/file.txt", "--out", "{tmp}/out"], "is a file"),
        (["extract", "{tmp}/none"], "none does not exist, a workspace was expected"),
        (["extract", "{tmp}/empty"], "is not a workspace"),
        (["extract", "{ws}", "--experts", "motoin"], "no expert 'motoin'. Did you mean 'motion'?"),
        (["extract", "{ws}", "--set", "max_frame=3"], "unknown key 'max_frame'. Did you mean 'max_frames'?"),
        (["extract", "{ws}", "--experts", "motion,,ocr"], "names between single commas were expected"),
        (["extract", "{ws}", "--all"], "--all goes with --report"),
        (["train", "{ws}", "--out", "{tmp}/run", "--set", "epochs=many"], "epochs is 'many'"),
        (["train", "{ws}", "--out", "{tmp}/run", "--config", "{tmp}/none.yaml"], "none.yaml does not exist"),
        (["train", "{ws}", "--out", "{tmp}/run", "--set", "loss.gama=3"], "Did you mean 'gamma'?"),
        (["train", "{ws}", "--out", "{tmp}/run", "--split", "full"], "has no split 'full'"),
        (["train", "{ws}", "--dry-run", "--split", "full"], "has no split 'full'"),
        (["train", "{ws}", "--out", "{tmp}/run", "--set", "model.name=cee"], "model.name is 'cee'. Did you mean 'ce'?"),
        (["train", "{ws}", "--out", "{tmp}/run", "--set", "model.name=ce", "--set", "model.heads=3"], "model.heads"),
        (["import", "mmt-features", "{tmp}/none", "--out", "{tmp}/out"], "none"),
        (
            ["import", "mmt-checkpoint", "{tmp}/none.pth", *TEXT, "{ws}", "--out", "{tmp}/out"],
            "none.pth cannot be read",
        ),
        (["import", "ce-checkpoint", "{tmp}/none.pth", *TEXT, "{ws}", "--out", "{tmp}/out"], "none.pth cannot be read"),
        (
            ["import", "ce-checkpoint", "{tmp}/file.txt", *TEXT, "{ws}", "--out", "{tmp}/out", "--lengths", "ocr=x"],
            "NAME=N with N from 1 up",
        ),
        (["evaluate", "{ws}"], "is not a run"),
        (["search", "{tmp}/none", "dog"], "a run was expected"),
        (["status", "{tmp}/file.txt"], "is a file"),
    ],
)
def test_a_mistake_gives_one_clear_line_and_no_traceback(
    arguments: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("text")
    workspace = make_workspace(tmp_path / "ws", videos=12)
    filled = [argument.format(tmp=tmp_path, ws=workspace.root) for argument in arguments]
    assert call(monkeypatch, *filled) == 1
    error = capsys.readouterr().err
    assert expected in error
    assert "Traceback" not in error
    assert call(monkeypatch, *filled, "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


def test_losses_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "losses") == 0
    assert "vtr train WS --out RUN --set loss.name=triplet_hn --set loss.margin=0.2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["cook"], "No such command 'cook'"),
        (["train", "ws"], "--out"),
        (["sweep", "ws", "--config", "sweep.yaml"], "--out"),
        (["runs", ".", "--json", "--csv"], "cannot both be given"),
        (["search", "run", "dog", "--answers", "captions"], "no video was given"),
        (["search", "ws", "--in", "ocr"], "the words are missing"),
        (["search", "ws", "dog", "--in", "ocr", "--category", "music"], "--category does not go with it"),
        (["ingest", "run", "clips", "--weights", "clip=2"], "it goes with --model"),
        (["ingest", "run", "--watch"], "name the folders to watch"),
    ],
)
def test_wrong_usage_exits_with_two(
    arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *arguments) == 2
    said = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert told in said


def test_a_workspace_of_a_newer_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = make_workspace(tmp_path / "ws", videos=12)
    (workspace.root / "workspace.json").write_text(json.dumps({"format": 99, "vtr": "9.0"}))
    assert call(monkeypatch, "features", workspace.root) == 1
    assert "made by vtr 9.0 in format 99" in capsys.readouterr().err


def test_ctrl_c_in_training_exits_with_130_and_resumes(tmp_path: Path, toy_config: Callable[..., TrainConfig]) -> None:
    workspace = make_workspace(tmp_path / "ws")
    (tmp_path / "long.yaml").write_text(dump(toy_config(epochs=100_000)))
    command = [
        *MAIN,
        "train",
        str(workspace.root),
        "--config",
        str(tmp_path / "long.yaml"),
        "--out",
        str(tmp_path / "run"),
    ]
    state = tmp_path / "run" / "checkpoints" / "last" / "state.json"
    # a shell that runs the tests in the background has them ignore SIGINT, which a child would inherit
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    while process.poll() is None and not state.exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    assert process.returncode == 130, error
    assert "resume" in error
    assert "Traceback" not in error
    assert json.loads(state.read_text())["progress"]["epoch"] >= 1


@pytest.mark.parametrize("status", [0, 3])
def test_one_of_several_processes_leaves_though_a_thread_lives_on(status: int) -> None:
    code = (
        "import atexit, sys, threading, vtr.cli\n"
        "atexit.register(print, 'put away', end='')\n"
        "threading.Thread(target=threading.Event().wait).start()\n"  # Python's own exit waits for it for ever
        f"vtr.cli.app = lambda args: sys.exit({status})\n"
        "vtr.cli.main()"
    )
    environment = os.environ | {"TORCHELASTIC_RUN_ID": "none", "RANK": "1", "WORLD_SIZE": "2"}
    left = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (left.returncode, left.stdout, left.stderr) == (status, "put away", "")
