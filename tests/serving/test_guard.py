"""Who may ask: hosts, foreign pages, the token; and what every answer says to a browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from vtr.errors import InputError
from vtr.serving.guard import allowed_hosts
from vtr.serving.limits import MIB, bytes_of
from vtr.serving.tokens import COOKIE, Token

SECRET = "a-token-of-some-length-1234"
BEARER = {"Authorization": f"Bearer {SECRET}"}


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("LocalHost:8000", True),
        ("127.0.0.1:9", True),
        ("[::1]:8000", True),
        ("192.168.1.7:8000", True),  # an address cannot be rebound
        ("box.lan", True),
        ("a.example.org:8000", True),
        ("example.org", False),
        ("evil.com", False),
        ("localhost.evil.com", False),
        ("127.0.0.1.evil.com", False),
        ("evil.com:localhost", False),
        ("localhost@evil.com", False),
        ("", False),
        ("[::1", False),
        ("localhost/evil", False),
        ("localhost#", False),
        ("evil.com@localhost", False),
    ],
)
def test_only_allowed_names_are_answered(serve_gallery: Callable[..., Any], host: str, allowed: bool) -> None:
    client = serve_gallery(hosts=allowed_hosts("box.lan", ["*.example.org"]))
    answer = client.get("/health", headers={"Host": host})
    assert answer.status_code == (200 if allowed else 400)
    assert allowed or "--allow-host" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:8000", True),
        ("http://LOCALHOST", True),
        (None, True),
        ("https://evil.com", False),
        ("null", False),
        ("", False),
        ("http://198.51.100.7", False),
        ("http://[2001:db8::1]:80", False),
    ],
)
def test_foreign_pages_cannot_post(client: Any, origin: str | None, allowed: bool) -> None:
    headers = {} if origin is None else {"Origin": origin}
    assert client.post("/session", headers=headers).status_code == (204 if allowed else 400)
    assert client.get("/health", headers=headers).status_code == 200


def test_of_several_names_none_is_believed(client: Any) -> None:
    for hosts in (("evil.com", "localhost"), ("localhost", "evil.com"), ("localhost", "localhost")):
        assert client.get("/health", headers=[("Host", host) for host in hosts]).status_code == 400


def test_a_page_of_an_address_may_post_to_that_address(client: Any) -> None:
    headers = {"Host": "192.168.1.7:8000", "Origin": "http://192.168.1.7:8000"}
    assert client.post("/session", headers=headers).status_code == 204


def test_any_name_where_that_is_wanted(serve_gallery: Callable[..., Any]) -> None:
    client = serve_gallery(hosts=allowed_hosts("0.0.0.0", ["*"]))
    assert client.get("/health", headers={"Host": "anything.example"}).status_code == 200


CLOSED = ("/search?q=a", "/similar/real", "/videos/real", "/thumbnails/real", "/gallery", "/metrics", "/docs")


def test_without_the_token_only_the_page_and_health_are_answered(serve_gallery: Callable[..., Any]) -> None:
    client = serve_gallery(token=Token(SECRET))
    wrong = ({}, {"Authorization": "Bearer wrong"}, {"Authorization": SECRET}, {"Authorization": f"Basic {SECRET}"})
    for path in (*CLOSED, "/openapi.json", "/unknown", "/static", "/session/", "/health/x"):
        for headers in (*wrong, {"Cookie": f"{COOKIE}={SECRET}"}, {"Cookie": f"{COOKIE}=\xe9;;=,".encode("latin-1")}):
            answer = client.get(path, headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer"), path
            assert list(answer.json()) == ["detail"]
    assert client.post("/search/video", files={"file": b"x"}).status_code == 401
    for path in ("/", "/health", "/static/page.js"):
        assert client.get(path).status_code == 200
    for path in CLOSED:
        assert client.get(path, headers=BEARER).status_code == 200


def test_the_token_is_exchanged_for_a_cookie(serve_gallery: Callable[..., Any]) -> None:
    client = serve_gallery(token=Token(SECRET))
    assert client.post("/session", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert client.get("/gallery").status_code == 401
    answer = client.post("/session", headers=BEARER)
    assert answer.status_code == 204
    said = answer.headers["set-cookie"].lower()
    assert "httponly" in said
    assert "samesite=strict" in said
    assert SECRET not in said
    assert client.get("/gallery").status_code == 200  # the client keeps cookies
    client.cookies.clear()
    assert client.get("/gallery").status_code == 401


@pytest.mark.parametrize("secret", ["", "two words", "schlüssel", "tab\t"])
def test_what_no_header_can_carry_is_no_token(secret: str) -> None:
    with pytest.raises(InputError, match="token"):
        Token(secret)


def test_every_answer_carries_the_headers(client: Any) -> None:
    for path in ("/", "/search?q=a", "/search", "/unknown", "/videos/real", "/static/page.css", "/metrics"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert client.get("/search?q=a").headers["cache-control"] == "no-store"
    assert client.get("/videos/real").headers["cache-control"].startswith("private")


@pytest.mark.parametrize(
    ("text", "size"),
    [("200MiB", 200 * MIB), ("1.5 gib", 1536 * MIB), ("4096", 4096), ("1KiB", 1024)],
)
def test_sizes(text: str, size: int) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1MiB", "5 MB", "lots", "0.1", "1e9"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InputError, match="is no size"):
        bytes_of(text)
