"""Exact words in kept texts: what is found against a plain loop, the order against BM25's formula, and the command."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vtr import cli
from vtr.annotations.prepare import prepare_annotations
from vtr.errors import InputError, UnavailableError, WorkspaceError
from vtr.stages import text_search
from vtr.stages.text_search import find, search_texts
from vtr.store.schema import encode_row
from vtr.store.texts import FoundText, Word
from vtr.store.writer import write_expert_manifest, write_found, write_shard
from vtr.types import Annotations, Caption, ExpertFeatures, ExpertSpec, Split, Video
from vtr.workspace import Run, Workspace

LETTERS = st.sampled_from(["demo", "Demo", "démo", "de\u0301mo", "make", "made", "34", "a", "\u4e16\u754c", "\u4e16"])
TEXTS = st.lists(st.lists(LETTERS, min_size=1, max_size=5).map(" ".join), min_size=1, max_size=8)


def said(*texts: str) -> list[tuple[str, FoundText]]:
    return [(f"v{number}", FoundText(text, 0, float(number), number + 1.0, 0.5)) for number, text in enumerate(texts)]


def tokens(text: str) -> list[str]:
    """Case folded, without accents; Chinese letters one by one."""
    plain = "".join(letter for letter in unicodedata.normalize("NFD", text) if not unicodedata.combining(letter))
    return re.findall(r"[\u4e00-\u9fff]|[^\W_\u4e00-\u9fff]+", plain.lower())


def count(phrase: list[str], words: list[str]) -> int:
    return sum(words[at : at + len(phrase)] == phrase for at in range(len(words) - len(phrase) + 1))


def found_ids(texts: list[str], query: str) -> list[str]:
    return sorted(hit.video_id for hit in find(said(*texts), query, 100)[0])


@settings(max_examples=150, deadline=None)
@given(texts=TEXTS, words=st.lists(LETTERS, min_size=1, max_size=3), quoted=st.booleans())
def test_what_is_found_is_what_a_plain_loop_finds(texts: list[str], words: list[str], quoted: bool) -> None:
    phrases = [tokens(" ".join(words))] if quoted else [tokens(word) for word in words]
    expected = [
        f"v{number}" for number, text in enumerate(texts) if all(count(phrase, tokens(text)) for phrase in phrases)
    ]
    query = f'"{" ".join(words)}"' if quoted else " ".join(words)
    assert found_ids(texts, query) == sorted(expected)


@settings(max_examples=60, deadline=None)
@given(texts=TEXTS, words=st.lists(LETTERS, min_size=1, max_size=2))
def test_the_order_is_bm25(texts: list[str], words: list[str]) -> None:
    """Robertson's formula with k1 = 1.2 and b = 0.75, as SQLite documents it."""
    held, phrases = [tokens(text) for text in texts], [tokens(word) for word in words]
    hits = find(said(*texts), " ".join(words), 100)[0]
    assume(hits)
    mean = np.mean([len(one) for one in held])
    for hit in hits:
        mine = held[int(hit.video_id[1:])]
        score = 0.0
        for phrase in phrases:
            holding = sum(bool(count(phrase, one)) for one in held)
            rarity = max(math.log((len(held) - holding + 0.5) / (holding + 0.5)), 0) or 1e-6
            often = count(phrase, mine)
            score += rarity * often * 2.2 / (often + 1.2 * (0.25 + 0.75 * len(mine) / mean))
        assert hit.score == pytest.approx(score, rel=1e-6)
    order = [(-hit.score, hit.video_id) for hit in hits]
    assert order == sorted(order)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))


@pytest.mark.parametrize(
    ("query", "text", "marked"),
    [
        ("demo", "You make a Demo, a demo!", "You make a [Demo], a [demo]!"),
        ('"make a"', "You make a demo, make it a good one", "You [make a] demo, make it a good one"),
        ("demo make", "make démo", "[make] [démo]"),
        ("cafe", "cafe\u0301 CAFÉ", "[cafe\u0301] [CAFÉ]"),
        ("\u4e16\u754c", "\u4f60\u597d\u4e16\u754c abc", "\u4f60\u597d[\u4e16\u754c] abc"),
        ("abc", "\u4f60\u597dabc", "\u4f60\u597d[abc]"),
        ('say "hello', 'they say "hello"', 'they [say] "[hello]"'),
        ("AND", "this and that", "this [and] that"),
        ("it's", "it's me", "[it's] me"),
        ("a*", "a ab", "[a] ab"),
    ],
)
def test_words_are_marked(query: str, text: str, marked: str) -> None:
    (hit,), found, searched = find(said(text, "nothing of that kind"), query)
    assert (hit.marked, hit.text, found, searched) == (marked, text, 1, 2)


