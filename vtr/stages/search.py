"""The search stage: words to videos, a video to captions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from vtr.errors import InputError, WorkspaceError
from vtr.retrieval.hits import Hit
from vtr.retrieval.retriever import Retriever
from vtr.types import ExpertFeatures, Part
from vtr.workspace import Run

Extract = Callable[[Run, Path], Mapping[str, ExpertFeatures]]


def search(
    run: Run,
    query: str | None,
    video: Path | None,
    *,
    top: int = 10,
    split: str | None = None,
    part: Part | None = None,
    as_json: bool = False,
    qb_norm: bool = False,
    extract: Extract,
) -> str:
    """Search a gallery with words (answers videos) or with a video file (answers captions).

    Args:
        run: a trained run, on the workspace to search.
        query: what to look for.
        video: the file to find captions for, instead of a query.
        top: how many results.
        split, part: the gallery; by default the largest that is indexed, else see `vtr.data.corpus.resolve_part`.
        as_json: return JSON instead of lines to read.
        qb_norm: answer words in the order of QB-Norm, see `vtr.evaluation.postprocess.QueryBank`.
        extract: (run, file) -> expert -> features of the file, as the run's workspace was extracted.

    Raises:
        InputError: there is neither a query nor a video, or both; the query is empty; the file cannot be read or shows
            nothing that the model's experts see.
        WorkspaceError: the run is not trained, the gallery has no features, or a video is asked with and the gallery
            has no captions.
    """
    if (query is None) == (video is None):
        problem = "neither words nor a video were given" if query is None else "both words and a video were given"
        raise InputError(f'{problem}. Search with one of them: "a man is cooking", or --video clip.mp4.')
    if query is not None and not query.strip():
        raise InputError('the query is empty. Say what to look for, for example "a man is cooking".')
    if video is not None and not video.is_file():
        raise InputError(f"{video} is {'a folder' if video.is_dir() else 'not there'}. Give the path of a video file.")
    if qb_norm and video is not None:
        raise InputError("--post qb_norm orders videos for words, and a video was given. Leave one of them out.")
    retriever = Retriever.load(run, split=split, part=part, captions=video is not None, qb_norm=qb_norm)
    if query is not None:
        hits = retriever.search([query], top)[0]
    else:
        assert video is not None
        if not retriever.num_captions:
            raise WorkspaceError(f"{retriever.gallery} has no captions to answer a video with. Search with words.")
        hits = retriever.captions_for(extract(run, video), top)
    asked = query or str(video)
    if as_json:
        return _as_json(asked, retriever, hits)
    return _as_lines(asked, retriever, hits, query is not None)


def _as_json(asked: str, retriever: Retriever, hits: list[Hit]) -> str:
    content = {
        "query": asked,
        "gallery": retriever.gallery,
        "order": retriever.order,
        "results": [asdict(hit) for hit in hits],
    }
    return json.dumps(content, indent=1, ensure_ascii=False)


def _as_lines(asked: str, retriever: Retriever, hits: list[Hit], found_videos: bool) -> str:
    counted = f"{retriever.num_videos:,} videos" if found_videos else f"{retriever.num_captions:,} captions"
    order = "" if retriever.order == "score" else f", in the order of {retriever.order}"
    lines = [f"{asked}: the best {len(hits)} of {counted} ({retriever.gallery}){order}"]
    for hit in hits:
        where = hit.path or "no file here"
        if found_videos:
            lines.append(f"{hit.rank:>4}  {hit.score:6.3f}  {hit.video_id}  {where}")
            lines += [f"{'':14}e.g. {hit.caption}"] if hit.caption else []
        else:
            lines += [f"{hit.rank:>4}  {hit.score:6.3f}  {hit.caption}", f"{'':14}of {hit.video_id}  {where}"]
    return "\n".join(lines)
