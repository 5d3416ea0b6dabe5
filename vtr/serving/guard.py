"""Who may ask, and what every answer says: Host and Origin headers, the token, security headers. Plain ASGI."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vtr.serving.tokens import Token

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")
OPEN_PATHS = ("/", "/health", "/session", "/favicon.ico")
OPEN_FOLDER = "/static/"

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""The page loads nothing from anywhere else, nobody frames it, and nobody else's page embeds the videos."""


def allowed_hosts(host: str, more: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the names a server may be addressed by: of this machine, of the bound address, and `more`."""
    return tuple(dict.fromkeys(name.lower().strip("[]") for name in (*LOOPBACK, host, *more)))


class Guard:
    """Lets requests through to `app` that name an allowed host, come from no foreign page, and hold the token.

    A page on another host can have its own name resolve to this machine (DNS rebinding), or post a form here; both
    show in the headers. An address in numbers cannot be rebound, so the Host header may always say one; a page that
    posts must be of the same name, or of an allowed one.

    Args:
        app: the application.
        hosts: names that the Host header may say; "*.example.org" for any below, "*" for any.
        token: what a request must hold, None for nothing.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], token: Token | None) -> None:
        self._app = app
        self._hosts = tuple(hosts)
        self._token = token
        self._headers = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                said = {name for name, _ in message["headers"]}
                kept = [header for header in self._headers if header[0] not in said]
                message = {**message, "headers": [*message["headers"], *kept]}
            await send(message)

        headers: dict[bytes, bytes] = dict(scope["headers"])
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if (problem := self._foreign(scope["method"], hosts, headers)) is not None:
            await _refuse(send_guarded, 400, problem)
        elif self._token is not None and not _is_open(scope["path"]) and not self._token.is_held(headers):
            await _refuse(send_guarded, 401, "a token is needed: send it as 'Authorization: Bearer TOKEN'.")
        else:
            await self._app(scope, receive, send_guarded)

    def _foreign(self, method: str, hosts: list[bytes], headers: dict[bytes, bytes]) -> str | None:
        """Return why a request is not for this server, or not from its page; None where it is."""
        host = b", ".join(hosts).decode("latin-1")  # of several, none is believed
        called = "" if set("/?#@, ") & set(host) else _name_of(f"//{host}")
        if not self._is_allowed(called):
            return f"the server is not called '{host[:100]}'. Start it with --allow-host to allow that name."
        origin = headers.get(b"origin")
        if method not in ("GET", "HEAD") and origin is not None:
            said = origin.decode("latin-1")
            if not (named := _name_of(said)) or not (named == called or self._is_listed(named)):
                return f"a page of '{said[:100]}' may not post here. Start the server with --allow-host to allow it."
        return None

    def _is_allowed(self, name: str) -> bool:
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return self._is_listed(name)
        return True

    def _is_listed(self, name: str) -> bool:
        return bool(name) and any(fnmatchcase(name, allowed) for allowed in self._hosts)


def _name_of(url: str) -> str:
    """Return the host's name in a URL, lower case and without port; empty where there is none."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDER)


async def _refuse(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"detail": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
