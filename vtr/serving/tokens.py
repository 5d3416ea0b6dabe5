"""The optional token: whoever holds it may ask. The page holds it as a cookie that scripts cannot read."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie

from vtr.errors import InputError

COOKIE = "vtr_session"
WEAK_CHARACTERS = 16
"""A token shorter than this can be guessed."""


class Token:
    """Compares in constant time. The cookie's value is made from the token, which it does not give away.

    Args:
        secret: the token.

    Raises:
        InputError: it is empty, or has characters that a header cannot carry.
    """

    def __init__(self, secret: str) -> None:
        if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
            raise InputError(
                "the token is empty, or has spaces or characters beyond ASCII. Make one with: "
                "python -c 'import secrets; print(secrets.token_urlsafe())'"
            )
        self._secret = _digest(secret.encode())
        self.cookie = hmac.new(secret.encode(), b"vtr session", hashlib.sha256).hexdigest()
        self.is_weak = len(secret) < WEAK_CHARACTERS

    def is_held(self, headers: Mapping[bytes, bytes]) -> bool:
        """Return whether a request holds the token, in its Authorization header or as the cookie."""
        return self.is_sent(headers) or hmac.compare_digest(_digest(_cookie(headers)), _digest(self.cookie.encode()))

    def is_sent(self, headers: Mapping[bytes, bytes]) -> bool:
        """Return whether a request's Authorization header holds the token."""
        scheme, _, said = headers.get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(_digest(said.strip()), self._secret)


def _digest(value: bytes) -> bytes:
    return hashlib.sha256(value).digest()  # of one length, whatever was sent


def _cookie(headers: Mapping[bytes, bytes]) -> bytes:
    try:
        found = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1")).get(COOKIE)
    except CookieError:
        return b""
    return b"" if found is None else found.value.encode("latin-1", "replace")
