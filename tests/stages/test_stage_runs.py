"""`vtr runs`: what it says of runs that are finished, interrupted, running, damaged, or have only begun."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from vtr.config import TrainConfig, load
from vtr.errors import InputError
from vtr.files import lock, read_json, write_json
from vtr.stages.evaluate import evaluate
from vtr.stages.runs import list_runs
from vtr.stages.status import run_lines
from vtr.workspace import MANIFEST, Run


def interrupted(run: Run, name: str, epoch: int) -> Path:
    """Make a copy of a run as it was after some epoch."""
    root = shutil.copytree(run.root, run.root.with_name(name))
    (root / MANIFEST).unlink()
    state = root / "checkpoints" / "last" / "state.json"
    content = read_json(state)
    content["progress"] |= {"epoch": epoch, "best_rsum": 12.5}
    write_json(state, content)
    return root


def test_a_finished_run(run: Run) -> None:
    evaluated = evaluate(run, None, None, device="cpu").evaluation
    (line,) = list_runs([run.root]).lines
    config, manifest = load(TrainConfig, run.config), read_json(run.root / MANIFEST)
    assert (line.run, line.state, line.loss, line.model) == (str(run.root), "finished", "unified", "mmt")
    assert (line.split, line.seed, line.epochs, line.of) == (config.split, config.seed, 6, 6)
    assert line.validation == manifest["best_validation_rsum"]
    assert line.evaluated == {"full-test": evaluated.metrics.rsum}
    manifest["output"] = "of another model"
    write_json(run.root / MANIFEST, manifest)
    assert list_runs([run.root]).lines[0].evaluated == {}


def test_states_and_what_status_says_of_them(run: Run) -> None:
    root = interrupted(run, "broken", 2)
    (line,) = list_runs([root]).lines
    assert (line.state, line.epochs, line.of, line.validation) == ("interrupted", 2, 6, 12.5)
    assert run_lines(Run.open(root))[0].detail.startswith("2 of 6 epochs")
    with lock(root / ".lock", "test"):
        assert list_runs([root]).lines[0].state == "running"
    (root / "diverged.json").write_text("{}")
    assert list_runs([root]).lines[0].state == "diverged"
    begun = run.root.with_name("begun")
    begun.mkdir()
    shutil.copy(run.root / "run.json", begun)
    (line,) = list_runs([begun]).lines
    assert (line.state, line.epochs, line.of, line.loss) == ("interrupted", 0, None, None)
    (root / "config.yaml").write_text("los: 1\n")
    assert list_runs([root]).lines[0].state == "damaged"


def test_all_below_some_folders_each_once_and_sorted(run: Run, tmp_path: Path) -> None:
    interrupted(run, "a", 1)
    interrupted(run, "b", 5)
    (tmp_path / "sweep" / "deep").mkdir(parents=True)
    (tmp_path / "b").rename(tmp_path / "sweep" / "deep" / "b")
    folders = [tmp_path, tmp_path / "sweep", tmp_path / "ws" / ".."]
    assert [Path(line.run).name for line in list_runs(folders).lines] == ["a", "run", "b"]
    assert [Path(line.run).name for line in list_runs(folders, "epochs").lines] == ["run", "b", "a"]
    assert [Path(line.run).name for line in list_runs(folders, "run").lines] == ["a", "run", "b"]
    evaluate(run, None, None, device="cpu")
    assert Path(list_runs(folders, "full-test").lines[0].run).name == "run"
    with pytest.raises(InputError, match=r"no column 'epoch'\. Did you mean 'epochs'\?.*full-test"):
        list_runs(folders, "epoch")


def test_all_forms_hold_the_same(run: Run, tmp_path: Path) -> None:
    evaluate(run, None, None, device="cpu")
    interrupted(run, "zzz", 3)
    found = list_runs([tmp_path], "validation")
    entries = json.loads(found.render("json"))
    rows = list(csv.DictReader(io.StringIO(found.render("csv"))))
    text = found.render("table").splitlines()
    for line, entry, row, shown in zip(found.lines, entries, rows, text[3:], strict=True):
        assert entry["run"] == row["run"] == line.run
        assert entry["validation"] == float(row["validation"]) == line.validation
        assert (entry["evaluated"].get("full-test") or "") == (float(row["full-test"]) if row["full-test"] else "")
        assert shown.startswith(line.run)
        assert f"{line.epochs} of 6" in shown
    assert text[0].startswith("2 runs; ")


def test_no_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no run in"):
        list_runs([tmp_path])
    with pytest.raises(InputError, match="none is not a folder"):
        list_runs([tmp_path / "none"])
