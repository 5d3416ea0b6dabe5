"""What `vtr extract` says when it ends, or before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from feature_extraction.pipeline import ExtractSummary, extract
from vtr.annotations.prepare import prepare_annotations
from vtr.cli_extract import extract as command
from vtr.errors import InputError
from vtr.extract_config import ExtractConfig
from vtr.types import Annotations, Split, Video
from vtr.workspace import Workspace


def test_a_workspace_without_any_file_is_an_error(tmp_path: Path) -> None:
    videos = tuple(Video(f"v{number}") for number in range(2))
    split = Split("s", (), (), ("v0", "v1"))
    workspace = prepare_annotations(Annotations(videos, ()), [split], tmp_path / "ws").workspace
    with pytest.raises(InputError, match=r"none of the 2 videos of .* has a file on this machine"):
        extract(workspace, ExtractConfig(experts=("mean",)), extractors={"mean": "fake_experts:Mean"})


@pytest.mark.parametrize(
    ("counts", "lines"),
    [
        (
            {"extracted": 1, "failed": 2, "done_before": 1, "no_file": 1, "failures": 1, "partial": 1},
            [
                "1 video read in 5 s, 2 failed, 1 was done before, 1 has no file here: prepare again once there",
                "1 damaged video: its readable part was used (`vtr extract ws --report`)",
                "1 failure: `vtr extract ws --report` lists it, `vtr extract ws --retry-failed` tries it again",
                "see what there is: vtr features ws",
            ],
        ),
        (
            {"extracted": 0, "failed": 0, "done_before": 3, "no_file": 2, "failures": 2, "partial": 2},
            [
                "0 videos read in 5 s, 3 were done before, 2 have no file here: prepare again once there",
                "2 damaged videos: their readable parts were used (`vtr extract ws --report`)",
                "2 failures: `vtr extract ws --report` lists them, `vtr extract ws --retry-failed` tries them again",
                "see what there is: vtr features ws",
            ],
        ),
    ],
)
def test_the_summary_says_one_and_several(counts: dict[str, int], lines: list[str]) -> None:
    summary = ExtractSummary(Workspace(Path("ws")), **counts, unavailable={}, seconds=5.1, peak_bytes=0)
    assert str(summary).splitlines() == lines


def test_what_is_to_be_tried_again_is_tried_as_strictly() -> None:
    counts = {"extracted": 0, "failed": 1, "done_before": 0, "no_file": 0, "failures": 1, "partial": 0}
    summary = ExtractSummary(
        Workspace(Path("my clips")), **counts, unavailable={}, seconds=1.0, peak_bytes=0, strict=True
    )
    assert "`vtr extract 'my clips' --retry-failed --strict` tries it again" in str(summary)


@pytest.mark.parametrize("experts", ["ocr,,speech", ",ocr", "ocr,", " "])
def test_names_are_between_single_commas(tmp_path: Path, experts: str) -> None:
    Workspace.create(tmp_path / "ws")
    with pytest.raises(InputError, match="names between single commas were expected"):
        command(tmp_path / "ws", experts=experts)
