"""The layouts in which MSR-VTT is passed on: each makes what the official files make, as far as it has the facts."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vtr.annotations.msrvtt import (
    CATEGORIES,
    JSON_FILES,
    JSON_LISTS,
    QUERY_INDEX,
    QUERY_TABLE,
    TABLE_1K_A,
    TEST_1K_A,
    TRAIN_1K_A,
    published_splits,
)
from vtr.annotations.msrvtt_layouts import recognise, videos_in
from vtr.annotations.prepare import PrepareReport, prepare_msrvtt
from vtr.annotations.tables import load_annotations, load_split, split_names
from vtr.errors import InputError
from vtr.evaluation.leaks import leaks
from vtr.types import Annotations, Split, Video
from vtr.workspace import Workspace

LISTS = ("train_list_full", "val_list_full", "test_list_full", "train_list_jsfusion", "val_list_jsfusion")
CSVS = ("MSRVTT_train.9k.csv", "MSRVTT_train.7k.csv", "MSRVTT_JSFUSION_test.csv")


@pytest.fixture(scope="module")
def official(shared: Path) -> dict[str, dict[str, Any]]:
    """What the two official files hold, read without vtr."""
    held = {}
    for archive, name in zip(("train_val_annotation.zip", "test_videodatainfo.json.zip"), JSON_FILES, strict=True):
        with zipfile.ZipFile(shared / "msrvtt" / "annotation" / archive) as zipped:
            held[name] = json.loads(zipped.read(name))
    return held


@pytest.fixture(scope="module")
def merged(official: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Videos and sentences of both files."""
    return {key: [entry for content in official.values() for entry in content[key]] for key in ("videos", "sentences")}


