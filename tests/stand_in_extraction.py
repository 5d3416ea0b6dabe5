"""For tests: clips that are a line of JSON, and an extraction that reads them, resumable as the real one is."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vtr.annotations.tables import load_annotations
from vtr.store.ledger import Failure, Ledger
from vtr.store.reader import FeatureStore
from vtr.store.schema import encode_row
from vtr.store.writer import write_expert_manifest, write_shard
from vtr.types import ExpertFeatures, ExpertSpec
from vtr.workspace import MANIFEST, Workspace

DIMS = {"appearance": 12, "motion": 8}


def make_clip(path: Path, seed: int, seconds: int = 5, **facts: Any) -> Path:
    """Write a clip: features drawn from `seed`, one a second; `lacks` names experts that find nothing, `fails` all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"seed": seed, "seconds": seconds, **facts}), encoding="utf-8")
    return path


def features_of(clip: Path) -> dict[str, ExpertFeatures]:
    """Return what the experts find in a clip."""
    facts = json.loads(clip.read_text(encoding="utf-8"))
    found = {}
    for place, (name, dim) in enumerate(DIMS.items()):
        if name in facts.get("lacks", ()):
            continue
        draw = np.random.default_rng([facts["seed"], place])
        start = np.arange(facts["seconds"], dtype=np.float32)
        found[name] = ExpertFeatures(draw.normal(size=(len(start), dim)).astype(np.float32), start, start + 1)
    return found


@dataclass
class StandInExtraction:
    """An `Extract`; it keeps what it was asked to read.

    Attributes:
        read: the ids read so far, in order.
        before: is called before each video is read.
    """

    read: list[str] = field(default_factory=list)
    before: Callable[[str], None] = lambda _: None

    def __call__(self, workspace: Workspace, redo: Sequence[str], retry_failed: bool) -> None:
        ledger = Ledger(workspace.ledger)
        for video in load_annotations(workspace).videos:
            store = FeatureStore(workspace.store)
            done = all((store.root / e / MANIFEST).exists() and video.id in store.examined(e) for e in DIMS)
            failed = ledger.failed(video.id, "*")
            if video.path is None or ((done or (failed and not retry_failed)) and video.id not in redo):
                continue
            self.before(video.id)
            self.read.append(video.id)
            if json.loads(Path(video.path).read_text(encoding="utf-8")).get("fails"):
                ledger.settle(video.id, (), [Failure(video.id, "*", "open", "unreadable", "is no video")])
                continue
            ledger.settle(video.id, DIMS, [])
            for name, dim in DIMS.items():
                _write(store, name, dim, video.id, features_of(Path(video.path)).get(name))


def _write(store: FeatureStore, name: str, dim: int, video_id: str, features: ExpertFeatures | None) -> None:
    folder, spec = store.root / name, ExpertSpec(name, dim, "image", None, "test")
    held = store.manifest(name) if (folder / MANIFEST).exists() else {"shards": {}, "counts_by_shard": {}}
    if held["shards"]:
        spec = store.spec(name)
    shard = f"part-{video_id.replace('/', '_')}.parquet"
    rows = [] if features is None else [encode_row(video_id, features, None, "float32")]
    shards = held["shards"] | {shard: write_shard(folder / shard, spec, rows, [video_id], {})}
    counts = held["counts_by_shard"] | {shard: [1, len(rows)]}
    write_expert_manifest(
        folder,
        spec,
        shards,
        inputs={"prepare": "test"},
        config={"dtype": "float32"},
        counts={"examined": sum(c[0] for c in counts.values()), "present": sum(c[1] for c in counts.values())},
        counts_by_shard=counts,
    )
