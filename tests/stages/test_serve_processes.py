"""`vtr serve` over a trained run: the retriever's answers over HTTP, and kill -9 under load with all intact after."""

from __future__ import annotations

import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from captioned_clips import COLOURS, THINGS

sys.path.append(str(Path(__file__).parent.parent / "serving"))

from processes import Server, serving

from vtr.files import sha256_file
from vtr.retrieval import Retriever
from vtr.stages.index import index
from vtr.workspace import Run

QUERIES = [f"a {colour} {thing}" for colour in COLOURS for thing in THINGS]
CLOSE = 1e-6


def command(run: Run, *options: str) -> list[str]:
    return [sys.executable, "-m", "vtr.cli", "serve", str(run.root), "--port", "0", *options]


def answers_of(server: Server) -> list[list[tuple[str, float]]]:
    """Return ids and scores of all queries, asked by sixteen clients."""
    with ThreadPoolExecutor(16) as clients:
        bodies = clients.map(server.search, QUERIES)
        return [[(hit["video_id"], hit["score"]) for hit in body["results"]] for body in bodies]


def assert_same(found: list[list[tuple[str, float]]], expected: list[list[tuple[str, float]]]) -> None:
    """Check ids exactly, and scores to rounding."""
    assert [[name for name, _ in hits] for hits in found] == [[name for name, _ in hits] for hits in expected]
    for hits, others in zip(found, expected, strict=True):
        assert [score for _, score in hits] == pytest.approx([score for _, score in others], abs=CLOSE)


def state(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_file(path) for path in folder.rglob("*") if path.is_file()}


def test_kill_9_under_load_leaves_the_index_as_it_was(run: Run) -> None:
    retriever = Retriever.load(run)  # embeds and indexes
    alone = [[(hit.video_id, hit.score) for hit in retriever.search([query], 10)[0]] for query in QUERIES]
    before = {name: state(folder) for name, folder in (("index", run.index), ("embeddings", run.embeddings))}
    with serving(command(run)) as server:
        assert_same(answers_of(server), alone)
        with ThreadPoolExecutor(16) as clients:
            asked = [clients.submit(server.search, query) for query in QUERIES * 10]
            asked[len(QUERIES)].result()  # the load is on
            server.process.kill()
            broken = [one.exception() for one in asked if one.exception() is not None]
        assert broken
    after = {name: state(folder) for name, folder in (("index", run.index), ("embeddings", run.embeddings))}
    assert after == before
    with serving(command(run)) as server:
        assert_same(answers_of(server), alone)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_it_stops_as_it_is_told(run: Run, number: signal.Signals, status: int) -> None:
    with serving(command(run, "--no-uploads")) as server:
        assert server.get("/gallery")[1]["uploads"] is False
        assert server.stop(number) == status


def test_a_gallery_that_changes_is_taken_up_while_it_is_served(run: Run) -> None:
    with serving(command(run)) as server:
        first = server.get("/health")[1]["generation"]
        index(run, "full", "test", factory="HNSW8")
        while server.get("/health")[1]["generation"] == first:
            pass
        assert server.search(QUERIES[0])["results"]
