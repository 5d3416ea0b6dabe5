"""The API over a made-up gallery: answers, bounds, filters, files, thumbnails, pages, metrics."""

from __future__ import annotations

import io
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
from fake_gallery import SCRIPT, FakeRetriever, score_of
from PIL import Image
from small_clips import MP4

from vtr import __version__
from vtr.retrieval import Filters
from vtr.serving.limits import MOST_RESULTS


def test_a_search_answers_all_that_is_known_of_a_hit(client: Any, gallery: FakeRetriever) -> None:
    body = client.get("/search", params={"q": "a dog", "k": 3}).json()
    best = sorted(gallery.paths, key=lambda name: -score_of("a dog", name))[:3]
    assert [hit["video_id"] for hit in body["results"]] == best
    assert [hit["score"] for hit in body["results"]] == [score_of("a dog", name) for name in best]
    about = (body["query"], body["gallery"], body["order"])
    assert about == ("a dog", "full test: 5 of 7", "QB-Norm")
    first = body["results"][0]
    del first["score"], first["video_id"], first["has_file"]
    assert first == {
        "rank": 1,
        "caption": SCRIPT,
        "snippet": {"text": "hello", "expert": "speech", "start_seconds": 1.5},
        "moment": {"start_seconds": 1.5, "end_seconds": 3.0},
        "shares": {"appearance": 0.25, "speech": -0.05},
        "category": "music",
        "duration_seconds": 12.5,
        "has_speech": True,
    }


def test_where_files_lie_is_not_told(client: Any) -> None:
    answer = client.get("/search", params={"q": "a dog"})
    known = {hit["video_id"]: hit["has_file"] for hit in answer.json()["results"]}
    assert (known["real"], known["remote"], known["none"]) == (True, False, False)
    assert ".mp4" not in answer.text


def test_filters_and_k_reach_the_retriever(client: Any, gallery: FakeRetriever) -> None:
    filters = {"category": "music", "min_seconds": 1, "max_seconds": 9.5, "has_speech": "false"}
    wanted = (7, Filters("music", 1.0, 9.5, False))
    assert client.get("/search", params={"q": "a", "k": 7, **filters}).status_code == 200
    assert gallery.asked.pop() == wanted
    assert client.get("/similar/real", params={"k": 7, **filters}).status_code == 200
    assert gallery.asked.pop() == wanted


def test_similar_answers_the_others(client: Any) -> None:
    body = client.get("/similar/sub%2Fclip%201", params={"k": 100}).json()
    assert body["query"] == "sub/clip 1"
    assert "sub/clip 1" not in [hit["video_id"] for hit in body["results"]]
    assert [hit["rank"] for hit in body["results"]] == list(range(1, len(body["results"]) + 1))
    missing = client.get("/similar/unknown")
    assert (missing.status_code, missing.json()) == (404, {"detail": "the gallery has no video 'unknown'."})
    filtered = client.get("/similar/real", params={"category": "unheard of"})
    assert (filtered.status_code, filtered.json()) == (400, {"detail": "the gallery has no category 'unheard of'."})


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ({"q": " "}, 400, "the query is empty"),
        ({}, 422, "q: Field required"),
        ({"q": "a", "k": 0}, 422, "k: "),
        ({"q": "a", "k": MOST_RESULTS + 1}, 422, "k: "),
        ({"q": "a", "k": "many"}, 422, "k: "),
        ({"q": "a" * 2001}, 422, "q: "),
        ({"q": "a", "min_seconds": "nan"}, 422, "min_seconds: "),
        ({"q": "a", "max_seconds": "inf"}, 422, "max_seconds: "),
        ({"q": "a", "min_seconds": 3, "max_seconds": 2}, 400, "min_seconds 3 is above max_seconds 2"),
        ({"q": "a", "has_speech": "perhaps"}, 422, "has_speech: "),
    ],
)
def test_bad_queries_are_refused_in_a_sentence(client: Any, query: dict[str, Any], status: int, said: str) -> None:
    answer = client.get("/search", params=query)
    assert answer.status_code == status
    assert list(answer.json()) == ["detail"]
    assert answer.json()["detail"].startswith(said)