@pytest.mark.parametrize("query", ["", "  ", '""', "!?", "*"])
def test_a_query_without_words(query: str) -> None:
    with pytest.raises(InputError, match="holds no word"):
        find(said("a"), query)


def test_the_moment_is_that_of_the_word() -> None:
    words = (Word("I", 10.0, 10.1, 0.9), Word("think", 10.2, 10.4, 0.9), Word("so,", 10.5, 10.8, 0.9))
    text = FoundText(
        "I think so, I do.", 0, 9.5, 12.0, 0.9, None, (*words, Word("I", 11, 11.1, 1), Word("do.", 11.2, 12, 1))
    )
    for query, at in (("think", 10.2), ("so", 10.5), ("do", 11.2), ("i", 10.0), ('"so i"', 10.5), ("do so", 10.5)):
        (hit,) = find([("v", text)], query)[0]
        assert (hit.seconds, hit.start_seconds, hit.end_seconds) == (at, 9.5, 12.0)
    (hit,) = find([("v", replace(text, words=()))], "so")[0]
    assert hit.seconds == 9.5


def test_a_text_shown_again_is_one_result() -> None:
    texts = [
        ("v", FoundText("EXIT", 0, 7.0, 8.0, 0.9, (0.1, 0.2, 0.3, 0.4))),
        ("v", FoundText("Exit", 0, 2.0, 3.0, 0.7, (0, 0, 1, 1))),
        ("v", FoundText("Exit now", 1, 2.0, 3.0, 0.8, (0, 0, 1, 1))),
        ("w", FoundText("EXIT", 0, 1.0, 3.0, 0.6, (0, 0, 1, 1))),
    ]
    hits, found, searched = find(texts, "exit", top=2)
    assert (found, searched) == (3, 4)
    assert [(hit.video_id, hit.text, hit.seconds, hit.times, hit.confidence, hit.box) for hit in hits] == [
        ("v", "Exit", 2.0, 2, 0.9, [0, 0, 1, 1]),
        ("w", "EXIT", 1.0, 1, 0.6, [0, 0, 1, 1]),
    ]


def test_letters_that_stand_for_marks_are_no_trouble() -> None:
    (hit,), _, _ = find(said("\ue000a\ue001 \u200bdemo"), "demo")
    assert hit.marked == "a [demo]"


def test_sqlite_without_full_text_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_search, "CREATE", "CREATE VIRTUAL TABLE texts USING fts9(text)")
    with pytest.raises(UnavailableError, match=r"no full-text search.*fts9"):
        find(said("a"), "a")


def test_what_goes_wrong_while_texts_are_read_is_passed_on() -> None:
    def texts():
        yield from said("a")
        raise WorkspaceError("the side table is damaged")

    with pytest.raises(WorkspaceError, match="the side table is damaged"):
        find(texts(), "a")


