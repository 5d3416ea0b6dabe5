"""Every command in the documentation is one that the programs take: a wrong option, value or file name fails here."""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
from doc_blocks import OTHERS, PAGES, Command, all_commands, blocks, kind, spans
from toy import ROOT
from typer.core import TyperCommand
from typer.main import get_command

from vtr.cli import app, main
from vtr.config import TrainConfig, load
from vtr.demo.run import DemoConfig
from vtr.extract_config import ExtractConfig
from vtr.sweep_config import load_sweep

ADDED = {"loss.name=sigmoid", "model.name=linear"}
"""What docs/extending.md adds to a copy of the code; test_extending.py runs its commands there."""
COMMANDS = [command for command in all_commands() if not ADDED & set(command.words)]
SETTINGS = {
    "train": (TrainConfig, load(TrainConfig, ROOT / "configs" / "train" / "default.yaml")),
    "extract": (ExtractConfig, ExtractConfig()),
    "demo": (DemoConfig, DemoConfig()),
}
"""The commands with --config and --set: what these fill, and what is there without a file."""
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def ids(command: Command) -> str:
    return f"{command.place} {' '.join(command.words)[:60]}"


class Parsed(Exception):
    """Raised in the place of a command's work, once its arguments have been read."""


def parse(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> tuple[str, dict[str, Any]]:
    """Return the path of the command that vtr would run and its parameters; it is not run."""
    seen: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(TyperCommand, "invoke", lambda _, context: seen.append((context.command_path, context.params)))
    get_command(app).main(list(words), prog_name="vtr", standalone_mode=False)
    [(path, params)] = seen or [("vtr", {})]
    return path.removeprefix("vtr").strip(), params


def check_vtr(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold a command of vtr to its options, to the settings that it names and to the configurations in configs/."""
    path, params = parse(words, monkeypatch)
    if path in ("train", "sweep"):
        assert params["out"] or params["dry_run"], "--out or --dry-run is needed"
    if path == "evaluate":
        assert params["run"] or params["scores"], "a run or --scores is needed"
    config = params.get("config")
    file = None if config is None or str(config) == "..." or str(config).isupper() else ROOT / config
    if path == "sweep":
        load_sweep(file)
    elif path in SETTINGS:
        of, base = SETTINGS[path]
        load(of, file, params["set_"] or (), base)


def check_script(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold a script's arguments to its parser, which is stopped once it has read them."""
    if words[0] == "-c":
        compile(words[1], "-c", "exec")
        return
    if words[0] == "-m":
        assert words[1] in ("venv", "http.server", "pytest"), f"module {words[1]} is not known here"
        return
    script = ROOT / words[0]
    assert script.is_file(), f"there is no script {words[0]}"
    if "ArgumentParser" not in script.read_text(encoding="utf-8"):
        assert not words[1:], f"{words[0]} takes no arguments"
        return

    def stop(parser: argparse.ArgumentParser, *given: Any, **named: Any) -> NoReturn:
        read(parser, *given, **named)
        raise Parsed

    read = argparse.ArgumentParser.parse_args
    with monkeypatch.context() as patched, pytest.raises(Parsed):
        patched.setattr(argparse.ArgumentParser, "parse_args", stop)
        patched.setattr(sys, "argv", [str(script), *words[1:]])
        patched.syspath_prepend(script.parent)
        runpy.run_path(str(script), run_name="__main__")


def check_torchrun(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.distributed.run import get_args_parser

    read = get_args_parser().parse_args(list(words))
    assert read.no_python, "torchrun starts vtr with --no-python"
    assert Path(read.training_script).name == "vtr"
    check_vtr(read.training_script_args, monkeypatch)


def check_pip(words: Sequence[str]) -> None:
    named = re.findall(r"(?:vtr|^\.)\[([\w,]+)\]", " ".join(words)) + re.findall(r" \.\[([\w,]+)\]", " ".join(words))
    unknown = {extra for extras in named for extra in extras.split(",")} - set(PROJECT["optional-dependencies"])
    assert not unknown, f"there is no extra {unknown}"
    files = [words[at + 1] for at, word in enumerate(words) if word in ("-c", "-r")]
    assert all((ROOT / file).is_file() for file in files), files


def check_run(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold a call of docker/run.sh to the script's own list of commands, and what it hands to vtr to vtr."""
    (line,) = re.findall(
        r"^  (demo \| .*)\) ;;$", (ROOT / "docker" / "run.sh").read_text(encoding="utf-8"), re.MULTILINE
    )
    rest = list(words)
    while rest and rest[0].startswith("--"):
        del rest[: 1 if rest[0] == "--gpu" else 2]
    assert rest and rest[0] in line.split(" | "), f"docker/run.sh has no command {rest[:1]}"
    if rest[0] == "vtr":
        check_vtr(rest[1:], monkeypatch)


def check(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise where a command would be refused."""
    words = command.words[1:]
    if command.program == "vtr":
        check_vtr(words, monkeypatch)
    elif command.program == "make":
        wrong = [word for word in words if "=" not in word and word not in TARGETS]
        assert not wrong, f"the Makefile has no target {wrong}"
    elif command.program == "torchrun":
        check_torchrun(words, monkeypatch)
    elif command.program.startswith("python"):
        check_script(words, monkeypatch)
    elif command.program == "pip":
        check_pip(words)
    elif command.program == "run.sh":
        check_run(words, monkeypatch)
    else:
        assert command.program in OTHERS, f"'{command.words[0]}' stands among commands, and is no program known here"


@pytest.mark.parametrize("command", COMMANDS, ids=ids)
def test_a_command_is_taken(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    check(command, monkeypatch)


@pytest.mark.parametrize("words", ["--help", "losses", "experts", "doctor"])
def test_what_only_looks_around_runs(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["vtr", words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert len(capsys.readouterr().out.splitlines()) > 10


def test_every_page_with_commands_is_looked_at() -> None:
    pages = {command.place.partition(":")[0] for command in COMMANDS}
    assert {"README.md", "docs/stages.md", "docs/troubleshooting.md", "configs/demo.yaml"} <= pages


@pytest.mark.parametrize(
    "wrong",
    [
        "vtr extrakt ws",
        "vtr extract",
        "vtr extract ws --expert ocr",
        "vtr extract ws --workers many",
        "vtr train ws",
        "vtr train ws --out run --set loss.gama=3",
        "vtr train ws --out run --config configs/train/none.yaml",
        "vtr sweep ws --config configs/train/small.yaml --out sweep",
        "vtr evaluate",
        "vtr export RUN --to nowhere --out DB",
        "torchrun --nproc-per-node 2 --no-python vtr train ws --outt run",
        "make everything",
        "python benchmarks/none.py",
        "python benchmarks/losses.py --wrong",
        "python docs/draw_losses.py --wrong",
        "pip install 'vtr[none]'",
    ],
)
def test_a_mistake_is_found(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises((Exception, SystemExit)) as found:
        check(Command("here", tuple(shlex.split(wrong))), monkeypatch)
    assert not isinstance(found.value, ImportError | AttributeError | TypeError)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_within_sentences_have_the_options_they_name(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, text in spans(page):
        words = text.split()
        if words[0] == "vtr" and len(words) > 1 and re.fullmatch(r"[a-z].*", words[1]):
            command, rest = get_command(app), words[1:]
            while getattr(command, "commands", None) and rest and rest[0] in command.commands:
                command, rest = command.commands[rest[0]], rest[1:]
            assert command.name != "vtr", f"{place}: vtr has no command {words[1]}"
            options = {option for param in command.params for option in param.opts} | {"--help", "--debug"}
            wrong = [
                word for word in rest if word.startswith("--") and word.strip("`,.").partition("=")[0] not in options
            ]
            assert not wrong, f"{place}: `{text}` names {wrong}"
        elif words[0].endswith("bin/python") or (words[0] == "make" and len(words) > 1):
            check(Command(place, tuple(shlex.split(text))), monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_command_hides_in_a_block_of_another_kind(page: Path) -> None:
    for block in blocks(page):
        if kind(block) == "other" and block.language in ("", "bash", "sh"):
            hidden = re.findall(r"^\S+ .*? --[a-z].*$", block.text, re.MULTILINE)
            assert not hidden, f"{block.place}: {hidden}: a block of commands begins with the name of a program"
