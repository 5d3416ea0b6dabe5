"""The real MSR-VTT: counts, and facts about its splits that were established apart from this code."""

from __future__ import annotations

import csv
import json
import zipfile
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vtr.annotations.msrvtt import read_splits
from vtr.annotations.prepare import prepare_msrvtt
from vtr.annotations.tables import load_annotations, load_split, split_names
from vtr.files import read_json
from vtr.types import Annotations, Split, Video

Published = tuple[Annotations, Split]


@pytest.fixture(scope="session")
def splits(shared: Path, msrvtt: Published) -> dict[str, Split]:
    found, _ = read_splits(shared / "msrvtt" / "splits", *msrvtt)
    return {split.name: split for split in found}


@pytest.fixture(scope="session")
def sentences(shared: Path) -> list[dict[str, Any]]:
    """The sentences as the zips hold them, read without vtr."""
    found = []
    for path, name in (("train_val_annotation.zip", "train_val"), ("test_videodatainfo.json.zip", "test")):
        with zipfile.ZipFile(shared / "msrvtt" / "annotation" / path) as archive:
            found += json.loads(archive.read(f"{name}_videodatainfo.json"))["sentences"]
    return found


def test_counts_are_the_published_ones(msrvtt: Published, splits: dict[str, Split]) -> None:
    annotations, full = msrvtt
    assert (len(full.train), len(full.validation), len(full.test)) == (6513, 497, 2990)
    assert len(annotations.captions) == 200_000
    assert {len(captions) for captions in annotations.captions_by_video.values()} == {20}
    sizes = {name: (len(s.train), len(s.validation), len(s.test)) for name, s in splits.items()}
    assert sizes == {
        "full": (6513, 497, 2990),
        "full-single": (6513, 497, 2990),
        "1k-A": (9000, 0, 1000),
        "1k-A-holdout": (8500, 500, 1000),
        "1k-B": (6656, 0, 1000),
    }
    queries = {name: len(split.queries("test", annotations)) for name, split in splits.items()}
    assert queries == {"full": 59_800, "full-single": 2990, "1k-A": 1000, "1k-A-holdout": 1000, "1k-B": 1000}
    assert len(splits["full"].queries("validation", annotations)) == 9940
    assert len(splits["1k-A-holdout"].queries("validation", annotations)) == 500


def test_captions_keep_the_order_of_their_sentence_ids(msrvtt: Published, sentences: list[dict[str, Any]]) -> None:
    expected: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for sentence in sentences:
        expected[sentence["video_id"]].append((sentence["sen_id"], sentence["caption"]))
    for video_id, captions in msrvtt[0].captions_by_video.items():
        assert [c.text for c in captions] == [text for _, text in sorted(expected[video_id])]
        assert [c.id for c in captions] == [f"{video_id}#{place}" for place in range(20)]


def test_metadata_comes_along(msrvtt: Published) -> None:
    first = msrvtt[0].video_by_id["video0"]
    assert (first.category, first.start_seconds, first.end_seconds) == ("vehicles", 137.72, 149.44)
    assert first.source_id == "https://www.youtube.com/watch?v=9lZi22qLlEo"


def test_holdout_is_carved_from_train_and_leaves_test_alone(msrvtt: Published, splits: dict[str, Split]) -> None:
    first, held = splits["1k-A"], splits["1k-A-holdout"]
    assert held.test == first.test
    assert set(held.train) | set(held.validation) == set(first.train)
    assert held.queries("test", msrvtt[0]) == first.queries("test", msrvtt[0])


def test_queries_of_1k_a_are_the_csv_s_apart_from_spacing_and_punctuation(
    shared: Path, msrvtt: Published, splits: dict[str, Split]
) -> None:
    with (shared / "msrvtt" / "splits" / "MSRVTT_JSFUSION_test.csv").open(encoding="utf-8") as stream:
        table = {row["video_id"]: row["sentence"] for row in csv.DictReader(stream)}
    queries = {caption.video_id: caption.text for caption in splits["1k-A"].queries("test", msrvtt[0])}
    assert sum(queries[video_id] == text for video_id, text in table.items()) == 965
    for video_id, text in table.items():
        assert [c for c in queries[video_id] if c.isalpha()] == [c for c in text if c.isalpha()]
    assert tuple(table) != splits["1k-A"].test and set(table) == set(splits["1k-A"].test)  # the CSV's order is its own


