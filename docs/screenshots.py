"""Take the pictures of the page: `.venv/bin/python docs/screenshots.py http://127.0.0.1:8000`.

They are of a server that runs, as after `vtr demo` and `vtr serve vtr-demo/run`; the demo makes its clips itself, so
the pictures show nobody's videos. Needs the [dev] extra and Chromium. Writes docs/page*.png.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SEEN, SAID = "a purple ball bounces", "somebody talks about the museum"
MOST_BYTES = 300 * 1024
PICTURES_THERE = """() => document.querySelector("#results[aria-busy=false] > .card")
  && [...document.images].every((image) => image.complete || image.getBoundingClientRect().top > innerHeight)"""


@dataclass(frozen=True)
class Shot:
    """One picture.

    Attributes:
        words: what is searched for.
        steps: what is done with the results before it is taken.
    """

    name: str
    words: str
    size: tuple[int, int]
    scheme: str = "light"
    steps: Callable[[Page], None] | None = None


def _play(page: Page) -> None:
    page.get_by_role("searchbox").press("ArrowDown")
    page.locator(".card.playing").wait_for()


def _open(page: Page) -> None:
    page.locator(".card .thumb").first.click()
    page.wait_for_function("() => document.getElementById('player-video').readyState === 4")
    page.evaluate("() => document.getElementById('player-video').pause()")


SHOTS = (
    Shot("page", SEEN, (1200, 800), steps=_play),
    Shot("page-dark", SAID, (1200, 800), scheme="dark"),
    Shot("page-player", SEEN, (1200, 700), steps=_open),
    Shot("page-phone", SAID, (360, 740)),
)


def take(browser: Browser, url: str, shot: Shot) -> bytes:
    """Return a picture as PNG."""
    width, height = shot.size
    phone = width < 500
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if shot.scheme == "dark" else "light",
        device_scale_factor=2 if phone else 1,
        is_mobile=phone,
        has_touch=phone,
    )
    page = context.new_page()
    page.goto(url)
    page.get_by_role("searchbox").fill(shot.words)
    page.keyboard.press("Enter")
    page.wait_for_function(PICTURES_THERE)
    if shot.steps is not None:
        shot.steps(page)
    picture = page.screenshot(animations="disabled")
    context.close()
    packed = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").save(packed, "PNG", optimize=True)
    return packed.getvalue()


def main(arguments: Sequence[str]) -> None:
    """Take all pictures of the server whose address is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="where `vtr serve` listens")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="the folder the pictures go to")
    options = parser.parse_args(arguments)
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        sys.exit(f"no browser is here: none of {', '.join(BROWSERS)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for shot in SHOTS:
            picture = take(browser, options.url, shot)
            if len(picture) > MOST_BYTES:
                sys.exit(f"{shot.name}.png has {len(picture):,} bytes, at most {MOST_BYTES:,} were expected")
            (options.out / f"{shot.name}.png").write_bytes(picture)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
