"""MMT's released features in a workspace: every value and time against the files, and what happens to bad ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest
from released_mmt import DIMS, h5_path, numbers, write_lists, write_release, write_video

from vtr.annotations.msrvtt import read_annotations, read_splits
from vtr.annotations.splits import hold_out, one_caption_a_video
from vtr.annotations.tables import load_annotations, load_split, split_names
from vtr.errors import InputError, WorkspaceError
from vtr.interop.features import Skipped
from vtr.interop.mmt_features import import_mmt_features
from vtr.interop.mmt_h5 import stored_times
from vtr.interop.release_splits import make_splits, read_lists
from vtr.stages.features import describe
from vtr.store.reader import FeatureStore
from vtr.types import ExpertFeatures
from vtr.workspace import Workspace

CLI = [sys.executable, "-m", "vtr.cli"]
WIDTHS = {"rgb": 0.2, "scene": 1.0, "s3d": 1.0, "vggish": 1.0}
FULL_LISTS = ("train_list_full.txt", "val_list_full.txt", "test_list_full.txt")


def imported(source: Path, out: Path, **options: object) -> Workspace:
    return import_mmt_features(source, out, workers=1, **options).workspace  # type: ignore[arg-type]


def shard_bytes(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.glob("*/part-*.parquet"))}


def mids(features: ExpertFeatures) -> np.ndarray:
    """The middle of each feature's time, as `vtr.data.features` has it."""
    return (features.start_seconds + features.end_seconds) / 2


def positions(features: ExpertFeatures) -> list[int]:
    """Our model's position of each feature, one at a time."""
    return [1 if np.isnan(mid) else int(np.float32(mid) + np.float32(2)) for mid in mids(features)]


@pytest.mark.parametrize("release", ["mmt_release_1ka", "mmt_release_full"])
def test_every_value_time_and_caption_of_the_reference_folders(release: str, shared: Path, tmp_path: Path) -> None:
    source = shared / "reference" / release
    workspace = imported(source, tmp_path / "ws")
    store = FeatureStore(workspace.features)
    held = {name: store.read(name) for name in store.experts}
    captions = load_annotations(workspace).captions_by_video
    meta = json.loads((source / "meta.json").read_text())
    for video_id in meta["video_order"]:
        with h5py.File(h5_path(source / "MSRVTT", video_id)) as file:
            for name, dim in DIMS.items():
                values = file[f"features.{name}"][()] if f"features.{name}" in file else np.zeros((0, dim))
                if not len(values) or np.isnan(values[0][0]):
                    assert video_id not in held[name]
                    continue
                found = held[name][video_id]
                assert found.values.dtype == np.float32 and np.array_equal(found.values, values)
                if name in ("s3d", "vggish"):
                    times = file[f"features_t.{name}"][: len(values)]
                elif name in WIDTHS:
                    times = np.array([[k * WIDTHS[name], (k + 1) * WIDTHS[name]] for k in range(len(values))])
                else:
                    times = np.full((len(values), 2), np.nan)
                assert np.allclose(found.start_seconds, times[:, 0], atol=1e-5, equal_nan=True)
                assert np.allclose(found.end_seconds, times[:, 1], atol=1e-5, equal_nan=True)
            texts = [b" ".join(file[f"raw_captions.{n}"][()]).decode() for n in range(20)]
        assert [caption.text for caption in captions[video_id]] == texts
        assert [caption.id for caption in captions[video_id]] == [f"{video_id}#{n}" for n in range(20)]


