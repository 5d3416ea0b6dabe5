"""One job of benchmarks/serving.py in a process of its own: reads it as JSON from its argument, prints JSON."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

MOST_QUERIES = 200


@dataclass
class Job:
    """What to do.

    Attributes:
        kind: "make", "queries", "bare" or "clients".
        run: the run that is searched; the folder to make one in ("make").
        videos: of the workspace of the run to make, a sixth of which is searched ("make").
        seconds: for how long.
        least: at least so many queries, however long that takes ("clients").
        k: results of each query.
        batch: queries of each call ("bare").
        details: whether moments, shares and snippets are asked for ("bare").
        port, clients: the server, and how many ask it at a time ("clients").
        queries: what is asked.
    """

    kind: str
    run: str = ""
    videos: int = 0
    seconds: float = 5.0
    least: int = 0
    k: int = 24
    batch: int = 1
    details: bool = True
    port: int = 0
    clients: int = 16
    queries: list[str] = field(default_factory=list)


def make(job: Job) -> dict[str, Any]:
    """Make a run to search."""
    from made_run import make_run

    return {"run": str(make_run(Path(job.run), job.videos).root)}


def queries_of(job: Job) -> dict[str, Any]:
    """Return captions of the run's gallery, and what it is."""
    from vtr.retrieval import Retriever

    retriever = Retriever.load(job.run)
    described = set(retriever.part.videos.ids)
    texts = [caption.text for caption in retriever.annotations.captions if caption.video_id in described]
    return {"queries": list(dict.fromkeys(texts))[:MOST_QUERIES], "gallery": retriever.gallery}


def bare(job: Job) -> dict[str, Any]:
    """Time batches of queries in one thread, without a server."""
    from vtr.retrieval import Retriever

    retriever = Retriever.load(job.run)
    texts = itertools.cycle(job.queries)

    def ask(seconds: float, least: int = 0) -> tuple[int, float, float]:
        asked, began, worked = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - began < seconds or asked < least:
            batch = list(itertools.islice(texts, job.batch))
            retriever.search(batch, job.k, details=job.details)
            asked += len(batch)
        return asked, time.perf_counter() - began, time.process_time() - worked

    ask(0.0, len(job.queries))
    asked, seconds, worked = ask(job.seconds)
    return {"queries": asked, "seconds": seconds, "cpu_seconds": worked}


async def clients(job: Job) -> dict[str, Any]:
    """Have clients ask one query after the other; return latencies in seconds, and what was not answered 200."""
    latencies: list[float] = []
    errors: list[str] = []
    texts = itertools.cycle(job.queries)
    end = time.perf_counter() + job.seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", job.port)
        while time.perf_counter() < end or len(latencies) < job.least:
            began = time.perf_counter()
            writer.write(f"GET /search?q={quote(next(texts))}&k={job.k} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            body = await reader.readexactly(int(head.partition("content-length:")[2].split()[0]))
            latencies.append(time.perf_counter() - began)
            if not head.startswith("http/1.1 200"):
                errors.append(f"{head.split(chr(13))[0]}: {body[:200]!r}")
        writer.close()

    began = time.perf_counter()
    for ended in await asyncio.gather(*(client() for _ in range(job.clients)), return_exceptions=True):
        if isinstance(ended, BaseException):
            errors.append(repr(ended))
    return {"latencies": latencies, "errors": errors, "seconds": time.perf_counter() - began}


def main() -> None:
    """Do the job."""
    job = Job(**json.loads(sys.argv[1]))
    if job.kind == "clients":
        answer = asyncio.run(clients(job))
    else:
        with contextlib.redirect_stdout(sys.stderr):
            answer = {"make": make, "queries": queries_of, "bare": bare}[job.kind](job)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
