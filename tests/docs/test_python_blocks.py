"""The Python in the documentation: all of it compiles and imports what there is, and what needs no files runs."""

from __future__ import annotations

import ast
import builtins
import importlib
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from doc_blocks import PAGES, Block, blocks, kind

PAGES_HERE = [page for page in PAGES if page.name != "extending.md"]  # that one's tests are in test_extending.py
BLOCKS = [block for page in PAGES_HERE for block in blocks(page) if kind(block) == "python"]
FILES = re.compile(r"RUN|DIR|runs/|ws/|exported/|\.(npy|csv)$|^videos$|^run$")
"""Strings that name what a reader has, and the tests have not."""


def given() -> dict[str, Callable[[], object]]:
    """What a block may use without making it, as the sentences around it say."""
    return {
        "scores": lambda: np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32),
        "video_of_text": lambda: np.array([0, 0, 1, 1, 2, 2]),
    }


def free_names(tree: ast.Module) -> set[str]:
    """Return the names that a block uses and neither makes nor imports."""
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    made = {name.id for name in names if isinstance(name.ctx, ast.Store)}
    made |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    made |= {
        (alias.asname or alias.name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    made |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return {name.id for name in names} - made - set(dir(builtins)) - {"__file__"}


def runs(block: Block) -> bool:
    tree = ast.parse(block.text)
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return free_names(tree) <= set(given()) and not any(FILES.search(text) for text in strings)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_it_imports_what_there_is(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                assert hasattr(module, alias.name), f"{block.place}: {node.module} has no {alias.name}"


@pytest.mark.parametrize("block", [block for block in BLOCKS if runs(block)], ids=lambda block: block.place)
def test_it_runs(block: Block) -> None:
    torch.manual_seed(0)
    exec(
        compile(block.text, block.place, "exec"), {name: make() for name, make in given().items()} | {"__name__": "doc"}
    )


def test_the_blocks_that_should_run_do() -> None:
    pages = {block.path.name for block in BLOCKS if runs(block)}
    assert {"losses.md", "evaluation.md"} <= pages