@pytest.mark.parametrize("release", ["mmt_release_1ka", "mmt_release_full"])
def test_times_are_those_of_the_released_loader(release: str, shared: Path, tmp_path: Path) -> None:
    source = shared / "reference" / release
    store = FeatureStore(imported(source, tmp_path / "ws").features)
    expected, meta = np.load(source / "expected.npz"), json.loads((source / "meta.json").read_text())
    for name in DIMS:
        held = store.read(name)
        for row, video_id in enumerate(meta["video_order"]):
            mask = expected[f"mask/{name}"][row].astype(bool)
            assert mask.any() == (video_id in held)
            if mask.any():
                count = len(held[video_id].values)
                chosen = np.arange(count)
                if count > 30:
                    chosen = np.sort(np.random.RandomState(0).choice(count, 30, replace=False))
                ours = np.where(np.isnan(mids(held[video_id])), np.float32(-1), mids(held[video_id])) + np.float32(2)
                assert np.array_equal(np.minimum(ours[chosen], 31), expected[f"times/{name}"][row][mask])


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_features_keep_the_second_the_released_model_gives_them(kind: type[np.floating], tmp_path: Path) -> None:
    k = np.arange(60)
    times = np.stack([0.96 * k, 0.96 * (k + 1)], axis=1).astype(kind)
    write_video(tmp_path / "r", "video0", [["a"]], {"vggish": numbers(60, 128)}, {"vggish": times})
    write_lists(tmp_path / "r", {"train_list.txt": ["video0"], "val_list.txt": ["x00"], "test_list.txt": ["x01"]})
    found = FeatureStore(imported(tmp_path / "r", tmp_path / "ws").features).read("vggish")["video0"]
    theirs = [int(np.average(pair) + 2) for pair in times]
    assert positions(found) == theirs
    assert theirs[12] == positions(found)[12] and theirs[37] == positions(found)[37]
    assert np.array_equal(mids(found), np.average(times, axis=1).astype(np.float32))
    assert np.allclose(found.start_seconds, times[:, 0], atol=1e-5) and np.allclose(found.end_seconds, times[:, 1])


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_no_time_at_all_is_put_into_another_second(kind: type[np.floating]) -> None:
    rng = np.random.default_rng(0)
    near = rng.integers(0, 40, 20000) + rng.choice([0, 1e-8, 2.4e-7, 4.8e-7, 9.6e-7, 1e-3], 20000) * rng.choice(
        [-1, 1], 20000
    )
    half = rng.uniform(0, 1, 20000)
    times = np.stack([near - half, near + half], axis=1).clip(0).astype(kind)
    start, end = stored_times(times)
    assert start.dtype == end.dtype == np.float32
    ours = np.trunc((start + end) / np.float32(2) + np.float32(2))
    assert np.array_equal(ours, np.trunc((np.average(times, axis=1) + 2).astype(np.float32)))
    assert np.abs(np.stack([start, end], axis=1) - times).max() < (1e-5 if kind != np.float16 else 0.07)


def test_what_counts_as_missing_and_how_times_are_read(tmp_path: Path) -> None:
    root = tmp_path / "MSRVTT"
    lost = {
        "ocr": np.zeros((0, 300), np.float32),
        "speech": np.full((1, 300), np.nan, np.float32),
        "face": np.array([[np.nan]], np.float32),
    }
    there = {"s3d": numbers(3, 1024), "rgb": numbers(4, 2048), "pose": numbers(2, 5), "depth": numbers(1, 4)}
    times = {
        "s3d": np.array([[0, 1], [1, 2], [2, 4], [9, 9]], np.float32),
        "rgb": np.full((4, 2), 7.0),
        "pose": np.array([[1, 2], [2, 5]], np.float32),
    }
    write_video(root, "video0", [["a"]], lost | there, times)
    write_lists(root, {"train_list_miech.txt": ["video0"], "test_list_miech.txt": ["video1"]})
    store = FeatureStore(imported(tmp_path, tmp_path / "ws").features)
    assert store.experts == ("depth", "pose", "rgb", "s3d")
    assert store.read("s3d")["video0"].end_seconds.tolist() == [1, 2, 4]
    assert np.allclose(store.read("rgb")["video0"].start_seconds, [0, 0.2, 0.4, 0.6])
    assert store.read("pose")["video0"].end_seconds.tolist() == [2, 5]
    assert np.isnan(store.read("depth")["video0"].start_seconds).all()
    assert store.spec("s3d").model_id == "mmt-release/s3d" and store.spec("pose").dim == 5
    assert store.manifest("s3d")["counts"] == {"examined": 1, "present": 1}


