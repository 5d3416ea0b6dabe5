"""Search in the texts that experts kept: exact words, spoken or on screen, with the moment they are at."""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from vtr.annotations.tables import load_videos
from vtr.errors import InputError, UnavailableError, WorkspaceError
from vtr.store.reader import MAKE, FeatureStore
from vtr.store.texts import FoundText
from vtr.workspace import Run, Workspace

FoundTexts = Iterable[tuple[str, FoundText]]
"""(video id, text), in any order."""

CREATE = """CREATE VIRTUAL TABLE texts USING fts5(text, found UNINDEXED, tokenize = "unicode61 remove_diacritics 2")"""
"""SQLite's full-text search. Words are runs of letters and digits; case and accents do not count."""
UNSPACED = re.compile(r"(?<=[\u3005-\u30ff\u3400-\u9fff\uf900-\ufaff])|(?=[\u3005-\u30ff\u3400-\u9fff\uf900-\ufaff])")
BREAK = "\u200b"
"""Put between Chinese and Japanese letters, which are written without spaces: each is a word of its own."""
BEGIN, END = "\ue000", "\ue001"
"""Stand for the marks inside SQLite: private letters, which no text holds that is meant to be read."""
RESERVED = dict.fromkeys(map(ord, (BREAK, BEGIN, END)))
PHRASE = re.compile(r'"([^"]*)"|(\S+)')


@dataclass(frozen=True, slots=True)
class TextHit:
    """One result: a text of one video that holds all the words.

    Attributes:
        rank: 1 is best.
        score: BM25 (Robertson & Zaragoza 2009, as SQLite's FTS5 has it), above 0; it compares within one search.
        video_id: the video.
        path: its file, None when there is none on this machine.
        seconds: when the first of the words is said, where word times are known; else `start_seconds`.
        start_seconds, end_seconds: when the text is first seen or heard; None where features have no times.
        times: how often the video shows this text.
        confidence: the recogniser's own, 0 to 1, the highest of those times; None where none was kept.
        text: as read or heard.
        marked: the same with the words in square brackets.
        box: [left, top, right, bottom] as shares of the frame, for text on screen.
    """

    rank: int
    score: float
    video_id: str
    path: str | None
    seconds: float | None
    start_seconds: float | None
    end_seconds: float | None
    times: int
    confidence: float | None
    text: str
    marked: str
    box: list[float] | None


def search_texts(path: Path, expert: str, query: str, *, top: int = 10, as_json: bool = False) -> str:
    """Find exact words in what an expert kept of a workspace's videos.

    Args:
        path: a workspace, or a run: then the workspace it was trained on.
        expert: "speech", "ocr" or another expert that keeps text.
        query: the words; all of them are to be in one text (a spoken segment, a line on screen). Words in double quotes
            are to follow one another. Case and accents do not count.
        top: how many results.
        as_json: return JSON instead of lines to read.

    Raises:
        InputError: the query holds no word.
        WorkspaceError: the expert is not in the store or keeps no text.
        UnavailableError: Python's SQLite was built without full-text search.
    """
    workspace = Run.open(path).workspace if (path / "run.json").exists() else Workspace.open(path)
    paths = {video.id: video.path for video in load_videos(workspace)}
    kept = kept_texts(FeatureStore(workspace.store), expert)
    held = ((video_id, text) for video_id, text in kept if video_id in paths)  # others have left the workspace
    hits, found, searched = find(held, query, top, paths)
    if as_json:
        content = {
            "query": query,
            "in": expert,
            "searched": searched,
            "found": found,
            "results": [asdict(hit) for hit in hits],
        }
        return json.dumps(content, indent=1, ensure_ascii=False)
    lines = [f"{query}: the best {len(hits)} of {found:,} found in the {searched:,} texts of {expert}"]
    return "\n".join([*lines, *(line for hit in hits for line in _lines(hit))])


def kept_texts(store: FeatureStore, expert: str) -> FoundTexts:
    """Return what an expert kept, and for videos without single finds the texts of their features.

    Raises:
        WorkspaceError: the expert is not in the store, or keeps no text.
    """
    if store.spec(expert).modality != "text":
        keeping = [name for name in store.experts if store.spec(name).modality == "text"]
        there = f"of those here, {', '.join(keeping)} do" if keeping else "none of those here does"
        raise WorkspaceError(
            f"expert {expert} keeps no text; {there}. Search with --in speech (words spoken) or --in ocr (words on "
            f"screen), extracted by `{MAKE} --experts ocr,speech`."
        )
    return _kept(store, expert)


def _kept(store: FeatureStore, expert: str) -> Iterator[tuple[str, FoundText]]:
    with_finds = set()
    for video_id, found in store.found_texts(expert):
        with_finds.add(video_id)
        yield video_id, found
    texts = {video_id: held for video_id, held in store.texts(expert).items() if video_id not in with_finds}
    features = store.read(expert, texts) if texts else {}
    for video_id, held in texts.items():
        starts, ends = features[video_id].start_seconds.tolist(), features[video_id].end_seconds.tolist()
        for feature, (text, start, end) in enumerate(zip(held, starts, ends, strict=True)):
            yield video_id, FoundText(text, feature, start, end, math.nan)


