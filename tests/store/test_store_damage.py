"""A store that is damaged, foreign or newer says so: which file, which video, what was found, what to do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from store_shards import SPEC, features, write_store

from vtr.errors import InputError, WorkspaceError
from vtr.store.reader import FeatureStore
from vtr.store.schema import SCHEMA, encode_row

SHARD = Path("toy") / "part-00001.parquet"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store of two shards with three videos each, the last of each absent."""
    root = tmp_path / "ws" / "features"
    found = {f"v{n}": (features(40, seed=n), None) for n in (0, 1, 3, 4)}
    write_store(root, found, [["v0", "v1", "v2"], ["v3", "v4", "v5"]])
    return root


def rewrite(root: Path, **changes: object) -> None:
    """Replace cells of v4's row with valid Parquet around them, as a faulty writer would."""
    table = pq.read_table(root / SHARD)
    rows = [row | (changes if row["video_id"] == "v4" else {}) for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), root / SHARD)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (dict(encode_row("v4", features(3, dim=7), None, "float32")), r"shape \[3, 7\], expert toy has dim 4"),
        ({"num_features": 41}, r"values holds 640 bytes, shape \[41, 4\] of float32 needs 656"),
        ({"values": b"\0" * 639}, r"values holds 639 bytes, shape \[40, 4\] of float32 needs 640"),
        ({"end_seconds": b"\0" * 4}, r"end_seconds holds 4 bytes, shape \[40\] of float32 needs 160"),
        ({"values": np.full((40, 4), np.nan, "<f4").tobytes()}, "160 NaN or infinite values"),
        ({"values": np.full((40, 4), -np.inf, "<f4").tobytes()}, "160 NaN or infinite values"),
        ({"dtype": "float64"}, "dtype is 'float64', one of float16, float32 expected"),
        ({"num_features": 0, "values": b"", "start_seconds": b"", "end_seconds": b""}, r"T >= 1 was expected"),
    ],
)
def test_a_row_that_is_wrong_is_named(root: Path, changes: dict[str, object], told: str) -> None:
    rewrite(root, **changes)
    store = FeatureStore(root)
    with pytest.raises(WorkspaceError, match=rf"part-00001.parquet, v4: .*{told}") as caught:
        store.read("toy")
    assert f"run `vtr extract {root.parent}`" in str(caught.value)
    assert set(store.read("toy", ["v0", "v1"])) == {"v0", "v1"}
    checksum, row = store.verify("toy")
    assert "checksum differs" in checksum
    assert "v4" in row


def test_every_flipped_byte_in_the_pages_is_found_while_reading(root: Path) -> None:
    whole = (root / SHARD).read_bytes()
    column = pq.ParquetFile(root / SHARD).metadata.row_group(0).column(1)
    assert column.path_in_schema == "values"
    end = column.data_page_offset + column.total_compressed_size
    for place in range(end - 600, end, 50):
        (root / SHARD).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(WorkspaceError, match=rf"{SHARD} is damaged .* Delete .*{SHARD}, and run `vtr extract"):
            FeatureStore(root).read("toy")
    (root / SHARD).write_bytes(whole)
    assert FeatureStore(root).verify("toy") == []


@pytest.mark.parametrize("left", [0, 3, 500, -1])
def test_a_shard_cut_short_is_named(root: Path, left: int) -> None:
    (root / SHARD).write_bytes((root / SHARD).read_bytes()[:left])
    store = FeatureStore(root)
    for use in (store.read, store.examined, store.video_ids, store.texts):
        with pytest.raises(WorkspaceError, match=rf"{SHARD} cannot be read"):
            use("toy")
    assert len(store.verify("toy")) == 2


def test_a_shard_that_is_gone_is_named(root: Path) -> None:
    (root / SHARD).unlink()
    with pytest.raises(WorkspaceError, match=rf"{SHARD} cannot be read .*\. Run `vtr extract {root.parent}`"):
        FeatureStore(root).read("toy")
    assert FeatureStore(root).verify("toy") == [f"{root / SHARD} is missing"]


def test_a_file_that_vtr_did_not_write_is_refused(root: Path) -> None:
    pq.write_table(pa.table({"video_id": ["v3"], "values": [[1.0, 2.0]]}), root / SHARD)
    with pytest.raises(
        WorkspaceError, match=r"has the columns video_id string, values list.*video_id string, values b"
    ):
        FeatureStore(root).read("toy")
    pq.write_table(pa.Table.from_pylist([], schema=SCHEMA), root / SHARD)
    with pytest.raises(WorkspaceError, match=r"lacks the metadata vtr.expert, vtr.examined"):
        FeatureStore(root).read("toy")


def test_a_shard_of_another_model_is_refused(root: Path) -> None:
    manifest = root / "toy" / "manifest.json"
    content = json.loads(manifest.read_text())
    content["expert"]["model_id"] = "another model"
    manifest.write_text(json.dumps(content))
    with pytest.raises(WorkspaceError, match=f"was made by .*{SPEC.model_id}.*manifest says .*another model"):
        FeatureStore(root).read("toy")


def test_a_video_in_two_shards_is_found(root: Path) -> None:
    content = json.loads((root / "toy" / "manifest.json").read_text())
    (root / "toy" / "part-00002.parquet").write_bytes((root / SHARD).read_bytes())
    content["shards"]["part-00002.parquet"] = content["shards"][SHARD.name]
    (root / "toy" / "manifest.json").write_text(json.dumps(content))
    (problem,) = FeatureStore(root).verify("toy")
    assert "covers 3 videos more than once" in problem


def test_a_newer_manifest_is_refused_and_a_torn_one_named(root: Path) -> None:
    manifest = root / "toy" / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"format": 1', '"format": 99'))
    with pytest.raises(WorkspaceError, match=r"in format 99; this is vtr .* Install the newer vtr"):
        FeatureStore(root).read("toy")
    manifest.write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match="not whole JSON"):
        FeatureStore(root).read("toy")
