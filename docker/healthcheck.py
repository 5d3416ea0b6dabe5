"""The images' health check: asks the `vtr serve` of this container whether it answers. Needs only Python itself.

A container that runs another command is well for as long as it runs: its exit code tells how that went.
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

DEFAULT_PORT = "8000"
TIMEOUT_SECONDS = 8.0


def commands(processes: Path = Path("/proc")) -> list[list[str]]:
    """Return the command line of every process that there is to see."""
    found = []
    for path in sorted(processes.glob("[0-9]*/cmdline")):
        try:
            found.append(path.read_bytes().decode(errors="replace").rstrip("\0").split("\0"))
        except OSError:  # it has just ended
            continue
    return found


def served_port(lines: Iterable[Sequence[str]]) -> str | None:
    """Return the port that a `vtr serve` among some command lines listens on, None where there is no such command."""
    for line in lines:
        names = [PurePath(word).name for word in line]
        for place in range(len(names) - 1):
            if names[place] == "vtr" and names[place + 1] == "serve":
                return _port_of(line[place + 2 :])
    return None


def _port_of(options: Sequence[str]) -> str:
    port = DEFAULT_PORT
    for place, option in enumerate(options):
        if option == "--port" and place + 1 < len(options):
            port = options[place + 1]
        elif option.startswith("--port="):
            port = option.removeprefix("--port=")
    return port


def main() -> int:
    """Return 0 where the server answers or none is to be expected, else 1; print why."""
    port = served_port(commands())
    if port is None:
        print("no `vtr serve` runs here")
        return 0
    url = f"http://127.0.0.1:{port}/health"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
            print(answer.read().decode(errors="replace"))
    except (OSError, urllib.error.URLError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
