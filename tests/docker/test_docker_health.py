"""The images' health check, against a real server in a thread and made-up process tables."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import ModuleType

import pytest
from toy import ROOT


@pytest.fixture(scope="module")
def check() -> ModuleType:
    found = importlib.util.spec_from_file_location("healthcheck", ROOT / "docker" / "healthcheck.py")
    assert found and found.loader
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


class Answers(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), type("OwnAnswers", (Answers,), {})) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("line", "port"),
    [
        ("/usr/bin/tini -- vtr serve /workspaces/mine/run --host 0.0.0.0", "8000"),
        ("/opt/vtr/bin/python3 /opt/vtr/bin/vtr serve RUN --port 9000", "9000"),
        ("vtr serve RUN --port=9001 --host 0.0.0.0", "9001"),
        ("/usr/bin/tini -- vtr extract /workspaces/serve/workspace", None),
        ("vtr train serve", None),
        ("sleep 60", None),
    ],
)
def test_it_finds_the_server_and_its_port(line: str, port: str | None, check: ModuleType, tmp_path: Path) -> None:
    process = tmp_path / "17"
    process.mkdir()
    (process / "cmdline").write_bytes(b"\0".join(word.encode() for word in line.split()) + b"\0")
    (tmp_path / "18").mkdir()  # one that has just ended
    (tmp_path / "self").mkdir()
    assert check.served_port(check.commands(tmp_path)) == port


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_it_asks_the_server(
    status: int, code: int, check: ModuleType, server: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.RequestHandlerClass.status = status  # type: ignore[attr-defined]
    line = ["vtr", "serve", "RUN", "--port", str(server.server_port)]
    monkeypatch.setattr(check, "commands", lambda: [line])
    assert check.main() == code


def test_a_server_that_is_not_up_is_not_well(check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    with HTTPServer(("127.0.0.1", 0), Answers) as gone:
        port = gone.server_port
    monkeypatch.setattr(check, "commands", lambda: [["vtr", "serve", "RUN", f"--port={port}"]])
    assert check.main() == 1


def test_a_container_that_runs_a_stage_is_well(check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "commands", lambda: [["tini", "--", "vtr", "extract", "ws"]])
    assert check.main() == 0
