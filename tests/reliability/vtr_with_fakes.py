"""For tests, a program: the `vtr` command; its `extract` asks the experts of `hazard_experts` and not the real ones.

With TEST_LEFT_OPEN set to a file, what the command has left open when it ends is written there.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
from multiprocessing import resource_tracker
from pathlib import Path

import deadly_moments
import hazard_experts

import feature_extraction.pipeline
from vtr import cli


def left_open() -> dict[str, list[str]]:
    """Return this process's descriptors ("/a/file", "pipe:[1234]") and children, zombies included.

    Python's own tracker of shared resources, which lives until the end of the process, is passed over.
    """
    tracker = resource_tracker._resource_tracker
    files = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that reads the folder
            if int(link.name) != tracker._fd:
                files.append(str(link.readlink()))
    tasks = Path("/proc/self/task").iterdir()
    children = {child for task in tasks for child in (task / "children").read_text().split()}
    return {"files": sorted(files), "children": sorted(children - {str(tracker._pid)})}


def main() -> None:
    """Run the command line of `vtr`."""
    deadly_moments.die_as("parent")
    real = feature_extraction.pipeline.extract
    feature_extraction.pipeline.extract = functools.partial(real, extractors=hazard_experts.EXTRACTORS)
    before = left_open()
    try:
        cli.main()
    finally:
        if "TEST_LEFT_OPEN" in os.environ:
            seen = {"before": before, "after": left_open()}
            Path(os.environ["TEST_LEFT_OPEN"]).write_text(json.dumps(seen), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
