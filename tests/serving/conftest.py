"""A small gallery of files on disk, and clients of a server over it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_gallery import FakeRetriever, extract
from small_clips import MP4, write_clip

from vtr.serving.app import create_app


@pytest.fixture
def gallery(tmp_path: Path) -> FakeRetriever:
    """Five videos: a file, a real clip, one whose file is gone, a URL, and none; and links that lead elsewhere."""
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret")
    (tmp_path / "a clip.mp4").write_bytes(MP4)
    write_clip(tmp_path / "real.mp4")
    (tmp_path / "link.mp4").symlink_to(secret)
    (tmp_path / "good link.mp4").symlink_to(tmp_path / "a clip.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    files = {"sub/clip 1": "a clip.mp4", "real": "real.mp4", "gone": "gone.mp4", "link": "link.mp4"}
    files |= {"good link": "good link.mp4", "pipe": "pipe.mp4", "folder": "."}
    paths: dict[str, str | None] = {name: str(tmp_path / file) for name, file in files.items()}
    return FakeRetriever(paths | {"remote": "https://example.org/a.mp4", "none": None, "odd\0name": f"{secret}\0"})


@pytest.fixture
def serve_gallery(gallery: FakeRetriever) -> Iterator[Callable[..., Any]]:
    """Make clients of applications over the gallery: `serve_gallery(limits=..., token=...)`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # starlette's own, about which httpx it wants
        from starlette.testclient import TestClient
    clients: list[TestClient] = []

    def make(raise_server_exceptions: bool = True, **settings: Any) -> TestClient:
        settings = {"extract": extract, **settings}
        app = create_app(gallery, **settings)  # type: ignore[arg-type]
        client = TestClient(app, "http://localhost", raise_server_exceptions=raise_server_exceptions)
        client.__enter__()
        clients.append(client)
        return client

    yield make
    gallery.open.set()
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(serve_gallery: Callable[..., Any]) -> Any:
    """A client of a server with the usual settings."""
    return serve_gallery()
