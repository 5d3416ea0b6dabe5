"""Finished videos on their way into shards: one small atomic file a video, so that nothing done is done again."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from feature_extraction.ledger import Failure
from vtr.files import TEMPORARY_PREFIX, atomic_file
from vtr.store.found import FOUND_FIELDS, decode_found, encode_found
from vtr.store.schema import SCHEMA
from vtr.store.texts import FoundText

SPOOL_SCHEMA = SCHEMA.append(pa.field("expert", pa.string(), nullable=False)).append(
    pa.field("found", pa.list_(pa.struct(FOUND_FIELDS)), nullable=False)
)


@dataclass(frozen=True, slots=True)
class Spooled:
    """What the experts made of one video.

    Attributes:
        video_id: the video.
        rows: expert -> encoded row, for those that found something.
        examined: the experts that read the video, whether they found anything or not.
        failures: what went wrong.
        found: expert -> every text it read or heard.
        decoder: what decoded the video, "" where nothing could.
    """

    video_id: str
    rows: Mapping[str, dict[str, Any]]
    examined: tuple[str, ...]
    failures: tuple[Failure, ...]
    found: Mapping[str, tuple[FoundText, ...]] = field(default_factory=dict)
    decoder: str = ""


class Spool:
    """The spool folder. `settings` maps experts to a hash of what shapes their features; what differs is not used."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder, self._settings = folder, dict(settings)

    @property
    def scratch(self) -> Path:
        """A folder beside the spool for videos that have to be fetched; what killed workers leave in it may go."""
        return self._folder.with_name(".fetched")

    def _path(self, video_id: str) -> Path:
        return self._folder / f"{hashlib.sha256(video_id.encode()).hexdigest()[:32]}.parquet"

    def put(self, done: Spooled) -> None:
        """Write one video's file, merged with what other experts made of it before."""
        before = self.get(done.video_id)
        if before is not None:
            examined = tuple(sorted({*before.examined, *done.examined}))
            rows, found = {**before.rows, **done.rows}, {**before.found, **done.found}
            decoder = done.decoder or before.decoder
            done = Spooled(done.video_id, rows, examined, done.failures, found, decoder)
        lines = [
            {**row, "expert": expert, "found": [encode_found(text) for text in done.found.get(expert, ())]}
            for expert, row in sorted(done.rows.items())
        ]
        head = {
            "video_id": done.video_id,
            "examined": {expert: self._settings.get(expert) for expert in done.examined},
            "failures": [asdict(failure) for failure in done.failures],
            "decoder": done.decoder,
        }
        table = pa.Table.from_pylist(lines, schema=SPOOL_SCHEMA.with_metadata({"vtr.spool": json.dumps(head)}))
        with atomic_file(self._path(done.video_id)) as temporary:
            pq.write_table(table, temporary, compression="none")

    def get(self, video_id: str) -> Spooled | None:
        """Return what is spooled of a video under the present settings, or None."""
        path = self._path(video_id)
        if not path.exists():
            return None
        try:
            table = pq.read_table(path)
            head, failures = _head(table.schema)
            lines = {line.pop("expert"): line for line in table.to_pylist()}
            found = {expert: tuple(map(decode_found, line.pop("found", ()))) for expert, line in lines.items()}
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
            path.unlink(missing_ok=True)  # damaged, or of an earlier version: the video is read again
            return None
        current = self._current(head)
        return Spooled(
            video_id,
            {expert: row for expert, row in lines.items() if expert in current},
            tuple(sorted(current)),
            failures,
            {expert: texts for expert, texts in found.items() if texts and expert in current},
            head.get("decoder", ""),
        )

    def examined(self) -> dict[str, frozenset[str]]:
        """Return which experts have read each spooled video under the present settings. Lists the folder once."""
        found: dict[str, frozenset[str]] = {}
        for path in sorted(self._folder.glob("*.parquet")) if self._folder.is_dir() else ():
            if path.name.startswith(TEMPORARY_PREFIX):
                continue
            try:
                head, _ = _head(pq.read_schema(path))
                found[head["video_id"]] = self._current(head)
            except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
                path.unlink(missing_ok=True)
        return found

    def _current(self, head: Mapping[str, Any]) -> frozenset[str]:
        """Return the experts that read a video with the settings they have now."""
        return frozenset(e for e, settings in head["examined"].items() if self._settings.get(e, settings) == settings)

    def drop(self, video_ids: Sequence[str]) -> None:
        """Remove the files of videos that are in shards now."""
        for video_id in video_ids:
            self._path(video_id).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._folder.rmdir()


def _head(schema: pa.Schema) -> tuple[dict[str, Any], tuple[Failure, ...]]:
    """Return what a spooled file says of its video, and the failures.

    Raises:
        KeyError, TypeError, ValueError: the file is another program's, or an earlier version's.
    """
    head = json.loads((schema.metadata or {})[b"vtr.spool"])
    return head, tuple(Failure(**failure) for failure in head["failures"])
