"""MSR-VTT as it was published, read once, and a made-up collection of the same size for lists that hold mistakes."""

from __future__ import annotations

import csv
import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest

from vtr.annotations.msrvtt import read_annotations
from vtr.types import Annotations, Caption, Split, Video


@pytest.fixture(scope="session")
def msrvtt(shared: Path) -> tuple[Annotations, Split]:
    """The official annotations and the full split."""
    return read_annotations(shared / "msrvtt" / "annotation")


@pytest.fixture(scope="session")
def made_up() -> tuple[Annotations, Split]:
    """10,000 videos with three captions each, split as MSR-VTT is."""
    ids = [f"video{number}" for number in range(10_000)]
    captions = [Caption(f"{v}#{place}", v, f"caption {place} of {v}") for v in ids for place in range(3)]
    full = Split("full", tuple(ids[:6513]), tuple(ids[6513:7010]), tuple(ids[7010:]))
    return Annotations(tuple(Video(video_id) for video_id in ids), tuple(captions)), full


@pytest.fixture
def lists(tmp_path: Path, made_up: tuple[Annotations, Split]) -> Path:
    """Split lists, query CSV and query index as published ones look, for the made-up collection."""
    folder = tmp_path / "splits"
    folder.mkdir()
    annotations, full = made_up
    ids = [video.id for video in annotations.videos]
    contents: dict[str, Sequence[str]] = {
        "train_list_full": full.train,
        "val_list_full": full.validation,
        "test_list_full": full.test,
        "train_list_jsfusion": ids[:9000],
        "val_list_jsfusion": ids[9000:],
        "train_list_miech": ids[:6656],
        "test_list_miech": ids[8000:9000],
    }
    for name, content in contents.items():
        (folder / f"{name}.txt").write_text("\n".join(content) + "\n")
    places = {video_id: number % 3 for number, video_id in enumerate(reversed(ids[9000:]))}
    (folder / "jsfusion_val_caption_idx.pkl").write_bytes(pickle.dumps(places))
    write_queries(folder, {v: f"caption {place} of {v}" for v, place in places.items()})
    return folder


def write_queries(folder: Path, texts: dict[str, str]) -> None:
    """Write MSRVTT_JSFUSION_test.csv."""
    with (folder / "MSRVTT_JSFUSION_test.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["key", "vid_key", "video_id", "sentence"])
        writer.writerows([f"ret{n}", f"msr{v[5:]}", v, text] for n, (v, text) in enumerate(texts.items()))
