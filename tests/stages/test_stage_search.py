"""The search stage: words find videos, a video finds captions, and what cannot be asked is said."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vtr import cli
from vtr.errors import InputError, WorkspaceError
from vtr.files import read_json, write_json
from vtr.retrieval import Filters, Hit, Moment, Retriever, Snippet
from vtr.retrieval.galleries import embed_and_index
from vtr.similarity import exact_scores
from vtr.stages import search as search_stage
from vtr.stages.search import Question, search
from vtr.store.reader import FeatureStore
from vtr.types import ExpertFeatures
from vtr.workspace import Run, Workspace


def never(run: Run, path: Path) -> Mapping[str, ExpertFeatures]:
    raise AssertionError(f"nothing was to be extracted from {path} for {run}")


def ask(run: Run, question: Question, **how: Any) -> str:
    """Return the one answer, as text."""
    (answer,) = search(run, question, **{"extract": never, **how})
    return answer


def test_words_find_the_videos_they_describe(run: Run) -> None:
    """The small world is learnt well enough that a training video's own caption finds it near the top of 24."""
    answer = json.loads(ask(run, Question("a red dog"), top=5, split="full", part="train", as_json=True))
    assert answer["gallery"] == "full train: 24 of 24"
    assert [hit["rank"] for hit in answer["results"]] == [1, 2, 3, 4, 5]
    scores = [hit["score"] for hit in answer["results"]]
    assert scores == sorted(scores, reverse=True)
    assert sum("red" in hit["video_id"] or "dog" in hit["video_id"] for hit in answer["results"]) >= 3
    first = answer["results"][0]
    assert Path(first["path"]).is_file()
    thing, colour = first["video_id"].removeprefix("clips/").split("-")
    assert first["caption"] == f"a {colour} {thing}"


def test_lines_to_read(run: Run) -> None:
    hits = Retriever.load(run).search(["a green car"], 2)[0]
    lines = ask(run, Question("a green car"), top=2).splitlines()
    assert lines[0] == "a green car: the best 2 of 6 videos (full test: 6 of 6)"
    assert lines[1].split() == ["rank", "score", "video", "moment", "score", "by", "expert"]
    rank, score, video_id, moment, *shares = lines[2].split()
    assert (rank, score, video_id, moment) == ("1", f"{hits[0].score:.3f}", hits[0].video_id, "0:00-0:03")
    by_size = sorted(hits[0].shares.items(), key=lambda share: -abs(share[1]))
    assert " ".join(shares) == ", ".join(f"{name} {share:.2f}" for name, share in by_size)
    assert lines[3].strip().startswith("e.g. a ")
    assert len(lines) == 6


def test_a_video_finds_captions(run: Run, tmp_path: Path) -> None:
    """Asked with a gallery video's stored features, the captions come in the order of its column of scores."""
    store = FeatureStore(run.workspace.features)
    part = embed_and_index(run, None, None, device="cpu").embedded
    for row, video_id in enumerate(part.videos.ids):
        held = {name: found[video_id] for name in store.experts if video_id in (found := store.read(name, [video_id]))}
        clip = tmp_path / "-odd name.mp4"
        clip.write_bytes(b"any")
        how = {"top": 12, "as_json": True, "extract": lambda _run, _path, held=held: held}
        answer = json.loads(ask(run, Question(video=clip), **how))
        column = exact_scores(part.texts, part.videos)[:, row].numpy()
        assert [hit["score"] for hit in answer["results"]] == pytest.approx(np.sort(column)[::-1], abs=1e-5)
        best = int(np.argmax(column))
        assert answer["results"][0]["caption"] == part.texts_plain[best]


