"""The routes of the API, each a few lines over the parts that do the work."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from vtr.annotations.locators import local_file
from vtr.errors import InputError
from vtr.retrieval import Filters, Hit, Retriever
from vtr.retrieval.hits import Answers
from vtr.serving.answers import GalleryAnswer, HealthAnswer, Problem, SearchAnswer, of_gallery, of_health, of_hits
from vtr.serving.api_page import api_page
from vtr.serving.batching import Batcher, SlowError
from vtr.serving.containers import UNKNOWN, type_of_file
from vtr.serving.extraction import Extraction
from vtr.serving.limits import MOST_CHARACTERS, MOST_RESULTS, Limits
from vtr.serving.metrics import MEDIA_TYPE, Metrics
from vtr.serving.thumbnails import Thumbnails
from vtr.serving.tokens import COOKIE, Token
from vtr.serving.uploads import FIELD, RefusedError, Upload, receive, until_disconnected

T = TypeVar("T")

STATIC = Path(str(resources.files("vtr.serving").joinpath("static")))
LONGEST_ID = 1000
LONGEST_SECONDS = 1e9
PICTURE_LIFE = "private, max-age=3600"
COOKIE_SECONDS = 30 * 24 * 3600

NOT_THERE: dict[int | str, dict[str, Any]] = {404: {"model": Problem, "description": "The gallery has no such video."}}
UPLOAD_PROBLEMS: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "The server takes no uploads."},
    413: {"model": Problem, "description": "The file is too large."},
    415: {"model": Problem, "description": "The file is no video, or nothing is found in it."},
    429: {"model": Problem, "description": "Too many uploads are under way; Retry-After says when to ask again."},
}
UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {FIELD: {"type": "string", "format": "binary", "description": "The video."}},
                }
            }
        },
    }
}

K = Annotated[int, Query(ge=1, le=MOST_RESULTS, description="How many results.")]
Seconds = Annotated[float | None, Query(ge=0, le=LONGEST_SECONDS, allow_inf_nan=False)]


class Parts:
    """What the routes work with. What needs a running event loop is set when the application starts.

    Args:
        retriever: answers.
        limits: what the server takes on.
        token: what requests must hold, if anything.
        uploads: whether uploads are taken.
    """

    batcher: Batcher
    metrics: Metrics
    thumbnails: Thumbnails
    folder: Path

    def __init__(self, retriever: Retriever, limits: Limits, token: Token | None, *, uploads: bool) -> None:
        self.retriever = retriever
        self.limits = limits
        self.token = token
        self.uploads = uploads
        self.extraction: Extraction | None = None
        self.uploads_under_way = 0


async def filters_of(
    category: Annotated[str | None, Query(max_length=200, description="Only videos of this category.")] = None,
    min_seconds: Annotated[Seconds, Query(description="Only videos at least this long.")] = None,
    max_seconds: Annotated[Seconds, Query(description="Only videos at most this long.")] = None,
    has_speech: Annotated[bool | None, Query(description="Only videos with, or without, spoken words.")] = None,
) -> Filters:
    """Return the filters that a request names. It is async, since FastAPI hands any other function to a thread."""
    if min_seconds is not None and max_seconds is not None and min_seconds > max_seconds:
        raise HTTPException(400, f"min_seconds {min_seconds:g} is above max_seconds {max_seconds:g}.")
    return Filters(category, min_seconds, max_seconds, has_speech)


Filtered = Annotated[Filters, Depends(filters_of)]


def add_routes(app: FastAPI, parts: Parts) -> None:
    """Add all routes to an application."""
    _add_searches(app, parts)
    _add_upload(app, parts)
    _add_files(app, parts)
    _add_facts(app, parts)
    _add_pages(app)


def _add_searches(app: FastAPI, parts: Parts) -> None:
    retriever = parts.retriever

    @app.get("/search", response_model=SearchAnswer, response_description="The results.", tags=["search"])
    async def search(
        q: Annotated[str, Query(max_length=MOST_CHARACTERS, description="What to look for.")],
        filters: Filtered,
        k: K = 24,
    ) -> Any:
        """Find videos with words."""
        if not q.strip():
            raise HTTPException(400, 'the query is empty. Say what to look for, for example "a man is cooking".')
        hits = await parts.batcher.search(q, k, filters)
        return _json(of_hits(q, retriever, hits, retriever.order))

    @app.get(
        "/similar/{video_id:path}",
        response_model=SearchAnswer,
        response_description="The results.",
        responses=NOT_THERE,
        tags=["search"],
    )
    async def similar(video_id: str, filters: Filtered, k: K = 24) -> Any:
        """Find videos like one of the gallery."""
        if len(video_id) > LONGEST_ID:
            raise HTTPException(404, "no id is as long as that.")
        try:
            hits = await parts.batcher.call(lambda: retriever.similar(video_id, k, filters=filters))
        except InputError as error:
            if await parts.batcher.call(lambda: _is_known(retriever, video_id)):
                raise  # it is the filters
            raise HTTPException(404, str(error)) from error
        return _json(of_hits(video_id, retriever, hits, "score"))


def _is_known(retriever: Retriever, video_id: str) -> bool:
    try:
        retriever.similar(video_id, 1)
    except InputError:
        return False
    return True


def _add_upload(app: FastAPI, parts: Parts) -> None:
    @app.post(
        "/search/video",
        response_model=SearchAnswer,
        response_description="The results.",
        responses=UPLOAD_PROBLEMS,
        openapi_extra=UPLOAD_BODY,
        tags=["search"],
    )
    async def search_video(
        request: Request,
        k: K = 24,
        answers: Annotated[Answers, Query(description="What to find: videos like it, or captions for it.")] = "videos",
    ) -> Any:
        """Find videos like a file, or captions for it. The file is not kept."""
        outcome = "failed"
        try:
            answer = await _search_with_upload(parts, request, k, answers)
            outcome = "answered"
        except RefusedError as error:
            outcome = "busy" if error.status == 429 else "refused"
            raise
        except SlowError:
            outcome = "slow"
            raise
        except ClientDisconnect:
            outcome = "gone"
            return Response(status_code=499)  # nobody reads it
        finally:
            parts.metrics.uploads.labels(outcome).inc()
        return _json(answer)


async def _search_with_upload(parts: Parts, request: Request, k: int, answers: Answers) -> SearchAnswer:
    retriever, limits, extraction = parts.retriever, parts.limits, parts.extraction
    if extraction is None:
        raise RefusedError(404, "this server takes no uploads: it was started with --no-uploads.")
    if answers == "captions" and not retriever.num_captions:
        raise RefusedError(400, f"{retriever.gallery} has no captions to answer with. Ask for videos.")
    if parts.uploads_under_way >= limits.most_uploads:
        raise RefusedError(429, f"{parts.uploads_under_way} uploads are under way. Try again in a while.")
    parts.uploads_under_way += 1
    upload: Upload | None = None
    try:
        async with asyncio.timeout(limits.upload_seconds):
            upload = await receive(request, parts.folder, limits.most_upload_bytes)
        hits = await _while_connected(request, _hits_of(parts, extraction, upload, k, answers))
        return of_hits(upload.name, retriever, hits, "score")
    except TimeoutError as error:
        raise SlowError(f"receiving the file took longer than {limits.upload_seconds:g} seconds.") from error
    finally:
        parts.uploads_under_way -= 1
        if upload is not None:
            upload.path.unlink(missing_ok=True)


async def _hits_of(parts: Parts, extraction: Extraction, upload: Upload, k: int, answers: Answers) -> list[Hit]:
    """Return the results for an upload.

    Raises:
        RefusedError: it is no video, or shows nothing the model's experts see (415).
    """
    if await asyncio.to_thread(type_of_file, upload.path) is None:
        raise RefusedError(415, f"{upload.name} is no video of a known kind: MP4, WebM, MKV, AVI and others are.")
    retriever = parts.retriever
    try:
        features = await extraction.features(upload.path)
        if answers == "captions":
            return await parts.batcher.call(lambda: retriever.captions_for(features, k))
        return await parts.batcher.call(lambda: retriever.similar_to(features, k))
    except InputError as error:
        raise RefusedError(415, str(error).replace(str(upload.path), upload.name)) from error


async def _while_connected(request: Request, work: Awaitable[T]) -> T:
    """Return what `work` returns; cancel it when the client goes away.

    Raises:
        ClientDisconnect: it did.
    """
    doing = asyncio.ensure_future(work)
    leaving = asyncio.create_task(until_disconnected(request))
    try:
        await asyncio.wait({doing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientDisconnect
        return doing.result()
    finally:
        for task in (doing, leaving):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await doing


def _add_files(app: FastAPI, parts: Parts) -> None:
    async def video(video_id: str) -> Any:
        """Fetch a video's file. Parts of it by range requests."""
        path, kind = await asyncio.to_thread(_file_of, parts.retriever, video_id)
        return FileResponse(path, media_type=kind, headers={"Cache-Control": PICTURE_LIFE})

    describe: dict[int | str, dict[str, Any]] = {
        200: {"content": {"video/*": {}}, "description": "The file."},
        206: {"content": {"video/*": {}}, "description": "The part of it that was asked for."},
        416: {"content": {"text/plain": {}}, "description": "The file has no such part."},
    }
    app.get(
        "/videos/{video_id:path}", response_class=FileResponse, responses={**NOT_THERE, **describe}, tags=["files"]
    )(video)
    app.head("/videos/{video_id:path}", include_in_schema=False)(video)

    @app.get(
        "/thumbnails/{video_id:path}",
        response_class=Response,
        responses={**NOT_THERE, 200: {"content": {"image/jpeg": {}}, "description": "A frame, 320 pixels wide."}},
        tags=["files"],
    )
    async def thumbnail(
        video_id: str,
        at: Annotated[Seconds, Query(description="When in the video; by default near its middle.")] = None,
    ) -> Any:
        """Fetch one frame of a video as JPEG."""
        path, _ = await asyncio.to_thread(_file_of, parts.retriever, video_id)
        try:
            picture = await parts.thumbnails.jpeg(path, at)
        except OSError:
            picture = b""
        if not picture:
            raise HTTPException(404, f"no picture can be made of video '{video_id}'.")
        return Response(picture, media_type="image/jpeg", headers={"Cache-Control": PICTURE_LIFE})