@pytest.fixture(scope="module")
def expected(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The workspace of the official files, without videos."""
    folder = shared / "msrvtt"
    return prepare_msrvtt(folder / "annotation", folder / "splits", None, tmp_path_factory.mktemp("official")).workspace


def clips(folder: Path, *ids: str) -> None:
    """Put files named as videos into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for video_id in ids:
        (folder / f"{video_id}.mp4").touch()


def copy_lists(shared: Path, folder: Path, *names: str) -> None:
    """Copy the published lists."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy(shared / "msrvtt" / "splits" / name, folder / name)


def dump(path: Path, content: object) -> None:
    """Write JSON into a folder that may have to be made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def only_captions(sentences: Sequence[dict[str, Any]], ids: Sequence[str]) -> dict[str, Any]:
    """Return sentences in the form of MSR_VTT.json."""
    return {
        "images": [{"id": video_id} for video_id in ids],
        "annotations": [{"image_id": entry["video_id"], "caption": entry["caption"]} for entry in sentences],
    }


def prepared(root: Path) -> PrepareReport:
    return prepare_msrvtt(None, None, None, root.parent / "ws", root)


def with_file(report: PrepareReport) -> set[str]:
    return {video.id for video in load_annotations(report.workspace).videos if video.path}


def facts(workspace: Workspace) -> tuple[Annotations, dict[str, Split]]:
    """Return a workspace's annotations without paths, and its splits by name."""
    annotations = load_annotations(workspace)
    videos = tuple(replace(video, path=None) for video in annotations.videos)
    return replace(annotations, videos=videos), {n: load_split(workspace, n) for n in split_names(workspace)}


def test_official_files_unpacked_beside_their_videos(
    shared: Path, official: dict[str, dict[str, Any]], expected: Workspace, tmp_path: Path
) -> None:
    root = tmp_path / "MSR-VTT"
    for name, content in official.items():
        dump(root / "annotations" / name, content)
    splits = shared / "msrvtt" / "splits"
    copy_lists(shared, root / "splits", *(path.name for path in splits.iterdir()))
    clips(root / "TrainValVideo", "video0", "video7009")
    clips(root / "TestVideo", "video7010", "unrelated")
    report = prepared(root)
    assert facts(report.workspace) == facts(expected)
    assert with_file(report) == {"video0", "video7009", "video7010"}
    told = str(report)
    assert (
        "layout: official files: annotations/train_val_videodatainfo.json, annotations/test_videodatainfo.json" in told
    )
    assert "videos: 3 in TestVideo, TrainValVideo" in told
    assert f"ignored in {root}: 1 other file: TestVideo/unrelated.mp4" in told
    assert "lists of splits: 10 in splits" in told and "not made" not in told


def test_clip4clip_s_data_beside_the_videos(
    shared: Path, merged: dict[str, Any], expected: Workspace, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    dump(root / "msrvtt_data" / "MSRVTT_data.json", merged)
    copy_lists(shared, root / "msrvtt_data", *CSVS)
    clips(root / "MSRVTT_Videos", "video0", "video9999")
    report = prepared(root)
    (annotations, splits), (theirs, published) = facts(report.workspace), facts(expected)
    assert annotations == theirs
    assert with_file(report) == {"video0", "video9999"}
    assert set(splits) == {"full", "full-single", "1k-A", "1k-A-holdout"}
    assert (splits["full"], splits["full-single"]) == (published["full"], published["full-single"])
    for name in ("1k-A", "1k-A-holdout"):  # without the index the CSV cannot tell two equal captions of a video apart
        assert replace(splits[name], query_caption_ids=None) == replace(published[name], query_caption_ids=None)
        mine, official = (split[name].queries("test", annotations) for split in (splits, published))
        assert [caption.text for caption in mine] == [caption.text for caption in official]
    assert len(report.disagreements) == 35
    told = str(report)
    assert "layout: msrvtt_data.zip of CLIP4Clip: msrvtt_data/MSRVTT_data.json" in told
    assert "1k-B is not made: there is no train_list_miech.txt and no test_list_miech.txt." in told


def test_frozen_in_time_s_msrvtt_zip_has_captions_and_all_splits_but_no_sources(
    shared: Path, merged: dict[str, Any], expected: Workspace, tmp_path: Path
) -> None:
    root = tmp_path / "MSRVTT"
    ids = sorted(entry["video_id"] for entry in merged["videos"])
    dump(root / "annotation" / "MSR_VTT.json", only_captions(merged["sentences"], ids))
    names = [f"{name}.txt" for name in (*LISTS, "train_list_miech", "test_list_miech")]
    copy_lists(shared, root / "high-quality" / "structured-symlinks", *names, "jsfusion_val_caption_idx.pkl")
    clips(root / "videos" / "all", "video0", "video7020")
    report = prepared(root)
    (annotations, splits), (theirs, published) = facts(report.workspace), facts(expected)
    assert splits == published
    assert annotations.captions == theirs.captions
    assert [video.id for video in annotations.videos] == [video.id for video in theirs.videos]
    assert with_file(report) == {"video0", "video7020"}
    told = str(report)
    assert "layout: MSRVTT.zip of Frozen in Time: annotation/MSR_VTT.json" in told
    assert "these annotations have captions only: no categories, sources or times" in told
    assert "lists of splits: 8 in high-quality/structured-symlinks" in told
    assert "videos: 2 in videos/all" in told
    by_id, first = annotations.video_by_id, splits["1k-A"]
    found = leaks([by_id[video_id] for video_id in first.test], [by_id[video_id] for video_id in first.train])
    assert "cannot be told: 0 of 1,000 and 0 of 9,000 sources are known" in str(found)


def test_the_lists_of_1k_a_make_1k_a_and_no_other_split(
    merged: dict[str, Any], expected: Workspace, tmp_path: Path
) -> None:
    theirs, published = facts(expected)
    first, root = published["1k-A"], tmp_path / "MSR-VTT"
    query_of = {caption.video_id: caption.text for caption in first.queries("test", theirs)}
    rows: dict[str, dict[str, Any]] = {}
    for entry in merged["videos"]:
        kept = {key: entry[key] for key in ("video_id", "category", "url", "start time", "end time", "id")}
        rows[entry["video_id"]] = {**kept, "video": f"{entry['video_id']}.mp4", "source": "MSR-VTT", "caption": []}
    for entry in sorted(merged["sentences"], key=lambda entry: entry["sen_id"]):
        rows[entry["video_id"]]["caption"].append(entry["caption"])
    dump(root / "msrvtt_train_9k.json", [rows[video_id] for video_id in first.train])
    dump(root / "msrvtt_test_1k.json", [rows[video_id] | {"caption": query_of[video_id]} for video_id in first.test])
    clips(root / "video", "video0", "video9999")
    report = prepared(root)
    annotations, splits = facts(report.workspace)
    assert annotations.videos == theirs.videos
    assert with_file(report) == {"video0", "video9999"}
    assert set(splits) == {"1k-A", "1k-A-holdout"}
    for name, split in splits.items():
        assert replace(split, query_caption_ids=None) == replace(published[name], query_caption_ids=None)
        assert split.queries("validation", annotations) == published[name].queries("validation", theirs)
        found = {caption.video_id: caption.text for caption in split.queries("test", annotations)}
        assert found == query_of
    for video_id in (first.train[0], first.train[-1]):
        assert annotations.captions_by_video[video_id] == theirs.captions_by_video[video_id]
    told = str(report)
    assert "layout: lists of 1k-A, as on Hugging Face: msrvtt_train_9k.json, msrvtt_test_1k.json" in told
    assert "full and 1k-B are not made" in told


def test_of_several_annotations_the_official_are_taken_and_the_others_named(
    shared: Path, merged: dict[str, Any], expected: Workspace, tmp_path: Path
) -> None:
    root = tmp_path / "all"
    shutil.copytree(shared / "msrvtt" / "annotation", root / "official")
    dump(root / "MSRVTT_data.json", merged)
    dump(root / "annotation" / "MSR_VTT.json", {})
    report = prepared(root)
    assert facts(report.workspace)[0] == facts(expected)[0]
    told = str(report)
    assert "official/train_val_annotation.zip:train_val_videodatainfo.json" in told
    assert "other annotations there, not read: MSRVTT_data.json, annotation/MSR_VTT.json" in told
    assert "1k-A is not made: there is neither MSRVTT_JSFUSION_test.csv nor jsfusion_val_caption_idx.pkl nor" in told
    assert f"no video is unpacked in {root}" in told
    assert split_names(report.workspace) == ("full", "full-single")
    with pytest.raises(InputError, match=r"1k-A is not made: .* 1k-B is not made: "):  # a folder of lists must have all
        prepare_msrvtt(None, root, None, tmp_path / "ws", root)


def small(**changes: object) -> dict[str, Any]:
    """Return MSR_VTT.json of two videos, with changes to its last annotation."""
    sentences = [{"video_id": v, "caption": f"{n} of {v}"} for v in ("video0", "video9999") for n in range(20)]
    content = only_captions(sentences, ["video0", "video9999"])
    content["annotations"][-1] |= changes
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (small(), "full train: 1 found, 6513 are published"),
        (small(image_id="video10000"), "'video10000' is not a video of MSR-VTT; they are video0 to video9999"),
        (small(image_id="clip7"), "'clip7' is not a video of MSR-VTT"),
        (small(caption=None), "entry 39 of 'annotations' has caption None, str was expected"),
        ({"images": []}, r"MSR_VTT\.json holds no list 'annotations'"),
    ],
)
def test_captions_that_are_not_the_published_ones_are_refused(tmp_path: Path, content: object, message: str) -> None:
    dump(tmp_path / "MSRVTT" / "annotation" / "MSR_VTT.json", content)
    with pytest.raises(InputError, match=message):
        prepared(tmp_path / "MSRVTT")


