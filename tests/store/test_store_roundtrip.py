"""What is written is read back, whatever the ids, lengths, times, texts and shards."""

from __future__ import annotations

import tempfile
from pathlib import Path

import hypothesis.extra.numpy as arrays
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from store_shards import SPEC, features, write_store

from vtr.store.reader import FeatureStore
from vtr.store.schema import encode_row
from vtr.store.writer import write_shard
from vtr.types import ExpertFeatures

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)


@st.composite
def videos(draw: st.DrawFn) -> dict[str, tuple[ExpertFeatures, tuple[str, ...] | None]]:
    """Some videos of dim 4, of any ids, lengths, finite values and times; with or without texts."""
    found = {}
    for video_id in draw(st.lists(TEXT, unique=True, max_size=6)):
        length = draw(st.integers(1, 9))
        values = draw(arrays.arrays(np.float32, (length, 4), elements=st.floats(-60000, 60000, width=16)))
        times = draw(arrays.arrays(np.float32, (2, length), elements=st.floats(width=32, allow_infinity=False)))
        texts = draw(st.none() | st.lists(TEXT, min_size=length, max_size=length).map(tuple))
        found[video_id] = ExpertFeatures(values, times[0], times[1]), texts
    return found


@settings(max_examples=40, deadline=None)
@given(videos(), st.sampled_from(["float16", "float32"]), st.integers(1, 4))
def test_everything_comes_back(
    found: dict[str, tuple[ExpertFeatures, tuple[str, ...] | None]], dtype: str, shard_size: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ids = [*found, "absent \N{SNOWMAN}"]
        groups = [ids[at : at + shard_size] for at in range(0, len(ids), shard_size)]
        store = write_store(Path(folder) / "features", found, groups, dtype=dtype)
        read = store.read("toy")
        assert list(read) == list(found) == list(store.video_ids("toy"))
        assert store.examined("toy") == set(ids)
        assert store.texts("toy") == {name: texts for name, (_, texts) in found.items() if texts is not None}
        for name, (written, _) in found.items():
            assert read[name].values.dtype == dtype
            np.testing.assert_array_equal(read[name].values, written.values)  # drawn so that float16 holds them
            np.testing.assert_array_equal(read[name].start_seconds, written.start_seconds)
            np.testing.assert_array_equal(read[name].end_seconds, written.end_seconds)
        some = set(ids[::2])
        assert list(store.read("toy", some)) == [name for name in found if name in some]
        assert store.verify("toy") == []


def test_equal_content_gives_equal_files(tmp_path: Path) -> None:
    rows = [encode_row(f"v{n}", features(2, seed=n), None, "float32") for n in range(3)]
    sums = [write_shard(tmp_path / name, SPEC, rows, ["v0", "v1", "v2"], {"x": 1}) for name in ("a", "b")]
    assert sums[0] == sums[1]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_an_empty_store_has_no_experts(tmp_path: Path) -> None:
    assert FeatureStore(tmp_path / "nowhere").experts == ()


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    one = write_store(tmp_path / "one", {"a": (features(2, seed=1), None)}, [["a"]]).fingerprint()
    same = write_store(tmp_path / "same", {"a": (features(2, seed=1), None)}, [["a"]]).fingerprint()
    other = write_store(tmp_path / "other", {"a": (features(2, seed=2), None)}, [["a"]]).fingerprint()
    assert one == same != other