def find(
    texts: FoundTexts, query: str, top: int = 10, paths: Mapping[str, str | None] | None = None
) -> tuple[list[TextHit], int, int]:
    """Find exact words in texts.

    Args:
        texts: where to look. They go into a temporary database, so they may be more than memory holds.
        query: see `search_texts`.
        top: how many results.
        paths: video id -> file.

    Returns:
        The best results, how many there are, and how many texts were searched.

    Raises:
        InputError: the query holds no word.
        UnavailableError: see `search_texts`.
    """
    expression = match_expression(query)
    with closing(_database(texts)) as database:
        (searched,) = database.execute("SELECT count(*) FROM texts").fetchone()
        groups = _matches(database, expression)
    best = sorted(groups.values(), key=lambda group: (-group[0].score, group[0].video_id, group[0].start_seconds))
    hits = [_hit(rank, group, paths or {}) for rank, group in enumerate(best[:top], 1)]
    return hits, len(groups), searched


def match_expression(query: str) -> str:
    """Return a query as FTS5 has it: every word and every phrase as a quoted string, all of them wanted.

    Raises:
        InputError: it holds no letter and no digit.
    """
    parts = [quoted or plain for quoted, plain in PHRASE.findall(query)]
    wanted = [part.replace('"', " ") for part in parts if any(letter.isalnum() for letter in part)]
    if not wanted:
        raise InputError(f'the query {query!r} holds no word. Say what to look for, for example "happy birthday".')
    return " ".join(f'"{_spaced(part)}"' for part in wanted)


def _spaced(text: str) -> str:
    return text if text.isascii() else UNSPACED.sub(BREAK, text)


@dataclass(frozen=True, slots=True)
class _Match:
    """A text that holds all the words, as found and as FTS5 marks it; `words` are [word, start in seconds] each."""

    score: float
    marked: str
    video_id: str
    feature: int
    text: str
    start_seconds: float
    end_seconds: float
    confidence: float
    box: list[float] | None
    words: list[tuple[str, float]]


def _database(texts: FoundTexts) -> sqlite3.Connection:
    """Return a database that SQLite keeps in memory, and in a temporary file once it grows."""
    database = sqlite3.connect("")
    try:
        database.execute(CREATE)
        database.executemany("INSERT INTO texts VALUES (?, ?)", map(_row, texts))
    except BaseException as error:
        database.close()
        if "no such module" in str(error):
            raise UnavailableError(
                f"Python's SQLite {sqlite3.sqlite_version} has no full-text search ({error}). Use a Python whose "
                "sqlite3 has FTS5, as those of python.org, conda-forge and the Linux distributions do."
            ) from error
        if isinstance(error, sqlite3.Error):
            raise WorkspaceError(
                f"the texts do not fit into SQLite's temporary file ({error}). Free some disk space there, or name "
                "another folder in SQLITE_TMPDIR."
            ) from error
        raise
    return database


def _row(entry: tuple[str, FoundText]) -> tuple[str, str]:
    """Return what is searched, and the fields of a `_Match` from `video_id` on."""
    video_id, found = entry
    words = [(word.text, word.start_seconds) for word in found.words]
    times = (found.start_seconds, found.end_seconds)
    fields = (video_id, found.feature, found.text, *times, found.confidence, found.box, words)
    return _spaced(found.text.translate(RESERVED)), json.dumps(fields)


def _matches(database: sqlite3.Connection, expression: str) -> dict[tuple[str, int, str], list[_Match]]:
    """Return what holds all the words; the same text of one feature is one result, however often it is shown."""
    groups: dict[tuple[str, int, str], list[_Match]] = {}
    sql = "SELECT -bm25(texts), highlight(texts, 0, ?, ?), found FROM texts WHERE texts MATCH ?"
    for score, marked, fields in database.execute(sql, (BEGIN, END, expression)):
        match = _Match(score, marked.replace(BREAK, ""), *json.loads(fields))
        groups.setdefault((match.video_id, match.feature, match.text.casefold()), []).append(match)
    for group in groups.values():
        group.sort(key=lambda match: match.start_seconds)
    return groups


def _hit(rank: int, group: list[_Match], paths: Mapping[str, str | None]) -> TextHit:
    first = group[0]
    return TextHit(
        rank=rank,
        score=first.score,
        video_id=first.video_id,
        path=paths.get(first.video_id),
        seconds=_number(_said_at(first)),
        start_seconds=_number(first.start_seconds),
        end_seconds=_number(first.end_seconds),
        times=len(group),
        confidence=_number(max(match.confidence for match in group)),
        text=first.text,
        marked=first.marked.replace(BEGIN, "[").replace(END, "]"),
        box=first.box,
    )


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _said_at(match: _Match) -> float:
    """Return when the first marked word is said, or when the text starts where no word times are known."""
    marked, at = match.marked.index(BEGIN), 0
    for word, start_seconds in match.words:
        at = max(at, match.text.find(word, at) + len(word))
        if at > marked:
            return start_seconds
    return match.start_seconds


def _lines(hit: TextHit) -> list[str]:
    facts = [] if hit.confidence is None else [f"confidence {hit.confidence:.2f}"]
    facts += [f"{hit.times} times"] if hit.times > 1 else []
    noted = f"  ({', '.join(facts)})" if facts else ""
    where = hit.path or "no file here"
    return [f"{hit.rank:>4}  {_clock(hit.seconds):>8}  {hit.video_id}  {where}", f"{'':16}{hit.marked}{noted}"]


def _clock(seconds: float | None) -> str:
    """Return m:ss.s, with hours where there are any."""
    if seconds is None:
        return "-"
    minutes, tenths = divmod(round(seconds * 10), 600)
    hours, minutes = divmod(minutes, 60)
    rest = f"{tenths // 10:02d}.{tenths % 10}"
    return f"{hours}:{minutes:02d}:{rest}" if hours else f"{minutes}:{rest}"