def rows(ids: Sequence[str], captions: object) -> list[dict[str, Any]]:
    return [{"video_id": video_id, "category": 1, "caption": captions} for video_id in ids]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train": 8999}, r"msrvtt_train_9k\.json: 8999 found, 9000 are published"),
        ({"captions": ["a"] * 19}, r"captions of video0: 19 found, 20 are published"),
        ({"query": ["a", "b"]}, r"captions of video9000: 2 found, 1 are published"),
        ({"query": [1]}, r"video9000 has caption \[1\], text or a list of it"),
        ({"first_test": 8999}, r"msrvtt_train_9k\.json and .*msrvtt_test_1k\.json overlap in 1 videos: video8999"),
    ],
)
def test_lists_of_1k_a_with_mistakes_are_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    values = {"train": 9000, "captions": ["a"] * 20, "query": "a", "first_test": 9000} | changed
    root, first = tmp_path / "MSR-VTT", values["first_test"]
    dump(root / "msrvtt_train_9k.json", rows([f"video{n}" for n in range(values["train"])], values["captions"]))
    dump(root / "msrvtt_test_1k.json", rows([f"video{n}" for n in range(first, first + 1000)], values["query"]))
    with pytest.raises(InputError, match=message):
        prepared(root)


def test_a_folder_of_no_layout_is_refused_with_the_layouts_that_are_known(tmp_path: Path) -> None:
    root = tmp_path / "MSRVTT"
    clips(root / "videos" / "all", "video0")
    dump(root / JSON_FILES[0], {})
    with zipfile.ZipFile(root / "msrvtt_data.zip", "w") as archive:
        archive.writestr("msrvtt_data/MSRVTT_data.json", "{}")
    with pytest.raises(InputError) as refused:
        prepared(root)
    told = str(refused.value)
    assert "MSRVTT is none of the known layouts of MSR-VTT. It has only train_val_videodatainfo.json." in told
    assert "Not unpacked there: msrvtt_data.zip; unzip what is needed" in told
    for line in ("MSRVTT_data.json: msrvtt_data.zip of CLIP4Clip", "MSR_VTT.json: MSRVTT.zip of Frozen in Time"):
        assert f"\n  {line}" in told
    with pytest.raises(InputError, match=r"msrvtt_data\.zip is a file\. Unpack it \(unzip msrvtt_data\.zip -d DIR\)"):
        recognise(root / "msrvtt_data.zip")
    with pytest.raises(InputError, match="give the folder that MSR-VTT was unpacked in, or both"):
        prepare_msrvtt(root, None, None, tmp_path / "ws")


