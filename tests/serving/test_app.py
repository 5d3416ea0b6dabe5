"""The HTTP API and the page over a gallery of five videos, one with a file, with an untrained model."""

from __future__ import annotations

import html.parser
import socket
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from vtr.config import MMTConfig, TextConfig, TrainConfig
from vtr.coverage import Coverage
from vtr.embeddings import EmbeddedPart
from vtr.errors import InputError, UnavailableError
from vtr.index.build import build_index
from vtr.index.search import RetrievalIndex
from vtr.models.mmt import MMT
from vtr.retrieval import Retriever
from vtr.retrieval import retriever as retriever_module
from vtr.serving.app import MOST_RESULTS, create_app, serve
from vtr.types import Annotations, Caption, TextBatch, TextEmbeddings, Video, VideoEmbeddings

IDS = ("sub/clip 1", "clip2", "clip3", "clip4", "clip5")
BYTES = bytes(range(256)) * 40


class Hashed:
    """Stands in for TextInput: a text's state is drawn from its characters, so no text model is needed."""

    def __init__(self, config: TextConfig) -> None:
        self.config = config

    def batch(self, ids: list[str], texts: list[str]) -> TextBatch:
        states = [torch.randn(6, generator=torch.Generator().manual_seed(sum(map(ord, t)))) for t in texts]
        return TextBatch(tuple(ids), states=torch.stack(states))


@pytest.fixture
def retriever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Retriever:
    monkeypatch.setattr(retriever_module, "TextInput", Hashed)
    config = TrainConfig(model=MMTConfig(dim=8, layers=1, heads=1, feed_forward=8))
    torch.manual_seed(0)
    model = MMT(config.model, {"appearance": 4, "ocr": 3}, 6).eval()
    part = EmbeddedPart(
        ("appearance", "ocr"),
        VideoEmbeddings(IDS, normalize(torch.randn(5, 2, 8), dim=-1), torch.ones(5, 2)),
        TextEmbeddings(("clip2#0",), normalize(torch.randn(1, 2, 8), dim=-1), torch.full((1, 2), 0.5)),
        ("a <b>dog</b>",),
        np.asarray([1]),
        Coverage("full", "test", 5, 7),
    )
    build_index(tmp_path / "index", part, embed_output="x")
    (tmp_path / "clip.mp4").write_bytes(BYTES)
    videos = (Video(IDS[0], str(tmp_path / "clip.mp4")), Video(IDS[1], str(tmp_path / "gone.mp4")))
    others = tuple(Video(name) for name in IDS[2:])
    secret = Video("not in the gallery", str(tmp_path / "clip.mp4"))
    annotations = Annotations((*videos, *others, secret), (Caption("clip2#0", "clip2", "a <b>dog</b>"),))
    index = RetrievalIndex.open(tmp_path / "index", part, embed_output="x")
    return Retriever(model, config, index, annotations)


@pytest.fixture
def client(retriever: Retriever) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # starlette's own, about which httpx it wants
        from starlette.testclient import TestClient
    return TestClient(create_app(retriever))


def test_search_answers_what_the_retriever_answers(client: Any, retriever: Retriever) -> None:
    body = client.get("/api/search", params={"q": "a dog", "top": 3}).json()
    hits = retriever.search(["a dog"], 3)[0]
    assert [hit["video_id"] for hit in body["results"]] == [hit.video_id for hit in hits]
    assert [hit["score"] for hit in body["results"]] == pytest.approx([hit.score for hit in hits])
    assert body["gallery"] == "full test: 5 of 7"
    everything = client.get("/api/search", params={"q": "a dog", "top": 50}).json()["results"]
    known = {hit["video_id"]: (hit["has_file"], hit["caption"]) for hit in everything}
    assert set(known) == set(IDS)
    assert known["clip2"] == (True, "a <b>dog</b>")
    assert known["clip3"] == (False, None)
    assert all("path" not in hit for hit in everything)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"q": " "}, 400),
        ({}, 422),
        ({"q": "a", "top": 0}, 422),
        ({"q": "a", "top": MOST_RESULTS + 1}, 422),
        ({"q": "a" * 3000}, 422),
    ],
)
def test_bad_queries_are_refused(client: Any, query: dict[str, Any], status: int) -> None:
    assert client.get("/api/search", params=query).status_code == status


def test_a_video_is_streamed_whole_and_in_ranges(client: Any) -> None:
    whole = client.get("/api/videos/sub/clip%201")
    assert (whole.status_code, whole.content) == (200, BYTES)
    assert whole.headers["content-type"] == "video/mp4"
    part = client.get("/api/videos/sub/clip%201", headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, BYTES[100:200])


@pytest.mark.parametrize(
    "name",
    [
        "clip2",  # its file is gone
        "clip3",  # it never had one
        "not in the gallery",
        "clip.mp4",
        "../clip.mp4",
        "..%2F..%2F..%2Fetc%2Fpasswd",
        "%2Fetc%2Fpasswd",
        "",
    ],
)
def test_nothing_but_the_gallerys_files_is_served(client: Any, name: str) -> None:
    assert client.get(f"/api/videos/{name}").status_code == 404


def test_health(client: Any) -> None:
    assert client.get("/healthz").json() == {"status": "ok", "gallery": "full test: 5 of 7", "videos": 5}


class Page(html.parser.HTMLParser):
    """Collects what a page loads and which inputs have labels."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.labelled: set[str] = set()
        self.inputs: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.loads += [str(value) for name, value in attrs if name in ("src", "href", "action", "data")]
        if tag == "label":
            self.labelled.add(str(found.get("for")))
        if tag == "input":
            self.inputs.add(str(found.get("id")))


def test_the_page_loads_nothing_and_labels_its_input(client: Any) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    page = Page()
    page.feed(answer.text)
    assert page.loads == []
    assert "http" not in answer.text
    assert page.inputs <= page.labelled
    assert "innerHTML" not in answer.text  # captions are set as text, never as markup


def test_without_the_extra_the_message_says_how_to_get_it(
    retriever: Retriever, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(UnavailableError, match=r"fastapi is not installed.*'\.\[serve\]'"):
        create_app(retriever)


def test_an_address_in_use_is_named(retriever: Retriever) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"cannot listen on 127\.0\.0\.1:{port}.*--port"):
            serve(retriever, port=port)


def test_empty_query(retriever: Retriever) -> None:
    with pytest.raises(InputError, match="the query is empty"):
        retriever.search(["a dog", "  "], 1)


def test_several_queries_rank_as_each_alone(retriever: Retriever) -> None:
    both = retriever.search(["a dog", "the sea"], 5)
    for query, hits in zip(("a dog", "the sea"), both, strict=True):
        alone = retriever.search([query], 5)[0]
        assert [hit.video_id for hit in alone] == [hit.video_id for hit in hits]
