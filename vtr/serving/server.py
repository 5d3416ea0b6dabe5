"""Running the application: the address, the signals, and what is said on the terminal. Needs the [serve] extra."""

from __future__ import annotations

import importlib
import math
import signal
import socket
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING

from vtr.errors import InputError, UnavailableError
from vtr.progress import say
from vtr.retrieval import Retriever
from vtr.serving.extraction import Extract
from vtr.serving.guard import LOOPBACK, allowed_hosts
from vtr.serving.limits import Limits
from vtr.serving.tokens import WEAK_CHARACTERS, Token

if TYPE_CHECKING:
    from fastapi import FastAPI

INSTALL = "pip install 'vtr[serve]'"
NEEDED = ("fastapi", "uvicorn", "httptools", "prometheus_client", "python_multipart")
MOST_CONNECTIONS = 500
"""More at a time are answered 503 by uvicorn itself."""


def serve(
    retriever: Retriever,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    extract: Extract | None = None,
    limits: Limits | None = None,
    token: str | None = None,
    allow_hosts: Sequence[str] = (),
) -> None:
    """Serve until SIGINT (Ctrl-C) or SIGTERM; requests under way are finished first, within `limits.stop_seconds`.

    Args:
        retriever: answers.
        host, port: the address to listen on; port 0 takes a free one.
        extract: reads uploads, in a process of its own; None takes no uploads.
        limits: what the server takes on.
        token: what requests must hold, None for nothing.
        allow_hosts: further names by which the server may be addressed, "*" for any.

    Raises:
        InputError: the address cannot be listened on, or the token cannot be one.
        KeyboardInterrupt: Ctrl-C ended it.
        UnavailableError: the [serve] extra is not installed.
    """
    _check_installed()
    from vtr.serving.app import create_app

    limits = limits or Limits()
    key = None if token is None else Token(token)
    with _listen(host, port) as listener:
        _warn(host, key)
        retriever.search(["a first query, so that nobody waits for it"], 1)
        app = create_app(retriever, extract=extract, limits=limits, token=key, hosts=allowed_hosts(host, allow_hosts))
        shown = f"[{host}]" if ":" in host else host
        _run(app, listener, limits, f"searching {retriever.gallery}: http://{shown}:{listener.getsockname()[1]}")


def _run(app: FastAPI, listener: socket.socket, limits: Limits, ready: str) -> None:
    """Serve on a socket; SIGTERM ends it as if nothing had been."""
    import uvicorn

    from vtr.serving.connections import Connection

    class Server(uvicorn.Server):
        """Says when it is ready."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            """Begin to answer."""
            await super().startup(sockets)
            say(f"{ready} (Ctrl-C ends)")

    config = uvicorn.Config(
        app,
        http=Connection,
        log_level="warning",
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=math.ceil(limits.stop_seconds),
    )
    before = signal.signal(signal.SIGTERM, _ignore)  # uvicorn raises the signal again once it has stopped
    try:
        Server(config).run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)


def _ignore(number: int, frame: FrameType | None) -> None:
    del number, frame


def _check_installed() -> None:
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UnavailableError(
                f"{error.name} is not installed, serving needs it. Install it with: {INSTALL}"
            ) from error


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host}:{port}: {error.strerror or error}. Choose another --port or --host."
        ) from error


def check_address(host: str, port: int) -> None:
    """Check that an address can be listened on, before much is loaded for it.

    Raises:
        InputError: it cannot be.
    """
    _listen(host, port).close()


def _warn(host: str, token: Token | None) -> None:
    """Say loudly what is unsafe."""
    if host in LOOPBACK:
        return
    if token is None:
        say(
            f"WARNING: everyone who can reach {host} can search this gallery, fetch its videos and send files: there "
            "is no token. Set one with --token or VTR_TOKEN, or listen on 127.0.0.1."
        )
    elif token.is_weak:
        say(f"WARNING: the token is short and can be guessed; {WEAK_CHARACTERS} characters or more are safer.")
