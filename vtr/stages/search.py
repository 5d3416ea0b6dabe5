"""The search stage: words or a video find videos, a video finds captions; one question, or a file of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vtr.errors import InputError, WorkspaceError
from vtr.progress import duration, progress
from vtr.retrieval import Filters, Hit, Moment, Retriever
from vtr.retrieval.filters import ANY
from vtr.retrieval.hits import Answers
from vtr.types import ExpertFeatures, Part
from vtr.workspace import Run

Extract = Callable[[Run, Path], Mapping[str, ExpertFeatures]]

STDIN = Path("-")
QUERIES_AT_ONCE = 32
WIDTH = 100
"""Columns of a terminal that a table fits into, as far as ids do."""

MOST_ID = 32
MOST_SHARES = 4
INDENT = " " * 14


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: exactly one of `words`, `file`, `video` and `similar`.

    Attributes:
        words: what to look for.
        file: a file of that, one question a line; "-" is standard input.
        video: a video file to find captions or videos for.
        similar: the id of a video of the gallery to find others like it.
        answers: what `video` is answered with.

    Raises:
        InputError: it is none of them or several, or what it names is not there.
    """

    words: str | None = None
    file: Path | None = None
    video: Path | None = None
    similar: str | None = None
    answers: Answers = "captions"

    def __post_init__(self) -> None:
        given = {"words": self.words, "--file": self.file, "--video": self.video, "--similar": self.similar}
        names = [name for name, value in given.items() if value is not None]
        if len(names) != 1:
            problem = f"{' and '.join(names)} were given together" if names else "neither words nor a video were given"
            raise InputError(
                f'{problem}. Search with one of them: "a man is cooking", --file queries.txt, --video clip.mp4 or '
                "--similar ID."
            )
        if self.words is not None and not self.words.strip():
            raise InputError('the query is empty. Say what to look for, for example "a man is cooking".')
        if self.video is not None and not self.video.is_file():
            state = "a folder" if self.video.is_dir() else "not there"
            raise InputError(f"{self.video} is {state}. Give the path of a video file.")

    @property
    def wants_captions(self) -> bool:
        """Whether captions answer it; otherwise videos do."""
        return self.video is not None and self.answers == "captions"


def search(
    run: Run,
    question: Question,
    *,
    top: int = 10,
    split: str | None = None,
    part: Part | None = None,
    filters: Filters = ANY,
    as_json: bool = False,
    qb_norm: bool = False,
    extract: Extract,
) -> Iterator[str]:
    """Search a gallery, and yield each answer as a table or as JSON: of a file of questions as one line each.

    Args:
        run: a trained run, on the workspace to search.
        question: what to look for.
        top: how many results.
        split, part: the gallery; by default the largest that is indexed, else see `vtr.data.corpus.resolve_part`.
        filters: which videos may answer.
        as_json: yield JSON instead of lines to read.
        qb_norm: answer words in the order of QB-Norm, see `vtr.evaluation.postprocess.QueryBank`.
        extract: (run, file) -> expert -> features of the file, as the run's workspace was extracted.

    Raises:
        InputError: the file of questions or the video cannot be read, the video shows nothing that the model's experts
            see, the gallery has no such video, or options exclude each other.
        WorkspaceError: the run is not trained, the gallery has no features, or a video asks for captions where there
            are none.
    """
    if qb_norm and question.words is None and question.file is None:
        raise InputError("--post qb_norm orders videos for words, and a video was given. Leave one of them out.")
    if filters != ANY and question.wants_captions:
        raise InputError(
            "filters choose among videos, and captions were asked for. Add --answers videos, or drop them."
        )
    queries = None if question.file is None else _read_queries(question.file)
    retriever = Retriever.load(run, split=split, part=part, captions=question.wants_captions, qb_norm=qb_norm)
    if queries is None:
        asked, hits = _one(run, retriever, question, top, filters, extract)
        yield _json(asked, retriever, hits, 1) if as_json else _table(asked, retriever, hits, question, filters)
        return
    with progress("search", len(queries), "queries") as advance:
        for at in range(0, len(queries), QUERIES_AT_ONCE):
            some = queries[at : at + QUERIES_AT_ONCE]
            for asked, hits in zip(some, retriever.search(some, top, filters=filters), strict=True):
                if as_json:
                    yield _json(asked, retriever, hits, None)
                else:
                    yield _table(asked, retriever, hits, question, filters) + "\n"
            advance(len(some), "")


