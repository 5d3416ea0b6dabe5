"""Progress with rate and time left: a bar on a terminal, a plain line now and then elsewhere. To stderr, always."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

PLAIN_LINE_SECONDS = 10.0
"""How often a plain line is printed where stderr is not a terminal."""


def say(message: str) -> None:
    """Print one line to stderr."""
    print(message, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Return a duration in words, "1:02:03" or "2:03"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@contextlib.contextmanager
def progress(
    doing: str, total: int, unit: str, *, done: int = 0, quiet: bool = False
) -> Iterator[Callable[[int, str], None]]:
    """Show progress while the block runs.

    Args:
        doing: what goes on ("extract").
        total: how many units there are.
        unit: what is counted, in the plural ("videos").
        done: how many were done before.
        quiet: show nothing; another process does.

    Yields:
        advance(count, note): call it as `count` more units are done; `note` is shown behind ("epoch 3", "loss 0.21").
    """
    if quiet:
        yield _nothing
    elif sys.stderr.isatty():
        yield from _bar(doing, total, unit, done)
    else:
        yield from _lines(doing, total, unit, done)


def _nothing(count: int, note: str = "") -> None:
    del count, note


def _bar(doing: str, total: int, unit: str, before: int) -> Iterator[Callable[[int, str], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TextColumn(f"{unit}, {{task.fields[rate]}}, left"))
    with Progress(
        *columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=Console(stderr=True)
    ) as bar:
        task = bar.add_task(doing, total=total, completed=before, rate="", note="")
        started = time.monotonic()
        done = 0

        def advance(count: int, note: str = "") -> None:
            nonlocal done
            done += count
            rate = done / max(time.monotonic() - started, 1e-6)
            bar.update(task, advance=count, rate=f"{rate:.1f}/s", note=note)

        yield advance


def _lines(doing: str, total: int, unit: str, before: int) -> Iterator[Callable[[int, str], None]]:
    started = last = time.monotonic()
    done = 0

    def advance(count: int, note: str = "") -> None:
        nonlocal done, last
        done += count
        now = time.monotonic()
        if now - last < PLAIN_LINE_SECONDS and before + done < total:
            return
        last = now
        rate = done / max(now - started, 1e-6)
        left = duration((total - before - done) / rate) if rate > 0 else "?"
        tail = f"; {note}" if note else ""
        say(f"{doing}: {before + done} of {total} {unit}, {rate:.1f}/s, {left} left{tail}")

    yield advance
