"""kill -9 at any write of `vtr ingest`: readers see a whole library at all times; the same command ends the same."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from stand_in_extraction import make_clip
from toy import make_workspace

from vtr.config import TrainConfig
from vtr.retrieval import Retriever
from vtr.retrieval.library import LibraryFolder
from vtr.training.train import train
from vtr.workspace import Run

PROGRAM = Path(__file__).with_name("ingest_with_stand_ins.py")
KILLS = 5


def ingest(folder: Path, **variables: str) -> int:
    """Run the program in a folder that holds run/ and clips/, and return its exit status."""
    command = [sys.executable, str(PROGRAM), str(folder / "run"), str(folder / "clips")]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    return done.returncode


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, toy_config: Callable[..., TrainConfig]) -> Path:
    """A library of the gallery and four clips; since then one has changed, one has gone, and three have come."""
    folder = tmp_path_factory.mktemp("begun")
    config = toy_config(epochs=1, model={"dim": 16, "layers": 1, "heads": 2, "feed_forward": 32})
    train(make_workspace(folder / "ws"), config, folder / "run", device="cpu")
    for seed in range(4):
        make_clip(folder / "clips" / f"{seed}.mp4", seed, 70 if seed == 3 else 5)
    assert ingest(folder) == 0
    make_clip(folder / "clips" / "1.mp4", 41, 80)
    (folder / "clips" / "2.mp4").unlink()
    make_clip(folder / "clips" / "4.mp4", 4, lacks=["motion"])
    make_clip(folder / "clips" / "5.mp4", 5, fails=True)
    make_clip(folder / "clips" / "6.mp4", 6)
    return folder


def copied(begun: Path, to: Path) -> Path:
    shutil.copytree(begun, to, copy_function=shutil.copy2)
    return to


def content(folder: Path) -> dict[str, np.ndarray]:
    """Return row id and caption id -> vectors, of what a reader finds, after checking that it can search them."""
    retriever = Retriever.load(folder / "run")
    part = retriever.part
    hits = retriever.search(["a red dog"], 100)[0]
    assert sorted(hit.video_id for hit in hits) == sorted({row_id.partition("@")[0] for row_id in part.videos.ids})
    found = dict(zip(part.videos.ids, part.videos.vectors.numpy(), strict=True))
    return found | dict(zip(part.texts.ids, part.texts.vectors.numpy(), strict=True))


@pytest.mark.slow
def test_whatever_write_it_dies_before(begun: Path, tmp_path: Path) -> None:
    undisturbed = copied(begun, tmp_path / "undisturbed")
    before = content(undisturbed)
    assert ingest(undisturbed, TEST_MOMENTS=str(tmp_path / "moments")) == 0
    after = content(undisturbed)
    assert after.keys() - before.keys() == {"clips/1@0-30", "clips/1@30-60", "clips/1@60-80", "clips/4", "clips/6"}
    assert before.keys() - after.keys() == {"clips/1", "clips/2"}
    moments = len((tmp_path / "moments").read_text().splitlines())
    assert moments > 2 * KILLS
    lasting = LibraryFolder(undisturbed / "run" / "library")
    for kill in range(KILLS):
        count = 1 + kill * (moments - 1) // (KILLS - 1)
        folder = copied(begun, tmp_path / f"killed-{kill}")
        for again in range(1 + kill % 2):
            marker = folder / f"died-{again}"
            died = ingest(folder, TEST_DIES_AT=f"ingest|os.rename|.|{max(1, count // (again + 1))}|{marker}")
            assert died == -signal.SIGKILL or again, f"nobody died before write {count}"
            seen = content(folder)  # whatever was being written, what is there is whole
            assert seen.keys() <= before.keys() | after.keys()
            assert {key for key in before if not key.startswith("clips/1") and key != "clips/2"} <= seen.keys()
        assert ingest(folder) == 0
        found, library = content(folder), LibraryFolder(folder / "run" / "library")
        assert found.keys() == after.keys(), f"killed before write {count}"
        assert all(np.allclose(found[key], after[key], atol=1e-6) for key in after), f"killed before write {count}"
        left = [path for path in library.root.rglob(".tmp-*") if "features" not in path.parts]
        assert not left, f"killed before write {count}"
        assert len(list((library.root / "states").iterdir())) <= len(list((lasting.root / "states").iterdir())) + 2
        assert Run.open(folder / "run").library == library.root
        shutil.rmtree(folder)
