"""What `--strict` refuses leaves the store, whenever the run that refuses it is interrupted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from painted_clips import FAST_START, render

from feature_extraction.ledger import ALL_EXPERTS, Failure, Ledger, read_ledger, refuses
from feature_extraction.pipeline import Extraction, extract
from feature_extraction.spool import Spool, Spooled
from vtr.annotations.prepare import prepare_folder
from vtr.annotations.tables import load_videos
from vtr.extract_config import ExtractConfig
from vtr.store.reader import FeatureStore
from vtr.workspace import Workspace

EXPERTS = {"mean": "fake_experts:Mean", "clumsy": "fake_experts:Clumsy"}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A whole clip and one that was cut, extracted without --strict."""
    folder = tmp_path / "clips"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(90, 150, (50, 48, 64, 3), dtype=np.uint8)
    data = render(folder / "whole.mp4", list(noise), *FAST_START).read_bytes()
    (folder / "cut.mp4").write_bytes(data[: len(data) * 6 // 10])
    prepared = prepare_folder(folder, None, tmp_path / "ws").workspace
    summary = run(prepared, strict=False)
    assert (summary.failures, summary.partial) == (0, 1)
    return prepared


def run(workspace: Workspace, *experts: str, strict: bool):
    config = ExtractConfig(experts=experts or ("mean", "clumsy"), workers=1, strict=strict)
    return extract(workspace, config, extractors=EXPERTS)


def state(workspace: Workspace) -> tuple[dict[str, set[str]], set[tuple[str, str, str]]]:
    """Return what the store covers, and what stands in the ledger."""
    store = FeatureStore(workspace.features)
    assert [problem for expert in store.experts for problem in store.verify(expert)] == []
    standing = {(entry.video_id, entry.expert, entry.status) for entry in read_ledger(workspace.ledger)}
    return {expert: set(store.examined(expert)) for expert in store.experts}, standing


@pytest.mark.parametrize("first", [(), ("mean",), ("clumsy", "mean")])
@pytest.mark.parametrize("interrupted", [False, True])
def test_a_refused_video_has_one_state_and_no_features(
    workspace: Workspace, first: tuple[str, ...], interrupted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the run that refuses it is interrupted, and whichever experts the next run has."""
    assert state(workspace)[0] == {"mean": {"whole", "cut"}, "clumsy": {"whole", "cut"}}
    if interrupted:  # when the video has been refused and its shards are still to be written

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Extraction, "_write_group", stop)
            run(workspace, strict=True)
        assert state(workspace)[0] == {"mean": {"whole", "cut"}, "clumsy": {"whole", "cut"}}
    if first:
        run(workspace, *first, strict=True)
    run(workspace, strict=True)
    assert state(workspace) == (
        {"mean": {"whole"}, "clumsy": {"whole"}},
        {("cut", "mean", "failed"), ("cut", "clumsy", "failed")},
    )


def test_what_waits_in_the_spool_of_a_refused_video_goes_too(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", {"look": "s", "hear": "s"})
    read = Spooled("v", {}, ("hear", "look"), (), decoder="pyav", specs={"look": "a", "hear": "b"})
    damaged = Failure("v", "hear", "sound", "truncated", "holes")
    spool.put(read)
    spool.put(Spooled("v", {}, (), (damaged,), refused=("hear",)))
    kept = spool.get("v")
    assert kept is not None
    assert (kept.examined, kept.refused, kept.specs) == (("look",), ("hear",), {"look": "a"})
    spool.put(Spooled("v", {}, ("hear",), (), specs={"hear": "c"}))
    kept = spool.get("v")
    assert kept is not None
    assert (kept.examined, kept.refused, kept.specs) == (("hear", "look"), (), {"look": "a", "hear": "c"})


def test_strict_leaves_alone_what_an_expert_read_that_was_not_asked(workspace: Workspace) -> None:
    """An expert of sound has nothing to do with damaged frames, and is not asked again."""
    config = ExtractConfig(experts=("audio",), workers=1)
    extract(workspace, config, extractors=EXPERTS | {"audio": "fake_experts:Mean"})
    ledger = Ledger(workspace.ledger)
    ledger.settle("cut", ("audio",), ())  # as if it had read all it needs
    run(workspace, strict=True)
    extract(workspace, config.model_copy(update={"strict": True}), extractors=EXPERTS | {"audio": "fake_experts:Mean"})
    assert state(workspace)[0] == {"audio": {"whole", "cut"}, "mean": {"whole"}, "clumsy": {"whole"}}


def test_strict_tries_a_video_once_that_it_cannot_read(workspace: Workspace) -> None:
    path = next(video.path for video in load_videos(workspace) if video.id == "cut")
    Path(path).unlink()
    for _ in range(2):
        assert run(workspace, strict=True).extracted == 0
        (failed,) = [entry for entry in read_ledger(workspace.ledger) if entry.status == "failed"]
        assert (failed.expert, failed.kind, failed.attempts) == (ALL_EXPERTS, "not_fetched", 1)
    assert state(workspace)[0] == {"mean": {"whole", "cut"}, "clumsy": {"whole", "cut"}}


def test_a_killed_runs_failures_cost_the_next_run_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(workspace.features / ".spool", {})
    spool.put(Spooled("cut", {}, (), (Failure("cut", ALL_EXPERTS, "decode", "timeout", "slow"),)))
    monkeypatch.setattr(Extraction, "_engine", lambda *_: pytest.fail("there is nothing to read"))
    assert run(workspace, strict=False).failures == 1
    assert spool.get("cut") is None


@pytest.mark.parametrize(
    ("failure", "refused"),
    [
        (Failure("v", "look", "decode", "truncated", "holes"), True),
        (Failure("v", "look", "open", "truncated", "holes"), True),
        (Failure("v", "hear", "sound", "truncated", "holes"), False),
        (Failure("v", "look", "decode", "truncated", "holes", "partial"), False),
        (Failure("v", "look", "fetch", "truncated", "the tar file ends"), False),
        (Failure("v", "look", "decode", "timeout", "slow"), False),
    ],
)
def test_only_damage_of_the_video_itself_refuses_it(failure: Failure, refused: bool) -> None:
    assert refuses([failure], "look") is refused