def test_splits_are_those_of_vtr_prepare(shared: Path) -> None:
    annotations, full = read_annotations(shared / "msrvtt" / "annotation")
    expected = {s.name: s for s in read_splits(shared / "msrvtt" / "splits", annotations, full)[0]}
    lists = read_lists(shared / "msrvtt" / "splits", FULL_LISTS)
    found = {split.name: split for split in make_splits(lists, annotations)[0]}
    assert set(found) == set(expected) - {"full-single"}
    for name in ("1k-A", "1k-A-holdout", "1k-B"):
        assert found[name] == expected[name]
    for part in ("train", "validation", "test"):
        assert set(found["full"].part(part)) == set(full.part(part))
    assert (found["full"].note, found["full"].query_caption_ids) == (full.note, None)


def test_splits_of_a_small_release(tmp_path: Path) -> None:
    ids = write_release(tmp_path / "r")
    workspace = imported(tmp_path / "r", tmp_path / "ws")
    assert split_names(workspace) == ("1k-A", "1k-A-holdout", "full")
    annotations = load_annotations(workspace)
    first, holdout = load_split(workspace, "1k-A"), load_split(workspace, "1k-A-holdout")
    assert (first.train, first.validation, first.test) == (tuple(ids[:4]), (), tuple(ids[4:]))
    assert first.query_caption_ids == ("video4#1", "video5#0")
    plain = hold_out(first, 2)
    assert (holdout.train, holdout.validation, holdout.note) == (plain.train, plain.validation, plain.note)
    chosen = one_caption_a_video(plain, annotations).query_caption_ids or ()
    assert set(holdout.query_caption_ids or ()) == {
        *(q for q in chosen if q[:6] in plain.validation),
        *("video4#1", "video5#0"),
    }
    assert [c.id for c in load_split(workspace, "full").queries("test", annotations)] == [
        "video4#0", "video4#1", "video5#0", "video5#1",
    ]  # fmt: skip


def test_a_test_video_without_a_query_is_only_found(tmp_path: Path) -> None:
    ids = write_release(tmp_path / "r")
    write_lists(tmp_path / "r", {}, {ids[-1]: 1})
    report = import_mmt_features(tmp_path / "r", tmp_path / "ws", workers=1)
    assert load_split(report.workspace, "1k-A").query_caption_ids == ("video5#1",)
    assert "1 test videos of 1k-A have no query in jsfusion_val_caption_idx.pkl" in str(report)


def test_report_counts_everything(tmp_path: Path) -> None:
    write_release(tmp_path / "r")
    h5_path(tmp_path / "r", "video0").unlink()
    write_video(tmp_path / "r", "video77", [["a"]], {})
    text = str(import_mmt_features(tmp_path / "r", tmp_path / "ws", workers=1))
    assert "6 videos and 10 captions" in text
    assert "s3d 5 of 6 videos, 21 features, dim 1024" in text and "face 3 of 6 videos, 3 features, dim 512" in text
    assert "1 listed videos have no h5 file" in text and "1 h5 files are of videos in no list" in text
    assert "split 1k-B is not made: train_list_miech.txt, test_list_miech.txt not there" in text
    table = {line.strip()[:12]: line.split() for line in text.splitlines() if " of " in line}
    assert table["full train  "][2:] == ["1", "of", "3", "2", "of", "3", "2", "of", "3"]
    assert f"vtr train {tmp_path / 'ws'} --config mmt_full_released" in text


def test_a_file_in_half_precision(tmp_path: Path) -> None:
    write_release(tmp_path / "r")
    store = FeatureStore(imported(tmp_path / "r", tmp_path / "ws", dtype="float16").features)
    assert np.array_equal(store.read("s3d")["video0"].values, numbers(3, 1024, 0).astype(np.float16))
    write_video(tmp_path / "r", "video1", [["a"]], {"s3d": np.full((1, 1024), 1e6, np.float32)})
    with pytest.raises(InputError, match=r"video1.*too large for float16.*--dtype float32"):
        imported(tmp_path / "r", tmp_path / "ws16", dtype="float16")


BAD = [["a", "dog"]]
GOOD_S3D = numbers(3, 1024)


