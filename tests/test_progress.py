"""Progress and plain messages go to stderr, as lines or as a bar."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest

from vtr.progress import PLAIN_LINE_SECONDS, progress, say


class Clock:
    """Stands in for the time module as vtr.progress sees it; moves only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr("vtr.progress.time", SimpleNamespace(monotonic=fake.monotonic))
    return fake


def test_say_writes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("a message")
    captured = capsys.readouterr()
    assert captured.err == "a message\n"
    assert captured.out == ""


def test_plain_lines_come_now_and_then(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    with progress("extract", 100, "videos") as advance:
        clock.now += PLAIN_LINE_SECONDS / 2
        advance(10, "too early")
        clock.now += PLAIN_LINE_SECONDS / 2
        advance(10, "epoch 3")
        advance(10, "too soon after")
    captured = capsys.readouterr()
    assert captured.err == "extract: 20 of 100 videos, 2.0/s, 0:40 left; epoch 3\n"
    assert captured.out == ""


def test_last_plain_line_is_always_printed(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    with progress("extract", 4, "videos") as advance:
        clock.now += 1.0
        advance(3, "not shown")
        clock.now += 1.0
        advance(1, "")
    assert capsys.readouterr().err == "extract: 4 of 4 videos, 2.0/s, 0:00 left\n"


@pytest.mark.usefixtures("clock")
def test_exception_propagates_from_plain_lines() -> None:
    with pytest.raises(ValueError, match="broken video"), progress("extract", 2, "videos"):
        raise ValueError("broken video")


def test_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    terminal = FakeTerminal()
    monkeypatch.setattr(sys, "stderr", terminal)  # not in a fixture: pytest puts its own back before the test runs
    with progress("extract", 2, "videos") as advance:
        clock.now += 1.0
        advance(2, "epoch 3")
    shown = terminal.getvalue()
    assert "\x1b[" in shown
    for part in ("extract", "2/2", "videos, 2.0/s, left", "epoch 3"):
        assert part in shown
    with pytest.raises(ValueError, match="broken video"), progress("extract", 2, "videos"):
        raise ValueError("broken video")
