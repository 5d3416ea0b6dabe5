"""The ranks of every query as a Parquet table: what a breakdown of one's own, or a paired test, starts from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vtr.errors import InputError
from vtr.evaluation.metrics import DIRECTIONS, Direction, all_right
from vtr.evaluation.protocols import Protocol, Rules
from vtr.evaluation.ranks import Counts
from vtr.evaluation.subject import Subject
from vtr.files import atomic_file
from vtr.types import PARTS, Part
from vtr.workspace import fingerprint

SCHEMA = pa.schema(
    [
        ("direction", pa.string()),
        ("query_id", pa.string()),
        ("video_id", pa.string()),
        ("rank", pa.float64()),
        ("higher", pa.int64()),
        ("same", pa.int64()),
        ("num_right", pa.int64()),
        ("ndcg_at_10", pa.float64()),
        ("average_precision", pa.float64()),
    ]
)
KEY = b"vtr"


@dataclass(frozen=True, eq=False, slots=True)
class QueryTable:
    """The ranks of one evaluation, read back.

    Attributes:
        split, part: what was evaluated.
        protocol: queries, gallery and rules.
        items: fingerprint of all captions and videos that were ranked.
        ranks: direction -> [Q] float64.
        query_ids, video_ids: direction -> Q ids of the queries, and of the videos they belong to.
    """

    split: str
    part: Part
    protocol: Protocol
    items: str
    ranks: dict[Direction, NDArray[np.float64]]
    query_ids: dict[Direction, tuple[str, ...]]
    video_ids: dict[Direction, tuple[str, ...]]


def write_queries(path: Path, subject: Subject, t2v: Counts, v2t: Counts, rules: Rules, protocol: Protocol) -> None:
    """Write one row a query and direction: `SCHEMA`, with `higher` and `same` of the best right answer.

    Args:
        path: the Parquet file.
        subject: the queries.
        t2v, v2t: where all their right answers stand.
        rules, protocol: go into the file's metadata.
    """
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    video_ids = np.asarray([video.id for video in subject.videos], object)
    ids = {"text_to_video": np.asarray(subject.text_ids, object)[t2v.queries], "video_to_text": video_ids[v2t.queries]}
    videos = {"text_to_video": video_ids[subject.video_of_text[t2v.queries]], "video_to_text": ids["video_to_text"]}
    for direction, counts in zip(DIRECTIONS, (t2v, v2t), strict=True):
        ndcg, precision = all_right(counts, rules.ties)
        values = (
            np.full(len(counts.queries), direction, object),
            *(ids[direction], videos[direction], counts.ranks(rules.ties)),
            *(counts.higher[:, 0], counts.same[:, 0], counts.num_right, ndcg, precision),
        )
        for name, some in zip(SCHEMA.names, values, strict=True):
            columns[name] += some.tolist()
    facts = {
        "split": subject.coverage.split,
        "part": subject.coverage.part,
        "protocol": asdict(protocol),
        "items": fingerprint([sorted(subject.text_ids), sorted(video.id for video in subject.videos)]),
    }
    table = pa.table(columns, schema=SCHEMA.with_metadata({KEY: json.dumps(facts).encode()}))
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary)


def read_queries(path: Path) -> QueryTable:
    """Return what `write_queries` wrote.

    Raises:
        InputError: the file is missing, damaged, or another table.
    """
    try:
        table = pq.read_table(path)
        facts = json.loads((table.schema.metadata or {})[KEY])
        protocol = Protocol(**facts["protocol"])
        part: Part = PARTS[PARTS.index(facts["part"])]
        parts = {d: table.filter(pc.equal(table["direction"], d)) for d in DIRECTIONS}
        return QueryTable(
            str(facts["split"]),
            part,
            protocol,
            str(facts["items"]),
            {d: some["rank"].to_numpy() for d, some in parts.items()},
            {d: tuple(some["query_id"].to_pylist()) for d, some in parts.items()},
            {d: tuple(some["video_id"].to_pylist()) for d, some in parts.items()},
        )
    except OSError as error:
        reason = error.strerror or ("it is not there" if not path.exists() else error)
        raise InputError(
            f"{path} cannot be read: {reason}. Give a run, or a table that `vtr evaluate` wrote."
        ) from error
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} is not a table of ranks ({error!r}). Give a run, or a *.ranks.parquet that `vtr evaluate` wrote."
        ) from error
