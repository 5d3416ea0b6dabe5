"""Search over HTTP: a small JSON API and one page. Needs the [serve] extra."""

from __future__ import annotations

import socket
from dataclasses import asdict
from importlib import resources
from typing import TYPE_CHECKING, Any

from vtr.annotations.locators import is_url, local_file
from vtr.errors import InputError, UnavailableError
from vtr.progress import say
from vtr.retrieval.retriever import Retriever

if TYPE_CHECKING:
    from fastapi import FastAPI

INSTALL = "pip install -c constraints.txt -e '.[serve]'"
MOST_RESULTS = 100
MOST_CHARACTERS = 2000
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
        "media-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""The page loads nothing from anywhere else, and nobody frames it."""


def serve(retriever: Retriever, *, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve until interrupted.

    Raises:
        InputError: the address cannot be listened on.
        KeyboardInterrupt: Ctrl-C ended it, after the requests under way.
        UnavailableError: the [serve] extra is not installed.
    """
    app = create_app(retriever)
    try:
        import uvicorn
    except ImportError as error:
        raise _missing(error) from error
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise InputError(
            f"cannot listen on {host}:{port}: {error.strerror or error}. Choose another --port or --host."
        ) from error
    with listener:
        say(f"searching {retriever.gallery}: http://{host}:{port} (Ctrl-C ends)")
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])


def create_app(retriever: Retriever) -> FastAPI:
    """Return the application.

    GET /                      the page
    GET /api/search?q=&top=    {"query", "gallery", "order", "results": [{rank, score, video_id, has_file, caption}]}
    GET /api/videos/{id}       a gallery video's file, with range requests; 404 for anything else
    GET /healthz               {"status": "ok", "gallery", "videos"}

    Raises:
        UnavailableError: the [serve] extra is not installed.
    """
    try:
        from fastapi import FastAPI, HTTPException, Query
        from fastapi.responses import FileResponse, HTMLResponse
    except ImportError as error:
        raise _missing(error) from error
    app = FastAPI(title="vtr", docs_url=None, redoc_url=None)
    page = resources.files("vtr.serving").joinpath("page.html").read_text(encoding="utf-8")

    @app.get("/", response_class=HTMLResponse)
    def index() -> Any:
        return HTMLResponse(page, headers=HEADERS)

    @app.get("/healthz")
    def health() -> dict[str, Any]:
        return {"status": "ok", "gallery": retriever.gallery, "videos": retriever.num_videos}

    @app.get("/api/search")
    def search(
        q: str = Query(max_length=MOST_CHARACTERS), top: int = Query(10, ge=1, le=MOST_RESULTS)
    ) -> dict[str, Any]:
        try:
            hits = retriever.search([q], top)[0]
        except InputError as error:
            raise HTTPException(400, str(error)) from error
        results = [asdict(hit) | {"has_file": hit.path is not None and not is_url(hit.path)} for hit in hits]
        for result in results:
            del result["path"]  # where files lie is nobody's business
        gallery = retriever.gallery
        return {"query": q, "gallery": gallery, "order": retriever.order, "results": results}

    @app.get("/api/videos/{video_id:path}", response_class=FileResponse)
    def video(video_id: str) -> Any:
        path = local_file(retriever.video_path(video_id))
        if path is None:
            raise HTTPException(404, f"the gallery has no file of a video '{video_id}'")
        return FileResponse(path, headers={"X-Content-Type-Options": "nosniff"})

    return app


def _missing(error: ImportError) -> UnavailableError:
    return UnavailableError(f"{error.name} is not installed, serving needs it. Install it with: {INSTALL}")
