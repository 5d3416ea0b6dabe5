"""Workspaces, runs and manifests: what is there is what was meant, and what is not gets a sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from vtr.errors import WorkspaceError
from vtr.workspace import Run, Workspace, check_made_from, fingerprint, read_manifest, write_manifest


def test_a_workspace_is_made_once_and_opened_again(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "ws"
    assert Workspace.create(root) == Workspace.create(root) == Workspace.open(root)
    assert Workspace.open(root).ledger == root / "features" / "failures.jsonl"


def test_an_empty_folder_and_a_killed_beginning_may_become_a_workspace(tmp_path: Path) -> None:
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws" / ".tmp-1-abc-workspace.json").touch()
    assert Workspace.create(tmp_path / "ws").root == tmp_path / "ws"


@pytest.mark.parametrize("kind", ["workspace", "run"])
def test_what_is_none_is_refused(tmp_path: Path, kind: str) -> None:
    def open_(path: Path) -> object:
        return Workspace.open(path) if kind == "workspace" else Run.open(path)

    with pytest.raises(WorkspaceError, match=f"none does not exist, a {kind} was expected. Make one with `vtr "):
        open_(tmp_path / "none")
    with pytest.raises(WorkspaceError, match=f"is not a {kind}: it holds no {kind}.json"):
        open_(tmp_path)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(WorkspaceError, match=f"is a file, the folder of a {kind} was expected"):
        open_(file)
    marker = tmp_path / f"{kind}.json"
    marker.write_text('{"name": "of another program"}')
    with pytest.raises(WorkspaceError, match="is not a vtr file: it holds no format number"):
        open_(tmp_path)
    marker.write_text('{"format": 99, "vtr": "9.9"}')
    with pytest.raises(WorkspaceError, match=r"made by vtr 9\.9 in format 99; .* formats up to 1\. Install the newer"):
        open_(tmp_path)


def test_a_workspace_never_takes_a_folder_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").touch()
    with pytest.raises(WorkspaceError, match="holds other files"):
        Workspace.create(tmp_path)
    with pytest.raises(WorkspaceError, match="holds other files"):
        Run.create(tmp_path, Workspace.create(tmp_path / "ws"))
    assert not (tmp_path / "workspace.json").exists()


def test_a_run_finds_its_workspace_after_both_were_moved(tmp_path: Path) -> None:
    here = tmp_path / "here"
    run = Run.create(here / "runs" / "one", Workspace.create(here / "ws"))
    assert Run.create(run.root, run.workspace).root == run.root
    here.rename(tmp_path / "there")
    moved = Run.open(tmp_path / "there" / "runs" / "one")
    assert moved.workspace.root == (tmp_path / "there" / "ws").resolve()


def test_a_run_belongs_to_one_workspace(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", Workspace.create(tmp_path / "ws"))
    other = Workspace.create(tmp_path / "other")
    with pytest.raises(WorkspaceError, match=r"was trained on .*ws, not on .*other"):
        Run.create(run.root, other)
    (run.root / "run.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(WorkspaceError, match=r"run\.json does not name a workspace"):
        Run.open(run.root)


def test_another_gallery_has_its_own_place(tmp_path: Path) -> None:
    workspace, other = Workspace.create(tmp_path / "ws"), Workspace.create(tmp_path / "other")
    root = Run.create(tmp_path / "run", workspace).root
    own, foreign = Run.open(root, workspace.root), Run.open(root, other.root)
    assert own.embeddings == root / "embeddings"
    assert foreign.embeddings.is_relative_to(root / "galleries") and foreign.workspace.root == other.root
    assert foreign.checkpoints == own.checkpoints
    namesake = Workspace.create(tmp_path / "elsewhere" / "other")
    assert Run.open(root, namesake.root).embeddings != foreign.embeddings


def test_a_run_reached_through_a_link_is_the_same(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real").mkdir()
    run = Run.create(tmp_path / "link" / "run", Workspace.create(tmp_path / "link" / "ws"))
    assert Run.open(run.root, tmp_path / "real" / "ws").gallery is None


def test_fingerprints_follow_content_not_order() -> None:
    assert fingerprint({"a": 1, "b": [2, "é"]}) == fingerprint({"b": [2, "é"], "a": 1})
    assert len({fingerprint(value) for value in ({"a": 1}, {"a": 2}, {"a": "1"}, [1], ["a", 1])}) == 5


def test_manifests_keep_what_a_stage_says(tmp_path: Path) -> None:
    write_manifest(tmp_path, "embed", output="abc", inputs={"train": "x"}, config={"dim": 8}, counts={"videos": 3})
    manifest = read_manifest(tmp_path, "vtr embed RUN")
    assert (manifest["stage"], manifest["output"], manifest["inputs"]) == ("embed", "abc", {"train": "x"})
    assert (manifest["config"], manifest["counts"]) == ({"dim": 8}, {"videos": 3})
    assert {"python", "torch", "pyarrow"} <= manifest["versions"].keys()
    check_made_from(tmp_path, "train", manifest["inputs"], "x", "vtr embed RUN")
    with pytest.raises(WorkspaceError, match=r"made from train x, but train is now y\. Run `vtr embed RUN` again"):
        check_made_from(tmp_path, "train", manifest["inputs"], "y", "vtr embed RUN")


def test_a_missing_manifest_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"is not there or not finished\. Run `vtr embed RUN` first"):
        read_manifest(tmp_path / "none", "vtr embed RUN")


def test_a_relative_workspace_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Run.create(Path("runs/one"), Workspace.create(Path("ws")))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert Run.open(Path("../runs/one")).workspace.root == Path(os.path.realpath(tmp_path / "ws"))


def test_a_record_of_features_elsewhere_that_names_no_place_is_refused(tmp_path: Path) -> None:
    workspace = Workspace.create(tmp_path / "ws")
    workspace.features.mkdir(exist_ok=True)
    (workspace.features / "location.json").write_text('{"format": 1, "vtr": "1", "url": 7}')
    with pytest.raises(WorkspaceError, match=r"location\.json names no place"):
        _ = workspace.store