def rewrite(
    captions: list[list[str]], features: Mapping[str, np.ndarray], **times: np.ndarray
) -> Callable[[Path], None]:
    return lambda root: write_video(root, "video2", captions, features, times) and None


def cut(root: Path) -> None:
    path = h5_path(root, "video2")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def holed(root: Path) -> None:
    values = numbers(3, 1024)
    values[1, 17] = np.nan
    write_video(root, "video2", BAD, {"s3d": values})


def renumbered(root: Path) -> None:
    with h5py.File(h5_path(root, "video2"), "a") as file:
        file.move("raw_captions.0", "raw_captions.5")


def in_place_of(name: str, value: object) -> Callable[[Path], None]:
    """Put something else under a name of the file; None is a group of nothing."""

    def replace(root: Path) -> None:
        with h5py.File(h5_path(root, "video2"), "a") as file:
            del file[name]
            if value is None:
                file.create_group(name)
            else:
                file[name] = value

    return replace


DEFECTS: dict[str, tuple[Callable[[Path], None], str, bool]] = {
    "truncated": (cut, r"video2\.h5 cannot be read .*A whole HDF5 file was expected", False),
    "text": (lambda r: h5_path(r, "video2").write_text("hello") and None, r"video2\.h5 cannot be read", False),
    "three axes": (
        rewrite(BAD, {"s3d": np.zeros((2, 2, 2), np.float32)}),
        r"features\.s3d has shape \[2, 2, 2\].*\[T, 1024\] were expected",
        True,
    ),
    "one axis": (rewrite(BAD, {"s3d": np.zeros(1024, np.float32)}), r"features\.s3d has shape \[1024\]", True),
    "other dim": (rewrite(BAD, {"s3d": numbers(2, 512)}), r"has shape \[2, 512\], \[T, 1024\] was expected", True),
    "no captions": (rewrite([], {"s3d": GOOD_S3D}), r"holds no captions: raw_captions\.0", False),
    "no words": (rewrite([["a"], []], {"s3d": GOOD_S3D}), r"raw_captions\.1 has no words", False),
    "a number left out": (renumbered, r"holds 2 captions but no raw_captions\.0", False),
    "NaN inside": (holed, r"features\.s3d\[1, 17\] is nan, a finite number", True),
    "infinite": (
        rewrite(BAD, {"s3d": np.full((1, 1024), np.inf, np.float32)}), r"features\.s3d\[0, 0\] is inf", True,
    ),
    "too few times": (
        rewrite(BAD, {"s3d": GOOD_S3D}, s3d=np.zeros((2, 2))),
        r"features_t\.s3d holds 2 times for 3 features",
        True,
    ),
    "times without end": (
        rewrite(BAD, {"s3d": GOOD_S3D}, s3d=np.full((3, 2), np.inf)), r"features_t\.s3d holds infinite times", True
    ),
    "a group": (in_place_of("features.s3d", None), r"features\.s3d is <HDF5 group.*an array was expected", True),
    "numbers for words": (
        in_place_of("raw_captions.0", np.arange(3)), r"raw_captions\.0 has shape \(3,\) and type int64", False
    ),
    "not UTF-8": (
        in_place_of("raw_captions.0", np.array([b"caf\xe9"])), r"raw_captions\.0 is not UTF-8", False
    ),
    "flat times": (rewrite(BAD, {"s3d": GOOD_S3D}, s3d=np.zeros(3)), r"features_t\.s3d has shape \[3\]", True),
}  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_bad_file_is_named_and_can_be_skipped(defect: str, tmp_path: Path) -> None:
    spoil, message, captions_readable = DEFECTS[defect]
    root, out = tmp_path / "r", tmp_path / "ws"
    write_release(root)
    spoil(root)
    with pytest.raises(InputError, match=message) as caught:
        imported(root, out)
    assert "video2.h5" in str(caught.value) and "--skip-bad" in str(caught.value)
    assert not list(out.glob("features/*/manifest.json"))

    report = import_mmt_features(root, out, workers=1, skip_bad=True)
    assert [entry.video_id for entry in report.skipped] == ["video2"]
    assert "1 skipped, see" in str(report)
    workspace = report.workspace
    store = FeatureStore(workspace.features)
    assert store.video_ids("s3d") == ("video0", "video1", "video3", "video4", "video5")
    assert "video2" not in store.examined("vggish")
    assert bool(load_annotations(workspace).captions_by_video["video2"]) == captions_readable
    entries = [json.loads(line) for line in workspace.ledger.read_text().splitlines()]
    assert [Skipped(**entry).expert for entry in entries] == ["*"] and "video2.h5" in entries[0]["reason"]
    assert "failures are listed" in describe(workspace, verify=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_video_says_an_unpublished_experts_dim(workers: int, tmp_path: Path) -> None:
    root = tmp_path / "r"
    ids = write_release(root)
    for number, dim in enumerate([6, 6, 9, 9, 6, 9]):
        write_video(root, ids[number], [["a"], ["b"]], {"pose": numbers(1, dim)})
    with pytest.raises(InputError, match=r"video\d\.h5: features\.pose has shape \[1, 9\], \[T, 6\] was expected"):
        import_mmt_features(root, tmp_path / "ws", workers=1, shard_videos=2)
    report = import_mmt_features(root, tmp_path / "ws", workers=workers, shard_videos=2, skip_bad=True)
    assert [entry.video_id for entry in report.skipped] == ["video2", "video3", "video5"]
    assert FeatureStore(report.workspace.features).video_ids("pose") == ("video0", "video1", "video4")
    describe(report.workspace, verify=True)


def test_wrong_lists_and_folders(tmp_path: Path) -> None:
    root, out = tmp_path / "r", tmp_path / "ws"
    with pytest.raises(InputError, match="is not a folder"):
        imported(root, out)
    root.mkdir()
    with pytest.raises(InputError, match="does not hold vid_feat_files/mult_h5"):
        imported(root, out)
    ids = write_release(root)
    lists = root / "symlinked-feats"
    write_lists(root, {}, {ids[-2]: 2, ids[-1]: 0})
    with pytest.raises(InputError, match=r"caption_idx\.pkl: the query index of video4 is 2; it has 2 captions"):
        imported(root, out)
    write_lists(root, {"train_list.txt": ["video0", "video1", "video0"]})
    with pytest.raises(InputError, match=r"train_list\.txt names videos more than once: 'video0' \(lines 1 and 3\)"):
        imported(root, out)
    write_lists(root, {"train_list.txt": ["video0", "video5"]})
    with pytest.raises(InputError, match=r"train_list\.txt and .*test_list\.txt overlap in 1 videos: video5"):
        imported(root, out)
    write_lists(root, {"train_list.txt": ["../../video0"]})
    with pytest.raises(InputError, match="ids such as video7010"):
        imported(root, out)
    for path in lists.iterdir():
        path.unlink()
    with pytest.raises(InputError, match="holds the lists of no split"):
        imported(root, out)
    write_lists(root, {"train_list_miech.txt": ["video70"], "test_list_miech.txt": ["video71"]})
    with pytest.raises(InputError, match="none of the 2 listed videos has a file"):
        imported(root, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_finished_import_is_left_alone(tmp_path: Path) -> None:
    root, out = tmp_path / "r", tmp_path / "ws"
    write_release(root)
    assert import_mmt_features(root, out, workers=1).changed
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != ".lock"}
    again = import_mmt_features(root, out, workers=1)
    assert not again.changed and "nothing to do" in str(again)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    (out / "features" / "s3d" / "part-00000.parquet").unlink()
    imported(root, out)
    describe(Workspace(out), verify=True)


def test_another_import_into_the_same_workspace_is_refused(tmp_path: Path) -> None:
    root, out = tmp_path / "r", tmp_path / "ws"
    write_release(root)
    write_release(tmp_path / "other")
    imported(root, out)
    with pytest.raises(WorkspaceError, match=rf"source={root}; now source={tmp_path / 'other'} is asked for"):
        imported(tmp_path / "other", out)
    with pytest.raises(WorkspaceError, match="dtype=float32; now dtype=float16 is asked for"):
        imported(root, out, dtype="float16")
    write_video(root, "video0", [["new"]], {"s3d": GOOD_S3D})
    with pytest.raises(WorkspaceError, match="files have changed since"):
        imported(root, out)
    (tmp_path / "filled").mkdir()
    (tmp_path / "filled" / "a.txt").write_text("a")
    with pytest.raises(WorkspaceError, match="holds other files"):
        imported(root, tmp_path / "filled")


SLOW = """
import sys, time
from pathlib import Path
from vtr.interop import features, mmt_features
write = features.write_shard
features.write_shard = lambda *a: (write(*a), time.sleep(0.05))[0]
mmt_features.import_mmt_features(Path(sys.argv[1]), Path(sys.argv[2]), workers=1, shard_videos=2)
"""


def test_a_killed_import_goes_on_where_it_was(tmp_path: Path) -> None:
    root, out = tmp_path / "r", tmp_path / "ws"
    write_release(root, videos=20)
    imported(root, tmp_path / "whole", shard_videos=2)
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(root), str(out)])
    deadline = time.monotonic() + 30
    while not shard_bytes(out / "features") and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in out.glob("features/*/part-*.parquet")}
    expected = shard_bytes(tmp_path / "whole" / "features")
    assert finished and len(finished) < len(expected) and not list(out.rglob("features/*/manifest.json"))
    with pytest.raises(WorkspaceError, match="no features yet"):
        describe(Workspace(out), verify=False)
    imported(root, out, shard_videos=2)
    assert finished == {path: path.stat().st_mtime_ns for path in finished}
    assert shard_bytes(out / "features") == expected
    assert not list(out.rglob(".tmp-*"))


