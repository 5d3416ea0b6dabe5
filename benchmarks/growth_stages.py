"""Work of the stages and of the server whose growth benchmarks/growth_cases.py lists.

What a function needs is imported in it: it runs in a process of its own, whose memory is measured.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from growth import Cost, cost

if TYPE_CHECKING:
    from vtr.store.reader import FeatureStore
    from vtr.types import Annotations
    from vtr.workspace import Workspace

CAPTIONS_OF_A_VIDEO, STORED_DIM, RENDERED = 20, 128, 4
QUERIES_OF_A_CLIENT, GALLERY_OF = 40, 600


def preparing(videos: int, folder: Path) -> Cost:
    """`prepare_annotations` of videos with 20 captions each."""
    from vtr.annotations.prepare import prepare_annotations
    from vtr.annotations.splits import one_caption_a_video
    from vtr.types import Split

    def run(annotations: Annotations, place: Path) -> None:
        ids = tuple(video.id for video in annotations.videos)
        split = Split("full", ids[: -len(ids) // 2], (), ids[-len(ids) // 2 :])
        shutil.rmtree(place, ignore_errors=True)
        prepare_annotations(annotations, [split, one_caption_a_video(split, annotations)], place)

    annotations = _annotations(videos)
    run(_annotations(8), folder / "warm")
    return cost(lambda: run(annotations, folder / "workspace"))


def _annotations(videos: int) -> Annotations:
    from vtr.types import Annotations, Caption, Video

    ids = [f"video{number}" for number in range(videos)]
    captions = (
        Caption(f"{video_id}#{place}", video_id, f"a {place} caption of {video_id} and what is seen in it")
        for video_id in ids
        for place in range(CAPTIONS_OF_A_VIDEO)
    )
    return Annotations(tuple(Video(video_id) for video_id in ids), tuple(captions))


def planning_extraction(videos: int, folder: Path) -> Cost:
    """The plan of an extraction and its list of tasks."""
    import planning

    planning.plan(planning.annotations_of(8), folder / "warm")
    annotations = planning.annotations_of(videos)
    return cost(lambda: planning.plan(annotations, folder / "plan"))


def reading_store(shards: int, folder: Path) -> Cost:
    """`FeatureStore.stream` over shards of 64 videos."""
    from models_data import SHARD_VIDEOS, make_videos, write_store

    from vtr.store.reader import FeatureStore

    dims = {"rgb": STORED_DIM}
    for name, count in (("warm", 8), ("store", shards * SHARD_VIDEOS)):
        write_store(folder / name, make_videos(count, dims), dims)

    def run(name: str) -> int:
        return sum(len(features.values) for _, features in FeatureStore(folder / name).stream("rgb"))

    run("warm")
    return cost(lambda: run("store"))


def extracting(clips: int, folder: Path) -> Cost:
    """`vtr extract` with the expert motion, from its start on; memory of its one worker with the decoder, whole."""
    from extraction_clips import make_clips

    from feature_extraction.pipeline import extract
    from vtr.annotations.prepare import prepare_folder
    from vtr.extract_config import ExtractConfig

    (folder / "clips").mkdir()
    made = make_clips(folder, RENDERED)
    for number in range(clips):
        (folder / "clips" / f"clip{number:03d}.mp4").hardlink_to(made[number % RENDERED])
    report = prepare_folder(folder / "clips", None, folder / "workspace")
    started = time.perf_counter()
    summary = extract(report.workspace, ExtractConfig(experts=("motion",), workers=1))
    seconds = time.perf_counter() - started
    if summary.extracted != clips:
        raise ValueError(f"{summary.extracted} of {clips} clips were read: {summary}")
    return Cost(seconds, summary.peak_bytes)


def ingesting(videos: int, folder: Path) -> Cost:
    """Putting videos into a run's library, whose features are there: all of `vtr ingest` but the extraction."""
    from made_run import make_run

    from vtr.retrieval.ingest import Ingestion, Request

    run = make_run(folder, 60)
    ingestion = Ingestion(run, ReadyFeatures(), device="cpu")
    for name, count in (("warm", 8), ("videos", videos)):
        (folder / name).mkdir()
        for number in range(count):
            (folder / name / f"{name}{number}.mp4").write_bytes(b"a clip")
    ingestion.ingest(Request((folder / "warm",)))

    def ingest() -> None:
        summary = ingestion.ingest(Request((folder / "videos",)))
        if summary.new != videos:
            raise ValueError(f"{summary.new} of {videos} videos were put in: {summary}")

    return cost(ingest, repeat=False)


@dataclass
class ReadyFeatures:
    """Stands in for extraction: every video that a library's workspace lacks features of is given random ones.

    Attributes:
        called: how often it was asked; each time it writes a shard.
    """

    called: int = 0

    def __call__(self, workspace: Workspace, redo: Sequence[str], retry_failed: bool) -> None:
        """Give features to the videos; none is read once more or failed before."""
        del redo, retry_failed
        from vtr.annotations.tables import load_annotations
        from vtr.store.ledger import Ledger
        from vtr.store.reader import FeatureStore

        store = FeatureStore(workspace.store)
        examined = store.examined(store.experts[0])
        lacking = [video.id for video in load_annotations(workspace).videos if video.id not in examined]
        if not lacking:
            return
        self.called += 1
        for name in store.experts:
            self._write(store, name, lacking)
        ledger = Ledger(workspace.ledger)
        for video_id in lacking:
            ledger.settle(video_id, store.experts, [])

    def _write(self, store: FeatureStore, name: str, ids: Sequence[str]) -> None:
        from vtr.store.schema import encode_row
        from vtr.store.writer import write_expert_manifest, write_shard
        from vtr.types import ExpertFeatures

        spec, held, draw = store.spec(name), store.manifest(name), np.random.default_rng(self.called)
        start = np.arange(5, dtype=np.float32)
        drawn = ((i, draw.standard_normal((5, spec.dim), np.float32)) for i in ids)
        rows = [encode_row(i, ExpertFeatures(values, start, start + 1), None, "float32") for i, values in drawn]
        shard = f"part-ready{self.called}.parquet"
        counts = held["counts_by_shard"] | {shard: [len(ids), len(ids)]}
        write_expert_manifest(
            store.root / name,
            spec,
            held["shards"] | {shard: write_shard(store.root / name / shard, spec, rows, ids, {})},
            inputs=held["inputs"],
            config=held["config"],
            counts={"examined": sum(c[0] for c in counts.values()), "present": sum(c[1] for c in counts.values())},
            counts_by_shard=counts,
        )


def serving_clients(clients: int, folder: Path) -> Cost:
    """A server under so many clients, 40 queries for each in all; memory of the server, whole."""
    import serving
    from made_run import make_run
    from page import call
    from serving_worker import Job

    serving.limit_threads()
    run = str(make_run(folder, GALLERY_OF).root)
    queries = call(serving.WORKER, Job("queries", run))["queries"]
    server = serving.Server(run)
    try:
        job = Job("clients", seconds=0, port=server.port, clients=clients, queries=queries)
        call(serving.WORKER, replace(job, least=len(queries)))
        seen = call(serving.WORKER, replace(job, least=clients * QUERIES_OF_A_CLIENT))
        memory = int(server.metric("process_resident_memory_bytes"))
    finally:
        server.stop()
    if seen["errors"]:
        raise ValueError(f"the server failed: {seen['errors'][0]}")
    return Cost(seen["seconds"] * clients * QUERIES_OF_A_CLIENT / len(seen["latencies"]), memory)
