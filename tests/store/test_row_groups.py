"""Some videos of a shard are read without the row groups that hold none of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from vtr.store.reader import FeatureStore
from vtr.store.schema import ROW_GROUP_ROWS, encode_row
from vtr.store.writer import write_expert_manifest, write_shard
from vtr.types import ExpertFeatures, ExpertSpec

COUNT = 3 * ROW_GROUP_ROWS + 5


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    spec = ExpertSpec("motion", 4, "video", None, "made-up")
    ids = [f"v{number}" for number in range(COUNT)]
    times = np.zeros(1, np.float32)
    rows = [
        encode_row(name, ExpertFeatures(np.full((1, 4), number, np.float32), times, times + 1), None, "float32")
        for number, name in enumerate(ids)
    ]
    checksum = write_shard(tmp_path / "motion" / "part-0.parquet", spec, rows, ids, {})
    counts, shards = {"examined": COUNT, "present": COUNT}, {"part-0.parquet": checksum}
    by_shard = {"part-0.parquet": [COUNT, COUNT]}
    folder = tmp_path / "motion"
    write_expert_manifest(folder, spec, shards, inputs={}, config={}, counts=counts, counts_by_shard=by_shard)
    return FeatureStore(tmp_path)


@pytest.mark.parametrize("places", [[0], [COUNT - 1], [1, 70, 71, COUNT - 1], [], list(range(COUNT))])
def test_some_videos_are_read_with_their_row_groups_alone(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch, places: list[int]
) -> None:
    read: list[int] = []
    plain = pq.ParquetFile.read_row_groups

    def counted(self: pq.ParquetFile, groups: list[int], **how: Any) -> Any:
        read.extend(groups)
        return plain(self, groups, **how)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", counted)
    found = store.read("motion", [*(f"v{place}" for place in places), "nobody"])
    assert {name: held.values[0, 0] for name, held in found.items()} == {f"v{place}": place for place in places}
    assert read == sorted({place // ROW_GROUP_ROWS for place in places})
