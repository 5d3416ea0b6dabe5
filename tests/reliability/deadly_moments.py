"""For tests: SIGKILL at an exact moment. A process kills itself just before it opens, renames or removes a given file.

Python's audit events tell of every such call wherever it is made, so this holds no knowledge of how files are written.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

MOMENT = "TEST_DIES_AT"
"""Environment variable: `who|event|pattern|count|marker`. The process called `who` dies before the count-th audit event
whose path fits the pattern; the file `marker` is made first, and where it exists nobody dies any more."""


def die_as(who: str) -> None:
    """Watch for the moment set in the environment, if this process is the one meant."""
    setting = os.environ.get(MOMENT)
    if not setting:
        return
    meant, event, pattern, count, marker = setting.split("|")
    if meant != who:
        return
    left = int(count)
    wanted = re.compile(pattern)

    def watch(name: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if name != event:
            return
        path = arguments[1] if name == "os.rename" else arguments[0]
        if not isinstance(path, str | os.PathLike) or not wanted.search(os.fspath(path)):
            return
        left -= 1
        if left == 0 and not Path(marker).exists():
            Path(marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