def _file_of(retriever: Retriever, video_id: str) -> tuple[Path, str]:
    """Return where a video of the gallery lies, and its media type.

    Nothing else is ever opened: the path comes from the gallery and not from the request. A file that has since become
    a link is followed only to something that begins like a video.

    Raises:
        HTTPException: the gallery has no such video, or no file of it.
    """
    missing = HTTPException(404, f"the gallery has no file of a video '{video_id[:LONGEST_ID]}'.")
    try:
        path = local_file(retriever.video_path(video_id))
        if path is None:
            raise missing
        kind = type_of_file(path)
        if kind is None and path.is_symlink():
            raise missing
    except (OSError, ValueError) as error:
        raise missing from error
    return path, kind or UNKNOWN


def _add_facts(app: FastAPI, parts: Parts) -> None:
    retriever = parts.retriever

    @app.get("/gallery", response_model=GalleryAnswer, response_description="What it is.", tags=["about"])
    async def gallery() -> Any:
        """Say what is searched, and what it can be filtered by."""
        return _json(of_gallery(retriever, uploads=parts.uploads, most_upload_bytes=parts.limits.most_upload_bytes))

    @app.head("/health", include_in_schema=False)
    @app.get("/health", response_model=HealthAnswer, response_description="It is.", tags=["about"])
    async def health() -> Any:
        """Say that the server is there."""
        return _json(of_health(retriever))

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text format."}},
        tags=["about"],
    )
    async def metrics() -> Any:
        """Measure the server, for Prometheus."""
        return Response(parts.metrics.page(), media_type=MEDIA_TYPE)

    @app.post(
        "/session",
        status_code=204,
        response_description="The cookie is set.",
        response_class=Response,
        response_model=None,
        tags=["about"],
    )
    async def session(request: Request) -> Any:
        """Exchange the token, sent as `Authorization: Bearer TOKEN`, for a cookie that the page then sends."""
        answer = Response(status_code=204)
        if parts.token is None:
            return answer
        if not parts.token.is_sent(dict(request.scope["headers"])):
            raise HTTPException(401, "that is not the token.", {"WWW-Authenticate": "Bearer"})
        answer.set_cookie(
            COOKIE,
            parts.token.cookie,
            max_age=COOKIE_SECONDS,
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )
        return answer


def _add_pages(app: FastAPI) -> None:
    page = STATIC / "page.html"

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    @app.head("/", include_in_schema=False)
    async def index() -> Any:
        return FileResponse(page, media_type="text/html", headers={"Cache-Control": "no-cache"})

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    async def docs() -> Any:
        return HTMLResponse(api_page(app.openapi()))


def _json(answer: BaseModel) -> Response:
    """Return an answer as it is: FastAPI would check it a second time."""
    return Response(answer.model_dump_json(), media_type="application/json")
