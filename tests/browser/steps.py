"""What the tests of the page do again and again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from urllib.request import urlopen

Visit = Callable[..., Any]
"""Opens a page, see the fixture `visit`."""
Site = str
"""A site's address, with a slash at its end."""


def asked(site: Site, path: str, **parameters: Any) -> dict[str, Any]:
    """Return what the API answers, asked without a browser."""
    with urlopen(f"{site}{path}?{urlencode(parameters)}") as answer:
        return dict(json.load(answer))


def search(page: Any, words: str) -> Any:
    """Type words and return the cards that come."""
    page.get_by_role("searchbox").fill(words)
    page.keyboard.press("Enter")
    return cards(page)


def cards(page: Any) -> Any:
    """Return the cards of the results, once they are there."""
    page.locator("#results[aria-busy=false] > .card").first.wait_for()
    return page.locator("#results > .card")


def parameters(page: Any) -> dict[str, list[str]]:
    """Return the parameters of the page's address."""
    return parse_qs(urlsplit(page.url).query)