@pytest.mark.parametrize("missing", ["MSRVTT_JSFUSION_test.csv", "jsfusion_val_caption_idx.pkl"])
def test_either_source_of_the_queries_suffices(
    shared: Path, msrvtt: Published, splits: dict[str, Split], tmp_path: Path, missing: str
) -> None:
    for path in (shared / "msrvtt" / "splits").iterdir():
        if path.name != missing:
            (tmp_path / path.name).symlink_to(path)
    found, differ = read_splits(tmp_path, *msrvtt)
    alone = next(split for split in found if split.name == "1k-A")
    text_of = msrvtt[0].caption_by_id
    # a video may have one caption twice; the CSV cannot tell which of the two it means
    for mine, theirs in zip(alone.query_caption_ids or (), splits["1k-A"].query_caption_ids or (), strict=True):
        assert text_of[mine].text == text_of[theirs].text or missing == "jsfusion_val_caption_idx.pkl"
        assert text_of[mine].video_id == text_of[theirs].video_id
    assert len(differ) == (35 if missing == "jsfusion_val_caption_idx.pkl" else 0)


def test_full_has_no_source_in_train_and_test(msrvtt: Published) -> None:
    annotations, full = msrvtt
    source = {video.id: video.source_id for video in annotations.videos}
    seen = {source[video_id] for video_id in full.train + full.validation}
    assert not [video_id for video_id in full.test if source[video_id] in seen]


def test_1k_a_shares_sources_with_its_training_list(msrvtt: Published, splits: dict[str, Split]) -> None:
    videos = msrvtt[0].video_by_id
    clips: dict[str | None, list[Video]] = defaultdict(list)
    for video_id in splits["1k-A"].train:
        clips[videos[video_id].source_id].append(videos[video_id])

    def overlaps(one: Video, other: Video) -> bool:
        times = (one.start_seconds, one.end_seconds, other.start_seconds, other.end_seconds)
        start, end, other_start, other_end = (float(time or 0) for time in times)
        return start < other_end and other_start < end

    test = [videos[video_id] for video_id in splits["1k-A"].test]
    assert sum(bool(clips[video.source_id]) for video in test) == 372
    assert sum(any(overlaps(video, clip) for clip in clips[video.source_id]) for video in test) == 52


def test_captions_shared_between_videos(msrvtt: Published) -> None:
    annotations, full = msrvtt
    owners: dict[str, set[str]] = defaultdict(set)
    for caption in annotations.captions:
        owners[caption.text].add(caption.video_id)
    shared_captions = sum(len(owners[caption.text]) > 1 for caption in annotations.captions)
    assert shared_captions / len(annotations.captions) == pytest.approx(0.137, abs=0.0005)

    queries = full.queries("test", annotations)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for caption in queries:
        counts[caption.text][caption.video_id] += 1
    assert sum(len(counts[c.text]) > 1 for c in queries) / len(queries) == pytest.approx(0.104, abs=0.0005)
    for at, ceiling in ((1, 92.8), (5, 97.5), (10, 98.5)):
        best = sum(sum(count for _, count in videos.most_common(at)) for videos in counts.values())
        assert 100 * best / len(queries) == pytest.approx(ceiling, abs=0.05)


def test_prepare_reports_and_stores_every_disagreement(shared: Path, tmp_path: Path, msrvtt: Published) -> None:
    root = shared / "msrvtt"
    report = prepare_msrvtt(root / "annotation", root / "splits", root / "videos", tmp_path / "ws")
    assert len(report.disagreements) == 35
    assert all(line in str(report) for line in report.disagreements)
    assert read_json(report.workspace.annotations / "report.json")["disagreements"] == list(report.disagreements)
    lines = [" ".join(line.split()) for line in str(report).splitlines()]
    assert "full validation: 244 of 497 9940" in lines
    assert "full train: 3151 of 6513" in lines
    assert "full test: 0 of 2990 59800" in lines
    assert split_names(report.workspace) == ("1k-A", "1k-A-holdout", "1k-B", "full", "full-single")

    annotations = load_annotations(report.workspace)
    assert annotations.captions == msrvtt[0].captions
    with_file = {video.id: video.path for video in annotations.videos if video.path is not None}
    assert with_file == {path.stem: str(path.resolve()) for path in (root / "videos").glob("*.mp4")}
    assert tuple(replace(video, path=None) for video in annotations.videos) == msrvtt[0].videos
    assert load_split(report.workspace, "1k-A").queries("test", annotations)[0].video_id == "video7020"
