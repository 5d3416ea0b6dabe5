"""What is measured, for Prometheus, and the ASGI layer that counts and times requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest

from vtr import __version__
from vtr.retrieval import Retriever

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LATENCIES = (0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5.0, 10.0, 30.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64)
UNKNOWN_ROUTE = "other"


class Metrics:
    """The metrics of one server, in a registry of their own.

    Args:
        retriever: whose gallery is served.
        waiting: says how many searches wait for the model.
    """

    def __init__(self, retriever: Retriever, waiting: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter("vtr_requests", "Requests answered.", ["route", "status"], registry=registry)
        self.seconds = Histogram(
            "vtr_request_seconds",
            "From a request to its whole answer.",
            ["route"],
            buckets=LATENCIES,
            registry=registry,
        )
        self.batches = Histogram(
            "vtr_batch_size", "Queries that were embedded together.", buckets=BATCHES, registry=registry
        )
        self.uploads = Counter("vtr_uploads", "Videos searched with, by how it ended.", ["outcome"], registry=registry)
        self.thumbnails = Counter(
            "vtr_thumbnails", "Thumbnails, by where they came from.", ["source"], registry=registry
        )
        self.refreshes = Counter(
            "vtr_gallery_refreshes", "Changes of the gallery taken up.", ["outcome"], registry=registry
        )
        self._generation = Info("vtr_gallery", "The gallery's generation and vtr's version.", registry=registry)
        self._retriever = retriever
        Gauge("vtr_queue_length", "Searches that wait for the model.", registry=registry).set_function(waiting)
        videos = Gauge("vtr_gallery_videos", "Videos searched.", registry=registry)
        videos.set_function(lambda: retriever.num_videos)
        captions = Gauge("vtr_gallery_captions", "Captions a video can be answered with.", registry=registry)
        captions.set_function(lambda: retriever.num_captions)
        ProcessCollector(registry=registry)

    def page(self) -> bytes:
        """Return all of them in Prometheus' text format."""
        self._generation.info({"generation": self._retriever.generation, "version": __version__})
        return generate_latest(self._registry)


class Measured:
    """Counts and times the requests that go through to `app`, by route: never by path, of which there are many.

    Args:
        app: the application.
        metrics: where to.
    """

    def __init__(self, app: ASGIApp, metrics: Callable[[], Metrics]) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began = 500, time.perf_counter()

        async def send_measured(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_measured)
        finally:
            route = route_of(scope)
            self._metrics().requests.labels(route, str(status)).inc()
            self._metrics().seconds.labels(route).observe(time.perf_counter() - began)


def route_of(scope: Scope) -> str:
    """Return the route that took a request as the API describes it, or "other"."""
    if scope["path"].startswith("/static/"):
        return "/static"
    path = getattr(scope.get("route"), "path", UNKNOWN_ROUTE)
    return str(path).replace(":path}", "}")
