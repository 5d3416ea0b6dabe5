"""Finished videos on their way into shards: one small atomic file a video, so that nothing done is done again."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
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
from vtr.types import ExpertSpec
from vtr.workspace import fingerprint

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
        specs: expert -> `spec_fingerprint` of what made its row, for the experts that read the video.
        refused: the experts for which the video is too damaged under `--strict`, or that could not read it once more
            (`--redo`); what their shards hold of it goes.
    """

    video_id: str
    rows: Mapping[str, dict[str, Any]]
    examined: tuple[str, ...]
    failures: tuple[Failure, ...]
    found: Mapping[str, tuple[FoundText, ...]] = field(default_factory=dict)
    decoder: str = ""
    specs: Mapping[str, str] = field(default_factory=dict)
    refused: tuple[str, ...] = ()


def spec_fingerprint(spec: ExpertSpec) -> str:
    """Return one hash of what an expert's features are, its weights included."""
    return fingerprint(asdict(spec))


class Spool:
    """The spool folder. `settings` maps experts to a hash of what shapes their features; what differs is not used."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder, self._settings = folder, dict(settings)
        self._specs: dict[str, str] = {}

    def expect(self, specs: Mapping[str, ExpertSpec]) -> None:
        """Say what the experts are, once they are loaded; what others spooled under their names is not used."""
        self._specs = {expert: spec_fingerprint(spec) for expert, spec in specs.items()}

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
            kept = set(before.examined) - {*done.examined, *done.refused}
            refused = {*before.refused, *done.refused} - {*done.examined}
            examined = tuple(sorted({*kept, *done.examined}))
            rows = {e: row for e, row in before.rows.items() if e in kept} | dict(done.rows)
            found = {e: texts for e, texts in before.found.items() if e in kept} | dict(done.found)
            specs = {e: spec for e, spec in before.specs.items() if e in kept} | dict(done.specs)
            decoder = done.decoder or before.decoder
            done = Spooled(done.video_id, rows, examined, done.failures, found, decoder, specs, tuple(sorted(refused)))
        lines = [
            {**row, "expert": expert, "found": [encode_found(text) for text in done.found.get(expert, ())]}
            for expert, row in sorted(done.rows.items())
        ]
        head = {
            "video_id": done.video_id,
            "examined": {expert: self._settings.get(expert) for expert in done.examined},
            "refused": list(done.refused),
            "specs": dict(done.specs),
            "failures": [asdict(failure) for failure in done.failures],
            "decoder": done.decoder,
        }
        table = pa.Table.from_pylist(lines, schema=SPOOL_SCHEMA.with_metadata({"vtr.spool": json.dumps(head)}))
        with atomic_file(self._path(done.video_id)) as temporary:
            pq.write_table(table, temporary, compression="none")

    def get(self, video_id: str) -> Spooled | None:
        """Return what is spooled of a video under the present settings and by the experts expected, or None."""
        path = self._path(video_id)
        if not path.exists():
            return None
        try:
            table = pq.read_table(path)
            head, failures = _head(table.schema)
            lines = {line.pop("expert"): line for line in table.to_pylist()}
            found = {expert: tuple(map(decode_found, line.pop("found", ()))) for expert, line in lines.items()}
            current = self._current(head)
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
            path.unlink(missing_ok=True)  # damaged, or of an earlier version: the video is read again
            return None
        return Spooled(
            video_id,
            {expert: row for expert, row in lines.items() if expert in current},
            tuple(sorted(current)),
            failures,
            {expert: texts for expert, texts in found.items() if texts and expert in current},
            head.get("decoder", ""),
            {expert: spec for expert, spec in head["specs"].items() if expert in current},
            tuple(head.get("refused", ())),
        )

    def examined(self) -> dict[str, frozenset[str]]:
        """Return which experts have read each spooled video under the present settings. Lists the folder once."""
        return {head["video_id"]: self._current(head) for head in self._heads()}

    def awaited(self) -> dict[str, frozenset[str]]:
        """Return the experts whose shards wait for each spooled video: those that have read it, or refused it."""
        return {head["video_id"]: self._current(head).union(head.get("refused", ())) for head in self._heads()}

    def _heads(self) -> Iterator[dict[str, Any]]:
        for path in sorted(self._folder.glob("*.parquet")) if self._folder.is_dir() else ():
            if path.name.startswith(TEMPORARY_PREFIX):
                continue
            try:
                head, _ = _head(pq.read_schema(path))
                self._current(head)
            except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
                path.unlink(missing_ok=True)
                continue
            yield head

    def _current(self, head: Mapping[str, Any]) -> frozenset[str]:
        """Return the experts that read a video as they are now, with the settings they have now."""
        specs = head["specs"]
        return frozenset(
            expert
            for expert, settings in head["examined"].items()
            if self._settings.get(expert, settings) == settings
            and self._specs.get(expert, specs.get(expert)) == specs.get(expert)
        )

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
