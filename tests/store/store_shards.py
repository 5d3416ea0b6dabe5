"""Small stores for the tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from vtr.store.reader import FeatureStore
from vtr.store.schema import encode_row
from vtr.store.writer import shard_name, write_expert_manifest, write_shard
from vtr.types import ExpertFeatures, ExpertSpec

SPEC = ExpertSpec("toy", 4, "image", None, "random numbers")


def features(length: int, dim: int = 4, seed: int = 0) -> ExpertFeatures:
    """Random features, one a second."""
    seconds = np.arange(length, dtype=np.float32)
    values = np.random.default_rng(seed).standard_normal((length, dim)).astype(np.float32)
    return ExpertFeatures(values, seconds, seconds + 1)


def write_store(
    root: Path,
    found: Mapping[str, tuple[ExpertFeatures, tuple[str, ...] | None]],
    groups: Sequence[Sequence[str]],
    dtype: str = "float32",
) -> FeatureStore:
    """Write the expert "toy" with one shard a group, and open the store."""
    checksums = {}
    for number, group in enumerate(groups):
        rows = [encode_row(name, *found[name], dtype) for name in group if name in found]
        name = shard_name(number)
        checksums[name] = write_shard(root / "toy" / name, SPEC, rows, group, {"decoder": "none"})
    counts = {"examined": sum(map(len, groups)), "present": len(found)}
    write_expert_manifest(
        root / "toy", SPEC, checksums, inputs={}, config={"dtype": dtype}, counts=counts, counts_by_shard={}
    )
    return FeatureStore(root)
