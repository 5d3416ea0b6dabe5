"""Foreign pickles: data comes through, code does not."""

from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vtr.errors import InputError
from vtr.safe_pickle import load_pickle


class Marker:
    """Would leave a file behind if it were run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_containers_come_through(tmp_path: Path, protocol: int) -> None:
    value = {
        "features": np.arange(12, dtype=np.float32).reshape(3, 4),
        "scalar": np.float64(2.5),
        "ids": ["a", ("b", 3), {"c"}, frozenset({"d"}), None, b"\x00\xff", bytearray(b"x")],
        "ordered": OrderedDict([("z", 1), ("a", 2)]),
        "empty": np.zeros((0, 4), np.float32),
        "objects": np.array(["x", [1, 2]], dtype=object),
    }
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    found = load_pickle(path)
    assert np.array_equal(found["features"], value["features"]) and found["features"].dtype == np.float32
    assert found["scalar"] == 2.5
    assert found["ids"] == value["ids"]
    assert list(found["ordered"].items()) == [("z", 1), ("a", 2)]
    assert found["empty"].shape == (0, 4) and found["empty"].dtype == np.float32
    assert found["objects"].tolist() == ["x", [1, 2]]


def test_python_2_pickles_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(b"(dp0\nS'video1'\np1\nI7\ns.")  # what Python 2's pickle.dumps({'video1': 7}) gives
    assert load_pickle(path) == {"video1": 7}


def test_code_is_refused_and_not_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "a.pkl", tmp_path / "mark"
    path.write_bytes(pickle.dumps({"fine": 1, "not": Marker(mark)}))
    with pytest.raises(InputError, match=r"a\.pkl is refused: it wants to run (posix|nt)\.mkdir"):
        load_pickle(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "stream",
    [
        b"cbuiltins\neval\n(V1+1\ntR.",
        b"c__builtin__\neval\n(V1+1\ntR.",
        b"cnumpy\nload\n(V/etc/passwd\ntR.",
        b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.",
        b"c_codecs\ndecode\n(V00\nVhex\ntR.",
        b"c_codecs\nencode\n(Vabc\nVrot13\ntR.",
        b"\x80\x04\x8c\x05numpy\x8c\x0bdtype.mro\x93.",
    ],
)
def test_ways_around_are_refused(tmp_path: Path, stream: bytes) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(stream)
    with pytest.raises(InputError, match=r"is refused|is not a whole pickle"):
        load_pickle(path)


def test_damaged_and_missing_pickles_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    whole = pickle.dumps({"features": np.zeros((50, 50))})
    for data in (b"", whole[: len(whole) // 2], b"not a pickle at all"):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"a\.pkl is not a whole pickle .*Fetch it again"):
            load_pickle(path)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load_pickle(tmp_path / "none.pkl")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        load_pickle(tmp_path)


def test_the_real_query_index(shared: Path) -> None:
    index = load_pickle(shared / "msrvtt" / "splits" / "jsfusion_val_caption_idx.pkl")
    assert len(index) == 1000 and set(index.values()) <= set(range(20))