def test_videos_that_are_packed_or_there_twice_are_told(tmp_path: Path) -> None:
    root, wanted = tmp_path / "data", {"video0": Video("video0")}
    root.mkdir()
    with zipfile.ZipFile(root / "MSRVTT_Videos.zip", "w") as archive:
        archive.writestr("video/video0.mp4", b"")
    assert videos_in(root, wanted) == ({}, [f"no video is unpacked in {root}; unzip MSRVTT_Videos.zip"])
    clips(root / "all", "video0")
    assert videos_in(root, wanted) == ({"video0": root / "all/video0.mp4"}, ["videos: 1 in all"])
    clips(root / "small", "video0")
    with pytest.raises(InputError, match=r"would both be the video 'video0'.* with --videos"):
        videos_in(root, wanted)


def test_a_pickle_that_wants_to_run_code_is_refused(lists: Path, made_up: tuple[Annotations, Split]) -> None:
    class Call:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("called",)

    files = {path.name: path for path in lists.iterdir()}
    files[QUERY_INDEX].write_bytes(pickle.dumps(Call()))
    with pytest.raises(InputError, match=r"jsfusion_val_caption_idx\.pkl is refused: it wants to run"):
        published_splits(files, *made_up)


def test_either_list_and_either_form_of_the_queries_make_1k_a(lists: Path, made_up: tuple[Annotations, Split]) -> None:
    files = {path.name: path for path in lists.iterdir()}
    whole = published_splits(files, *made_up)
    table = lists / TABLE_1K_A
    table.write_text("video_id\n" + files[TRAIN_1K_A].read_text())
    for absent in ((TRAIN_1K_A, TEST_1K_A, QUERY_INDEX), (TRAIN_1K_A, TEST_1K_A, QUERY_TABLE)):
        fewer = {name: path for name, path in files.items() if name not in absent}
        assert published_splits(fewer | {TABLE_1K_A: table}, *made_up) == whole
    texts = {caption.video_id: caption.text for caption in whole.splits[2].queries("test", made_up[0])}
    train, test = (lists / name for name in JSON_LISTS)
    dump(train, rows(whole.splits[2].train, ["a"] * 20))
    dump(test, [row | {"caption": texts[row["video_id"]]} for row in rows(list(texts), "")])
    fewer = {
        name: path for name, path in files.items() if name not in (TRAIN_1K_A, TEST_1K_A, QUERY_INDEX, QUERY_TABLE)
    }
    assert published_splits(fewer | {path.name: path for path in (train, test)}, *made_up) == whole
    dump(test, rows(["video9000", "video9000"], "a"))
    with pytest.raises(InputError, match=r"msrvtt_test_1k\.json: video9000 is named again"):
        published_splits(fewer | {path.name: path for path in (train, test)}, *made_up)
    table.write_text("video_id\nvideo0\nvideo10000\n")
    with pytest.raises(InputError, match=r"MSRVTT_train\.9k\.csv names videos the annotations do not hold: video10000"):
        published_splits(fewer | {TABLE_1K_A: table, QUERY_INDEX: files[QUERY_INDEX]}, *made_up)


def test_a_video_without_a_split_is_of_the_part_that_its_number_tells(tmp_path: Path) -> None:
    videos = [{"video_id": f"video{n}", "category": n % 20} for n in range(10_000)]
    sentences = [
        {"video_id": f"video{n}", "sen_id": 20 * n + at, "caption": f"{at} of {n}"}
        for n in range(10_000)
        for at in range(20)
    ]
    dump(tmp_path / "data" / "MSRVTT_data.json", {"videos": videos, "sentences": sentences})
    report = prepared(tmp_path / "data")
    annotations, splits = facts(report.workspace)
    full = splits["full"]
    numbers = [[int(video_id[5:]) for video_id in part] for part in (full.train, full.validation, full.test)]
    assert numbers == [list(range(6513)), list(range(6513, 7010)), list(range(7010, 10_000))]
    assert [video.category for video in annotations.videos[:20]] == list(CATEGORIES)
