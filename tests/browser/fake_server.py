"""The HTTP API of `vtr serve` over a handful of clips, without a model: what the page is developed and tested against.

It answers by words that a query and a caption share; the real server is in `vtr/serving`. What the page does with
refusals is tested by answers that the browser makes up, so this server refuses only what it has to.
"""

from __future__ import annotations

import json
import mimetypes
import re
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import imageio_ffmpeg

STATIC = Path(__file__).parents[2] / "vtr" / "serving" / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
EXPERTS = ("appearance", "motion", "audio", "speech", "ocr")
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Clip:
    """A video of the gallery.

    Attributes:
        moment: start and end of the stretch that is answered as the best, in seconds.
        spoken: what is said at the beginning of the moment.
    """

    video_id: str
    path: Path | None
    caption: str | None
    category: str | None = None
    seconds: float | None = None
    moment: tuple[float, float] | None = None
    spoken: str | None = None


class FakeServer:
    """Serves clips until it is closed.

    Args:
        facts: replaces parts of what `/gallery` answers.
        token: what a session has to begin with; None asks for none.
        port: 0 takes a free one.
    """

    def __init__(
        self, clips: Sequence[Clip], *, facts: Facts | None = None, token: str | None = None, port: int = 0
    ) -> None:
        self.clips, self.token, self.facts = clips, token, dict(facts or {})
        handler = type("Handler", (_Handler,), {"site": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/"

    def close(self) -> None:
        """Stop serving; the port is free then."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def gallery(self) -> dict[str, Any]:
        """Return what `/gallery` answers."""
        categories = sorted({clip.category for clip in self.clips if clip.category})
        counts = [{"name": name, "videos": sum(clip.category == name for clip in self.clips)} for name in categories]
        return {
            "gallery": f"made-up clips: {len(self.clips)} of {len(self.clips)}",
            "videos": len(self.clips),
            "captions": sum(clip.caption is not None for clip in self.clips),
            "order": "score",
            "experts": list(EXPERTS),
            "categories": counts,
            "has_durations": any(clip.seconds for clip in self.clips),
            "has_speech": any(clip.spoken for clip in self.clips),
            "finds": "Finds what is seen, moves, sounds, is said or is written in a video.",
            "uploads": True,
            "max_upload_bytes": 200 * 2**20,
            "generation": "1",
        } | self.facts

    def answer(self, words: str, limit: int, filters: Facts, *, without: str | None = None) -> list[dict[str, Any]]:
        """Return hits as `/search` answers them."""
        kept = [clip for clip in self.clips if clip.video_id != without and _passes(clip, filters)]
        asked = set(re.findall(r"\w+", words.lower()))
        scores = {clip.video_id: _score(clip, asked) for clip in kept}
        kept.sort(key=lambda clip: -scores[clip.video_id])
        return [_hit(clip, rank, scores[clip.video_id]) for rank, clip in enumerate(kept[:limit], 1)]


def _score(clip: Clip, asked: set[str]) -> float:
    known = set(re.findall(r"\w+", f"{clip.caption or ''} {clip.spoken or ''}".lower()))
    return 0.1 + 0.6 * len(asked & known) / max(1, len(asked)) - 0.001 * len(known)


def _passes(clip: Clip, filters: Facts) -> bool:
    seconds = clip.seconds
    shortest, longest = filters.get("min_seconds"), filters.get("max_seconds")
    return (
        filters.get("category") in (None, clip.category)
        and (shortest is None or (seconds is not None and seconds >= float(shortest)))
        and (longest is None or (seconds is not None and seconds <= float(longest)))
        and filters.get("has_speech") in (None, str(clip.spoken is not None).lower())
    )


def _hit(clip: Clip, rank: int, score: float) -> dict[str, Any]:
    turn = sum(map(ord, clip.video_id)) % 3
    weights = [(0.5, 0.45, 0.1, 0.0, -0.05), (0.3, 0.2, 0.2, 0.35, -0.05), (0.75, 0.1, 0.02, 0.0, 0.13)][turn]
    start = clip.moment[0] if clip.moment else None
    return {
        "rank": rank,
        "score": score,
        "video_id": clip.video_id,
        "has_file": clip.path is not None,
        "caption": clip.caption,
        "snippet": {"text": clip.spoken, "expert": "speech", "start_seconds": start} if clip.spoken else None,
        "moment": {"start_seconds": clip.moment[0], "end_seconds": clip.moment[1]} if clip.moment else None,
        "shares": {expert: score * weight for expert, weight in zip(EXPERTS, weights, strict=True)},
        "category": clip.category,
        "duration_seconds": clip.seconds,
        "has_speech": clip.spoken is not None,
    }


class _Handler(BaseHTTPRequestHandler):
    site: FakeServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        if path == "/":
            return self._file(STATIC / "page.html")
        if path.startswith("/static/"):
            return self._file(STATIC / Path(path).name)
        if self.site.token is not None and f"vtr={self.site.token}" not in self.headers.get("Cookie", ""):
            return self._json(401, {"detail": "A token is needed: send Authorization: Bearer TOKEN."})
        limit = int(query.pop("k", "24"))
        words = query.pop("q", "")
        answers: list[tuple[str, Callable[[str], None]]] = [
            ("/gallery", lambda _: self._json(200, self.site.gallery())),
            ("/search", lambda _: self._found(words, self.site.answer(words, limit, query))),
            ("/similar/", lambda name: self._similar(name, limit, query)),
            ("/videos/", lambda name: self._file(self._clip(name).path if self._clip(name) else None)),
            ("/thumbnails/", lambda name: self._thumbnail(name, query.get("at", "0"))),
        ]
        for prefix, answer in answers:
            if path.startswith(prefix):
                return answer(path.removeprefix(prefix))
        return self._json(404, {"detail": f"There is nothing at {path}."})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        address = urlsplit(self.path)
        if address.path == "/session":
            right = self.headers.get("Authorization") == f"Bearer {self.site.token}"
            cookie = {"Set-Cookie": f"vtr={self.site.token}; HttpOnly; SameSite=Strict; Path=/"} if right else {}
            return self._json(200 if right else 401, {"detail": "This is not the token."}, cookie)
        name = re.search(rb'filename="([^"]*)"', body)
        content = body.partition(b"\r\n\r\n")[2]
        if name is None or not content.startswith(b"\x1a\x45\xdf\xa3"):
            return self._json(415, {"detail": "This file is not a video that can be decoded."})
        captions = parse_qs(address.query).get("answers") == ["captions"]
        hits = [hit for hit in self.site.answer("", 24, {}) if hit["caption"] or not captions]
        return self._found(name[1].decode(), hits[: 3 if captions else None])

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
        del format, args

    def _clip(self, name: str) -> Clip | None:
        return next((clip for clip in self.site.clips if clip.video_id == name), None)

    def _similar(self, name: str, limit: int, filters: Facts) -> None:
        clip = self._clip(name)
        if clip is None:
            return self._json(404, {"detail": f"The gallery has no video '{name}'."})
        return self._found(name, self.site.answer(clip.caption or "", limit, filters, without=name))

    def _found(self, query: str, hits: list[dict[str, Any]]) -> None:
        gallery = self.site.gallery()
        answer = {"query": query, "gallery": gallery["gallery"], "order": gallery["order"], "results": hits}
        self._json(200, answer)

    def _thumbnail(self, name: str, seconds: str) -> None:
        clip = self._clip(name)
        if clip is None or clip.path is None:
            return self._json(404, {"detail": f"There is no picture of '{name}'."})
        command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-ss", seconds, "-i", str(clip.path)]
        command += ["-frames:v", "1", "-vf", "scale=320:-2", "-f", "mjpeg", "-"]
        made = subprocess.run(command, capture_output=True, check=False).stdout
        return self._send(200 if made else 404, made, "image/jpeg")

    def _file(self, path: Path | None) -> None:
        if path is None or not path.is_file():
            return self._json(404, {"detail": "There is no such file."})
        content = path.read_bytes()
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if part is None:
            return self._send(200, content, kind, {"Accept-Ranges": "bytes"})
        start, end = int(part[1]), min(int(part[2] or len(content)), len(content) - 1)
        where = {"Content-Range": f"bytes {start}-{end}/{len(content)}", "Accept-Ranges": "bytes"}
        return self._send(206, content[start : end + 1], kind, where)

    def _json(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, json.dumps(body).encode(), "application/json", headers)

    def _send(self, status: int, content: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        fixed = {"Content-Type": kind, "Content-Length": str(len(content)), "Content-Security-Policy": POLICY}
        try:
            self.send_response(status)
            for name, value in {**fixed, "X-Content-Type-Options": "nosniff", **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # a browser hangs up on a video it no longer plays
