"""Every message of docs/troubleshooting.md is one that the code holds."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator

import pytest
from toy import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
MESSAGES = re.findall(r"^### `(.+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
HOLE = "…"
"""What stands for a value: in the page, and here in the strings of the code."""


def strings(tree: ast.AST) -> Iterator[str]:
    """Yield the strings of a module, with a hole where a value is put in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else HOLE for part in node.values]
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@functools.cache
def held() -> str:
    """Return all strings of the code, one a line."""
    paths = [*ROOT.glob("vtr/**/*.py"), *ROOT.glob("feature_extraction/**/*.py")]
    found = [text for path in paths for text in strings(ast.parse(path.read_text(encoding="utf-8")))]
    return "\n".join(text.replace("\n", " ") for text in found)


def is_held(message: str) -> bool:
    """Return whether the constant parts of a message stand, in their order, in one string of the code."""
    parts = [part.strip() for part in message.split(HOLE)]
    return re.search(".*".join(re.escape(part) for part in parts if part), held()) is not None


@pytest.mark.parametrize("message", MESSAGES)
def test_the_code_holds_the_message(message: str) -> None:
    constant = "".join(message.split(HOLE)).strip()
    assert len(constant) >= 15, "so short a text is in many messages"
    assert is_held(message), f"no message of the code is '{message}'"


def test_there_are_many_and_none_twice() -> None:
    assert len(MESSAGES) >= 40
    assert len(set(MESSAGES)) == len(MESSAGES)


def test_a_message_that_changed_is_found() -> None:
    assert is_held("cannot listen on …:…: …. Choose another --port or --host.")
    assert not is_held("cannot listen on …:…: …. Choose another --port or --hosts.")
    assert not is_held("Choose another --port or --host. cannot listen on …")