def write_expert(
    workspace: Workspace, spec: ExpertSpec, kept: dict[str, list[FoundText]], with_finds: set[str]
) -> None:
    """Write one feature a text; single finds only for some of the videos."""
    rows = []
    for video_id, finds in kept.items():
        seconds = np.array([one.start_seconds for one in finds], np.float32)
        features = ExpertFeatures(np.ones((len(finds), spec.dim), np.float32), seconds, seconds + 1)
        texts = tuple(one.text for one in finds) if spec.modality == "text" else None
        rows.append(encode_row(video_id, features, texts, "float32"))
    folder, name = workspace.features / spec.name, "part-00000.parquet"
    checksums = {name: write_shard(folder / name, spec, rows, list(kept), {})}
    finds = {video_id: finds for video_id, finds in kept.items() if video_id in with_finds}
    texts = {name: write_found(folder / "texts" / name, finds)} if finds else {}
    counts = {"examined": len(kept), "present": len(kept)}
    write_expert_manifest(
        folder, spec, checksums, inputs={}, config={}, counts=counts, counts_by_shard={name: [1, 1]}, texts=texts
    )


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Speech with finds of one video and, as a former store has it, only texts of another; and appearance."""
    videos = (Video("clips/one", "/there/one.mp4"), Video("clips/two"))
    captions = tuple(Caption(f"{video.id}#0", video.id, "a clip") for video in videos)
    prepare_annotations(
        Annotations(videos, captions), [Split("full", (), (), ("clips/one", "clips/two"))], tmp_path / "ws"
    )
    opened = Workspace.open(tmp_path / "ws")
    words = (Word("Let", 61.0, 61.2, 0.75), Word("us", 61.2, 61.3, 0.75), Word("make", 61.5, 61.75, 0.75))
    kept = {
        "clips/one": [FoundText("Let us make", 0, 60.5, 62.0, 0.75, None, words)],
        "clips/two": [FoundText("no", 0, 1.0, 2.0, 0.5), FoundText("They make a demo.", 1, 3.0, 4.0, 0.5)],
    }
    write_expert(opened, ExpertSpec("speech", 3, "text", None, "made up"), kept, {"clips/one"})
    write_expert(opened, ExpertSpec("appearance", 3, "image", None, "made up"), kept, set())
    return opened


def test_a_workspace_is_searched_with_or_without_finds(workspace: Workspace) -> None:
    lines = search_texts(workspace.root, "speech", "MAKE").splitlines()
    assert lines == [
        "MAKE: the best 2 of 2 found in the 3 texts of speech",
        "   1    1:01.5  clips/one  /there/one.mp4",
        "                Let us [make]  (confidence 0.75)",
        "   2    0:03.0  clips/two  no file here",
        "                They [make] a demo.",
    ]
    found = json.loads(search_texts(workspace.root, "speech", '"make a"', as_json=True))
    assert (found["in"], found["searched"], found["found"]) == ("speech", 3, 1)
    (result,) = found["results"]
    assert (result["video_id"], result["seconds"], result["confidence"]) == ("clips/two", 3.0, None)
    assert (
        search_texts(workspace.root, "speech", "nowhere") == "nowhere: the best 0 of 0 found in the 3 texts of speech"
    )


def test_videos_that_have_left_are_not_found(workspace: Workspace) -> None:
    videos = (Video("clips/one", "/there/one.mp4"),)
    prepare_annotations(Annotations(videos, ()), [Split("full", (), (), ("clips/one",))], workspace.root)
    told = search_texts(workspace.root, "speech", "make").splitlines()
    assert told[0] == "make: the best 1 of 1 found in the 1 texts of speech"
    assert "clips/one" in told[1]


def test_a_run_searches_its_workspace(workspace: Workspace, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", workspace)
    assert search_texts(run.root, "speech", "demo") == search_texts(workspace.root, "speech", "demo")


def test_experts_without_text(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"appearance keeps no text; of those here, speech do"):
        search_texts(workspace.root, "appearance", "a")
    with pytest.raises(WorkspaceError, match=r"no expert 'speach'; Did you mean 'speech'"):
        search_texts(workspace.root, "speach", "a")
    with pytest.raises(WorkspaceError, match="not exist"):
        search_texts(tmp_path / "nowhere", "speech", "a")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["vtr", "search", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return left.value.code


def test_the_command(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, workspace.root, "--in", "speech", "make demo", "--json") == 0
    assert [hit["marked"] for hit in json.loads(capsys.readouterr().out)["results"]] == ["They [make] a [demo]."]
    assert call(monkeypatch, workspace.root, "make", "--in", "speech", "--top", 1) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert call(monkeypatch, "anywhere", "make", "--in", "speech", "--workspace", workspace.root) == 0
    for wrong in (
        ["--in", "speech"],
        ["make", "--in", "speech", "--video", "a.mp4"],
        ["a", "--in", "ocr", "--part", "test"],
    ):
        assert call(monkeypatch, workspace.root, *wrong) == 2
        assert "--in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.04, "0:00.0"), (59.96, "1:00.0"), (754.25, "12:34.2"), (3661.0, "1:01:01.0"), (None, "-")]
)
def test_times_are_minutes_and_seconds(seconds: float | None, shown: str) -> None:
    assert text_search._clock(seconds) == shown
