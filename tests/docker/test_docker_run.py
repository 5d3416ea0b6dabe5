"""docker/run.sh, with a `docker` that only writes down how it was called and what it would have mounted."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from toy import ROOT

RUN = ROOT / "docker" / "run.sh"
WAY = ["prepare", "extract", "train", "embed", "index", "evaluate"]
FAKE = """#!/bin/sh
[ "$2" = version ] && exit "${FAKE_VERSION:-0}"
printf '%s\\n' "$VTR_NAME|${VTR_VIDEOS-}|$VTR_WORKSPACES|$*" >>"$FAKE_LOG"
case "$*" in *"$FAKE_FAILS"*) exit 7 ;; esac
"""

Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Desk:
    """A folder to call from, with a fake docker, videos and captions."""

    folder: Path

    def call(
        self, *arguments: object, fails: str = "nothing fails", version: int = 0
    ) -> subprocess.CompletedProcess[str]:
        env = {key: value for key, value in os.environ.items() if not key.startswith("VTR_")}
        env |= {
            "PATH": f"{self.folder / 'bin'}:{env['PATH']}",
            "FAKE_LOG": str(self.folder / "log"),
            "FAKE_FAILS": fails,
            "FAKE_VERSION": str(version),
        }
        words = ["bash", str(RUN), *map(str, arguments)]
        return subprocess.run(words, cwd=self.folder, env=env, capture_output=True, text=True, timeout=60)

    def calls(self) -> list[list[str]]:
        """Return name, videos, workspaces and the arguments of every call but those for the version."""
        log = self.folder / "log"
        return [line.split("|") for line in log.read_text().splitlines()] if log.exists() else []

    def services(self) -> list[str]:
        """Return what was run: the words behind `run --rm` and the mounts."""
        return [call[3].split("run --rm ")[1].split("captions.csv:ro ")[-1] for call in self.calls()]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin" / "docker"
    docker.write_text(FAKE)
    docker.chmod(0o755)
    (tmp_path / "my videos").mkdir()
    (tmp_path / "captions.csv").write_text("video,caption\n")
    return Desk(tmp_path)


def test_all_takes_the_videos_through_the_stages_in_order(desk: Desk) -> None:
    done = desk.call("all", "my videos", "captions.csv")
    assert done.returncode == 0, done.stderr
    assert desk.services() == ["prepare --captions /captions.csv", *WAY[1:]]
    for name, videos, workspaces, words in desk.calls():
        assert (name, videos, workspaces) == ("mine", str(desk.folder / "my videos"), str(desk.folder / "workspaces"))
        assert f"--volume {desk.folder}/captions.csv:/captions.csv:ro" in words and "compose.gpu" not in words
    assert (desk.folder / "workspaces").is_dir()  # else Docker would make it, as root


@pytest.mark.parametrize("failing", WAY)
def test_the_stage_that_fails_ends_it_with_its_exit_code(failing: str, desk: Desk) -> None:
    done = desk.call("all", "my videos", fails=f"--rm {failing}")
    assert done.returncode == 7
    assert desk.services() == WAY[: WAY.index(failing) + 1]
    assert f"{failing} ended with exit code 7" in done.stderr


def test_models_are_fetched_one_at_a_time_as_hf_takes_no_more(desk: Desk) -> None:
    assert desk.call("weights", "openai/clip", "google/vit").returncode == 0
    assert desk.services() == ["weights openai/clip", "weights google/vit"]


def test_from_begins_later_and_the_gpu_file_comes_along(desk: Desk) -> None:
    assert desk.call("--gpu", "--name", "films", "--from", "train", "all", "my videos").returncode == 0
    assert desk.services() == WAY[2:]
    for name, _, _, words in desk.calls():
        assert name == "films"
        assert words.startswith(f"compose -f {RUN.parent}/compose.yaml -f {RUN.parent}/compose.gpu.yaml ")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["demo"], "run --rm vtr demo --out /workspaces/demo"),
        (["prepare", "my videos", "--frame-rate", "2"], "run --rm prepare --frame-rate 2"),
        (["train", "--set", "epochs=5"], "run --rm train --set epochs=5"),
        (
            ["vtr", "search", "/workspaces/mine/run", "a red fish"],
            "run --rm vtr search /workspaces/mine/run a red fish",
        ),
        (["weights", "openai/clip"], "run --rm weights openai/clip"),
        (["build"], "build vtr"),
        (["serve"], "up --detach --wait serve"),
        (["stop"], "down"),
    ],
)
def test_other_commands(arguments: list[str], expected: str, desk: Desk) -> None:
    done = desk.call(*arguments)
    assert done.returncode == 0, done.stderr
    assert desk.calls()[0][3].endswith(f"compose.yaml {expected}")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "Usage: docker/run.sh"),
        (["alll"], "no such command: alll"),
        (["--fast", "demo"], "no such option: --fast"),
        (["--name"], "--name needs a value"),
        (["--from", "trian", "all", "my videos"], "no such stage: trian; there are prepare extract train"),
        (["all"], "all takes a folder of videos"),
        (["all", "nowhere"], "all: no such folder: nowhere"),
        (["all", "my videos", "nowhere.csv"], "all: no such file: nowhere.csv"),
        (["prepare"], "prepare needs a folder of videos"),
        (["weights"], "weights needs a model"),
        (["prepare", "nowhere"], "prepare: no such folder: nowhere"),
    ],
)
def test_wrong_commands_say_what_is_wrong_and_run_nothing(arguments: list[str], expected: str, desk: Desk) -> None:
    done = desk.call(*arguments)
    assert done.returncode == 2
    assert expected in done.stderr
    assert desk.calls() == []


def test_without_docker_or_its_plugin_it_says_so(desk: Desk) -> None:
    done = desk.call("demo", version=1)
    assert done.returncode == 127
    assert "needs Docker with its compose plugin" in done.stderr
    assert not (desk.folder / "workspaces").exists()


def test_help_names_every_command(desk: Desk) -> None:
    done = desk.call("--help")
    assert done.returncode == 0
    for word in ("demo", "all", *WAY, "serve", "stop", "vtr", "weights", "build", "--gpu", "--name", "--from"):
        assert word in done.stdout


def test_it_can_be_called_from_anywhere(desk: Desk) -> None:
    assert shutil.which("bash") and os.access(RUN, os.X_OK)
    assert desk.call("--from", "evaluate", "all", desk.folder / "my videos").returncode == 0
