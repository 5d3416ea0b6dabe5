"""Uploads: what is taken, what is refused, and that nothing is left of either."""

from __future__ import annotations

import asyncio
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_gallery import FakeRetriever, extract, score_of, word_of
from loops_apart import run_alone
from small_clips import MP4, write_clip

from vtr.serving.batching import SlowError
from vtr.serving.containers import type_of, type_of_file
from vtr.serving.extraction import Extraction
from vtr.serving.limits import Limits
from vtr.serving.uploads import PREFIX, private_folder

SMALL = Limits(most_upload_bytes=20_000, upload_seconds=30)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of one's own, which is empty again after each test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder


def left_in(folder: Path) -> list[str]:
    """Return the files that lie in the server's folder."""
    return [path.name for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]


def send(client: Any, content: bytes, name: str = "my clip.mp4", **params: Any) -> Any:
    return client.post("/search/video", params=params, files={"file": (name, content)})


def test_a_video_finds_videos_and_captions(client: Any, gallery: FakeRetriever, tmp_path: Path, folder: Path) -> None:
    (tmp_path / "whole.mp4").write_bytes(MP4)
    word = word_of(extract(tmp_path / "whole.mp4"))  # it depends on how many bytes arrive
    body = send(client, MP4, k=3).json()
    best = sorted(gallery.paths, key=lambda name: -score_of(word, name))
    assert [hit["video_id"] for hit in body["results"]] == best[:3]
    assert (body["query"], body["order"]) == ("my clip.mp4", "score")
    captions = send(client, MP4, answers="captions").json()
    assert [hit["video_id"] for hit in captions["results"]] == best[:1]
    assert left_in(folder) == []
    assert 'vtr_uploads_total{outcome="answered"} 2.0' in client.get("/metrics").text


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"", 415, "my clip.mp4 is no video of a known kind"),
        (b"#EXTM3U\n/etc/passwd\n", 415, "is no video"),
        (b"\x1a\x45\xdf\xa3 <MPD profiles='urn:mpeg:dash:profile:isoff-live'>", 415, "is no video"),
        (b"MZ" + bytes(100), 415, "is no video"),
        (MP4 + b"BROKEN", 415, "my clip.mp4 cannot be read as a video (it is damaged)."),
        (MP4 + b"KILL", 415, "reading it ended the process"),
        (MP4 + b"UNABLE", 503, "no expert is installed."),
        (MP4 + bytes(20_000), 413, "the file is larger than 0.0 MiB"),
    ],
)
def test_what_cannot_be_searched_with_is_refused(
    serve_gallery: Callable[..., Any], folder: Path, content: bytes, status: int, said: str
) -> None:
    client = serve_gallery(limits=SMALL)
    answer = send(client, content)
    assert (answer.status_code, list(answer.json())) == (status, ["detail"])
    assert said in answer.json()["detail"]
    assert str(folder) not in answer.text
    assert left_in(folder) == []
    assert send(client, MP4).status_code == 200  # the next one is read


def test_a_file_that_hangs_is_given_up_with_the_process_that_reads_it(tmp_path: Path) -> None:
    good, hanging = tmp_path / "good.mp4", tmp_path / "hanging.mp4"
    good.write_bytes(MP4)
    hanging.write_bytes(MP4 + b"HANG")

    async def main() -> None:
        extraction = Extraction(extract, 120)
        try:
            await extraction.features(good)
            (process,) = multiprocessing.active_children()
            extraction.timeout_seconds = 0.3
            with pytest.raises(SlowError, match=r"took longer than 0\.3 seconds"):
                await extraction.features(hanging)
            assert process not in multiprocessing.active_children()
            extraction.timeout_seconds = 120
            found = await extraction.features(good)
            assert {name: one.values.tolist() for name, one in found.items()} == {"appearance": [[len(MP4)] * 3] * 2}
            cancelled = asyncio.create_task(extraction.features(hanging))
            while not extraction.busy:
                await asyncio.sleep(0)
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            assert multiprocessing.active_children() == []
        finally:
            await extraction.close()

    run_alone(main())


def test_a_slow_upload_is_a_504(serve_gallery: Callable[..., Any], folder: Path) -> None:
    client = serve_gallery(limits=Limits(upload_seconds=1))
    answer = send(client, MP4 + b"HANG")
    assert (answer.status_code, answer.json()["detail"]) == (504, "reading the video took longer than 1 seconds.")
    assert left_in(folder) == []


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("multipart/form-data", b"x", 415),
        ("multipart/form-data; boundary=" + "b" * 500, b"x", 422),
        ("multipart/form-data; boundary=b", b"", 422),
        ("multipart/form-data; boundary=b", b"no form at all", 422),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--b--',
            422,
        ),
        ("multipart/form-data; boundary=b", b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nhalf', 422),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n1\r\n'
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n2\r\n--b--',
            422,
        ),
        ("multipart/form-data; boundary=b", b"--b\r\n" + b"X: y\r\n" * 100 + b"\r\nx\r\n--b--", 422),
    ],
)
def test_what_is_no_form_is_refused(client: Any, folder: Path, kind: str, body: bytes, status: int) -> None:
    answer = client.post("/search/video", content=body, headers={"Content-Type": kind})
    assert (answer.status_code, list(answer.json())) == (status, ["detail"])
    assert left_in(folder) == []


def test_a_name_is_only_a_name(client: Any) -> None:
    assert send(client, MP4, "../../etc/cron.d/a.mp4").json()["query"] == "a.mp4"
    assert send(client, MP4, "C:\\videos\\b.mp4").json()["query"] == "b.mp4"


def test_without_uploads_none_is_taken(serve_gallery: Callable[..., Any], folder: Path) -> None:
    client = serve_gallery(extract=None)
    assert send(client, MP4).status_code == 404
    assert client.get("/gallery").json()["uploads"] is False
    assert list(folder.iterdir()) == []


def test_captions_of_a_gallery_without_any(client: Any, gallery: FakeRetriever) -> None:
    gallery.num_captions = 0
    answer = send(client, MP4, answers="captions")
    assert (answer.status_code, "has no captions" in answer.json()["detail"]) == (400, True)


def test_the_folder_is_private_and_goes_with_the_server(folder: Path) -> None:
    dead = folder / f"{PREFIX}dead"
    dead.mkdir()
    (dead / ".lock").write_text("1")
    (dead / "upload").write_bytes(b"left by a server that was killed")
    with private_folder() as mine:
        assert mine.stat().st_mode & 0o077 == 0
        assert not dead.exists()
        with private_folder() as other:
            assert mine.is_dir()  # another server's, which runs
        assert not other.exists()
    assert list(folder.iterdir()) == []


def test_types_are_told_by_content(tmp_path: Path) -> None:
    for suffix, kind in {
        "mp4": "video/mp4",
        "mov": "video/quicktime",
        "mkv": "video/x-matroska",
        "avi": "video/x-msvideo",
        "ts": "video/mp2t",
        "3gp": "video/3gpp",
        "mpg": "video/mpeg",
    }.items():
        path = tmp_path / f"clip.{suffix}"
        write_clip(path, rate=25)
        assert type_of_file(path.rename(tmp_path / "unnamed")) == kind
    for head in (
        b"",
        b"\0" * 500,
        b"G" * 100,
        b"<html>",
        b"\x89PNG\r\n\x1a\n",
        b"PK\x03\x04",
        b"\x7fELF",
        b"#!/bin/sh",
    ):
        assert type_of(head) is None
