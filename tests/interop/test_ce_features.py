"""CE's released features in a workspace: every value against the pickles, old and malicious pickles, bad videos."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from released_ce import NINE, TEXT, numbers, put, write_list, write_release

from vtr.annotations.tables import load_annotations, load_split, split_names
from vtr.errors import InputError, WorkspaceError
from vtr.interop.ce_features import import_ce_features
from vtr.stages.features import describe
from vtr.store.reader import FeatureStore
from vtr.workspace import Workspace

NAN = float("nan")


def imported(source: Path, out: Path, **options: Any) -> Workspace:
    return import_ce_features(source, out, **options).workspace


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("part-*.parquet"))}


def test_every_value_of_the_nine_experts(tmp_path: Path) -> None:
    ids = write_release(tmp_path / "structured-symlinks")
    store = FeatureStore(imported(tmp_path, tmp_path / "ws").features)
    assert set(store.experts) == set(NINE)
    for name, path in NINE.items():
        content, held = pickle.loads((tmp_path / "structured-symlinks" / path).read_bytes()), store.read(name)
        for video_id in ids:
            if isinstance(content[video_id], float):
                assert video_id not in held
                continue
            found, expected = held[video_id], np.atleast_2d(content[video_id])
            assert found.values.dtype == np.float32 and np.array_equal(found.values, expected)
            assert np.isnan(found.start_seconds).all() and np.isnan(found.end_seconds).all()
        assert store.examined(name) == frozenset(ids)
        assert store.spec(name).model_id == f"ce-release/{name}"
    assert store.spec("audio").modality == "audio" and store.spec("ocr").modality == "text"


def test_captions_and_their_text_features(tmp_path: Path) -> None:
    ids = write_release(tmp_path / "r")
    put(tmp_path / "r", "aggregated_text_feats/grovle.pkl", {"video0": [numbers(1, 3)]})
    report = import_ce_features(tmp_path / "r", tmp_path / "ws")
    workspace = report.workspace
    captions = load_annotations(workspace).captions_by_video
    assert [(c.id, c.text) for c in captions["video3"]] == [("video3#0", "a dog video3"), ("video3#1", "it sleeps")]
    store = FeatureStore(workspace.text_features)
    assert store.experts == ("grovle", "openai")
    held = store.read("openai", ["video4#1", "video1#0", "video1#1"])
    assert set(held) == {"video4#1", "video1#0"}
    assert np.array_equal(held["video4#1"].values, numbers(2, 8, 504))
    assert np.isnan(held["video4#1"].start_seconds).all()
    assert store.examined("openai") == frozenset(f"{v}#{n}" for v in ids for n in (0, 1))
    assert (store.spec("openai").modality, store.spec("openai").dim) == ("text", 8)
    text = str(report)
    assert "text features openai 11 of 12 captions, 28 token states, dim 8" in text
    assert "text features grovle 1 of 12 captions, 1 token states, dim 3" in text
    assert "face 3 of 6 videos, 3 features, dim 9" in text and "audio 6 of 6 videos, 12 features, dim 11" in text
    assert store.verify("openai") == []
    describe(workspace, verify=True)


def test_what_counts_as_missing(tmp_path: Path) -> None:
    root = tmp_path / "r"
    write_release(root)
    values = {"video0": np.float32(NAN), "video1": np.zeros((0, 5)), "video2": np.array([]), "video4": np.ones((2, 5))}
    put(root, NINE["ocr"], values | {"video3": np.array([[NAN] * 5]), "video99": np.ones((1, 7))})
    put(root, TEXT, {"video0": [np.zeros((0, 8)), np.ones((1, 8))], "video1": NAN})
    put(root, NINE["speech"], dict.fromkeys(values, NAN))
    report = import_ce_features(root, tmp_path / "ws")
    store = FeatureStore(report.workspace.features)
    assert store.video_ids("ocr") == ("video4",)
    assert FeatureStore(report.workspace.text_features).video_ids("openai") == ("video0#1",)
    assert "speech" not in store.experts and "so not in the store: speech" in str(report)


def test_splits_and_notes(tmp_path: Path) -> None:
    root = tmp_path / "r"
    ids = write_release(root)
    write_list(root, "train_list_miech.txt", ids[:3])
    write_list(root, "test_list_miech.txt", [*ids[4:], "video77"])
    (root / NINE["face"]).unlink()
    report = import_ce_features(root, tmp_path / "ws")
    assert split_names(report.workspace) == ("1k-A", "1k-A-holdout", "1k-B", "full")
    assert load_split(report.workspace, "1k-A").query_caption_ids == ("video4#1", "video5#0")
    assert load_split(report.workspace, "1k-B").query_caption_ids == ("video4#0", "video5#0")
    text = str(report)
    assert "1 listed videos have no captions: video77" in text
    assert "experts of the paper that are not there: face" in text


def test_other_experts_by_name_and_later_ones(tmp_path: Path) -> None:
    root, out = tmp_path / "r", tmp_path / "ws"
    write_release(root)
    put(root, "aggregated_trn feats/moments+trn-avg.pickle", {"video0": numbers(1, 3)})
    report = import_ce_features(root, out, experts=["face", "audio"])
    assert FeatureStore(out / "features").experts == ("audio", "face")
    assert "imported if named with --experts" in str(report) and "trn_feats.moments_trn-avg" in str(report)
    before = files(out)
    assert import_ce_features(root, out, experts=["trn_feats.moments_trn-avg"]).changed
    store = FeatureStore(out / "features")
    assert store.experts == ("audio", "face", "trn_feats.moments_trn-avg")
    assert files(out).items() >= before.items()
    assert not import_ce_features(root, out, experts=["face"]).changed
    with pytest.raises(InputError, match=r"no expert 'fase'\. Did you mean 'face'"):
        imported(root, out, experts=["fase"])
    with pytest.raises(InputError, match="no expert was named"):
        imported(root, out, experts=[])


def python_2(value: np.ndarray) -> bytes:
    """What Python 2's pickle.dumps({'video0': value}, 2) gives: arrays' bytes are a str of Python 2."""
    data, shape = value.astype("<f4").tobytes(), value.shape
    return (
        b"\x80\x02}U\x06video0cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + b"".join(b"K" + bytes([n]) for n in shape)
        + (b"\x86" if len(shape) == 2 else b"\x85")
        + b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + len(data).to_bytes(4, "little")
        + data
        + b"tbs."
    )


@pytest.mark.parametrize("shape", [(2, 5), (5,)])
def test_pickles_of_python_2(shape: tuple[int, ...], tmp_path: Path) -> None:
    root = tmp_path / "r"
    write_release(root)
    value = numbers(2, 5)[:, :] if len(shape) == 2 else numbers(1, 5)[0]
    (root / NINE["audio"]).write_bytes(python_2(value))
    held = FeatureStore(imported(root, tmp_path / "ws").features).read("audio")
    assert list(held) == ["video0"] and np.array_equal(held["video0"].values, np.atleast_2d(value))


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("path", ["raw-captions.pkl", NINE["face"], TEXT, "jsfusion_val_caption_idx.pkl"])
@pytest.mark.parametrize("skip_bad", [False, True])
def test_code_in_a_pickle_is_refused_by_name(path: str, skip_bad: bool, tmp_path: Path) -> None:
    write_release(tmp_path / "r")
    put(tmp_path / "r", path, {"video0": Evil(tmp_path / "mark")})
    with pytest.raises(InputError, match=r"is refused: it wants to run posix\.mkdir") as caught:
        imported(tmp_path / "r", tmp_path / "ws", skip_bad=skip_bad)
    assert Path(path).name in str(caught.value) and not (tmp_path / "mark").exists()


DEFECTS: dict[str, tuple[str, Any, str, str]] = {
    "three axes": ("ocr", np.ones((2, 2, 2)), "ocr", r"video2 has shape \[2, 2, 2\].*an array \[T, 10\] was expected"),
    "a word": ("ocr", "hello", "ocr", r"video2 has 'hello', an array"),
    "ragged": ("ocr", [np.ones(3), np.ones(4)], "ocr", r"video2 is not an array"),
    "other dim": ("ocr", np.ones((1, 7)), "ocr", r"video2 has shape \[1, 7\], \[T, 10\] was expected like the first"),
    "NaN inside": ("ocr", np.r_[np.ones(9), NAN], "ocr", r"video2\[0, 9\] is nan"),
    "infinite": ("audio", np.full((1, 11), np.inf), "audio", r"video2\[0, 0\] is inf"),
    "too large": ("audio", np.full((1, 11), 1e300), "audio", r"video2\[0, 0\] is 1e\+300, a finite number of float32"),
    "no captions": ("captions", [], "*", r"video2 has \[\], a list of captions"),
    "no words": ("captions", ["a", []], "*", r"video2, caption 1 has no words"),
    "numbers for words": ("captions", [[1, 2]], "*", r"video2, caption 0 is \[1, 2\], words were expected"),
    "too many texts": ("text", [np.ones((1, 8))] * 3, "text_features/openai", r"video2 has 3 arrays, one for each of"),
    "no texts": ("text", 7, "text_features/openai", r"video2 has 7, one for each of its 2 captions"),
    "other text dim": ("text", [np.ones((1, 9))], "text_features/openai", r"caption video2#0 has shape \[1, 9\]"),
}
PATHS = NINE | {"captions": "raw-captions.pkl", "text": TEXT}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_bad_entry_is_named_and_can_be_skipped(defect: str, tmp_path: Path) -> None:
    where, value, expert, message = DEFECTS[defect]
    root, out = tmp_path / "r", tmp_path / "ws"
    write_release(root)
    content = pickle.loads((root / PATHS[where]).read_bytes())
    put(root, PATHS[where], content | {"video2": value})
    with pytest.raises(InputError, match=message) as caught:
        imported(root, out)
    assert Path(PATHS[where]).name in str(caught.value)
    assert not list(out.rglob("features/*/manifest.json"))
    report = import_ce_features(root, out, skip_bad=True)
    assert [(entry.video_id, entry.expert) for entry in report.skipped] == [("video2", expert)]
    workspace = report.workspace
    store = FeatureStore(workspace.features)
    lost = set(NINE) if expert == "*" else {expert}
    for name in store.experts:
        assert ("video2" in store.examined(name)) == (name not in lost)
    assert bool(load_annotations(workspace).captions_by_video["video2"]) == (where != "captions")
    texts = FeatureStore(workspace.text_features).video_ids("openai")
    assert ("video2#0" in texts) == (where not in ("captions", "text")) and "video3#0" in texts
    assert json.loads(workspace.ledger.read_text())["expert"] == expert
    describe(workspace, verify=True)
    assert import_ce_features(root, out).skipped == report.skipped


def test_wrong_folders_and_files(tmp_path: Path) -> None:
    root, out = tmp_path / "r", tmp_path / "ws"
    with pytest.raises(InputError, match=r"is not a folder that holds raw-captions\.pkl"):
        imported(root, out)
    root.mkdir()
    with pytest.raises(InputError, match=r"does not hold raw-captions\.pkl"):
        imported(root, out)
    write_release(root)
    put(root, NINE["face"], [1, 2])
    with pytest.raises(InputError, match=r"facefeats-avg\.pickle holds list, video ids with arrays were expected"):
        imported(root, out)
    (root / NINE["face"]).write_bytes(b"\x80\x02}")
    with pytest.raises(InputError, match=r"facefeats-avg\.pickle is not a whole pickle"):
        imported(root, out)
    for path in root.glob("aggregated_*/*"):
        path.unlink()
    with pytest.raises(InputError, match="holds none of the paper's experts"):
        imported(root, out)
    for path in root.glob("*.txt"):
        path.unlink()
    with pytest.raises(InputError, match="holds the lists of no split"):
        imported(root, out)


def test_a_finished_import_is_left_alone_and_another_refused(tmp_path: Path) -> None:
    root, out = tmp_path / "r", tmp_path / "ws"
    write_release(root)
    assert imported(root, out) and not import_ce_features(root, out).changed
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != ".lock"}
    assert "nothing to do" in str(import_ce_features(root, out))
    assert before == {path: path.stat().st_mtime_ns for path in before}
    with pytest.raises(WorkspaceError, match="dtype=float32; now dtype=float16 is asked for"):
        imported(root, out, dtype="float16")
    write_release(tmp_path / "other")
    with pytest.raises(WorkspaceError, match="now source="):
        imported(tmp_path / "other", out)
    put(root, NINE["face"], {"video0": np.ones(3)})
    with pytest.raises(WorkspaceError, match="files have changed since"):
        imported(root, out)


SLOW = """
import sys, time
from pathlib import Path
from vtr.interop import ce_features, features
write = features.write_shard
features.write_shard = lambda *a: (write(*a), time.sleep(0.05))[0]
ce_features.import_ce_features(Path(sys.argv[1]), Path(sys.argv[2]), shard_videos=2)
"""


def test_a_killed_import_goes_on_where_it_was(tmp_path: Path) -> None:
    root, out = tmp_path / "r", tmp_path / "ws"
    write_release(root, videos=8)
    imported(root, tmp_path / "whole", shard_videos=2)
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(root), str(out)])
    deadline = time.monotonic() + 30
    while not files(out) and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {path: path.stat().st_mtime_ns for path in out.rglob("part-*.parquet")}
    expected = files(tmp_path / "whole")
    assert finished and len(finished) < len(expected) and not list(out.glob("*features/*/manifest.json"))
    imported(root, out, shard_videos=2)
    assert finished == {path: path.stat().st_mtime_ns for path in finished}
    assert files(out) == expected
    assert not list(out.rglob(".tmp-*"))


def test_the_command_line(tmp_path: Path) -> None:
    root = tmp_path / "r"
    write_release(root)
    content = pickle.loads((root / NINE["face"]).read_bytes())
    put(root, NINE["face"], content | {"video1": "bad"})
    command = [sys.executable, "-m", "vtr.cli", "import", "ce-features", str(root), "--experts", "face, audio"]
    failed = subprocess.run([*command, "--out", str(tmp_path / "ws")], capture_output=True, text=True)
    assert failed.returncode == 1 and failed.stderr.splitlines()[-1].startswith("error: ")
    done = subprocess.run([*command, "--out", str(tmp_path / "ws"), "--skip-bad"], capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert "face 2 of 6 videos, 2 features, dim 9" in done.stdout and "1 skipped, see" in done.stdout
