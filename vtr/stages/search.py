"""The search stage: words to videos, a video to captions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from vtr.data.features import FeatureChoice, FeatureTable
from vtr.errors import InputError, WorkspaceError
from vtr.models.base import RetrievalModel
from vtr.serving.searcher import Hit, Searcher, largest_gallery
from vtr.stages.index import embed_and_index
from vtr.stages.query_bank import query_banks
from vtr.types import ExpertFeatures, Part, VideoBatch
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
    searcher = open_searcher(run, split, part, captions=video is not None, qb_norm=qb_norm)
    if query is not None:
        hits = searcher.video_hits(searcher.by_text([query], top))
    else:
        assert video is not None
        if not searcher.part.texts.ids:
            raise WorkspaceError(f"{searcher.part.coverage} has no captions to answer a video with. Search with words.")
        hits = searcher.caption_hits(searcher.by_videos(video_batch(video, extract(run, video), searcher), top))
    asked = query or str(video)
    if as_json:
        return _as_json(asked, searcher, hits)
    return _as_lines(asked, searcher, hits, query is not None)


def open_searcher(
    run: Run,
    split: str | None = None,
    part: Part | None = None,
    *,
    captions: bool = False,
    qb_norm: bool = False,
) -> Searcher:
    """Return a searcher; its gallery is embedded and indexed first where that is missing or stale.

    Videos without features are left out: the coverage that comes with the results says how many.

    Args:
        run: a trained run.
        split, part: the gallery; by default the largest that is indexed, else see `vtr.data.corpus.resolve_part`.
        captions: by default the largest that is indexed and has captions.
        qb_norm: answer words in the order of QB-Norm; its bank of training captions is made where it is missing.

    Raises:
        WorkspaceError: the run is not trained, or the gallery has no features.
    """
    if split is None and part is None and (largest := largest_gallery(run, captions=captions)) is not None:
        split, part = largest
    indexed = embed_and_index(run, split, part, available_only=True)
    return Searcher.load(run, indexed.index, query_banks(run, indexed, captions=False).texts if qb_norm else None)


def video_batch(path: Path, features: Mapping[str, ExpertFeatures], searcher: Searcher) -> VideoBatch:
    """Return one file's features as the model takes them.

    Raises:
        InputError: none of the model's experts found anything, or an expert's features have another dim.
    """
    model: RetrievalModel = searcher.model
    known = {name: found for name, found in features.items() if name in model.expert_dims}
    if not known:
        raise InputError(f"{path} shows nothing that the model's experts see ({', '.join(model.experts)}).")
    for name, found in known.items():
        if found.dim != model.expert_dims[name]:
            raise InputError(
                f"{path}: {name} features have dim {found.dim}, the model takes {model.expert_dims[name]}. "
                "Extract with the expert the model was trained on."
            )
    of_one = {name: {path.name: found} for name, found in known.items()}
    return FeatureTable([path.name], of_one, model.expert_dims, FeatureChoice.of(searcher.config)).batch([0])


def _as_json(asked: str, searcher: Searcher, hits: list[Hit]) -> str:
    content = {
        "query": asked,
        "gallery": str(searcher.part.coverage),
        "order": searcher.order,
        "results": [asdict(hit) for hit in hits],
    }
    return json.dumps(content, indent=1, ensure_ascii=False)


def _as_lines(asked: str, searcher: Searcher, hits: list[Hit], found_videos: bool) -> str:
    gallery = searcher.part
    counted = f"{len(gallery.videos.ids):,} videos" if found_videos else f"{len(gallery.texts.ids):,} captions"
    order = "" if searcher.order == "score" else f", in the order of {searcher.order}"
    lines = [f"{asked}: the best {len(hits)} of {counted} ({gallery.coverage}){order}"]
    for hit in hits:
        where = hit.path or "no file here"
        if found_videos:
            lines.append(f"{hit.rank:>4}  {hit.score:6.3f}  {hit.video_id}  {where}")
            lines += [f"{'':14}e.g. {hit.caption}"] if hit.caption else []
        else:
            lines += [f"{hit.rank:>4}  {hit.score:6.3f}  {hit.caption}", f"{'':14}of {hit.video_id}  {where}"]
    return "\n".join(lines)