def _one(
    run: Run, retriever: Retriever, question: Question, top: int, filters: Filters, extract: Extract
) -> tuple[str, list[Hit]]:
    """Return what was asked, in words, and its answers."""
    if question.words is not None:
        return question.words, retriever.search([question.words], top, filters=filters)[0]
    if question.similar is not None:
        return question.similar, retriever.similar(question.similar, top, filters=filters)
    assert question.video is not None
    if question.wants_captions and not retriever.num_captions:
        raise WorkspaceError(
            f"{retriever.gallery} has no captions to answer a video with. Search with words, or add --answers videos."
        )
    features = extract(run, question.video)
    if question.wants_captions:
        return str(question.video), retriever.captions_for(features, top)
    return str(question.video), retriever.similar_to(features, top, filters=filters)


def _read_queries(path: Path) -> list[str]:
    """Return the lines of a file that hold something.

    Raises:
        InputError: it cannot be read, or holds nothing.
    """
    name = "standard input" if path == STDIN else str(path)
    try:
        text = sys.stdin.read() if path == STDIN else path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror or error}. Give a file of queries.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 text ({error}), queries were expected, one a line.") from error
    queries = [line.strip() for line in text.splitlines() if line.strip()]
    if not queries:
        raise InputError(f"{name} holds no query. Write one a line.")
    return queries


def _json(asked: str, retriever: Retriever, hits: Sequence[Hit], indent: int | None) -> str:
    content = {
        "query": asked,
        "gallery": retriever.gallery,
        "order": retriever.order,
        "results": [asdict(hit) for hit in hits],
    }
    return json.dumps(content, indent=indent, ensure_ascii=False)


def _table(asked: str, retriever: Retriever, hits: Sequence[Hit], question: Question, filters: Filters) -> str:
    counted, place = f"{retriever.num_videos:,} videos", retriever.place
    if question.wants_captions:
        counted, place = f"{retriever.num_captions:,} captions", retriever.gallery
    by_words = question.words is not None or question.file is not None
    order = f", in the order of {retriever.order}" if by_words and retriever.order != "score" else ""
    only = "".join(f", {condition}" for condition in _conditions(filters))
    lines = [f"{asked}: the best {len(hits)} of {counted} ({place}){order}{only}"]
    if question.wants_captions:
        lines += [line for hit in hits for line in _caption_lines(hit)]
    elif hits:
        width = max(len("video"), min(MOST_ID, max(len(hit.video_id) for hit in hits)))
        lines.append(f"rank   score  {'video':<{width}}  moment       score by expert")
        lines += [line for hit in hits for line in _video_lines(hit, width)]
    return "\n".join(lines)


def _conditions(filters: Filters) -> Iterator[str]:
    if filters.category is not None:
        yield f"category {filters.category}"
    if filters.min_seconds is not None:
        yield f"at least {filters.min_seconds:g} s"
    if filters.max_seconds is not None:
        yield f"at most {filters.max_seconds:g} s"
    if filters.has_speech is not None:
        yield "with speech" if filters.has_speech else "without speech"


def _video_lines(hit: Hit, width: int) -> Iterator[str]:
    row = f"{hit.rank:>4}  {hit.score:6.3f}  {hit.video_id:<{width}}  {_clock(hit.moment):<11}  "
    yield _cut(row + _shares(hit.shares, WIDTH - len(row))).rstrip()
    if hit.caption:
        yield _cut(f"{INDENT}e.g. {hit.caption}")
    if hit.snippet is not None:
        at = "" if hit.snippet.start_seconds is None else f" {duration(hit.snippet.start_seconds)}"
        yield _cut(f"{INDENT}{hit.snippet.expert}{at}: {hit.snippet.text}")


def _caption_lines(hit: Hit) -> Iterator[str]:
    yield f"{hit.rank:>4}  {hit.score:6.3f}  {hit.caption}"
    row = f"{INDENT}of {hit.video_id}  "
    yield _cut(row + _shares(hit.shares, WIDTH - len(row))).rstrip()


def _shares(shares: Mapping[str, float], room: int) -> str:
    """Return what added most to a score, as much as fits, and what the rest added together."""
    largest = sorted(shares.items(), key=lambda share: -abs(share[1]))
    for shown in range(min(MOST_SHARES, len(largest)), 0, -1):
        rest = sum(share for _, share in largest[shown:])
        named = [*largest[:shown], *([("others", rest)] if largest[shown:] else [])]
        line = ", ".join(f"{name} {share:.2f}" for name, share in named)
        if len(line) <= room or shown == 1:
            return line
    return ""


def _clock(moment: Moment | None) -> str:
    return "-" if moment is None else f"{duration(moment.start_seconds)}-{duration(moment.end_seconds)}"


def _cut(line: str) -> str:
    line = line.replace("\n", " ")
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"
