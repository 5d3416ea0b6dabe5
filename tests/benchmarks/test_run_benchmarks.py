"""The table of all benchmarks and the growth of cost: from made-up rows and work whose growth is known."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from toy import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import growth
import growth_cases
import page
import run

BENCHMARKS, MIB = ROOT / "benchmarks", 2**20


def case(
    seconds: Callable[[int], float], memory: Callable[[int], float], time: growth.Order, held: growth.Order
) -> growth.Case:
    """Return a case whose cost is a formula of the amount."""
    return growth.Case(
        "made up", "work", "things", 10, time, held, lambda n, _: growth.Cost(seconds(n), int(memory(n)))
    )


def in_process(one: growth.Case, amount: int) -> growth.Cost:
    """Do an amount here."""
    return one.run(amount, Path())


def verdicts_of(one: growth.Case) -> list[str]:
    """Return the verdicts of time and of memory."""
    return [target.verdict for target in growth.measure(one, in_process).targets()]


def test_a_row_says_what_became_of_it() -> None:
    rows = [
        page.Target("fast", "3.1", ">= 2", True),
        page.Target("slow", "1.4", ">= 2", False),
        page.Target("on a GPU", "", ">= 5", None, page.NO_GPU),
        page.failed("broken", "ended with 1"),
    ]
    assert page.verdicts(rows)[2:] == [
        "| fast | 3.1 | >= 2 | met |",
        "| slow | 1.4 | >= 2 | missed |",
        "| on a GPU | - | >= 5 | not measured: no GPU |",
        "| broken | - |  | failed: ended with 1 |",
    ]


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (page.Target("more", "2", ">= 1", True), 0),
        (page.Target("on a GPU", "", ">= 5", None, page.NO_GPU), 0),
        (page.Target("slow", "1.4", ">= 2", False), 1),
        (page.failed("broken", "ended with 1"), 1),
    ],
)
def test_the_exit_status_is_1_where_one_failed_or_was_missed(last: page.Target, expected: int) -> None:
    assert run.status([page.Target("fast", "3.1", ">= 2", True), last]) == expected


def test_work_that_grows_as_expected_meets_its_goals() -> None:
    linear, square = growth.LINEAR, growth.SQUARE
    assert verdicts_of(case(lambda n: n, lambda n: n * MIB, linear, linear)) == ["met", "met"]
    assert verdicts_of(case(lambda n: n**2, lambda n: n**2 * MIB, square, square)) == ["met", "met"]
    assert verdicts_of(case(lambda n: n**2, lambda n: n**2 * MIB, linear, linear)) == ["missed", "missed"]
    assert verdicts_of(case(lambda n: n**3, lambda n: n * MIB, square, growth.BOUNDED)) == ["missed", "missed"]


def test_little_memory_is_no_growth() -> None:
    little = case(lambda n: n, lambda n: n * 1024, growth.LINEAR, growth.CONSTANT)
    assert verdicts_of(little) == ["met", "met"]


def test_the_table_shows_the_factors_between_steps() -> None:
    found = growth.measure(case(lambda n: n**2, lambda n: n * MIB, growth.SQUARE, growth.LINEAR), in_process)
    time, memory = growth.table([found])[2:]
    assert time == (
        "| made up: work; 10, 40, 160 things | time | 100 s | 1.6e+03 s | 2.56e+04 s | 16.00 | 16.00 | quadratic | "
        "<= 288 | met |"
    )
    cells = memory.split(" | ")
    assert cells[1:8] == ["memory", "10 MiB", "40 MiB", "160 MiB", "4.00", "4.00", "linear"]
    assert cells[8:] == ["<= 18", "met |"]


def test_a_case_that_fails_says_at_which_amount() -> None:
    asked: list[int] = []

    def fails(_: growth.Case, amount: int) -> growth.Cost | str:
        asked.append(amount)
        return "out of memory" if amount > 10 else growth.Cost(1.0, MIB)

    found = growth.measure(case(float, float, growth.LINEAR, growth.LINEAR), fails)
    assert asked == [10, 40]
    assert [target.verdict for target in found.targets()] == ["failed: 40 things: out of memory"]
    assert "failed: 40 things: out of memory" in growth.table([found])[2]


def test_cost_counts_the_memory_that_is_held_at_the_peak() -> None:
    calls: list[int] = []

    def hold() -> None:
        calls.append(len(bytearray(64 * MIB)))

    found = growth.cost(hold, repeat=False)
    assert calls == [64 * MIB]
    assert 48 * MIB < found.memory < 96 * MIB


def test_what_is_quick_is_run_again_unless_it_cannot_be() -> None:
    calls: list[None] = []
    growth.cost(lambda: calls.append(None))
    assert len(calls) == growth.MOST_RUNS
    growth.cost(lambda: calls.append(None), repeat=False)
    assert len(calls) == growth.MOST_RUNS + 1


def test_a_benchmark_that_dies_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = tmp_path / "benchmarks" / "dies.py"
    worker.parent.mkdir()
    worker.write_text("raise SystemExit(3)\n")
    monkeypatch.setattr(run, "WORKER", worker)
    assert [row.verdict for row in run.brief("losses")] == ["failed: ended with 3"]
    assert run.in_fresh_process(growth_cases.CASES[0], 1) == "ended with 3"


def test_cases_have_names_of_their_own() -> None:
    names = [case.name for case in growth_cases.CASES]
    assert len(set(names)) == len(names)


def test_every_script_is_run_or_listed() -> None:
    with_main = {path.stem for path in BENCHMARKS.glob("*.py") if "\ndef main(" in path.read_text(encoding="utf-8")}
    scripts = {name for name in with_main if not name.endswith("_worker")} - {"run"}
    assert scripts == run.PAGES.keys() | run.GROWTH_ONLY.keys() | run.RESULTS.keys()
    for name in run.PAGES:
        assert re.search(r"^def brief\(\) -> list\[Target\]:", (BENCHMARKS / f"{name}.py").read_text(), re.MULTILINE)
    assert {case.group for case in growth_cases.CASES} >= run.PAGES.keys() | run.GROWTH_ONLY.keys()


def test_the_commands_listed_name_scripts_that_are_there() -> None:
    for commands in (run.PAGES, run.GROWTH_ONLY, run.RESULTS):
        for name, command in commands.items():
            assert command.split()[0] == f"{name}.py"
            assert (BENCHMARKS / f"{name}.py").is_file()