def test_a_defect_is_a_500_that_says_nothing_of_the_inside(serve_gallery: Callable[..., Any]) -> None:
    client = serve_gallery(raise_server_exceptions=False)
    answer = client.get("/search", params={"q": "fail"})
    assert answer.status_code == 500
    assert "defect" not in answer.text
    assert client.get("/search", params={"q": "a"}).status_code == 200


def test_a_video_is_sent_whole_in_ranges_and_by_head(client: Any) -> None:
    whole = client.get("/videos/sub/clip%201")
    assert (whole.status_code, whole.content) == (200, MP4)
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["x-content-type-options"] == "nosniff"
    part = client.get("/videos/sub%2Fclip%201", headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, MP4[100:200])
    assert part.headers["content-range"] == f"bytes 100-199/{len(MP4)}"
    end = client.get("/videos/sub/clip%201", headers={"Range": "bytes=-5"})
    assert end.content == MP4[-5:]
    head = client.head("/videos/sub/clip%201")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(MP4)))
    assert client.get("/videos/sub/clip%201", headers={"Range": "bytes=99999999-"}).status_code == 416
    assert client.get("/videos/good link").content == MP4


@pytest.mark.parametrize(
    "name",
    [
        "gone",
        "remote",
        "none",
        "unknown",
        "link",  # has become a link to a file that is no video
        "pipe",  # reading it would never end
        "folder",
        "odd%00name",
        "real%00.mp4",
        "real.mp4",
        "secret.txt",
        "../secret.txt",
        "..%2F..%2F..%2Fetc%2Fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "..%252F..%252Fetc%252Fpasswd",
        "..%5C..%5Csecret.txt",
        "%2Fetc%2Fpasswd",
        "/etc/passwd",
        "file:///etc/passwd",
        "sub/../sub/clip%201/../../secret.txt",
        "real/",
        "%FF%FE",
        "a" * 5000,
        "",
    ],
)
@pytest.mark.parametrize("route", ["videos", "thumbnails"])
def test_nothing_but_the_gallerys_files_is_sent(client: Any, route: str, name: str) -> None:
    answer = client.get(f"/{route}/{name}")
    assert answer.status_code == 404
    assert list(answer.json()) == ["detail"]
    if route == "videos":
        assert client.head(f"/videos/{name}").status_code == 404


@pytest.mark.parametrize("path", ["../app.py", "%2e%2e/app.py", "..%2fapp.py", "/etc/passwd", "%00"])
def test_the_pages_folder_gives_nothing_else(client: Any, path: str) -> None:
    assert client.get(f"/static/{path}").status_code == 404


