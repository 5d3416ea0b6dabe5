"""From spool to shards: when all videos of a group are done, each expert's part becomes one Parquet file."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from feature_extraction.facts import decoder_facts
from feature_extraction.plan import Group
from feature_extraction.shaping import differences
from feature_extraction.shaping import recorded_config as recorded_config
from feature_extraction.shaping import shaping_settings as shaping_settings
from feature_extraction.spool import Spool
from vtr.errors import WorkspaceError
from vtr.extract_config import ExtractConfig
from vtr.files import StorePath, sha256_file
from vtr.store.reader import FeatureStore
from vtr.store.shard_file import covered_by, read_found, read_metadata, read_shard, side_table
from vtr.store.texts import FoundText
from vtr.store.writer import write_expert_manifest, write_found, write_shard
from vtr.types import ExpertSpec
from vtr.workspace import versions


@dataclass(slots=True)
class Shard:
    """What one shard of one expert holds, with its side table.

    Attributes:
        examined: the videos it covers.
        rows: video id -> encoded row.
        found: video id -> every text found in it.
        made_with: see `vtr.store.writer.write_shard`.
    """

    examined: set[str] = field(default_factory=set)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    found: dict[str, list[FoundText]] = field(default_factory=dict)
    made_with: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: StorePath) -> Shard:
        """Read a shard and the part of its side table that belongs to it.

        Raises:
            WorkspaceError: one of them is damaged.
        """
        covered, rows = read_shard(path)
        made_with = json.loads(read_metadata(path).get(b"vtr.made_with", b"{}"))
        shard = cls(set(covered), {row["video_id"]: row for row in rows}, {}, made_with)
        if side_table(path).exists():
            for video_id, text in read_found(side_table(path)):
                if video_id in shard.rows:  # a killed run may have written more than its shard
                    shard.found.setdefault(video_id, []).append(text)
        return shard

    def take(self, video_id: str, row: dict[str, Any] | None, found: Sequence[FoundText]) -> None:
        """Take what the expert made of a video, in place of what it held of it."""
        self.withdraw(video_id)
        self.examined.add(video_id)
        if row is not None:
            self.rows[video_id] = row
            if found:
                self.found[video_id] = list(found)

    def withdraw(self, video_id: str) -> bool:
        """Give up what it holds of a video; return whether it held anything."""
        held = video_id in self.examined
        self.examined.discard(video_id)
        self.rows.pop(video_id, None)
        self.found.pop(video_id, None)
        return held

    def write(self, path: StorePath, spec: ExpertSpec, ids: Sequence[str]) -> Written:
        """Write the side table, if there is anything for it, then the shard; the videos in the order of `ids`.

        Raises:
            WorkspaceError: they cannot be written.
        """
        found = {video_id: self.found[video_id] for video_id in ids if video_id in self.found}
        texts = write_found(side_table(path), found) if found else None
        order = [video_id for video_id in ids if video_id in self.examined]
        rows = [self.rows[video_id] for video_id in order if video_id in self.rows]
        checksum = write_shard(path, spec, rows, order, self.made_with)
        if texts is None:
            side_table(path).unlink(missing_ok=True)  # of videos that have been withdrawn
        return Written(checksum, texts, (len(order), len(rows)))


@dataclass(frozen=True, slots=True)
class Written:
    """What the manifest says of a shard.

    Attributes:
        checksum: SHA-256 of the file.
        texts: SHA-256 of its side table, None where it has none.
        counts: videos covered, videos with features.
    """

    checksum: str
    texts: str | None
    counts: tuple[int, int]


def listed(store: FeatureStore, expert: str) -> dict[str, Written]:
    """Return the shards that an expert's manifest lists and whose file is there."""
    manifest = store.manifest(expert)
    there = {path.name for path in (store.root / expert).glob("*.parquet")}
    counts, texts = manifest["counts_by_shard"], manifest.get("texts", {})
    return {
        name: Written(checksum, texts.get(name), (counts[name][0], counts[name][1]))
        for name, checksum in manifest["shards"].items()
        if name in there
    }


def write_listing(
    folder: StorePath, spec: ExpertSpec, shards: Mapping[str, Written], output: str | None = None, **facts: Any
) -> None:
    """Write an expert's manifest; `output` and `facts` as in `write_expert_manifest`."""
    counts = [written.counts for written in shards.values()]
    write_expert_manifest(
        folder,
        spec,
        {name: written.checksum for name, written in shards.items()},
        counts={"examined": sum(e for e, _ in counts), "present": sum(p for _, p in counts)},
        counts_by_shard={name: list(written.counts) for name, written in sorted(shards.items())},
        texts={name: written.texts for name, written in shards.items() if written.texts is not None},
        output=output,
        **facts,
    )


