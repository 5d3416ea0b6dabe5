"""Real servers on free ports: batching over the wire, limits, stopping, and clients that go away."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fake_gallery import FakeRetriever, score_of
from loops_apart import run_alone
from processes import fake_server
from small_clips import MP4

from vtr.errors import InputError, UnavailableError
from vtr.serving.server import serve


def test_many_clients_are_answered_together_and_rightly() -> None:
    queries = [f"query {number}" for number in range(96)]
    with fake_server(seconds=0.02) as server, ThreadPoolExecutor(16) as clients:
        for query, body in zip(queries, clients.map(server.search, queries), strict=True):
            assert body["query"] == query
            scores = {hit["video_id"]: hit["score"] for hit in body["results"]}
            assert scores == {name: score_of(query, name) for name in "ab"}
        _, metrics, _ = server.get("/metrics")
    count, total = (
        float(next(line for line in metrics.splitlines() if line.startswith(f"vtr_batch_size_{what} ")).split()[1])
        for what in ("count", "sum")
    )
    assert total == len(queries)
    assert count <= total / 2  # sixteen ask at a time


def test_more_than_may_wait_is_told_to_come_again() -> None:
    with fake_server(seconds=1.0, limits={"most_waiting": 2}) as server, ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(lambda number: server.get(f"/search?q={number}"), range(12)))
    statuses = [status for status, _, _ in answers]
    assert set(statuses) == {200, 503}
    for status, body, headers in answers:
        if status == 503:
            assert headers["retry-after"] == "1"
            assert "searches are waiting" in body["detail"]


def test_what_takes_too_long_is_given_up() -> None:
    with fake_server(seconds=3.0, limits={"timeout_seconds": 0.5, "stop_seconds": 1}) as server:
        status, body, _ = server.get("/search?q=a")
        assert (status, body["detail"][:42]) == (504, "the search took longer than 0.5 seconds. T"[:42])
        assert server.get("/health")[0] == 200  # the event loop never waits for the model


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, -signal.SIGINT)])
def test_stopping_answers_what_is_under_way(number: signal.Signals, status: int) -> None:
    with fake_server(seconds=1.0) as server, contextlib.closing(server.connect()) as connection:
        connection.request("GET", "/search?q=a")
        while "vtr_batch_size_count 1.0" not in server.get("/metrics")[1]:
            pass
        server.process.send_signal(number)
        assert connection.getresponse().status == 200
        assert server.process.wait(60) == status  # outside the command line Python itself ends by the signal
        with pytest.raises(OSError, match=r"[Rr]efused"):
            server.get("/health")


def test_stopping_does_not_wait_for_ever() -> None:
    settings = {"seconds": 60.0, "limits": {"stop_seconds": 1}}
    with fake_server(**settings) as server, contextlib.closing(server.connect()) as connection:
        connection.request("GET", "/search?q=a")
        while "vtr_batch_size_count 1.0" not in server.get("/metrics")[1]:
            pass
        assert server.stop(signal.SIGTERM) == 0


def test_a_client_that_goes_away_leaves_nothing_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + MP4 + b"HANG\r\n--b--\r\n"
    with fake_server() as server:
        with contextlib.closing(server.connect()) as connection:
            headers = {"Content-Type": "multipart/form-data; boundary=b"}
            connection.request("POST", "/search/video", body, headers)
            while not uploads_in(tmp_path):
                server.get("/health")
            assert server.get("/search?q=a")[0] == 200  # searches go on meanwhile
        while uploads_in(tmp_path):
            server.get("/health")
        outcome = 'vtr_uploads_total{outcome="gone"} 1.0'
        while outcome not in server.get("/metrics")[1]:
            pass
        assert server.stop(signal.SIGTERM) == 0
    assert list(tmp_path.glob("vtr-uploads-*")) == []


def uploads_in(folder: Path) -> list[Path]:
    return [path for path in folder.glob("vtr-uploads-*/*") if path.name != ".lock"]


def test_uploads_are_refused_while_enough_are_under_way() -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + MP4 + b"HANG\r\n--b--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(fake_server(limits={"most_uploads": 1, "stop_seconds": 1}))
        first, second = (stack.enter_context(contextlib.closing(server.connect())) for _ in range(2))
        first.request("POST", "/search/video", body, headers)
        refused = None
        while refused is None or refused.status != 429:
            second.request("POST", "/search/video", b"--b--", headers)
            refused = second.getresponse()
            refused.read()
        assert refused.headers["retry-after"] == "1"


def test_a_changed_gallery_is_taken_up_and_a_broken_one_is_not(
    serve_gallery: Callable[..., Any], gallery: FakeRetriever, capfd: pytest.CaptureFixture[str]
) -> None:
    from vtr.serving.limits import Limits

    client = serve_gallery(limits=Limits(refresh_seconds=0.02))
    gallery.on_disk = "2"
    while client.get("/health").json()["generation"] != "2":
        pass
    gallery.broken = True
    while 'vtr_gallery_refreshes_total{outcome="failed"}' not in client.get("/metrics").text:
        pass
    assert client.get("/search", params={"q": "a"}).status_code == 200
    gallery.broken, gallery.on_disk = False, "3"
    while client.get("/health").json()["generation"] != "3":
        pass
    said = capfd.readouterr().err
    assert said.count("the gallery has changed: full test") == 2
    assert said.count("cannot be read; the old one is searched on: the index is damaged.") == 1


@pytest.mark.parametrize("head", [b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ", b"GET /health HTTP/1.1\r\n"])
def test_endless_headers_end_the_connection(head: bytes) -> None:
    filler = b"a" * 1000 if head.endswith(b": ") else b"X: " + b"a" * 995 + b"\r\n"
    with fake_server() as server, socket.create_connection(("127.0.0.1", server.port), 60) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(head)
            for _ in range(20_000):
                connection.sendall(filler)
            pytest.fail("20 MB of headers were taken")
        assert server.get("/health")[0] == 200


def test_an_address_in_use_is_named(gallery: FakeRetriever) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"cannot listen on 127\.0\.0\.1:{port}.*--port"):
            serve(gallery, port=port)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["fastapi", "uvicorn", "prometheus_client", "python_multipart"])
def test_without_the_extra_the_message_says_how_to_get_it(
    gallery: FakeRetriever, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UnavailableError, match=rf"{name} is not installed.*'vtr\[serve\]'"):
        serve(gallery)  # type: ignore[arg-type]


def test_an_open_server_warns_loudly() -> None:
    with fake_server(host="0.0.0.0") as server:
        assert any(line.startswith("WARNING: everyone who can reach 0.0.0.0") for line in server.said)
    with fake_server(host="0.0.0.0", token="short") as server:
        assert any("can be guessed" in line for line in server.said)
        assert server.get("/gallery")[0] == 401
    with fake_server() as server:
        assert not any("WARNING" in line for line in server.said)


def test_painters_that_hang_or_die_do_not_matter(tmp_path: Path) -> None:
    import asyncio

    from vtr.serving.thumbnails import Thumbnails

    file = tmp_path / "a.mp4"
    file.write_bytes(MP4)
    script = "import sys\nfor line in sys.stdin: {}"
    for action in ("sys.exit(3)", "import time; time.sleep(600)", "print('x', flush=True)"):
        sources: list[str] = []

        async def main(action: str = action, sources: list[str] = sources) -> None:
            command = (sys.executable, "-c", script.format(action))
            thumbnails = Thumbnails(sources.append, command, patience_seconds=0.5)
            pictures = await asyncio.gather(*(thumbnails.jpeg(file, float(at)) for at in (1, 2, 2, 3)))
            assert pictures == [b""] * 4
            await thumbnails.close()

        run_alone(main())
        assert sources == ["failed"] * 3  # two asked for the same one
