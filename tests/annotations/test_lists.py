"""Lists of videos in every form, written by pandas, pyarrow and by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from vtr.annotations.lists import ACCEPTED, Columns, Entry, read_list
from vtr.annotations.locators import Locator
from vtr.annotations.prepare import prepare_list
from vtr.annotations.tables import load_annotations, load_split, split_names
from vtr.cli import app
from vtr.errors import InputError

ROWS = [
    {"path": "a.mp4", "id": "first", "caption": "a dog, running", "start": 1.5, "end": 4.0, "split": "train"},
    {"path": "sub/b.webm", "id": "2", "caption": "é “quoted”", "start": 0.0, "end": 2.25, "split": "val"},
    {"path": "s3://bucket/c.mp4", "id": "third", "caption": None, "start": None, "end": None, "split": "test"},
]


def videos(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def as_frame(path: Path) -> Path:
    frame = pd.DataFrame(ROWS)
    if path.suffix in (".csv", ".tsv"):
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path, index=False)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_what_pandas_writes_is_read(tmp_path: Path, suffix: str) -> None:
    videos(tmp_path, "a.mp4", "sub/b.webm")
    report = prepare_list(as_frame(tmp_path / f"list{suffix}"), tmp_path / "ws")
    annotations = load_annotations(report.workspace)
    found = [
        (v.id, v.path, v.start_seconds, v.end_seconds, [c.text for c in annotations.captions_by_video[v.id]])
        for v in annotations.videos
    ]
    assert found == [
        ("first", str(tmp_path / "a.mp4"), 1.5, 4.0, ["a dog, running"]),
        ("2", str(tmp_path / "sub/b.webm"), 0.0, 2.25, ["é “quoted”"]),
        ("third", "s3://bucket/c.mp4", None, None, []),
    ]
    split = load_split(report.workspace, "list")
    assert (split.train, split.validation, split.test) == (("first",), ("2",), ("third",))
    assert split_names(report.workspace) == ("list", "list-all", "list-single")
    assert "1 videos have no caption: third" in str(report)


def test_a_text_file_is_one_path_or_url_a_line(tmp_path: Path) -> None:
    videos(tmp_path / "v", "a 1.mp4", "#1.mp4", "sub/b.x.avi", "0.tar", "pictures/1.jpg")
    lines = [
        *(
            "# a comment",
            "a 1.mp4",
            "",
            " # another",
            "sub/b.x.avi",
            "./#1.mp4",
            "../v/noext",
            str(tmp_path / "v" / "sub" / "c.mkv"),
            "/elsewhere/d.mp4",
        ),
        *("https://host/x/e%20e.mp4?token=3", "https://host/watch?v=3", "s3://bucket/f#1.mp4"),
        *("tar://in/g.mp4::0.tar", "tar://h.mp4::s3://bucket/1.tar", "frames://25@pictures"),
    ]
    source = write(tmp_path / "list.txt", "\r\n".join(lines))
    report = prepare_list(source, tmp_path / "ws", root=tmp_path / "v")
    here = str(tmp_path / "v")
    assert {video.id: video.path for video in load_annotations(report.workspace).videos} == {
        "a 1": f"{here}/a 1.mp4",
        "#1": f"{here}/#1.mp4",
        "sub/b.x": f"{here}/sub/b.x.avi",
        "v/noext": None,
        "sub/c": None,
        "elsewhere/d": None,
        "host/x/e e": "https://host/x/e%20e.mp4?token=3",
        "host/watch?v=3": "https://host/watch?v=3",
        "bucket/f#1": "s3://bucket/f#1.mp4",
        "0/in/g": str(Locator(f"{here}/0.tar", "in/g.mp4")),
        "bucket/1/h": "tar://h.mp4::s3://bucket/1.tar",
        "pictures": f"frames://25@{here}/pictures",
    }
    assert "12 videos (9 with a file), 0 captions" in str(report)
    assert f"3 listed files are not there: {here}/noext, {here}/sub/c.mkv, /elsewhere/d.mp4" in str(report)
    assert len(load_split(report.workspace, "list").test) == 12


def test_rows_that_add_captions_are_one_video(tmp_path: Path) -> None:
    text = "path,caption,category\na.mp4,one,x\nb.mp4,other,y\na.mp4,two,x\n"
    annotations = load_annotations(prepare_list(write(tmp_path / "l.csv", text), tmp_path / "ws").workspace)
    assert [(c.id, c.text) for c in annotations.captions] == [("a#0", "one"), ("a#1", "two"), ("b#0", "other")]
    assert [video.category for video in annotations.videos] == ["x", "y"]


def test_lists_of_captions(tmp_path: Path) -> None:
    table = pa.table({"video": ["a.mp4", "b.mp4", "c.mp4"], "captions": [["one", " two ", ""], None, []]})
    pq.write_table(table, tmp_path / "l.parquet")
    write(tmp_path / "l.jsonl", '{"url":"a.mp4","captions":["one","two"]}\n\n{"url":"b.mp4"}\n{"url":"c.mp4"}\n')
    write(tmp_path / "l.csv", 'file,captions\na.mp4,"[""one"", ""two""]"\nb.mp4,\nc.mp4,\n')
    for name in ("l.parquet", "l.jsonl", "l.csv"):
        entries = list(read_list(tmp_path / name))
        assert [(entry.path, entry.captions) for entry in entries] == [
            ("a.mp4", ("one", "two")),
            ("b.mp4", ()),
            ("c.mp4", ()),
        ]
    assert [entry.place for entry in read_list(tmp_path / "l.jsonl")] == ["line 1", "line 3", "line 4"]


def test_columns_can_be_named(tmp_path: Path) -> None:
    head = "clip,name,title,from,to,film,kind,set,path"
    write(tmp_path / "l.csv", f"{head}\na.mp4,A,said,1,2,F,K,dev,not this\n")
    columns = Columns("clip", "name", "title", "from", "to", "film", "kind", "set")
    expected = Entry("line 2", "a.mp4", "A", ("said",), 1.0, 2.0, "F", "K", "validation")
    assert list(read_list(tmp_path / "l.csv", columns)) == [expected]
    row = dict(zip(head.split(","), ["a.mp4", "A", "said", 1, 2, "F", "K", "dev", "not this"], strict=True))
    write(tmp_path / "l.jsonl", json.dumps(row))
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "l.parquet")
    for name, place in (("l.jsonl", "line 1"), ("l.parquet", "row 1")):
        (entry,) = read_list(tmp_path / name, columns)
        assert (entry.place, entry.path, entry.id, entry.part) == (place, "a.mp4", "A", "validation")
    names = ("path", "id", "caption", "start", "end", "source", "category", "split")
    given = [
        word for name, column in zip(names, head.split(","), strict=False) for word in (f"--{name}-column", column)
    ]
    result = CliRunner().invoke(
        app, ["prepare", "list", str(tmp_path / "l.csv"), "--out", str(tmp_path / "ws"), *given, "--root", "/nowhere"]
    )
    assert result.exit_code == 0, result.output
    assert "1 listed files are not there: /nowhere/a.mp4" in result.output and "list validation:" in result.output
    assert "no video has a file" in result.output


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.csv", "path,caption\na.mp4,x\nb.mp4,x,y\n", r"l\.csv, line 3: 3 fields, 2 were expected .*double quotes"),
        ("l.csv", 'path,caption\na.mp4,"x\n', r"l\.csv, line 2: not a CSV"),
        ("l.csv", "name,caption\na,x\n", r"line 1: the columns are name, caption; one named path or url"),
        ("l.csv", "", r"line 1: the columns are none"),
        ("l.csv", "path,caption\n", r"l\.csv is empty"),
        ("l.csv", "path,id\n,\n", r"line 2: there is neither a path nor an id"),
        ("l.csv", "path,split\na.mp4,trian\n", r"line 2: the split is 'trian'; train, val or test"),
        ("l.csv", "path,start\na.mp4,00:01\n", r"line 2: the start is '00:01'; seconds were expected"),
        ("l.csv", "path,end\na.mp4,-3\n", r"line 2: the end is -3\.0 seconds; a number from 0 up"),
        ("l.csv", "path,captions\na.mp4,\"['x']\"\n", r"line 2: the captions \['x'\] are no JSON list"),
        ("l.csv", "path\na.mp4\nb.mp4\na.avi\na.mp4\n", r"'a' \(line 2 and line 4\), 'a' \(line 2 and line 5\)"),
        ("l.csv", "path,id\na.mp4,x\nb.mp4,x\n", r"different rows of one id: 'x' \(line 2 and line 3\)"),
        ("l.csv", "path,caption,split\na.mp4,x,train\na.mp4,y,test\n", r"'a' \(line 2 and line 3\)"),
        ("l.csv", "path\nfrmes://25@x\n", r"line 2: frmes:// is no protocol that fsspec knows"),
        ("l.csv", "path\nframes://x\n", r"line 2: frames://x is no folder of frames"),
        ("l.csv", "path\nshard.tar\n", r"line 2: shard\.tar is a tar file"),
        ("l.csv", "path\n.\n", r"line 2: \. is a folder\. Give --frame-rate"),
        ("l.csv", b"path\na.mp4\ncaf\xe9.mp4\n", r"line 3: not UTF-8"),
        ("l.jsonl", '{"path": "a.mp4"}\n{"path": \n', r"line 2: not JSON"),
        ("l.jsonl", '["a.mp4"]\n', r'line 1: \["a\.mp4"\] is no object'),
        ("l.jsonl", '{"path": 3}\n', r"line 1: the path is 3; text was expected"),
        ("l.jsonl", '{"path": "a.mp4", "captions": [1]}\n', r"line 1: the caption is 1; text"),
        ("l.jsonl", '{"path": "a\\ud800.mp4"}\n', r"line 1: the path .* is not Unicode text"),
        ("l.jsonl", '{"id": "a"}\n', r"all lines: the columns are id; one named path or url"),
        ("l.parquet", b"PAR1 no", r"l\.parquet is not whole Parquet"),
        ("l.xlsx", "", r"ends in '\.xlsx'\. A list of videos is expected"),
        ("l.txt", "\n\n", r"l\.txt is empty"),
        ("l.txt", "# nothing but this\n", r"l\.txt is empty"),
        (
            "l.csv",
            "path,start,end\na.mp4,1,2\nb.mp4,5,4.5\n",
            r"line 3: the start is 5 and the end 4\.5 seconds; an end",
        ),
        ("l.csv", "path,start,end\na.mp4,2,2\n", r"line 2: the start is 2 and the end 2 seconds"),
        ("l.jsonl", '{"path": "a.mp4", "start": -1}\n', r"line 1: the start is -1\.0 seconds; a number from 0 up"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare_list(write(tmp_path / name, text), tmp_path / "ws")
    assert not (tmp_path / "ws").exists()


def test_files_and_columns_that_are_not_there(tmp_path: Path) -> None:
    for name in ("none.csv", "none.parquet", "none.txt"):
        with pytest.raises(InputError, match=rf"{name} cannot be read: .*o such file"):
            list(read_list(tmp_path / name))
    write(tmp_path / "l.csv", "path,captoin\na.mp4,x\n")
    with pytest.raises(InputError, match=r"there is no column 'caption'\. Did you mean 'captoin'\?"):
        list(read_list(tmp_path / "l.csv", Columns(caption="caption")))
    write(tmp_path / "l.jsonl", '{"path": "a.mp4"}\n')
    with pytest.raises(InputError, match="there is no column 'title'"):
        list(read_list(tmp_path / "l.jsonl", Columns(caption="title")))
    with pytest.raises(InputError, match="has no columns; the id column was asked for"):
        list(read_list(write(tmp_path / "l.txt", "a.mp4"), Columns(id="x")))
    (tmp_path / "folder.parquet").mkdir()
    with pytest.raises(InputError, match=r"folder\.parquet is a folder"):
        list(read_list(tmp_path / "folder.parquet"))


def test_empty_lines_and_times_that_are_missing_are_passed_over(tmp_path: Path) -> None:
    (entry,) = read_list(write(tmp_path / "l.csv", "path,start,end\n\na.mp4,nan,4.5\n\n"))
    assert (entry.start_seconds, entry.end_seconds) == (None, 4.5)


def test_folders_in_a_list_are_frames_of_a_given_rate(tmp_path: Path) -> None:
    videos(tmp_path, "f/1.jpg", "f/2.jpg", "a.mp4")
    source = write(tmp_path / "l.txt", "f\na.mp4\nframes://30@f\n")
    with pytest.raises(InputError, match="different rows of one id: 'f'"):
        prepare_list(source, tmp_path / "ws", frame_rate=24)
    write(source, "f\na.mp4\n")
    report = prepare_list(source, tmp_path / "ws", frame_rate=24)
    paths = [video.path for video in load_annotations(report.workspace).videos]
    assert paths == [f"frames://24@{tmp_path}/f", f"{tmp_path}/a.mp4"]


def test_videos_of_one_file_are_pointed_out(tmp_path: Path) -> None:
    videos(tmp_path, "a.mp4")
    source = write(tmp_path / "l.csv", "path,id,start,end\na.mp4,x,0,5\na.mp4,y,5,10\n")
    assert "2 videos share their file with another one" in str(prepare_list(source, tmp_path / "ws"))


def test_a_list_again_changes_nothing_and_a_longer_one_keeps_the_order(tmp_path: Path) -> None:
    source = write(tmp_path / "l.txt", "b.mp4\na.mp4\n")
    first = prepare_list(source, tmp_path / "ws")
    assert first.changed and not prepare_list(source, tmp_path / "ws").changed
    write(source, "c.mp4\na.mp4\nb.mp4\n")
    assert load_split(prepare_list(source, tmp_path / "ws").workspace, "list").test == ("b", "a", "c")


def test_the_real_msvd_captions_as_a_list(shared: Path, tmp_path: Path) -> None:
    folder = shared / "clips" / "msvd"
    frame = pd.read_csv(folder / "captions.csv", keep_default_na=False)
    frame["path"] = frame["video_id"] + ".avi"
    frame[["path", "caption"]].to_parquet(tmp_path / "msvd.parquet")
    report = prepare_list(tmp_path / "msvd.parquet", tmp_path / "ws", root=folder)
    assert (report.num_videos, report.num_files, report.num_captions) == (29, 29, 1097)


def test_the_help_says_what_each_column_is_and_which_names_are_understood() -> None:
    found = CliRunner().invoke(app, ["prepare", "list", "--help"], env={"COLUMNS": "1000"}).output
    for name, accepted in ACCEPTED.items():
        option = f"--{'source' if name == 'source_id' else name}-column"
        (line,) = (line for line in found.splitlines() if option in line)
        assert f"by default the first of: {', '.join(accepted)}." in line