def test_the_pages_files_are_kept_and_asked_for_again(client: Any) -> None:
    first = client.get("/static/page.js")
    assert first.headers["cache-control"] == "no-cache"
    again = client.get("/static/page.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["cache-control"]) == (304, b"", "no-cache")
    for path in ("/", "/health"):
        assert client.head(path).status_code == 200


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_thumbnail_is_as_the_phone_was_held(
    client: Any, gallery: FakeRetriever, tmp_path: Path, degrees: int
) -> None:
    ffmpeg = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y"]
    flat, turned, frame = tmp_path / "flat.mp4", tmp_path / "turned.mp4", tmp_path / "frame.png"
    made = ["-f", "lavfi", "-i", "testsrc=s=320x192:r=5:d=2", "-c:v", "mpeg4", "-q:v", "2", str(flat)]
    subprocess.run([*ffmpeg, *made], check=True)
    rotate = ["-display_rotation", str(degrees), "-i", str(flat), "-c", "copy", str(turned)]
    subprocess.run([*ffmpeg, *rotate], check=True)
    subprocess.run([*ffmpeg, "-i", str(turned), "-frames:v", "1", str(frame)], check=True)  # ffmpeg turns it itself
    gallery.paths["real"] = str(turned)
    found = Image.open(io.BytesIO(client.get("/thumbnails/real", params={"at": 0}).content))
    expected = Image.open(frame).convert("RGB").resize(found.size)
    assert found.size == ((320, 192) if degrees == 180 else (320, 533))
    assert np.abs(np.asarray(found, np.float32) - np.asarray(expected, np.float32)).mean() < 12


def test_a_thumbnail_is_of_the_moment(client: Any) -> None:
    shades = {}
    for at in (0, 3.5, 7.5, 1000):
        answer = client.get("/thumbnails/real", params={"at": at})
        assert answer.headers["content-type"] == "image/jpeg"
        picture = Image.open(io.BytesIO(answer.content))
        assert picture.size == (320, 213)
        shades[at] = float(np.asarray(picture.convert("L")).mean())
    assert shades == pytest.approx({0: 20, 3.5: 80, 7.5: 160, 1000: 160}, abs=5)
    assert client.get("/thumbnails/real").status_code == 200
    assert client.get("/thumbnails/real", params={"at": -1}).status_code == 422
    assert client.get("/thumbnails/sub/clip%201").status_code == 404  # it begins like a video, and is none


def test_thumbnails_are_kept_until_the_file_changes(client: Any, gallery: FakeRetriever) -> None:
    first = client.get("/thumbnails/real", params={"at": 2}).content
    assert client.get("/thumbnails/real", params={"at": 2}).content == first
    made = 'vtr_thumbnails_total{source="made"} 1.0'
    assert made in client.get("/metrics").text
    assert 'vtr_thumbnails_total{source="cache"} 1.0' in client.get("/metrics").text
    with Path(str(gallery.paths["real"])).open("ab") as stream:
        stream.write(b"\0")
    client.get("/thumbnails/real", params={"at": 2})
    assert made not in client.get("/metrics").text


def test_what_is_served(client: Any) -> None:
    assert client.get("/gallery").json() == {
        "gallery": "full test: 5 of 7",
        "videos": 10,
        "captions": 1,
        "order": "QB-Norm",
        "experts": ["appearance", "speech"],
        "categories": [{"name": "music", "videos": 2}, {"name": "sports", "videos": 1}],
        "has_durations": True,
        "has_speech": True,
        "finds": "Finds what is seen & heard.",
        "uploads": True,
        "max_upload_bytes": 200 << 20,
        "generation": "1",
    }
    assert client.get("/health").json() == {
        "status": "ok",
        "gallery": "full test: 5 of 7",
        "videos": 10,
        "captions": 1,
        "generation": "1",
        "version": __version__,
    }


def test_metrics_count_by_route_and_not_by_path(client: Any) -> None:
    for _ in range(3):
        client.get("/search", params={"q": "a"})
    client.get("/videos/gone")
    client.get("/nothing/here")
    client.get("/static/page.css")
    text = client.get("/metrics").text
    for line in (
        'vtr_requests_total{route="/search",status="200"} 3.0',
        'vtr_requests_total{route="/videos/{video_id}",status="404"} 1.0',
        'vtr_requests_total{route="other",status="404"} 1.0',
        'vtr_requests_total{route="/static",status="200"} 1.0',
        'vtr_request_seconds_count{route="/search"} 3.0',
        "vtr_batch_size_count 3.0",
        "vtr_queue_length 0.0",
        "vtr_gallery_videos 10.0",
        "vtr_gallery_captions 1.0",
        f'vtr_gallery_info{{generation="1",version="{__version__}"}} 1.0',
    ):
        assert line in text.splitlines()
    assert "process_resident_memory_bytes" in text


def test_pages_load_from_here_only(client: Any) -> None:
    for path in ("/", "/docs"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert not re.search(r"(?:src|href)=\"?(?:https?:)?//|<style|<script>|style=|\son\w+=", answer.text)
        for name in re.findall(r'(?:src|href)="(/?static/[^"]+)"', answer.text):
            assert client.get(f"/{name.lstrip('/')}").status_code == 200


def test_the_docs_show_every_route_and_parameter(client: Any) -> None:
    text = client.get("/docs").text
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) >= {"/search", "/search/video", "/similar/{video_id}", "/videos/{video_id}"}
    for path, methods in described["paths"].items():
        assert path in text
        for operation in methods.values():
            for parameter in operation.get("parameters", []):
                assert f"<code>{parameter['name']}</code>" in text
    assert "at most 100" in text
    assert "at most 2000 characters" in text
