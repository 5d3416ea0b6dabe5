"""For tests: what experts would have made of videos, put into the spool without a video or an expert."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from feature_extraction.ledger import Ledger
from feature_extraction.plan import Plan, make_groups
from feature_extraction.shards import ShardWriter
from feature_extraction.spool import Spool, Spooled
from vtr.extract_config import ExtractConfig
from vtr.files import StorePath
from vtr.store.reader import FeatureStore
from vtr.store.schema import encode_row
from vtr.store.texts import FoundText, Word
from vtr.types import Annotations, ExpertFeatures, ExpertSpec, Video
from vtr.workspace import Workspace

SPECS = {
    "look": (ExpertSpec("look", 4, "image", None, "made up"), "none"),
    "words": (ExpertSpec("words", 3, "text", None, "made up"), "none"),
}


def videos(*numbers: int) -> Annotations:
    """Videos by number, each with a file."""
    return Annotations(tuple(Video(f"v{n}", f"/videos/v{n}.mp4") for n in numbers), ())


def features_of(video_id: str, expert: str) -> ExpertFeatures | None:
    """An expert's features, the same every time; `words` finds none in every third video."""
    seed = int(video_id[1:])
    if expert == "words" and seed % 3 == 0:
        return None
    length, dim = seed % 4 + 1, SPECS[expert][0].dim
    seconds = np.arange(length, dtype=np.float32)
    values = np.random.default_rng(seed + dim).standard_normal((length, dim)).astype(np.float32)
    return ExpertFeatures(values, seconds, seconds + 1)


def finds_of(video_id: str) -> tuple[FoundText, ...]:
    """What `words` finds in a video: a text on screen and one heard. The numbers are exact in float32."""
    if features_of(video_id, "words") is None:
        return ()
    return (
        FoundText(f"sign {video_id} ü", 0, 0.25, 0.5, 0.75, (0.125, 0.25, 0.5, 1.0)),
        FoundText("good day", 0, 0.0, 1.5, 0.5, None, (Word("good", 0.0, 0.5, 0.75), Word("day", 0.5, 1.5, 0.25))),
    )


def spooled(video_id: str, experts: Sequence[str] = tuple(SPECS)) -> Spooled:
    """What the spool is given of a video."""
    found = {expert: features_of(video_id, expert) for expert in experts}
    texts = tuple(f"t{n}" for n in range(4))
    rows = {
        e: encode_row(video_id, f, texts[: len(f.values)] if e == "words" else None, "float16")
        for e, f in found.items()
        if f is not None
    }
    finds = {"words": finds_of(video_id)} if "words" in rows else {}
    return Spooled(video_id, rows, tuple(sorted(experts)), (), finds, "pyav" if int(video_id[1:]) % 2 else "decord")


def extract(
    workspace: Workspace,
    annotations: Annotations,
    *,
    size: int = 4,
    stop_after: int | None = None,
    fail: Sequence[str] = (),
) -> None:
    """Do what the pipeline does around its workers, here in one loop.

    Args:
        workspace: the workspace.
        annotations: the videos.
        size: videos a shard.
        stop_after: raise KeyboardInterrupt before so many videos and shards have been written.
        fail: videos that no expert can read.
    """
    config = ExtractConfig(experts=tuple(SPECS))
    local = workspace.features
    spool, groups = Spool(local / ".spool", {}), make_groups(local, annotations, size)
    writer = ShardWriter(FeatureStore(workspace.store), config, "annotations", groups)
    examined = {expert: writer.examined(expert) for expert in SPECS}
    plan = Plan(groups, annotations, examined, spool, Ledger(workspace.ledger))
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if stop_after is not None and steps > stop_after:
            raise KeyboardInterrupt

    left = {task.video_id: task for task in plan.tasks(tuple(SPECS), retry_failed=True)}
    waiting = plan.spooled_groups(SPECS)
    for number, group in enumerate(groups):
        tasks = [left[video_id] for video_id in group.ids if video_id in left]
        for task in tasks:
            step()
            if task.video_id not in fail:
                spool.put(spooled(task.video_id, task.experts))
        if tasks or number in waiting:
            for expert, spec in SPECS.items():
                step()
                writer.write(group, expert, spec, spool)
            step()
            spool.drop(group.ids)
    for expert in SPECS:
        writer.refresh(expert)


def contents(root: StorePath) -> dict[str, object]:
    """All that a store says, in an order that does not depend on its shards."""
    store = FeatureStore(root)
    return {
        expert: (
            sorted(store.examined(expert)),
            sorted((v, f.values.tobytes(), f.end_seconds.tobytes()) for v, f in store.read(expert).items()),
            sorted(store.texts(expert).items()),
            sorted((video_id, repr(text)) for video_id, text in store.found_texts(expert)),
        )
        for expert in store.experts
    }


def files(root: Path) -> dict[str, bytes]:
    """The store's shards and side tables, by name."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("part-*.parquet"))}
