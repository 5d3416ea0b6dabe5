"""Results for other programs: CSV, Markdown, and rows of a LaTeX table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

_ESCAPES = str.maketrans(
    {mark: f"\\{mark}" for mark in "&%$#_{}"}
    | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
)


def csv_rows(rows: Sequence[tuple[Mapping[str, str], Mapping[str, float]]]) -> str:
    """Return rows of facts (words) and figures as a CSV with a header.

    The columns are all names that occur, in the order in which they are first seen; a row without one has an empty
    cell there. Every row is one line: line breaks within facts become spaces. Figures have as many digits as it takes
    to read the same number back.

    Raises:
        ValueError: a name is both a fact and a figure of one row.
    """
    for facts, figures in rows:
        if both := sorted(facts.keys() & figures.keys()):
            raise ValueError(f"{', '.join(both)}: both a fact and a figure of one row, different names were expected")
    merged = [
        {**{name: " ".join(fact.splitlines()) for name, fact in facts.items()}, **figures} for facts, figures in rows
    ]
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(dict.fromkeys(name for row in merged for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(merged)
    return stream.getvalue()


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as a table in Markdown, the first column to the left, the others to the right."""
    cells = [[cell.replace("|", r"\|") for cell in row] for row in (heads, *rows)]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    return "\n".join([lines[0], f"|---{'|---:' * (len(heads) - 1)}|", *lines[1:]])


def latex_row(name: str, figures: Sequence[float | str], *, digits: int = 1) -> str:
    r"""Return `name & 25.0 & ... \\`, a row to paste into a tabular.

    Args:
        name: the row's head, in plain words; what LaTeX would read as a command is escaped.
        figures: the cells; words among them are escaped like the name.
        digits: how many digits a number has after its point.
    """
    cells = (_escape(cell) if isinstance(cell, str) else f"{cell:.{digits}f}" for cell in figures)
    return " & ".join((_escape(name), *cells)) + r" \\"


def latex_head(columns: Sequence[str]) -> str:
    r"""Return `% method & R@1 & ... \\`, a comment that says what the cells of the rows below it are."""
    return f"% {latex_row('method', columns)}"


def _escape(words: str) -> str:
    return " ".join(words.split()).translate(_ESCAPES)
