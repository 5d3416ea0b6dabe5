"""The search stage: words find videos, a video finds captions, and what cannot be asked is said."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vtr import cli
from vtr.errors import InputError, WorkspaceError
from vtr.files import read_json, write_json
from vtr.retrieval import Retriever
from vtr.retrieval.galleries import embed_and_index
from vtr.similarity import exact_scores
from vtr.stages.search import search
from vtr.store.reader import FeatureStore
from vtr.types import ExpertFeatures
from vtr.workspace import Run, Workspace


def never(run: Run, path: Path) -> Mapping[str, ExpertFeatures]:
    raise AssertionError(f"nothing was to be extracted from {path} for {run}")


def test_words_find_the_videos_they_describe(run: Run) -> None:
    """The small world is learnt well enough that a training video's own caption finds it near the top of 24."""
    answer = json.loads(search(run, "a red dog", None, top=5, split="full", part="train", as_json=True, extract=never))
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
    lines = search(run, "a green car", None, top=2, extract=never).splitlines()
    assert lines[0] == "a green car: the best 2 of 6 videos (full test: 6 of 6)"
    assert lines[1].split()[0] == "1"
    assert lines[2].strip().startswith("e.g. a ")
    assert len(lines) == 5


def test_a_video_finds_captions(run: Run, tmp_path: Path) -> None:
    """Asked with a gallery video's stored features, the captions come in the order of its column of scores."""
    store = FeatureStore(run.workspace.features)
    part = embed_and_index(run, None, None, device="cpu").embedded
    for row, video_id in enumerate(part.videos.ids):
        held = {name: found[video_id] for name in store.experts if video_id in (found := store.read(name, [video_id]))}
        clip = tmp_path / "-odd name.mp4"
        clip.write_bytes(b"any")
        answer = json.loads(search(run, None, clip, top=12, as_json=True, extract=lambda _run, _path, held=held: held))
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
        search(run, None, clip, extract=lambda _run, _path: {"ocr": strange})
    with pytest.raises(InputError, match="appearance features have dim 5, the model takes 12"):
        search(run, None, clip, extract=lambda _run, _path: {"appearance": strange})


@pytest.mark.parametrize(
    ("query", "video", "message"),
    [
        (None, None, "neither words nor a video"),
        ("a dog", "clip.mp4", "both words and a video"),
        ("", None, "the query is empty"),
        (" \t", None, "the query is empty"),
        (None, "nowhere.mp4", "nowhere.mp4 is not there"),
        (None, ".", "is a folder"),
    ],
)
def test_what_cannot_be_asked(run: Run, query: str | None, video: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        search(run, query, Path(video) if video else None, extract=never)


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
    lines = search(there, "a gold boat", None, top=3, extract=never).splitlines()
    assert lines[0] == "a gold boat: the best 3 of 5 videos (full test: 5 of 6)"
    assert len(lines) == 4  # no captions to show
    assert not (run.index / "full-test").exists()
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"any")
    with pytest.raises(WorkspaceError, match="has no captions to answer a video with"):
        search(there, None, clip, extract=never)


def test_an_untrained_run(run: Run) -> None:
    (run.root / "manifest.json").unlink()
    with pytest.raises(WorkspaceError, match="vtr train"):
        search(run, "a dog", None, extract=never)


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
