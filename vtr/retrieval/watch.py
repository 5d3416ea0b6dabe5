"""Watching folders: what is new is put in as soon as its file has stopped growing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vtr.annotations.folder import is_video, visible_files
from vtr.errors import VtrError
from vtr.progress import say
from vtr.retrieval.ingest import Ingestion, IngestSummary, Request

Sizes = dict[str, tuple[int, int]]
"""File -> its size and time of change."""


def watch(
    ingestion: Ingestion,
    request: Request,
    *,
    every_seconds: float = 5.0,
    wait: Callable[[float], None] = time.sleep,
    tell: Callable[[IngestSummary], None] = lambda summary: say(str(summary)),
) -> None:
    """Put in what comes into the folders, until interrupted.

    A file is read once two looks in a row have found it the same. What goes wrong with one time of putting in is told,
    and it is tried again after the next look. Folders of frames and tar files are put in at the start only.

    Args:
        ingestion: puts videos in.
        request: the folders, and how.
        every_seconds: the time between two looks.
        wait: passes that time.
        tell: is given the summary of each time something was put in or taken out.
    """
    folders = [Path(folder) for folder in request.folders]
    before = _look(folders)
    done: Sizes | None = None
    told: str | None = None
    while True:
        wait(every_seconds)
        now = _look(folders)
        still = {path for path, size in now.items() if before.get(path) == size}
        settled = {path: now[path] for path in still}
        if done is None or any(done.get(path) != size for path, size in settled.items()) or done.keys() - now.keys():
            problem = _put_in(ingestion, replace(request, accept=_accepts(still, done is None)), tell)
            if problem is None:
                done = settled
            elif problem != told:
                say(f"error: {problem} The watch goes on.")
            told = problem
        before = now


def _accepts(still: set[str], first: bool) -> Callable[[str], bool]:
    return lambda path: path in still or (first and not Path(path).is_file())


def _put_in(ingestion: Ingestion, request: Request, tell: Callable[[IngestSummary], None]) -> str | None:
    """Return what went wrong, None where nothing did."""
    try:
        summary = ingestion.ingest(request)
    except VtrError as error:
        return str(error)
    if summary.new or summary.changed or summary.removed or summary.failed:
        tell(summary)
    return None


def _look(folders: list[Path]) -> Sizes:
    """Return the video files of folders; none of a folder that cannot be read just now."""
    found: Sizes = {}
    for folder in folders:
        try:
            paths = [path for files in visible_files(folder).values() for path in files if is_video(path)]
        except VtrError as error:
            say(f"{error} The watch goes on.")
            continue
        for path in paths:
            try:
                stat = path.stat()
            except OSError:  # it has just gone
                continue
            found[str(path.resolve())] = (stat.st_size, stat.st_mtime_ns)
    return found
