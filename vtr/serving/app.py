"""Search over HTTP: the application, put together. Needs the [serve] extra; `vtr.serving.server` runs it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

from vtr import __version__
from vtr.errors import InputError, VtrError
from vtr.progress import say
from vtr.retrieval import Filters, Hit, Retriever
from vtr.serving.answers import Problem
from vtr.serving.batching import Batcher, BusyError, SlowError
from vtr.serving.extraction import Extract, Extraction
from vtr.serving.guard import Guard, allowed_hosts
from vtr.serving.limits import Limits
from vtr.serving.metrics import Measured, Metrics
from vtr.serving.routes import STATIC, Parts, add_routes
from vtr.serving.thumbnails import Thumbnails
from vtr.serving.tokens import Token
from vtr.serving.uploads import RefusedError, private_folder

BUSY = {"Retry-After": "1"}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The request makes no sense, or is for another server."},
    401: {"model": Problem, "description": "The token is missing."},
    422: {"model": Problem, "description": "A parameter is missing or out of bounds."},
    503: {"model": Problem, "description": "Too much is asked at the moment; Retry-After says when to ask again."},
    504: {"model": Problem, "description": "It took too long."},
}


def create_app(
    retriever: Retriever,
    *,
    extract: Extract | None = None,
    limits: Limits | None = None,
    token: Token | None = None,
    hosts: Sequence[str] = allowed_hosts("127.0.0.1"),
) -> FastAPI:
    """Return the application; docs/serving.md describes its API, and /openapi.json does.

    Args:
        retriever: answers.
        extract: reads uploads, in a process of its own; None takes none.
        limits: what it takes on.
        token: what requests must hold.
        hosts: see `Guard`.
    """
    limits = limits or Limits()
    parts = Parts(retriever, limits, token, uploads=extract is not None)

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        del app
        async with contextlib.AsyncExitStack() as stack:
            await _begin(parts, extract, stack)
            yield

    app = FastAPI(
        title="vtr",
        version=__version__,
        description="Search videos with words, with a video, or with another video of the gallery.",
        docs_url=None,
        redoc_url=None,
        lifespan=life,
        responses=PROBLEMS,
    )
    add_routes(app, parts)
    app.mount("/static", _PageFiles(directory=str(STATIC)), name="static")
    _add_problems(app)
    app.add_middleware(Guard, hosts=hosts, token=token)
    app.add_middleware(Measured, metrics=lambda: parts.metrics)
    return app


class _PageFiles(StaticFiles):
    """The page's files; a browser keeps them, and asks whether they are still the same."""

    def file_response(self, *args: Any, **settings: Any) -> Response:
        """Return a file, or that it has not changed."""
        answer = super().file_response(*args, **settings)
        answer.headers["cache-control"] = "no-cache"
        return answer


async def _begin(parts: Parts, extract: Extract | None, stack: contextlib.AsyncExitStack) -> None:
    """Start what works behind the routes; the stack ends it."""
    retriever, limits = parts.retriever, parts.limits

    def search(queries: Sequence[str], k: int, filters: Filters) -> list[list[Hit]]:
        return retriever.search(queries, k, filters=filters)

    parts.metrics = Metrics(retriever, lambda: parts.batcher.waiting)
    parts.batcher = Batcher(search, limits, lambda size: parts.metrics.batches.observe(size))
    stack.push_async_callback(parts.batcher.close)
    parts.thumbnails = Thumbnails(lambda source: parts.metrics.thumbnails.labels(source).inc())
    stack.push_async_callback(parts.thumbnails.close)
    if extract is not None:
        parts.folder = stack.enter_context(private_folder())
        parts.extraction = Extraction(extract, limits.upload_seconds)
        stack.push_async_callback(parts.extraction.close)
    watcher = asyncio.create_task(_watch(parts))
    stack.callback(watcher.cancel)


async def _watch(parts: Parts) -> None:
    """Take up what changes: the gallery on disk; and let the reader of uploads rest."""
    told = ""
    while True:
        await asyncio.sleep(parts.limits.refresh_seconds)
        if parts.extraction is not None:
            await parts.extraction.rest()
        try:
            if await asyncio.to_thread(parts.retriever.refresh):
                parts.metrics.refreshes.labels("taken").inc()
                say(f"the gallery has changed: {parts.retriever.gallery}")
            told = ""
        except Exception as error:  # whatever it is, searches go on
            parts.metrics.refreshes.labels("failed").inc()
            if str(error) != told:  # once, not every second
                told = str(error)
                say(f"the gallery has changed, but cannot be read; the old one is searched on: {error}")


def _add_problems(app: FastAPI) -> None:
    """Answer every error with {"detail": "a sentence"}."""

    def answer(status: int, sentence: str, headers: dict[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"detail": sentence}, status, headers)

    def handle(kind: type[Exception], make: Callable[[Any], JSONResponse]) -> None:
        async def handler(request: Request, error: Exception) -> JSONResponse:
            del request
            return make(error)

        app.add_exception_handler(kind, handler)

    handle(HTTPException, lambda error: answer(error.status_code, str(error.detail), error.headers))
    handle(RequestValidationError, lambda error: answer(422, _sentence(error)))
    handle(InputError, lambda error: answer(400, str(error)))
    handle(VtrError, lambda error: answer(503, str(error)))
    handle(RefusedError, lambda error: answer(error.status, str(error), BUSY if error.status == 429 else None))
    handle(BusyError, lambda error: answer(503, str(error), BUSY))
    handle(SlowError, lambda error: answer(504, str(error)))
    handle(Exception, lambda _: answer(500, "the server failed at this; its log says how."))


def _sentence(error: RequestValidationError) -> str:
    problems = [f"{'.'.join(str(part) for part in one['loc'][1:])}: {one['msg']}" for one in error.errors()]
    return "; ".join(problems)[:500]
