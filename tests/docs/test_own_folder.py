"""The README's commands for a folder of one's own videos, one after another as they stand there, on a few clips."""

from __future__ import annotations

import csv
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from doc_blocks import Command, blocks, commands
from toy import ROOT

from vtr.demo.render import render_all
from vtr.demo.world import make_scenes, write_captions

ENDLESS = ("serve", "--watch")
"""These run until they are stopped: tests/serving and tests/retrieval start and stop them."""


def own_folder() -> list[Command]:
    """Return the commands of the README's first block that prepares a folder."""
    found = [commands(block) for block in blocks(ROOT / "README.md") if "vtr prepare folder" in block.text]
    return found[0]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with videos, more videos, and in its working folder the captions and the clip that the commands name."""
    scenes = make_scenes(0, {"train": 14, "validation": 1, "test": 1}, speech=False)
    render_all(scenes, tmp_path / "videos")
    here = tmp_path / "here"
    here.mkdir()
    with (here / "captions.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["video", "caption"])
        table.writerows([f"{scene.id}.mp4", caption.text] for scene in scenes for caption in write_captions(scene)[:3])
    (tmp_path / "more").mkdir()
    shutil.copy(tmp_path / "videos" / f"{scenes[0].id}.mp4", tmp_path / "more" / "another.mp4")
    shutil.copy(tmp_path / "videos" / f"{scenes[1].id}.mp4", here / "clip.mp4")
    (here / "configs").symlink_to(ROOT / "configs")
    return tmp_path


@pytest.mark.slow
def test_the_commands_of_the_readme_work_in_their_order(home: Path) -> None:
    environment = os.environ | {"HOME": str(home), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = []
    for command in own_folder():
        words = [word.replace("~", str(home)) for word in command.words[1:]]
        if command.program != "vtr" or any(word in ENDLESS for word in words):
            continue
        if words[0] == "train":
            words += ["--set", "epochs=2"]  # of 24, which change the figures alone
        if words[0] == "compare":
            shutil.copytree(home / "here" / words[1], home / "here" / words[2])
        ran = subprocess.run(
            [sys.executable, "-c", "from vtr.cli import main; main()", *words],
            cwd=home / "here", env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, f"{command.place}: {shlex.join(command.words)}\n{ran.stdout}\n{ran.stderr}"
        assert ran.stdout.strip()
        done.append(words[0])
    assert {"prepare", "extract", "train", "evaluate", "search"} <= set(done)
