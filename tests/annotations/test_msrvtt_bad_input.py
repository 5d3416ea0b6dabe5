"""MSR-VTT files that hold mistakes: each gets one clear error that names what is wrong."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vtr.annotations.msrvtt import read_annotations, read_splits
from vtr.errors import InputError
from vtr.types import Annotations, Split

MadeUp = tuple[Annotations, Split]
TRAIN, TEST = "train_val_videodatainfo.json", "test_videodatainfo.json"


def content(*ids: str, split: str = "train") -> dict[str, Any]:
    """Return what an official JSON file holds, for a few videos with two captions each."""
    videos = [{"video_id": v, "split": split, "category": 1, "url": f"u/{v}", "start time": 1.5} for v in ids]
    sentences = [
        {"video_id": v, "sen_id": 10 * n + place, "caption": f"{place} of {v}"}
        for n, v in enumerate(ids)
        for place in (1, 0)
    ]
    return {"videos": videos, "sentences": sentences}


def write(folder: Path, train: Any, test: Any = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / TRAIN).write_text(json.dumps(train))
    (folder / TEST).write_text(json.dumps(content("c", split="test") if test is None else test))
    return folder


def read(folder: Path) -> MadeUp:
    return read_annotations(folder, check_counts=False)


def test_captions_are_sorted_by_sentence_id(tmp_path: Path) -> None:
    annotations, full = read(write(tmp_path / "a", content("b", "a")))
    assert [c.text for c in annotations.captions_by_video["b"]] == ["0 of b", "1 of b"]
    assert [c.id for c in annotations.captions_by_video["b"]] == ["b#0", "b#1"]
    assert (full.train, full.validation, full.test) == (("b", "a"), (), ("c",))


def test_equal_captions_of_one_video_both_stay(tmp_path: Path) -> None:
    train = content("a")
    train["sentences"][1]["caption"] = train["sentences"][0]["caption"]
    annotations, _ = read(write(tmp_path / "a", train))
    assert [c.text for c in annotations.captions_by_video["a"]] == ["1 of a", "1 of a"]


@pytest.mark.parametrize("deeper", [False, True])
def test_zips_are_read_as_plain_files_are(tmp_path: Path, deeper: bool) -> None:
    plain = write(tmp_path / "plain", content("a", "b"))
    zipped = tmp_path / "zipped" / "below" if deeper else tmp_path / "zipped"
    zipped.mkdir(parents=True)
    for name in (TRAIN, TEST):
        with zipfile.ZipFile(zipped / f"{name}.zip", "w") as archive:
            archive.write(plain / name, f"inner/{name}")
    assert read(tmp_path / "zipped") == read(plain)


def change(edit: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    values = content("a", "b")
    edit(values)
    return values


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (change(lambda v: v["videos"].append(v["videos"][0])), "more than once: a"),
        (change(lambda v: v["videos"].append(content("c")["videos"][0])), "more than once: c"),
        (change(lambda v: v["sentences"][0].update(video_id="nowhere")), "not listed: nowhere"),
        (change(lambda v: v["sentences"][3].update(caption="  ")), "empty: b#0"),
        (change(lambda v: v["sentences"][3].pop("caption")), "entry 3 of 'sentences' has caption None, str"),
        (change(lambda v: v["sentences"][2].update(sen_id="7")), "entry 2 of 'sentences' has sen_id '7', int"),
        (change(lambda v: v["videos"][1].update(video_id=7)), "entry 1 of 'videos' has video_id 7, str"),
        (change(lambda v: v["videos"][1].update(url=["x"])), r"b has url \['x'\], text was expected"),
        (change(lambda v: v["videos"][1].update({"start time": "1:02"})), "b has start time '1:02'"),
        (change(lambda v: v["videos"][1].update(split="training")), "b has split 'training', one of train, validate"),
        (change(lambda v: v["videos"].append("x")), "entry 2 of 'videos' is 'x', an object was expected"),
        (change(lambda v: v.pop("sentences")), "holds no list 'sentences'"),
        ([], "holds no list 'videos'"),
    ],
)
def test_inconsistent_annotations_are_refused(tmp_path: Path, train: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(write(tmp_path / "a", train))


def test_json_cut_in_half_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", content("a"))
    whole = (folder / TRAIN).read_bytes()
    (folder / TRAIN).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=rf"{TRAIN} is not whole JSON .*cut in half"):
        read(folder)


def test_missing_and_misplaced_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere is not a folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(InputError, match=f"does not hold {TRAIN}, neither plain nor in a zip"):
        read(tmp_path)
    (tmp_path / TRAIN).mkdir()
    with pytest.raises(InputError, match=f"{TRAIN} is a folder"):
        read(tmp_path)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(InputError, match="file is not a folder"):
        read(file)


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / TRAIN).touch()

    def refused(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refused)
    with pytest.raises(InputError, match=f"{TRAIN} cannot be read: Permission denied"):
        read(tmp_path)


def test_damaged_zips_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "train_val_annotation.zip"
    path.write_bytes(b"not a zip at all")
    with pytest.raises(InputError, match=r"train_val_annotation\.zip is not a whole zip"):
        read(tmp_path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(TRAIN, json.dumps(content(*(f"v{n}" for n in range(500)))))
    damaged = bytearray(path.read_bytes())
    damaged[200:260] = bytes(60)
    path.write_bytes(damaged)
    with pytest.raises(InputError, match=r"train_val_annotation\.zip is not a whole zip"):
        read(tmp_path)


def test_other_counts_than_the_published_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="full train: 2 found, 6513 are published"):
        read_annotations(write(tmp_path / "a", content("a", "b")))


def test_made_up_lists_are_accepted(lists: Path, made_up: MadeUp) -> None:
    splits, differ = read_splits(lists, *made_up)
    assert [split.name for split in splits] == ["full", "full-single", "1k-A", "1k-A-holdout", "1k-B"]
    assert differ == []
    annotations = made_up[0]
    expected = {f"video{9999 - number}": number % 3 for number in range(1000)}
    by_name = {split.name: split for split in splits}
    found = {c.video_id: int(c.id.split("#")[1]) for c in by_name["1k-A"].queries("test", annotations)}
    assert found == expected
    assert {c.id.split("#")[1] for c in by_name["1k-B"].queries("test", annotations)} == {"0"}


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("train_list_jsfusion.txt", lambda t: t + "video99999\n", r"jsfusion\.txt .*'video99999' \(line 9001\)"),
        ("train_list_jsfusion.txt", lambda t: t + "video7\n", r"more than once: 'video7' \(lines 8 and 9001\)"),
        ("train_list_jsfusion.txt", lambda t: t.replace("video7\n", ""), r"8999 found, 9000 are published"),
        (
            "train_list_jsfusion.txt",
            lambda t: t.replace("video7\n", "video9500\n"),
            r"train_list_jsfusion\.txt and .*val_list_jsfusion\.txt overlap in 1 videos: video9500",
        ),
        (
            "test_list_miech.txt",
            lambda t: t.replace("video8000\n", "video5\n"),
            r"train_list_miech\.txt and .*test_list_miech\.txt overlap in 1 videos: video5",
        ),
        ("val_list_full.txt", lambda t: t.replace("video7000\n", ""), r"disagree on 1 videos: video7000"),
        ("val_list_jsfusion.txt", lambda _: "\n", r"val_list_jsfusion\.txt is empty"),
        ("MSRVTT_JSFUSION_test.csv", lambda t: t.replace("sentence", "text"), r"columns .*video_id and sentence"),
        (
            "MSRVTT_JSFUSION_test.csv",
            lambda t: t.replace("caption 0 of video9999", "quite another caption"),
            r"csv and .*pkl: the query of video9999 is 'quite another caption' in the CSV, but 'caption 0 of",
        ),
        ("MSRVTT_JSFUSION_test.csv", lambda t: t + "k,m,video9999,again\n", r"row 1002 names video9999 again"),
        ("MSRVTT_JSFUSION_test.csv", lambda t: t + "k,m,video9\n", r"row 1002 has no video id or no sentence"),
        ("MSRVTT_JSFUSION_test.csv", lambda t: t + "k,m,video9,x\n", r"name 1 different videos: video9"),
    ],
)
def test_lists_with_mistakes_are_refused(
    lists: Path, made_up: MadeUp, name: str, edit: Callable[[str], str], message: str
) -> None:
    (lists / name).write_text(edit((lists / name).read_text()))
    with pytest.raises(InputError, match=message):
        read_splits(lists, *made_up)


def test_missing_lists_are_named(lists: Path, made_up: MadeUp) -> None:
    with pytest.raises(InputError, match="nowhere is not a folder"):
        read_splits(lists / "nowhere", *made_up)
    for path in (*lists.glob("*.csv"), *lists.glob("*.pkl")):
        path.unlink()
    with pytest.raises(InputError, match=r"neither MSRVTT_JSFUSION_test.csv nor jsfusion_val_caption_idx.pkl"):
        read_splits(lists, *made_up)
    (lists / "MSRVTT_JSFUSION_test.csv").mkdir()
    with pytest.raises(InputError, match=r"MSRVTT_JSFUSION_test\.csv cannot be read: Is a directory"):
        read_splits(lists, *made_up)
    shutil.rmtree(lists / "MSRVTT_JSFUSION_test.csv")
    (lists / "MSRVTT_JSFUSION_test.csv").write_bytes("video_id,sentence\nvideo9999,caf\xe9\n".encode("latin1"))
    with pytest.raises(InputError, match=r"MSRVTT_JSFUSION_test\.csv is not a CSV in UTF-8"):
        read_splits(lists, *made_up)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"video9999": 3}, "the query index of video9999 is 3; it has 3 captions, from 0 on"),
        ({"video9999": -1}, "the query index of video9999 is -1"),
        ({"video1": 0}, "name different videos"),
        ({"nowhere": 0}, "names 'nowhere', which has no captions"),
        ([1, 2], "does not map video ids to caption numbers"),
        ({"video9999": "0"}, "does not map video ids to caption numbers"),
    ],
)
def test_query_index_with_mistakes_is_refused(lists: Path, made_up: MadeUp, index: object, message: str) -> None:
    (lists / "MSRVTT_JSFUSION_test.csv").unlink()
    (lists / "jsfusion_val_caption_idx.pkl").write_bytes(pickle.dumps(index))
    with pytest.raises(InputError, match=message):
        read_splits(lists, *made_up)


def test_csv_alone_must_match_a_caption(lists: Path, made_up: MadeUp) -> None:
    (lists / "jsfusion_val_caption_idx.pkl").unlink()
    table = lists / "MSRVTT_JSFUSION_test.csv"
    table.write_text(table.read_text().replace("caption 1 of video9998", "Caption-1  of video9998."))
    splits, differ = read_splits(lists, *made_up)
    queries = {c.video_id: c.id for c in splits[2].queries("test", made_up[0])}
    assert queries["video9998"] == "video9998#1"
    assert differ == ["video9998: CSV 'Caption-1  of video9998.', annotation 'caption 1 of video9998'"]
    table.write_text(table.read_text().replace("Caption-1", "caption 11"))
    with pytest.raises(InputError, match=r"the query of video9998, 'caption 11 .*', is none of its 3 captions"):
        read_splits(lists, *made_up)