def test_processes_make_the_same_files_and_end_with_their_parent(tmp_path: Path) -> None:
    root = tmp_path / "r"
    write_release(root, videos=8)
    imported(root, tmp_path / "one", shard_videos=2)
    import_mmt_features(root, tmp_path / "two", workers=2, shard_videos=2)
    expected = shard_bytes(tmp_path / "one" / "features")
    assert shard_bytes(tmp_path / "two" / "features") == expected

    os.mkfifo(h5_path(root, "video99"))  # a worker that opens it waits for ever
    write_lists(root, {"train_list.txt": [*(f"video{n}" for n in range(5)), "video99"]})
    call = f"import_mmt_features(Path({str(root)!r}), Path({str(tmp_path / 'ws')!r}), workers=2, shard_videos=2)"
    code = f"from pathlib import Path\nfrom vtr.interop.mmt_features import import_mmt_features\n{call}"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    while not shard_bytes(tmp_path / "ws" / "features"):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60  # reached only where they outlive it
    while living(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    left = living(process.pid)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "workers outlived their parent"


def living(group: int) -> list[int]:
    """The processes of a group that have not ended, whether or not anybody has asked how."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of = path.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):  # it ended while it was read
            continue
        if int(of) == group and state != "Z":
            found.append(int(path.parent.name))
    return found


def test_the_command_line(tmp_path: Path) -> None:
    root, out = tmp_path / "r", tmp_path / "ws"
    write_release(root)
    cut(root)
    command = [*CLI, "import", "mmt-features", str(root), "--out", str(out)]
    failed = subprocess.run(command, capture_output=True, text=True)
    assert failed.returncode == 1 and failed.stderr.splitlines()[-1].startswith("error: ") and "video2" in failed.stderr
    assert "Traceback" not in failed.stderr
    done = subprocess.run(
        [*command, "--skip-bad", "--dtype", "float16", "--out", f"{out}2"], capture_output=True, text=True
    )
    assert done.returncode == 3, done.stderr
    assert "s3d 5 of 6 videos" in done.stdout and "1 skipped" in done.stdout


def test_queries_that_are_no_places_of_captions_are_refused(tmp_path: Path) -> None:
    write_release(tmp_path / "r")
    write_lists(tmp_path / "r", {}, {"video5": "the first"})  # type: ignore[dict-item]
    with pytest.raises(InputError, match="does not map video ids to caption numbers"):
        imported(tmp_path / "r", tmp_path / "ws")


def test_a_precision_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dtype is 'int8', one of float16, float32 was expected"):
        imported(tmp_path, tmp_path / "ws", dtype="int8")
