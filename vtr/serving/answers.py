"""What the API answers with, as its OpenAPI description shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, Field

from vtr import __version__
from vtr.annotations.locators import is_url
from vtr.retrieval import Hit, Retriever


class MomentAnswer(BaseModel):
    """A stretch of a video, in seconds from its beginning."""

    start_seconds: float
    end_seconds: float


class SnippetAnswer(BaseModel):
    """Words that a video says or shows."""

    text: str
    expert: str = Field(description='What kept it: "speech" or "ocr".')
    start_seconds: float | None = Field(description="When it begins.")


class HitAnswer(BaseModel):
    """One result."""

    rank: int = Field(description="1 is best.")
    score: float
    video_id: str
    has_file: bool = Field(description="Whether /videos and /thumbnails have something of it.")
    caption: str | None = Field(description="The caption found, or one that the video is known by.")
    snippet: SnippetAnswer | None = Field(description="Words of the video near its best moment.")
    moment: MomentAnswer | None = Field(description="The stretch of the video that matches best.")
    shares: dict[str, float] = Field(description="Expert -> what it adds to the score.")
    category: str | None
    duration_seconds: float | None
    has_speech: bool


class SearchAnswer(BaseModel):
    """The results of one search, best first."""

    query: str = Field(description="The words asked for, the name of the file, or the id of the video.")
    gallery: str = Field(description="What was searched, with its coverage.")
    order: str = Field(description='What results are ordered by: "score" or "QB-Norm".')
    results: list[HitAnswer]


class CategoryAnswer(BaseModel):
    """A category, and how many of the gallery's videos are of it."""

    name: str
    videos: int


class GalleryAnswer(BaseModel):
    """What can be searched, and how."""

    gallery: str
    videos: int
    captions: int
    order: str
    experts: list[str] = Field(description="What a score adds up.")
    categories: list[CategoryAnswer]
    has_durations: bool = Field(description="Whether min_seconds and max_seconds find anything.")
    has_speech: bool = Field(description="Whether it is known of which videos words are spoken in.")
    finds: str = Field(description="What this gallery can find, in words.")
    uploads: bool = Field(description="Whether /search/video takes files.")
    max_upload_bytes: int
    generation: str = Field(description="Changes whenever the gallery does.")


class HealthAnswer(BaseModel):
    """That the server is there, and what it serves."""

    status: Literal["ok"] = "ok"
    gallery: str
    videos: int
    captions: int
    generation: str
    version: str


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str = Field(description="One or two sentences.")


def of_hits(query: str, retriever: Retriever, hits: Sequence[Hit], order: str) -> SearchAnswer:
    """Return what a search answers with. Where files lie is left out: that is nobody's business."""
    return SearchAnswer(query=query, gallery=retriever.gallery, order=order, results=[_of_hit(hit) for hit in hits])


def _of_hit(hit: Hit) -> HitAnswer:
    moment, snippet = hit.moment, hit.snippet
    return HitAnswer(
        rank=hit.rank,
        score=hit.score,
        video_id=hit.video_id,
        has_file=hit.path is not None and not is_url(hit.path),
        caption=hit.caption,
        snippet=snippet
        and SnippetAnswer(text=snippet.text, expert=snippet.expert, start_seconds=snippet.start_seconds),
        moment=moment and MomentAnswer(start_seconds=moment.start_seconds, end_seconds=moment.end_seconds),
        shares=dict(hit.shares),
        category=hit.category,
        duration_seconds=hit.duration_seconds,
        has_speech=hit.has_speech,
    )


def of_gallery(retriever: Retriever, *, uploads: bool, most_upload_bytes: int) -> GalleryAnswer:
    """Return what is known of the gallery."""
    categories = [CategoryAnswer(name=name, videos=videos) for name, videos in retriever.categories.items()]
    return GalleryAnswer(
        gallery=retriever.gallery,
        videos=retriever.num_videos,
        captions=retriever.num_captions,
        order=retriever.order,
        experts=list(retriever.experts),
        categories=categories,
        has_durations=retriever.has_durations,
        has_speech=retriever.has_speech,
        finds=retriever.finds,
        uploads=uploads,
        max_upload_bytes=most_upload_bytes,
        generation=retriever.generation,
    )


def of_health(retriever: Retriever) -> HealthAnswer:
    """Return that all is well."""
    return HealthAnswer(
        gallery=retriever.gallery,
        videos=retriever.num_videos,
        captions=retriever.num_captions,
        generation=retriever.generation,
        version=__version__,
    )
