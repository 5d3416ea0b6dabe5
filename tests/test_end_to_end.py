"""One small world of rendered clips through every stage, as `vtr demo` does it, and then searched."""

from __future__ import annotations

import json
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from toy import ROOT

SETTINGS = (
    "world.train=16", "world.validation=4", "world.test=6", "extract.experts=[motion, appearance]",
    "extract.shard_videos=8", "train.epochs=2", "train.model.dim=32", "train.model.feed_forward=32",
    "train.data.batch_size=8", "train.data.passes=1",
)  # fmt: skip


def vtr(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from vtr.cli import main; main()", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demo's folder and what the demo printed."""
    out = tmp_path_factory.mktemp("demo") / "world"
    done = vtr("demo", "--out", out, *(part for setting in SETTINGS for part in ("--set", setting)))
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_the_demo_ends_with_both_protocols_chance_ablation_and_a_first_search(world: tuple[Path, str]) -> None:
    _, printed = world
    assert "demo test: 6 of 6" in printed
    assert "demo-single test: 6 of 6" in printed
    assert "20 captions a video" in printed
    assert "one caption" in printed or "1 caption a video" in printed
    assert "chance" in printed
    assert "only motion" in printed
    assert "the exact scores give the same figures." in printed
    assert "report.html" in printed
    assert "vtr search" in printed


def test_a_second_run_reuses_everything(world: tuple[Path, str]) -> None:
    out, printed = world
    files = [*out.glob("clips/*"), *out.glob("workspace/features/*/*"), *out.glob("run/checkpoints/*/*")]
    before = {path: path.stat().st_mtime_ns for path in files}
    again = vtr("demo", "--out", out, *(part for setting in SETTINGS for part in ("--set", setting)))
    assert again.returncode == 0, again.stderr
    assert before == {path: path.stat().st_mtime_ns for path in files}
    assert again.stdout == printed


def test_words_find_videos_and_a_video_finds_captions(world: tuple[Path, str]) -> None:
    out, _ = world
    found = vtr("search", out / "run", "a red ball on a beach", "--top", 3, "--json")
    assert found.returncode == 0, found.stderr
    hits = json.loads(found.stdout)["results"]
    assert len(hits) == 3
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
    assert Path(hits[0]["path"]).is_file()
    captions = vtr("search", out / "run", "--video", hits[0]["path"], "--split", "demo", "--part", "test", "--json")
    assert captions.returncode == 0, captions.stderr
    assert len(json.loads(captions.stdout)["results"]) == 10


def test_videos_without_captions_are_searched_with_another_run(world: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = world
    clips = tmp_path / "clips"
    clips.mkdir()
    for path in sorted((out / "clips").glob("*.mp4"))[:4]:
        (clips / f"-{path.name}").symlink_to(path)
    assert vtr("prepare", "folder", clips, "--out", tmp_path / "ws").returncode == 0
    done = vtr("extract", tmp_path / "ws", "--experts", "motion,appearance")
    assert done.returncode == 0, done.stderr
    found = vtr("search", out / "run", "a ball", "--workspace", tmp_path / "ws", "--json")
    assert found.returncode == 0, found.stderr
    assert {hit["video_id"] for hit in json.loads(found.stdout)["results"]} == {f"-clip{n:04d}" for n in range(4)}


class Links(HTMLParser):
    """Collects what a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [f"{value}" for name, value in attrs if tag != "a" and name in ("src", "href", "data") and value]


def test_the_report_needs_nothing_else(world: tuple[Path, str]) -> None:
    out, _ = world
    links = Links()
    links.feed((out / "run" / "report.html").read_text(encoding="utf-8"))
    assert any(link.startswith("data:image/") for link in links.found)
    assert all(link.startswith(("data:", "#")) for link in links.found)


def test_status_and_features_tell_what_is_done(world: tuple[Path, str]) -> None:
    out, _ = world
    status = vtr("status", out / "workspace")
    assert status.returncode == 0, status.stderr
    assert "evaluate demo-test" in status.stdout
    assert "stale" not in status.stdout
    features = vtr("features", out / "workspace")
    assert "26 of 26" in features.stdout
