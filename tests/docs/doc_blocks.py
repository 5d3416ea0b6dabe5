"""The blocks of the documentation's pages, and the commands in them."""

from __future__ import annotations

import ast
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from toy import ROOT

PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")],
)
CONFIGS = sorted(ROOT.glob("configs/**/*.yaml"))
OURS = ("vtr", "make", "torchrun", "python", "python3", "pip", "mkdocs", "run.sh")
"""Programs whose arguments are held to what they take, or to what is in the repository."""
OTHERS = (
    *("curl", "wget", "tar", "unzip", "git", "docker", "apt-get", "sudo", "nvidia-smi"),
    *("ray", "trec_eval", "hf", "export", "source", "cd"),
)
"""Programs of other people: known, and not looked into."""
SETTING = re.compile(r"[A-Z_]+=\S+")


@dataclass(frozen=True)
class Block:
    """A block of code: where it is, its language (of a fence; else empty), and its lines."""

    path: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A command as its words; `place` is its page and line."""

    place: str
    words: tuple[str, ...]

    @property
    def program(self) -> str:
        return self.words[0].rpartition("/")[2]


def blocks(path: Path) -> list[Block]:
    """Return the blocks of a Markdown page, indented and fenced, also those in lists."""
    found = MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))
    return [
        Block(path, (token.map or [0])[0] + 1 + (token.type == "fence"), (token.info.split() or [""])[0], token.content)
        for token in found
        if token.type in ("code_block", "fence")
    ]


def spans(path: Path) -> list[tuple[str, str]]:
    """Return the code within sentences, with its place."""
    found = []
    for token in MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8")):
        for child in token.children or ():
            if child.type == "code_inline":
                line = token.map[0] + 1 if token.map else "table"
                found.append((f"{path.relative_to(ROOT)}:{line}", " ".join(child.content.split())))
    return found


def kind(block: Block) -> str:
    """Return what a block is: shell, session (commands after `$`, and what they print), python, or other."""
    if block.language:
        return {"bash": "shell", "sh": "shell", "console": "session", "python": "python"}.get(block.language, "other")
    first = block.text.replace("\\\n", " ").lstrip().partition("\n")[0]
    if first.startswith("$ "):
        return "session"
    if _command(block.place, first) is not None:
        return "shell"
    return "python" if _is_python(block.text) else "other"


def commands(block: Block) -> list[Command]:
    """Return the commands of a shell block or a session; a line that is none becomes a single word."""
    found, of_session, line = [], kind(block) == "session", block.line
    for whole in re.split(r"(?<!\\)\n", block.text):
        place, line = f"{block.path.relative_to(ROOT)}:{line}", line + 1 + whole.count("\n")
        text = whole.replace("\\\n", " ").strip()
        if not text or text.startswith("#") or (of_session and not text.startswith("$ ")):
            continue
        found.append(_command(place, text.removeprefix("$ ")) or Command(place, (text,)))
    return found


def header_commands(path: Path) -> list[Command]:
    """Return the commands in the comment that a configuration opens with: its lines that are indented."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.startswith("#"):
            break
        if line.startswith("#   "):
            place = f"{path.relative_to(ROOT)}:{number}"
            found.append(_command(place, line[1:].strip()) or Command(place, (line,)))
    return found


def all_commands() -> list[Command]:
    """Return the commands of all pages and all configurations."""
    shell = [block for page in PAGES for block in blocks(page) if kind(block) in ("shell", "session")]
    return [
        *(command for block in shell for command in commands(block)),
        *(command for path in CONFIGS for command in header_commands(path)),
    ]


def _command(place: str, text: str) -> Command | None:
    try:
        words = shlex.split(text, comments=True)
    except ValueError:  # a quote that is not closed: no line of a shell
        return None
    while words and SETTING.fullmatch(words[0]):
        words = words[1:]
    if not words or words[0].rpartition("/")[2] not in (*OURS, *OTHERS) or words[0].endswith("/"):
        return None
    return Command(place, tuple(words))


def _is_python(text: str) -> bool:
    try:
        body = ast.parse(text).body
    except SyntaxError:
        return False
    return any(isinstance(node, ast.Import | ast.ImportFrom | ast.Call) for part in body for node in ast.walk(part))