def test_an_expert_the_model_does_not_know_is_passed_over(run: Run, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"any")
    ones = np.ones((1, 5), np.float32)
    strange = ExpertFeatures(ones, ones[:, 0], ones[:, 0])
    with pytest.raises(InputError, match=r"nothing that the model's experts see \(appearance, motion\)"):
        ask(run, Question(video=clip), extract=lambda _run, _path: {"ocr": strange})
    with pytest.raises(InputError, match="appearance features have dim 5, the model takes 12"):
        ask(run, Question(video=clip), extract=lambda _run, _path: {"appearance": strange})


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "neither words nor a video"),
        ({"words": "a dog", "video": Path("clip.mp4")}, "words and --video were given together"),
        ({"file": Path("a.txt"), "similar": "clips/1"}, "--file and --similar were given together"),
        ({"words": ""}, "the query is empty"),
        ({"words": " \t"}, "the query is empty"),
        ({"video": Path("nowhere.mp4")}, "nowhere.mp4 is not there"),
        ({"video": Path()}, "is a folder"),
    ],
)
def test_what_cannot_be_asked(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Question(**asked)


def test_what_cannot_be_answered(run: Run, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"any")
    with pytest.raises(InputError, match=r"captions were asked for\. Add --answers videos"):
        ask(run, Question(video=clip), filters=Filters(max_seconds=3))
    with pytest.raises(InputError, match="a video was given"):
        ask(run, Question(similar="clips/dog-red"), qb_norm=True)
    with pytest.raises(InputError, match="the gallery has no video 'clips/dog-mauve'"):
        ask(run, Question(similar="clips/dog-mauve"))


def test_a_file_of_queries_is_answered_in_order_as_each_alone(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    queries = [f"a {colour} {thing}" for colour in ("red", "green", "blue") for thing in ("dog", "car")]
    text = "\n\n".join(queries) + "\n"
    (tmp_path / "queries.txt").write_text(text, encoding="utf-8")
    monkeypatch.setattr(search_stage, "QUERIES_AT_ONCE", 4)
    lines = list(search(run, Question(file=tmp_path / "queries.txt"), top=3, as_json=True, extract=never))
    assert [json.loads(line)["query"] for line in lines] == queries
    assert all("\n" not in line for line in lines)
    assert "search: 6 of 6 queries" in capsys.readouterr().err
    for line in lines:
        found = json.loads(line)
        alone = json.loads(ask(run, Question(found["query"]), top=3, as_json=True))
        assert [hit["video_id"] for hit in found["results"]] == [hit["video_id"] for hit in alone["results"]]
        assert [hit["score"] for hit in found["results"]] == pytest.approx(
            [h["score"] for h in alone["results"]], abs=1e-5
        )
        assert [hit["moment"] for hit in found["results"]] == [hit["moment"] for hit in alone["results"]]
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    piped = list(search(run, Question(file=Path("-")), top=3, as_json=True, extract=never))
    assert piped == lines
    tables = list(search(run, Question(file=tmp_path / "queries.txt"), top=3, extract=never))
    assert [table.split(":")[0] for table in tables] == queries


@pytest.mark.parametrize(("content", "message"), [(b"\n \n", "holds no query"), (b"\xff\xfe", "is not UTF-8")])
def test_a_file_that_holds_no_queries(run: Run, tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "queries.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        ask(run, Question(file=path))
    with pytest.raises(InputError, match="cannot be read"):
        ask(run, Question(file=tmp_path / "nowhere.txt"))


def test_a_table_fits_into_100_columns(run: Run) -> None:
    shares = {f"an_expert_with_a_long_name_{number}": 0.1 * number for number in range(6)}
    long = Snippet("word " * 60, "speech", 75.0)
    hit = Hit(1, 0.5, "a/video/with/a/rather/long/identity", None, "so " * 60, Moment(3661, 3725.4), shares, long)
    lines = search_stage._table("x", Retriever.load(run), [hit], Question("x"), Filters("music", 1, 2.5, False))
    first, *rest = lines.splitlines()
    assert first.endswith(", category music, at least 1 s, at most 2.5 s, without speech")
    assert all(len(line) <= 100 for line in rest)
    assert "1:01:01-1:02:05" in rest[1] and "speech 1:15: word word" in rest[3]
    assert "an_expert_with_a_long_name_5" in rest[1]


def test_a_video_finds_videos_and_one_of_the_gallery_its_like(run: Run, tmp_path: Path) -> None:
    store = FeatureStore(run.workspace.features)
    retriever = Retriever.load(run)
    asked = retriever.part.videos.ids[0]
    held = {name: found[asked] for name in store.experts if asked in (found := store.read(name, [asked]))}
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"any")
    question = Question(video=clip, answers="videos")
    answer = json.loads(ask(run, question, top=3, as_json=True, extract=lambda _run, _path: held))
    assert answer["results"][0]["video_id"] == asked  # itself, the most alike
    like = json.loads(ask(run, Question(similar=asked), top=2, as_json=True))
    assert [hit["video_id"] for hit in like["results"]] == [hit["video_id"] for hit in answer["results"][1:]]


def test_the_largest_indexed_gallery_is_searched(run: Run) -> None:
    assert Retriever.load(run).gallery == "full test: 6 of 6"  # nothing is indexed: the default part
    embed_and_index(run, "full", "train", device="cpu")
    assert Retriever.load(run).gallery == "full train: 24 of 24"
    assert Retriever.load(run, split="val").gallery == "full validation: 6 of 6"
    bare = run.index / "full-train" / "manifest.json"
    write_json(bare, read_json(bare) | {"counts": {"videos": 24, "captions": 0}})
    assert Retriever.load(run).gallery == "full train: 24 of 24"
    assert Retriever.load(run, captions=True).gallery == "full test: 6 of 6"


def test_videos_without_captions_or_features_in_another_workspace(
    run: Run, other_workspace: Callable[..., Workspace], tmp_path: Path
) -> None:
    there = Run.open(run.root, other_workspace("bare", captions_a_video=0, without_features=1).root)
    lines = ask(there, Question("a gold boat"), top=3).splitlines()
    assert lines[0] == "a gold boat: the best 3 of 5 videos (full test: 5 of 6)"
    assert len(lines) == 5  # no captions to show
    assert not (run.index / "full-test").exists()
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"any")
    with pytest.raises(WorkspaceError, match="has no captions to answer a video with"):
        ask(there, Question(video=clip))


def test_an_untrained_run(run: Run) -> None:
    (run.root / "manifest.json").unlink()
    with pytest.raises(WorkspaceError, match="vtr train"):
        ask(run, Question("a dog"))


def test_the_command_extracts_the_video_as_the_workspace_was(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`vtr search RUN --video` hands the file to extraction with the store's experts, and prints captions."""
    from feature_extraction import one_video
    from feature_extraction.extractor import Extracted

    asked: list[Any] = []
    values = np.ones((2, 12), np.float32)

    def extract_one(path: Path, config: Any) -> dict[str, Extracted]:
        asked.append((path, config.experts))
        return {"appearance": Extracted(ExpertFeatures(values, values[:, 0], values[:, 0]))}

    monkeypatch.setattr(one_video, "extract_one", extract_one)
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"any")
    arguments = ["vtr", "search", str(run.root), "--video", str(clip), "--top", "1", "--split", "full", "--json"]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 0
    assert asked == [(clip, ("appearance", "motion"))]
    assert len(json.loads(capsys.readouterr().out)["results"]) == 1


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["a dog", "--answers", "videos"], 2, "no video was given"),
        (["a dog", "--in", "ocr", "--category", "music", "--no-speech"], 2, "--category, --speech"),
        (["a dog", "--speech"], 1, "no expert has listened for words"),
        (["a dog", "--min-seconds", "9", "--max-seconds", "2"], 1, "no video is at least 9 and at most 2 seconds long"),
        (["a dog", "--max-seconds", "2"], 0, "the best 0 of 6 videos"),
        (
            ["a dog", "--min-seconds", "2.5", "--top", "3"],
            0,
            "the best 3 of 6 videos (full test: 6 of 6), at least 2.5 s",
        ),
        (["--similar", "nowhere"], 1, "the gallery has no video 'nowhere'"),
    ],
)
def test_exit_codes_of_the_command(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.argv", ["vtr", "search", str(run.root), *options])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == code
    written = capsys.readouterr()
    assert message in " ".join((written.out if code == 0 else written.err).replace("│", " ").split())
