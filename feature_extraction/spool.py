"""Finished videos on their way into shards: one small atomic file a video, so that nothing done is done again."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from feature_extraction.ledger import Failure
from vtr.files import atomic_file
from vtr.store.schema import SCHEMA

SPOOL_SCHEMA = SCHEMA.append(pa.field("expert", pa.string(), nullable=False))


@dataclass(frozen=True, slots=True)
class Spooled:
    """What the experts made of one video.

    Attributes:
        video_id: the video.
        rows: expert -> encoded row, for those that found something.
        examined: the experts that read the video, whether they found anything or not.
        failures: what went wrong.
    """

    video_id: str
    rows: Mapping[str, dict[str, Any]]
    examined: tuple[str, ...]
    failures: tuple[Failure, ...]


class Spool:
    """The spool folder. `settings` maps experts to a hash of what shapes their features; what differs is not used."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder, self._settings = folder, dict(settings)

    def _path(self, video_id: str) -> Path:
        return self._folder / f"{hashlib.sha256(video_id.encode()).hexdigest()[:32]}.parquet"

    def put(self, done: Spooled) -> None:
        """Write one video's file, merged with what other experts made of it before."""
        before = self.get(done.video_id)
        if before is not None:
            examined = tuple(sorted({*before.examined, *done.examined}))
            done = Spooled(done.video_id, {**before.rows, **done.rows}, examined, done.failures)
        rows = [{**row, "expert": expert} for expert, row in sorted(done.rows.items())]
        head = {
            "video_id": done.video_id,
            "examined": {expert: self._settings.get(expert) for expert in done.examined},
            "failures": [asdict(failure) for failure in done.failures],
        }
        table = pa.Table.from_pylist(rows, schema=SPOOL_SCHEMA.with_metadata({"vtr.spool": json.dumps(head)}))
        with atomic_file(self._path(done.video_id)) as temporary:
            pq.write_table(table, temporary, compression="none")

    def get(self, video_id: str) -> Spooled | None:
        """Return what is spooled of a video under the present settings, or None."""
        path = self._path(video_id)
        if not path.exists():
            return None
        try:
            table = pq.read_table(path)
            head = json.loads((table.schema.metadata or {})[b"vtr.spool"])
        except (OSError, pa.ArrowException, KeyError, ValueError):
            path.unlink(missing_ok=True)  # damaged: the video is read again
            return None
        current = {e for e, settings in head["examined"].items() if self._settings.get(e, settings) == settings}
        rows = {row.pop("expert"): row for row in table.to_pylist()}
        return Spooled(
            video_id,
            {expert: row for expert, row in rows.items() if expert in current},
            tuple(sorted(current)),
            tuple(Failure(**failure) for failure in head["failures"]),
        )

    def drop(self, video_ids: Sequence[str]) -> None:
        """Remove the files of videos that are in shards now."""
        for video_id in video_ids:
            self._path(video_id).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._folder.rmdir()
