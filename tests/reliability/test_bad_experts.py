"""An expert that hangs, crashes or takes all memory loses its own video only; other experts keep theirs of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from extraction_processes import covered, extract_command, failures, leftovers, prepare, problems, run
from tiny_clips import make_clip, plain

SOME_FAILED = 3


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips, of which two are what the bad experts stumble over."""
    folder = tmp_path_factory.mktemp("clips")
    for number in range(6):
        hazard = "-hazard" if number in (1, 4) else ""
        make_clip(folder / f"v{number}{hazard}.mp4", plain((40 * number, 90, 60)))
    return folder


@pytest.mark.parametrize(
    ("expert", "kind", "words", "timeout_seconds"),
    [
        ("segfault", "crash", "SIGSEGV", 60),
        ("killed", "crash", "SIGKILL", 60),
        ("hog", "out_of_memory", "", 60),
        ("hang", "timeout", "no answer within", 2),
    ],
)
def test_only_the_bad_expert_and_only_its_videos_are_lost(
    clips: Path, tmp_path: Path, expert: str, kind: str, words: str, timeout_seconds: float
) -> None:
    workspace = prepare(clips, tmp_path / "ws")
    command = extract_command(workspace.root, f"mean,{expert},loud", timeout_seconds=timeout_seconds)
    ended = run(command, tmp_path / "log")
    assert ended.status == SOME_FAILED, ended.err
    everything = [f"v{number}-hazard" if number in (1, 4) else f"v{number}" for number in range(6)]
    assert covered(workspace) == {
        "mean": everything,
        "loud": everything,
        expert: [video_id for video_id in everything if "hazard" not in video_id],
    }
    held = failures(workspace)
    assert set(held) == {("v1-hazard", expert), ("v4-hazard", expert)}
    for failure in held.values():
        assert (failure.kind, failure.status, failure.attempts) == (kind, "failed", 1)
        assert failure.stage == "extract"
        assert words in failure.message
    assert problems(workspace) == []
    assert leftovers(workspace) == []
