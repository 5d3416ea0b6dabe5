"""The feature store: what is written is read back, by others too, and damage is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from toy import make_workspace, write_features

from vtr.errors import WorkspaceError
from vtr.stages.features import describe
from vtr.store.reader import FeatureStore
from vtr.store.schema import decode_row, encode_row
from vtr.store.writer import write_shard
from vtr.types import ExpertFeatures, ExpertSpec
from vtr.workspace import Workspace

NUMBERS = st.floats(-1000, 1000, width=16)


def example(count: int = 3, dim: int = 4, seed: int = 0) -> ExpertFeatures:
    draw = np.random.default_rng(seed)
    start = np.arange(count, dtype=np.float32)
    return ExpertFeatures(draw.normal(size=(count, dim)).astype(np.float32), start, start + 0.5)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=NUMBERS),
    st.sampled_from(["float16", "float32"]),
    st.text(min_size=1).filter(lambda text: text.isprintable()),
    st.booleans(),
)
def test_rows_round_trip(values: np.ndarray, dtype: str, video_id: str, timeless: bool) -> None:
    times = np.full(len(values), np.nan, np.float32) if timeless else np.arange(len(values), dtype=np.float32)
    found = decode_row(encode_row(video_id, ExpertFeatures(values, times, times), None, dtype))
    assert found.values.dtype == dtype
    np.testing.assert_array_equal(found.values, values.astype(dtype))
    np.testing.assert_array_equal(found.start_seconds, times)


def test_a_stranger_reads_a_shard_by_the_schema_alone(tmp_path: Path) -> None:
    features = example()
    spec = ExpertSpec("ocr", 4, "text", None, "model", "abc", "pages")
    path = tmp_path / "part.parquet"
    write_shard(
        path, spec, [encode_row("-odd id", features, ("a", "b", "ü"), "float16")], ["-odd id", "silent"], {"x": 1}
    )
    file = pq.ParquetFile(path)
    row = file.read().to_pylist()[0]
    values = np.frombuffer(row["values"], "<f2").reshape(row["num_features"], row["dim"])
    np.testing.assert_array_equal(values, features.values.astype(np.float16))
    np.testing.assert_array_equal(np.frombuffer(row["end_seconds"], "<f4"), features.end_seconds)
    assert row["texts"] == ["a", "b", "ü"]
    metadata = {key.decode(): json.loads(value) for key, value in file.schema_arrow.metadata.items()}
    assert metadata["vtr.expert"]["pretrained_on"] == "pages"
    assert metadata["vtr.examined"] == ["-odd id", "silent"]


def test_row_groups_hold_about_64_rows(tmp_path: Path) -> None:
    rows = [encode_row(f"v{n}", example(), None, "float32") for n in range(150)]
    write_shard(tmp_path / "a.parquet", ExpertSpec("x", 4, "image", None, "m"), rows, [f"v{n}" for n in range(150)], {})
    metadata = pq.ParquetFile(tmp_path / "a.parquet").metadata
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [64, 64, 22]


def test_values_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    huge = ExpertFeatures(np.full((1, 4), 1e6, np.float32), np.zeros(1, np.float32), np.zeros(1, np.float32))
    with pytest.raises(ValueError, match=r"v1 reach 1e\+06, too large for float16"):
        encode_row("v1", huge, None, "float16")
    with pytest.raises(ValueError, match="2 texts for 3 features"):
        encode_row("v1", example(), ("a", "b"), "float16")
    row = encode_row("v1", example(), None, "float32")
    with pytest.raises(ValueError, match="dim 4, expert x has 5"):
        write_shard(tmp_path / "a.parquet", ExpertSpec("x", 5, "image", None, "m"), [row], ["v1"], {})
    with pytest.raises(ValueError, match="v1 is not among"):
        write_shard(tmp_path / "a.parquet", ExpertSpec("x", 4, "image", None, "m"), [row], ["v2"], {})


def test_the_store_answers_what_it_holds(toy: Workspace) -> None:
    store = FeatureStore(toy.features)
    assert store.experts == ("appearance", "motion")
    assert len(store.video_ids("appearance")) == 60
    assert len(store.video_ids("motion")) == 45
    assert len(store.examined("motion")) == 60
    some = store.read("motion", ["v001", "v000"])
    assert set(some) == {"v001"}  # v000 lacks it: no row, not zeros
    assert store.fingerprint(["motion"]) != store.fingerprint()
    with pytest.raises(
        WorkspaceError, match=r"no expert 'moton'; Did you mean 'motion'\? it holds: appearance, motion"
    ):
        store.read("moton")


def test_describe_lists_and_verifies(toy: Workspace) -> None:
    text = describe(toy, verify=True)
    assert "45 of 60" in text
    assert "all shards verified" in text


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "nan", "dim"])
def test_damage_is_named(tmp_path: Path, damage: str) -> None:
    workspace = make_workspace(tmp_path / "ws", videos=12)
    path = workspace.features / "motion" / "part-00000.parquet"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "flipped":
        content = bytearray(path.read_bytes())
        content[len(content) // 3] ^= 255
        path.write_bytes(content)
    elif damage == "gone":
        path.unlink()
    else:
        table = pq.read_table(path)
        rows = table.to_pylist()
        if damage == "nan":
            rows[0]["values"] = np.full(len(rows[0]["values"]) // 4, np.nan, np.float32).tobytes()
        else:
            rows[0]["dim"], rows[0]["num_features"] = 4, rows[0]["num_features"] * 2
            rows[0]["start_seconds"] = rows[0]["end_seconds"] = bytes(4 * rows[0]["num_features"])
        pq.write_table(table.from_pylist(rows, schema=table.schema), path)
    with pytest.raises(WorkspaceError, match=r"motion/part-00000\.parquet"):
        describe(workspace, verify=True)
    words = {"nan": "NaN or infinite", "dim": r"has dim\s+8"}
    if damage in words:
        with pytest.raises(WorkspaceError, match=words[damage]):
            FeatureStore(workspace.features).read("motion")


def test_a_store_of_a_newer_version_is_refused(toy: Workspace) -> None:
    manifest = toy.features / "motion" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(WorkspaceError, match="format 99; this is vtr"):
        FeatureStore(toy.features).spec("motion")


def test_an_empty_store_says_what_to_run(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", videos=12)
    write_features(workspace, "ocr", {"v001": example()}, ["v001"], {})
    assert "ocr" in FeatureStore(workspace.features).experts
    with pytest.raises(WorkspaceError, match="holds no experts yet"):
        FeatureStore(tmp_path / "none").spec("ocr")


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="dtype is 'int8', one of float16, float32 expected"):
        encode_row("a", example(), None, "int8")  # type: ignore[arg-type]
