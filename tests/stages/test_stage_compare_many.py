"""More than two evaluations: each against the first, corrected over the runs."""

from __future__ import annotations

import csv
import io
import json
import sys
from functools import partial
from pathlib import Path

import pytest
from test_stage_compare import make_table
from toy import make_workspace

from vtr.cli import main
from vtr.errors import InputError
from vtr.stages.compare import compare_runs
from vtr.stages.compare_many import compare_with_first


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The ranks of good scores, and of three worse and worse."""
    folder = tmp_path_factory.mktemp("many")
    workspace = make_workspace(folder / "ws")
    return [make_table(workspace, folder / f"{lead}", lead, seed) for seed, lead in enumerate((3.0, 2.0, 1.0, 0.0))]


def test_each_is_compared_with_the_first_and_p_is_corrected(tables: list[Path]) -> None:
    first, *others = tables
    found = compare_with_first(partial(compare_runs, first, permutations=500), others)
    alone = [compare_runs(first, other, permutations=500) for other in others]
    assert list(found.pairs) == alone
    raw = [pair.differences[-1].p_value for pair in alone]
    order = sorted(range(3), key=lambda place: raw[place])  # type: ignore[arg-type, return-value]
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (3 - rank) * raw[place]))  # type: ignore[operator]
        assert found.p_values[place] == pytest.approx(largest)


def test_all_forms_hold_the_same_numbers(tables: list[Path]) -> None:
    first, *others = tables
    found = compare_with_first(partial(compare_runs, first, permutations=200, samples=100), others)
    content = json.loads(found.render("json"))
    rows = list(csv.DictReader(io.StringIO(found.render("csv"))))
    shown = found.render("table").splitlines()[3:7]
    assert shown[0].startswith(str(first))
    for pair, p, entry, row, line in zip(found.pairs, found.p_values, content["runs"], rows, shown[1:], strict=True):
        rsum = pair.differences[-1]
        assert entry["run"] == row["second_run"] == pair.names[1]
        assert entry["p_rsum_holm"] == float(row["p_holm"]) == p
        assert float(row["difference"]) == rsum.difference
        assert line.startswith(pair.names[1])
        assert f"{rsum.second:.2f}" in line
        assert f"{rsum.difference:+.2f}" in line
        assert line.endswith("*") == (p < 0.05)


def test_a_run_twice_is_refused(tables: list[Path]) -> None:
    with pytest.raises(InputError, match="given twice"):
        compare_with_first(partial(compare_runs, tables[0]), [tables[1], tables[1]])


def test_the_command_takes_two_or_more(
    tables: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*paths: Path) -> str:
        monkeypatch.setattr(
            sys, "argv", ["vtr", "compare", *map(str, paths), "--permutations", "50", "--samples", "50"]
        )
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out

    assert said(*tables[:2]) == f"{compare_runs(*tables[:2], permutations=50, samples=50)}\n"
    assert "p, Holm" in said(*tables)
