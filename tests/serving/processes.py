"""Servers as processes, and plain requests to them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROOT = Path(__file__).parent.parent.parent
FAKE = Path(__file__).parent / "fake_server.py"
START_SECONDS = 180
ANSWER_SECONDS = 120


def take_interrupts() -> None:
    """Hear SIGINT: what runs in the background of a shell is told to ignore it, and so are its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Server:
    """A running server.

    Args:
        command: what starts it; it must say on stderr where it listens.
    """

    def __init__(self, command: Sequence[str]) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=take_interrupts
        )
        self.said: list[str] = []
        self._ready = threading.Event()
        self.port = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(START_SECONDS) or not self.port:
            self.kill()
            raise AssertionError(f"the server did not start: {self.said}")

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(r"http://\S+:(\d+) \(Ctrl-C ends\)", line):
                self.port = int(found[1])
                self._ready.set()
        self._ready.set()

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)

    def get(self, path: str) -> tuple[int, Any, dict[str, str]]:
        """Return status, JSON (or text) and headers of one request."""
        with contextlib.closing(self.connect()) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            body = answer.read().decode()
            return answer.status, json.loads(body) if "json" in headers["content-type"] else body, headers

    def search(self, query: str, k: int = 10) -> Any:
        """Return the answer to a query."""
        status, body, _ = self.get(f"/search?q={quote(query)}&k={k}")
        assert status == 200, body
        return body

    def stop(self, number: signal.Signals) -> int:
        """Send a signal; return the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(ANSWER_SECONDS)
        self._reader.join(ANSWER_SECONDS)
        return status

    def kill(self) -> None:
        """End it by force."""
        self.process.kill()
        self.process.wait()
        self._reader.join(ANSWER_SECONDS)
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextlib.contextmanager
def serving(command: Sequence[str]) -> Iterator[Server]:
    """Run a server while the block runs."""
    server = Server(command)
    try:
        yield server
    finally:
        server.kill()


def fake_server(**settings: Any) -> contextlib.AbstractContextManager[Server]:
    """Run a server over the made-up gallery; see `fake_server.py`."""
    return serving([sys.executable, str(FAKE), json.dumps(settings)])
