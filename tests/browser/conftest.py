"""A browser, and a site for it: made-up clips behind the fake server, or the server whose address VTR_SITE holds."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import imageio_ffmpeg
import pytest
from fake_server import Clip, FakeServer

PATIENCE_MS = 30_000
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def sync_api() -> Any:
    """Playwright, with as much patience as a busy machine needs."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed, the [dev] extra has it")
    api.expect.set_options(timeout=PATIENCE_MS)
    return api


@pytest.fixture(scope="session")
def browser(sync_api: Any) -> Iterator[Any]:
    """Chromium without a screen; one for all tests."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser is here: none of {', '.join(BROWSERS)}")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two videos of 8 seconds: one that browsers play, one of an old format that none does."""
    folder = tmp_path_factory.mktemp("films")
    made = {"webm": folder / "clip.webm", "avi": folder / "clip.avi"}
    for path, codec in ((made["webm"], "libvpx"), (made["avi"], "mpeg4")):
        source = ["-f", "lavfi", "-i", "testsrc=s=96x64:r=10:d=8", "-g", "5", "-c:v", codec]
        subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *source, str(path)], check=True)
    return made


@pytest.fixture(scope="session")
def clips(films: dict[str, Path]) -> list[Clip]:
    """The gallery: 30 videos of two categories; every fifth has speech, every second a moment of its own length."""
    return [
        Clip(
            f"set/clip {number}",
            films["webm"],
            f"a {'dog' if number % 2 else 'cat'} runs over field {number}",
            "animals" if number % 3 else "sports",
            8.0 + number,
            (3.0, 5.0) if number % 2 else (1.0, 2.0),
            "good dog, come here" if number % 5 == 0 else None,
        )
        for number in range(1, 31)
    ]


@pytest.fixture(scope="session")
def serving() -> Iterator[Callable[..., str]]:
    """Serves clips of a test's own, and returns the address."""
    servers: list[FakeServer] = []

    def serve(clips: list[Clip], **options: Any) -> str:
        servers.append(FakeServer(clips, **options))
        return servers[-1].url

    yield serve
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def site(clips: list[Clip], serving: Callable[..., str]) -> str:
    """The address of the site, with a slash at its end."""
    return os.environ.get("VTR_SITE") or serving(clips)


@dataclass
class Visit:
    """A page that is open, and what it did that no page should."""

    page: Any
    strangers: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def requested(self, url: str) -> None:
        """Note what is asked of another host than this machine."""
        address = urlsplit(url)
        if address.scheme not in ("blob", "data") and address.hostname not in ("127.0.0.1", "localhost"):
            self.strangers.append(url)


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens pages: `visit(url, refused=False, **context)`. Fails for scripts' errors and requests to other hosts.

    `refused` says that the test has requests refused, which the console lists as errors.
    """
    visits: list[Visit] = []
    contexts = []

    def go(url: str, *, refused: bool = False, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        visited = Visit(context.new_page())
        visits.append(visited)
        visited.page.on("request", lambda request: visited.requested(request.url))
        visited.page.on("pageerror", lambda error: visited.errors.append(str(error)))

        def console(message: Any) -> None:
            network = message.text.startswith("Failed to load resource")
            if message.type in ("error", "warning") and not (refused and network):
                visited.errors.append(f"{message.text} ({message.location.get('url')})")

        visited.page.on("console", console)
        if url:
            visited.page.goto(url)
            visited.page.wait_for_function("() => document.getElementById('size').textContent || !notice.hidden")
        return visited.page

    yield go
    for context in contexts:
        context.close()
    assert not [stranger for visited in visits for stranger in visited.strangers]
    assert not [error for visited in visits for error in visited.errors]


@pytest.fixture
def expect(sync_api: Any) -> Any:
    """Playwright's assertions, which wait."""
    return sync_api.expect
