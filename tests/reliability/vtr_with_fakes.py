"""For tests, a program: the `vtr` command, whose `extract` asks the experts of `hazard_experts` instead of the real ones.

With TEST_LEFT_OPEN set to a file, what the command has left open when it ends is written there.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from pathlib import Path

import deadly_moments
import hazard_experts

import feature_extraction.pipeline
from vtr import cli


def open_files() -> list[str]:
    """Return what this process's descriptors are: "/a/file", "pipe:[1234]", "socket:[1234]"."""
    found = []
    for link in sorted(Path("/proc/self/fd").iterdir(), key=lambda link: int(link.name)):
        try:
            found.append(os.readlink(link))
        except FileNotFoundError:  # the one that reads the folder
            continue
    return found


def children() -> list[int]:
    """Return the ids of this process's children, zombies included."""
    return [
        int(child) for task in Path("/proc/self/task").iterdir() for child in (task / "children").read_text().split()
    ]


def main() -> None:
    """Run the command line of `vtr`."""
    deadly_moments.die_as("parent")
    real = feature_extraction.pipeline.extract
    feature_extraction.pipeline.extract = functools.partial(real, extractors=hazard_experts.EXTRACTORS)
    before = open_files()
    try:
        cli.main()
    finally:
        if "TEST_LEFT_OPEN" in os.environ:
            left = {"files_before": before, "files": open_files(), "children": children()}
            Path(os.environ["TEST_LEFT_OPEN"]).write_text(json.dumps(left), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
