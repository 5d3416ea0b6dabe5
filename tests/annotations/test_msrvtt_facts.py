"""The real MSR-VTT: facts beside its counts, about words, categories, query lists and the clips that could be had."""

from __future__ import annotations

import csv
import json
import zipfile
from collections import Counter
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vtr.annotations.msrvtt import CATEGORIES, read_splits
from vtr.safe_pickle import load_pickle
from vtr.types import Annotations, Split

Published = tuple[Annotations, Split]


@pytest.fixture(scope="module")
def found(shared: Path, msrvtt: Published) -> tuple[dict[str, Split], list[str]]:
    """The published splits by name, and the disagreements met on the way."""
    splits, differ = read_splits(shared / "msrvtt" / "splits", *msrvtt)
    return {split.name: split for split in splits}, differ


@pytest.fixture(scope="module")
def clips(shared: Path) -> list[Path]:
    """The clips with real pixels; their tests are skipped where the folder is absent."""
    folder = shared / "msrvtt" / "videos"
    if not folder.is_dir():
        pytest.skip(f"the clips of MSR-VTT are not here ({folder})")
    return sorted(folder.glob("*.mp4"))


def test_the_two_files_hold_7010_and_2990_videos(shared: Path, msrvtt: Published) -> None:
    annotations, full = msrvtt
    held = []
    for name, inside in (("train_val_annotation", "train_val"), ("test_videodatainfo.json", "test")):
        with zipfile.ZipFile(shared / "msrvtt" / "annotation" / f"{name}.zip") as archive:
            content = json.loads(archive.read(f"{inside}_videodatainfo.json"))
        held.append({video["video_id"] for video in content["videos"]})
    assert [len(ids) for ids in held] == [7010, 2990]
    assert held == [set(full.train) | set(full.validation), set(full.test)]
    assert len(annotations.videos) == 10_000


def test_words_per_caption(msrvtt: Published) -> None:
    words = np.array([len(caption.text.split()) for caption in msrvtt[0].captions])
    assert round(float(words.mean()), 1) == 9.3
    assert np.percentile(words, 99) == 24
    assert words.max() == 72


def test_every_video_has_a_category_and_a_time_and_all_20_categories_are_used(msrvtt: Published) -> None:
    videos = msrvtt[0].videos
    assert {video.category for video in videos} == set(CATEGORIES)
    assert len(CATEGORIES) == 20
    for video in videos:
        assert video.start_seconds is not None and video.end_seconds is not None
        assert 0 <= video.start_seconds < video.end_seconds


def test_every_source_is_a_url_of_one_form(msrvtt: Published) -> None:
    """What lets sources be compared as they are written: no clip can hide behind another form of its URL."""
    sources = {str(video.source_id) for video in msrvtt[0].videos}
    names = {source.removeprefix("https://www.youtube.com/watch?v=") for source in sources}
    assert {len(name) for name in names} == {11}
    assert len(names) == len(sources) == 7180


def test_35_queries_of_1k_a_differ_and_are_reported(found: tuple[dict[str, Split], list[str]]) -> None:
    assert len(found[1]) == len({line.split(":")[0] for line in found[1]}) == 35


def test_the_index_names_the_place_of_the_1k_a_query(
    shared: Path, msrvtt: Published, found: tuple[dict[str, Split], list[str]]
) -> None:
    places = load_pickle(shared / "msrvtt" / "splits" / "jsfusion_val_caption_idx.pkl")
    queries = found[0]["1k-A"].queries("test", msrvtt[0])
    assert {query.video_id: int(query.id.split("#")[1]) for query in queries} == places


@pytest.mark.parametrize("table", ["MSRVTT_train.7k.csv", "MSRVTT_train.9k.csv"])
def test_the_training_tables_name_the_same_videos_as_the_lists(
    shared: Path, msrvtt: Published, found: tuple[dict[str, Split], list[str]], table: str
) -> None:
    with (shared / "msrvtt" / "splits" / table).open(encoding="utf-8") as stream:
        ids = [row["video_id"] for row in csv.DictReader(stream)]
    full = msrvtt[1]
    expected = full.train + full.validation if "7k" in table else found[0]["1k-A"].train
    assert len(ids) == len(set(ids)) == (7010 if "7k" in table else 9000)
    assert set(ids) == set(expected)


def test_1k_a_is_cut_from_full_s_test_part_but_1k_b_is_not(
    msrvtt: Published, found: tuple[dict[str, Split], list[str]]
) -> None:
    full, splits = msrvtt[1], found[0]
    assert set(splits["1k-A"].test) <= set(full.test)
    assert len(set(splits["1k-B"].test) & set(full.test)) == 896
    assert set(full.train) | set(full.validation) <= set(splits["1k-A"].train)


def test_the_clips_are_of_train_and_validation(msrvtt: Published, clips: list[Path]) -> None:
    full = msrvtt[1]
    part_of = {video_id: part for part in ("train", "validation", "test") for video_id in getattr(full, part)}
    assert Counter(part_of[path.stem] for path in clips) == {"train": 3151, "validation": 244}


def test_the_clips_hold_up_to_8_small_frames_one_a_second_without_sound(clips: list[Path]) -> None:
    for path in clips[::100]:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.width, stream.height, stream.codec_context.name) == (320, 240, "h264")
            assert (stream.average_rate, len(container.streams.audio)) == (Fraction(1), 0)
            assert 1 <= sum(1 for _ in container.decode(stream)) <= 8