class ShardWriter:
    """Writes shards and manifests, and keeps what each expert's store holds.

    Args:
        store: the feature store.
        config: the settings.
        annotations_fingerprint: of the annotations the videos come from.
        groups: what is planned; of a shard that is full, it says which videos that are, and the shard stays closed.
    """

    def __init__(
        self, store: FeatureStore, config: ExtractConfig, annotations_fingerprint: str, groups: Sequence[Group] = ()
    ) -> None:
        self._store, self._config = store, config
        self._inputs = {"prepare": annotations_fingerprint}
        self._planned = {group.name: group.ids for group in groups}
        self._shards = {expert: listed(store, expert) for expert in store.experts}
        self._examined: dict[str, set[str]] = {}

    def examined(self, expert: str) -> frozenset[str]:
        """Return the videos that the expert's shards cover; a shard whose file is gone covers none."""
        return frozenset(self._covered(expert))

    def _covered(self, expert: str) -> set[str]:
        if expert not in self._examined:
            self._examined[expert] = set()
            for name, written in self._shards.get(expert, {}).items():
                planned = self._planned.get(name, ())
                full = len(planned) == written.counts[0]
                self._examined[expert].update(planned if full else covered_by(self._store.root / expert / name))
        return self._examined[expert]

    def check(self, specs: Mapping[str, tuple[ExpertSpec, str]]) -> None:
        """Check that the store's experts were made by the same models.

        Raises:
            WorkspaceError: an expert's model is another one; the message names both.
        """
        for expert, (spec, _) in specs.items():
            if expert in self._store.experts and (held := self._store.spec(expert)) != spec:
                folder = self._store.root / expert
                raise WorkspaceError(
                    f"{folder} was made by {held}, the expert is now {spec}. Delete the folder to redo it."
                )

    def check_settings(self, experts: Collection[str]) -> None:
        """Check that the store's features were made with the same settings.

        Raises:
            WorkspaceError: a setting that shapes features differs; the message names both values.
        """
        for expert in experts:
            if expert not in self._store.experts:
                continue
            recorded, now = self._store.manifest(expert)["config"], shaping_settings(self._config, expert)
            for name, held, value in differences(expert, recorded, now):
                raise WorkspaceError(
                    f"{self._store.root / expert} was made with {name}={held}, now {name}={value} is asked for. "
                    f"Use --set {name}={'null' if held is None else held}, or delete the folder to redo it."
                )

    def write(self, group: Group, expert: str, spec: tuple[ExpertSpec, str], spool: Spool) -> bool:
        """Write a group's shard of an expert from what is spooled and what it held. Return whether there was news."""
        path = self._store.root / expert / group.name
        shard = Shard.read(path) if group.name in self._shards.get(expert, {}) else Shard()
        decoders = set(shard.made_with.get("decoders", ()))
        before, elsewhere = bool(shard.examined), self._covered(expert) - shard.examined
        news = False
        for video_id in group.ids:
            done = spool.get(video_id) if video_id not in elsewhere else None
            if done is not None and expert in done.refused:
                news |= shard.withdraw(video_id)
                self._covered(expert).discard(video_id)
            if done is None or expert not in done.examined:
                continue
            news = True
            shard.take(video_id, done.rows.get(expert), done.found.get(expert, ()))
            decoders |= {done.decoder} - {""}
        if not news:
            return before and self._adopt(expert, spec[0], group, shard)
        settings = shaping_settings(self._config, expert)
        shard.made_with = {
            "settings": settings,
            "scaler": spec[1],
            "decoders": sorted(decoders),
            "decoding": decoder_facts(),
            "versions": versions(),
        }
        self._enter(expert, spec[0], group, shard)
        return True

    def _adopt(self, expert: str, spec: ExpertSpec, group: Group, shard: Shard) -> bool:
        """Take a shard into the manifest that a killed run rewrote, or began to, and did not live to list."""
        path, known = self._store.root / expert / group.name, self._shards[expert][group.name]
        texts = sha256_file(side_table(path)) if side_table(path).exists() else None
        if (sha256_file(path), texts) == (known.checksum, known.texts):
            return False
        self._enter(expert, spec, group, shard)
        return True

    def _enter(self, expert: str, spec: ExpertSpec, group: Group, shard: Shard) -> None:
        written = shard.write(self._store.root / expert / group.name, spec, group.ids)
        self._shards.setdefault(expert, {})[group.name] = written
        self._covered(expert).update(shard.examined)
        self._write_manifest(expert, spec)

    def refresh(self, expert: str) -> None:
        """Write the manifest again if the annotations have changed since: the features still stand."""
        if expert not in self._store.experts:
            return
        manifest = self._store.manifest(expert)
        if manifest["inputs"] != self._inputs:
            lost = manifest["shards"].keys() != self._shards[expert].keys()
            self._write_manifest(expert, self._store.spec(expert), None if lost else manifest["output"])

    def _write_manifest(self, expert: str, spec: ExpertSpec, output: str | None = None) -> None:
        folder, settings = self._store.root / expert, shaping_settings(self._config, expert)
        write_listing(folder, spec, self._shards[expert], output, inputs=self._inputs, config=settings)
