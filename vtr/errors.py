"""Errors a user can mend. The command line prints them without a traceback (`--debug` shows it).

Every message names the thing, the value found, what was expected, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence

SHOWN = 5
"""Entries an error names before it says how many more there are."""


class VtrError(Exception):
    """Base of every error caused by input, configuration or environment rather than by a defect in vtr."""


class InputError(VtrError):
    """A file or folder given by the user is missing, damaged or inconsistent."""


class ConfigError(VtrError):
    """A configuration has an unknown key, a wrong type or values that exclude each other."""


class WorkspaceError(VtrError):
    """A workspace or run directory lacks a stage, was made by a newer version, or is in use."""


class UnavailableError(VtrError):
    """A package, model or device that the request needs is not here; the message holds the line that mends it."""


def nearest(name: str, valid: list[str]) -> str:
    """Return " Did you mean 'x'?" for the closest of `valid`, or an empty string when nothing is close."""
    import difflib

    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def some(values: Sequence[str]) -> str:
    """Return the first few values, and how many more there are."""
    more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    return ", ".join(values[:SHOWN]) + more


def counted(number: int, thing: str) -> str:
    """Return how many of a thing there are: "1 video", "2 videos"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
