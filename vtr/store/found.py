"""The side tables of experts that read or hear: every single find, in Parquet, one file beside each shard.

`<store>/<expert>/texts/<the shard's name>` holds one row a find, in the order of the shard's videos:

    video_id        string
    feature         int32    which of the video's features it is part of, counted from 0
    text            string   as read or heard
    start_seconds   float32
    end_seconds     float32
    confidence      float32  the recogniser's own, 0 to 1
    box             list<float32>, null for speech; else left, top, right, bottom as shares of the frame's sides
    words           list<struct<text, start_seconds, end_seconds, confidence>>, null for text on screen

A shard without finds has no side table. The expert's manifest lists the tables' checksums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from vtr.store.texts import FoundText, Word

TEXTS = "texts"
"""The folder of an expert's side tables."""

_WORD = pa.struct(
    [
        pa.field("text", pa.string(), nullable=False),
        pa.field("start_seconds", pa.float32(), nullable=False),
        pa.field("end_seconds", pa.float32(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
    ]
)
FOUND_FIELDS = (
    pa.field("feature", pa.int32(), nullable=False),
    pa.field("text", pa.string(), nullable=False),
    pa.field("start_seconds", pa.float32(), nullable=False),
    pa.field("end_seconds", pa.float32(), nullable=False),
    pa.field("confidence", pa.float32(), nullable=False),
    pa.field("box", pa.list_(pa.float32())),
    pa.field("words", pa.list_(_WORD)),
)
FOUND_SCHEMA = pa.schema([pa.field("video_id", pa.string(), nullable=False), *FOUND_FIELDS])


def encode_found(found: FoundText) -> dict[str, Any]:
    """Return one find as a row, without its video."""
    return {
        "feature": found.feature,
        "text": found.text,
        "start_seconds": found.start_seconds,
        "end_seconds": found.end_seconds,
        "confidence": found.confidence,
        "box": None if found.box is None else list(found.box),
        "words": [asdict(word) for word in found.words] or None,
    }


def decode_found(row: Mapping[str, Any]) -> FoundText:
    """Return the find of a row.

    Raises:
        ValueError: the box has not four sides.
    """
    box = row["box"]
    if box is not None and len(box) != 4:
        raise ValueError(f"a box has {len(box)} numbers, left, top, right and bottom were expected")
    return FoundText(
        row["text"],
        row["feature"],
        row["start_seconds"],
        row["end_seconds"],
        row["confidence"],
        None if box is None else (box[0], box[1], box[2], box[3]),
        tuple(Word(**word) for word in row["words"] or ()),
    )
