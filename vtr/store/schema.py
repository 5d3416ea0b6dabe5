"""The Parquet schema of the feature store, the only definition. A reader in any language needs just this page.

One file holds one expert's features of up to some hundreds of videos, one row a video. A video in which the expert
found nothing has no row; its id is in the file's `examined` list all the same.

    video_id        string
    values          binary   T*D little-endian float16 or float32, row-major [T, D]
    dtype           string   "float16" or "float32"
    num_features    int32    T
    dim             int32    D
    start_seconds   binary   T little-endian float32; NaN where a feature has no time
    end_seconds     binary   T little-endian float32
    texts           list<string>, null for experts that keep no text; else T strings

File metadata (UTF-8 JSON): `vtr.format`, `vtr.expert` (the ExpertSpec), `vtr.examined` (all ids the file covers),
`vtr.made_with` (decoders, scalers, settings, library versions).

Blob columns in row groups of about 64 rows read several times faster than FixedSizeList columns. Pages carry CRC
checksums, which readers verify, so a flipped bit is found while reading.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vtr.finite import all_finite
from vtr.types import ExpertFeatures, ExpertSpec

SCHEMA = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("values", pa.binary(), nullable=False),
        pa.field("dtype", pa.string(), nullable=False),
        pa.field("num_features", pa.int32(), nullable=False),
        pa.field("dim", pa.int32(), nullable=False),
        pa.field("start_seconds", pa.binary(), nullable=False),
        pa.field("end_seconds", pa.binary(), nullable=False),
        pa.field("texts", pa.list_(pa.string())),
    ]
)
BLOBS = ("values", "start_seconds", "end_seconds")
ROW_GROUP_ROWS = 64
DTYPES = ("float16", "float32")


def encode_row(video_id: str, features: ExpertFeatures, texts: tuple[str, ...] | None, dtype: str) -> dict[str, Any]:
    """Return one row. Values are stored as `dtype`.

    Raises:
        ValueError: `dtype` is not one of DTYPES, the values do not fit it, or there are not T texts.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype is {dtype!r}, one of {', '.join(DTYPES)} expected")
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(features.values, np.dtype(dtype).newbyteorder("<"))
    if not all_finite(values):
        raise ValueError(f"features of {video_id} reach {np.abs(features.values).max():.4g}, too large for {dtype}")
    if texts is not None and len(texts) != len(values):
        raise ValueError(f"{video_id} has {len(texts)} texts for {len(values)} features, as many expected")
    return {
        "video_id": video_id,
        "values": values.tobytes(),
        "dtype": dtype,
        "num_features": values.shape[0],
        "dim": values.shape[1],
        "start_seconds": np.ascontiguousarray(features.start_seconds, "<f4").tobytes(),
        "end_seconds": np.ascontiguousarray(features.end_seconds, "<f4").tobytes(),
        "texts": None if texts is None else list(texts),
    }


def decode_row(row: Mapping[str, Any]) -> ExpertFeatures:
    """Return a row's features, values in the stored precision. The arrays are read-only views of the row's blobs.

    Raises:
        ValueError: blob and shape do not agree, or values are NaN or infinite.
    """
    shape = (row["num_features"], row["dim"])
    if row["dtype"] not in DTYPES:
        raise ValueError(f"dtype is {row['dtype']!r}, one of {', '.join(DTYPES)} expected")
    values = _numbers(row, "values", row["dtype"], shape)
    times = (_numbers(row, name, "float32", shape[:1]) for name in ("start_seconds", "end_seconds"))
    return ExpertFeatures(values, *times)


def _numbers(row: Mapping[str, Any], name: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    kind = np.dtype(dtype).newbyteorder("<")
    held, needed = memoryview(row[name]).nbytes, math.prod(shape) * kind.itemsize
    if held != needed:
        raise ValueError(f"{name} holds {held} bytes, shape {list(shape)} of {dtype} needs {needed}")
    return np.frombuffer(row[name], kind).reshape(shape)


def file_metadata(
    spec: ExpertSpec, examined: list[str], made_with: Mapping[str, Any], store_format: int
) -> dict[str, str]:
    """Return the file's key-value metadata."""
    return {
        "vtr.format": str(store_format),
        "vtr.expert": json.dumps(asdict(spec), sort_keys=True),
        "vtr.examined": json.dumps(examined, ensure_ascii=False),
        "vtr.made_with": json.dumps(dict(made_with), sort_keys=True, ensure_ascii=False),
    }


def metadata_spec(metadata: Mapping[bytes, bytes]) -> ExpertSpec:
    """Return the ExpertSpec in a file's metadata."""
    return ExpertSpec(**json.loads(metadata[b"vtr.expert"]))


def metadata_examined(metadata: Mapping[bytes, bytes]) -> list[str]:
    """Return all video ids a file covers, present or absent."""
    return [str(video_id) for video_id in json.loads(metadata[b"vtr.examined"])]
