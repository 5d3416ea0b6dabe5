"""From spool to shards: when all videos of a group are done, each expert's part becomes one Parquet file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from feature_extraction.spool import Spool
from vtr.config import ExtractConfig
from vtr.errors import WorkspaceError
from vtr.files import sha256_file
from vtr.store.reader import FeatureStore, covered_by, read_shard
from vtr.store.writer import shard_name, write_expert_manifest, write_shard
from vtr.types import ExpertSpec
from vtr.workspace import versions

SHAPING = ("frames_per_second", "max_frames", "frame_side", "max_seconds", "reader", "dtype")
"""Settings that shape every expert's features."""
SHAPING_TEXT = {"ocr": ("text_frames_per_second", "sentence_model"), "speech": ("sentence_model",)}


def shaping_settings(config: ExtractConfig, expert: str) -> dict[str, Any]:
    """Return the settings that shape an expert's features."""
    return {name: getattr(config, name) for name in (*SHAPING, *SHAPING_TEXT.get(expert, ()))}


class ShardWriter:
    """Writes shards and manifests, and keeps what each expert's store holds.

    Args:
        store: the feature store.
        config: the settings.
        annotations_fingerprint: of the annotations the videos come from.
    """

    def __init__(self, store: FeatureStore, config: ExtractConfig, annotations_fingerprint: str) -> None:
        self._store, self._config = store, config
        self._inputs = {"prepare": annotations_fingerprint}
        self._checksums: dict[str, dict[str, str]] = {}
        self._counts: dict[str, dict[str, tuple[int, int]]] = {}
        for expert in store.experts:
            manifest = store.manifest(expert)
            held = {name: sum_ for name, sum_ in manifest["shards"].items() if (store.root / expert / name).exists()}
            self._checksums[expert] = held
            self._counts[expert] = {name: tuple(manifest["counts_by_shard"][name]) for name in held}

    def examined(self, expert: str) -> frozenset[str]:
        """Return the videos that the expert's shards cover; a shard whose file is gone covers none."""
        return frozenset(
            video_id
            for name in self._checksums.get(expert, ())
            for video_id in covered_by(self._store.root / expert / name)
        )

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

    def check_settings(self, experts: Sequence[str]) -> None:
        """Check that the store's features were made with the same settings.

        Raises:
            WorkspaceError: a setting that shapes features differs; the message names both values.
        """
        for expert in experts:
            if expert not in self._store.experts:
                continue
            held, now = self._store.manifest(expert)["config"], shaping_settings(self._config, expert)
            for name, value in now.items():
                if held.get(name) != value:
                    folder = self._store.root / expert
                    raise WorkspaceError(
                        f"{folder} was made with {name}={held.get(name)}, now {name}={value} is asked for. "
                        f"Use --set {name}={held.get(name)}, or delete the folder to redo it."
                    )

    def write(self, number: int, group: Sequence[str], expert: str, spec: tuple[ExpertSpec, str], spool: Spool) -> bool:
        """Write shard `number` of an expert from what is spooled and what it held. Return whether there was news."""
        name = shard_name(number)
        path = self._store.root / expert / name
        covered, old = read_shard(path) if name in self._checksums.get(expert, {}) else ([], [])
        rows: dict[str, Any] = {row["video_id"]: row for row in old}
        examined = set(covered)
        for video_id in group:
            done = spool.get(video_id) if video_id not in examined else None
            if done is not None and expert in done.examined:
                examined.add(video_id)
                if expert in done.rows:
                    rows[video_id] = done.rows[expert]
        if len(examined) == len(covered):
            return self._adopt(expert, spec[0], name)
        kept = [rows[video_id] for video_id in group if video_id in rows]
        settings = shaping_settings(self._config, expert)
        made_with = {"settings": settings, "scaler": spec[1], "versions": versions()}
        order = [video_id for video_id in group if video_id in examined]
        checksum = write_shard(path, spec[0], kept, order, made_with)
        self._checksums.setdefault(expert, {})[name] = checksum
        self._counts.setdefault(expert, {})[name] = (len(order), len(kept))
        self._write_manifest(expert, spec[0])
        return True

    def _adopt(self, expert: str, spec: ExpertSpec, name: str) -> bool:
        """Take a shard into the manifest that a killed run rewrote and did not live to list."""
        if name not in self._checksums.get(expert, {}):
            return False
        path = self._store.root / expert / name
        if (checksum := sha256_file(path)) == self._checksums[expert][name]:
            return False
        covered, rows = read_shard(path)
        self._checksums[expert][name] = checksum
        self._counts[expert][name] = (len(covered), len(rows))
        self._write_manifest(expert, spec)
        return True

    def refresh(self, expert: str) -> None:
        """Write the manifest again if the annotations have changed since: the features still stand."""
        if expert in self._store.experts and self._store.manifest(expert)["inputs"] != self._inputs:
            self._write_manifest(expert, self._store.spec(expert))

    def _write_manifest(self, expert: str, spec: ExpertSpec) -> None:
        counts = self._counts[expert].values()
        write_expert_manifest(
            self._store.root / expert,
            spec,
            self._checksums[expert],
            inputs=self._inputs,
            config=shaping_settings(self._config, expert),
            counts={"examined": sum(e for e, _ in counts), "present": sum(p for _, p in counts)},
            counts_by_shard={name: list(pair) for name, pair in sorted(self._counts[expert].items())},
        )
