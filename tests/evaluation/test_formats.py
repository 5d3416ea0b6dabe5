"""CSV text read back by the csv module; LaTeX rows against rows written by hand."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtr.evaluation.formats import csv_rows, latex_head, latex_row, markdown_table


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_columns_are_all_names_in_the_order_first_seen() -> None:
    text = csv_rows(
        [
            ({"run": "a", "split": "full"}, {"R@1": 25.0}),
            ({"run": "b", "seed": "3"}, {"R@1": 26.5, "MedR": 4.0}),
        ]
    )
    assert text.splitlines()[0] == "run,split,R@1,seed,MedR"
    assert read(text) == [
        {"run": "a", "split": "full", "R@1": "25.0", "seed": "", "MedR": ""},
        {"run": "b", "split": "", "R@1": "26.5", "seed": "3", "MedR": "4.0"},
    ]


WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]))


@given(st.lists(st.tuples(WORDS, st.floats(allow_nan=False)), min_size=1))
def test_words_and_figures_survive(rows: list[tuple[str, float]]) -> None:
    found = read(csv_rows([({"name": name, "mark": "."}, {"figure": figure}) for name, figure in rows]))
    assert [(row["name"], float(row["figure"])) for row in found] == rows


def test_every_row_is_one_line() -> None:
    text = csv_rows([({"name": "a\r\nb\rc\nd", "quoted": 'e, "f"'}, {}), ({"name": "g"}, {})])
    assert text == 'name,quoted\na b c d,"e, ""f"""\ng,\n'


def test_figures_keep_all_their_digits() -> None:
    figures = {"third": 100 / 3, "numpy": np.float64(0.1) + 0.2, "missing": math.nan, "count": 1000}
    (row,) = read(csv_rows([({}, figures)]))
    assert float(row["third"]) == 100 / 3 and float(row["numpy"]) == 0.1 + 0.2
    assert row["missing"] == "nan" and row["count"] == "1000"


def test_one_name_for_a_fact_and_a_figure_is_an_error() -> None:
    with pytest.raises(ValueError, match="seed: both a fact and a figure"):
        csv_rows([({"seed": "3"}, {"seed": 3.0})])


def test_a_row_of_figures_and_words() -> None:
    assert latex_row("MMT", [25.04, 3, "--", "50 %"]) == r"MMT & 25.0 & 3.0 & -- & 50 \% \\"
    assert latex_row("MMT", [25.046, 0.0], digits=2) == r"MMT & 25.05 & 0.00 \\"
    assert latex_row("MMT", []) == r"MMT \\"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("R&D", r"R\&D"),
        ("50% $x #1", r"50\% \$x \#1"),
        ("my_run", r"my\_run"),
        ("{a}", r"\{a\}"),
        ("~^", r"\textasciitilde{}\textasciicircum{}"),
        ("a\\b", r"a\textbackslash{}b"),
        ("\\{", r"\textbackslash{}\{"),
        ("two\nlines", "two lines"),
    ],
)
def test_names_are_escaped(name: str, expected: str) -> None:
    assert latex_row(name, [1.0]) == expected + r" & 1.0 \\"


def test_the_head_is_a_comment_on_one_line() -> None:
    assert latex_head(["R@1", "R@5", "share %"]) == r"% method & R@1 & R@5 & share \% \\"
    assert "\n" not in latex_head(["R@1\nR@5"])
    assert latex_head(["R@1", "R@5"]).count("&") == latex_row("MMT", [1.0, 2.0]).count("&")


def test_a_markdown_table_keeps_its_columns() -> None:
    text = markdown_table(("", "a|b"), [("one", "1.0"), ("two | three", "")])
    assert text.splitlines() == ["|  | a\\|b |", "|---|---:|", "| one | 1.0 |", "| two \\| three |  |"]
