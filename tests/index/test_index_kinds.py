"""Kinds of index: what they find of queries they were not tuned with, what auto takes, parts that exceed memory."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vtr.coverage import Coverage
from vtr.embeddings import EmbeddedPart, PartFiles, load_part, save_parts
from vtr.errors import ConfigError, UnavailableError, WorkspaceError
from vtr.files import read_json
from vtr.index import gpu, search, segment
from vtr.index.build import build_index
from vtr.index.kinds import choose
from vtr.index.search import RetrievalIndex, text_rows
from vtr.similarity import exact_scores
from vtr.types import TextEmbeddings, VideoEmbeddings

MakePart = Callable[..., EmbeddedPart]


def clustered(videos: int, queries: int, seed: int, experts: int = 2, dim: int = 16) -> EmbeddedPart:
    """Return videos about 50 centres that depend on nothing, and captions near some of them."""
    centres = np.random.default_rng(99).standard_normal((50, experts, dim))
    draw = np.random.default_rng(seed)
    vectors = centres[draw.integers(50, size=videos)] + 0.5 * draw.standard_normal((videos, experts, dim))
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    owners = draw.integers(videos, size=queries)
    texts = vectors[owners] + 0.1 * draw.standard_normal((queries, experts, dim))
    texts /= np.linalg.norm(texts, axis=-1, keepdims=True)
    weights = draw.dirichlet(np.ones(experts), queries)

    def tensor(values: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32))

    return EmbeddedPart(
        tuple("abcdefgh"[:experts]),
        VideoEmbeddings(
            tuple(f"v{seed}-{row}" for row in range(videos)), tensor(vectors), torch.ones((videos, experts))
        ),
        TextEmbeddings(tuple(f"t{seed}-{row}" for row in range(queries)), tensor(texts), tensor(weights)),
        tuple(f"text {row}" for row in range(queries)),
        owners.astype(np.int64),
        Coverage("full", "test", videos, videos),
    )


def recall(found: NDArray[np.int64], scores: NDArray[np.float32]) -> float:
    right = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    return float(np.mean([np.isin(best, rows).mean() for best, rows in zip(right, found, strict=True)]))


@pytest.mark.parametrize("factory", ["IVF64,Flat", "IVF64,SQ8", "HNSW16", "IVF32,PQ16x4"])
def test_an_approximate_index_meets_its_target_on_queries_it_never_saw(tmp_path: Path, factory: str) -> None:
    part, other = clustered(6000, 900, 0), clustered(300, 600, 1)
    build_index(tmp_path, part, embed_output="x", factory=factory, target_recall=0.95)
    index = RetrievalIndex.open(tmp_path, embed_output="x")
    assert not index.exact
    assert recall(index.videos_for(other.texts, 10).rows, exact_scores(other.texts, part.videos).numpy()) >= 0.95
    found = read_json(tmp_path / "manifest.json")["kinds"]["videos"]
    assert found["reached"]
    assert found["held_out"] >= 0.95
    assert [point["parameters"] for point in found["curve"]][-1] == found["parameters"]
    assert "<svg" in (tmp_path / "000001" / "videos.curve.svg").read_text()


def test_tuning_looks_less_far_for_a_lower_target(tmp_path: Path) -> None:
    part = clustered(6000, 900, 0)
    probes = []
    for target in (0.5, 0.99):
        build_index(tmp_path, part, embed_output="x", factory="IVF64,Flat", target_recall=target)
        chosen = read_json(tmp_path / "manifest.json")["kinds"]["videos"]
        probes.append(int(chosen["parameters"].removeprefix("nprobe=")))
    assert probes[0] < probes[1] < 64
    with pytest.raises(ConfigError, match=r"target recall is 1.5, a number above 0"):
        build_index(tmp_path, part, embed_output="x", factory="IVF64,Flat", target_recall=1.5)


def test_fewer_captions_than_lists_are_searched_exactly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = clustered(600, 40, 0)
    build_index(tmp_path, part, embed_output="x", factory="IVF64,Flat")
    assert "captions: 40 are too few for the 64 lists of IVF64,Flat; Flat is taken instead" in capsys.readouterr().err
    kinds = read_json(tmp_path / "manifest.json")["kinds"]
    assert (kinds["videos"]["factory"], kinds["captions"]["factory"]) == ("IVF64,Flat", "Flat")
    with pytest.raises(ConfigError, match="IVF1024,Flat"):
        build_index(tmp_path, part, embed_output="x", factory="IVF1024,Flat")


@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("factory", ["Flat", "IVF16,Flat", "HNSW8", "OPQ4,IVF4,PQ4x4"])
def test_a_mask_is_answered_exactly(tmp_path: Path, make_part: MakePart, factory: str, missing: float) -> None:
    part = make_part(1500, 1, missing)
    build_index(tmp_path, part, embed_output="x", factory=factory)
    index, scores = RetrievalIndex.open(tmp_path), exact_scores(part.texts, part.videos).numpy()
    draw = np.random.default_rng(0)
    for share in (0.002, 0.1, 0.9):
        allowed = draw.random(1500) < share
        rows = np.flatnonzero(allowed)
        for found, some in (
            (index.videos_for(part.texts, 5, allowed), scores[:, rows]),
            (index.captions_for(part.videos, 5, allowed), scores.T[:, rows]),
        ):
            right = np.argsort(-some, axis=1, kind="stable")[:, :5]
            np.testing.assert_array_equal(found.rows, rows[right])
            np.testing.assert_array_equal(found.scores, np.take_along_axis(some, right, axis=1))
    assert index.videos_for(part.texts, 5, np.zeros(1500, bool)).rows.shape == (1500, 0)
    with pytest.raises(ValueError, match=r"a mask of \(3,\) for 1500 videos"):
        index.videos_for(part.texts, 5, np.ones(3, bool))


@pytest.mark.parametrize("factory", ["IVF16,Flat", "HNSW8", "PCA16,IVF16,SQ8", "PQ8x4"])
def test_a_mask_of_many_rows_restricts_faiss(
    tmp_path: Path, make_part: MakePart, monkeypatch: pytest.MonkeyPatch, factory: str
) -> None:
    monkeypatch.setattr(search, "EXACT_AMONG", 10)
    part = make_part(600, 1)
    build_index(tmp_path, part, embed_output="x", factory=factory)
    allowed = np.random.default_rng(0).random(600) < 0.5
    found = RetrievalIndex.open(tmp_path).videos_for(part.texts, 10, allowed).rows
    assert allowed[found[found >= 0]].all()
    right = exact_scores(part.texts, part.videos).numpy()
    right[:, ~allowed] = -np.inf
    assert recall(found, right) > 0.9


@pytest.mark.parametrize("factory", ["Flat", "IVF16,Flat"])
def test_a_part_of_many_files_is_indexed_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: str
) -> None:
    """200,000 vectors of 128 in 20 files; no more than some thousand of them are read at once."""
    count = 200_000 if factory == "Flat" else 20_000
    pieces = [clustered(count // 20, 20, seed, 2, 64) for seed in range(20)]
    save_parts(tmp_path / "embeddings", pieces, Coverage("full", "test", count, count), inputs={"train": "m"})
    source = PartFiles.open(tmp_path / "embeddings")
    monkeypatch.setattr(segment, "BLOCK_BYTES", 1 << 20)
    build_index(tmp_path / "i", source, embed_output=source.output, factory=factory, memory_limit=1 << 22)
    assert (tmp_path / "i" / "000001" / "videos.ivfdata").exists() == (factory != "Flat")  # merged on the disk
    index = RetrievalIndex.open(tmp_path / "i", embed_output=source.output)
    index.check(load_part(tmp_path / "embeddings"))
    queries = pieces[7].texts
    found = index.videos_for(queries, 10)
    scores = np.concatenate([exact_scores(queries, piece.videos).numpy() for piece in pieces], axis=1)
    if factory == "Flat":
        np.testing.assert_array_equal(found.rows, np.argsort(-scores, axis=1, kind="stable")[:, :10])
    assert recall(found.rows, scores) >= 0.95
    owners = [videos + piece * (count // 20) for piece, videos in enumerate(p.video_of_text for p in pieces)]
    np.testing.assert_array_equal(index.video_of_caption, np.concatenate(owners))


def test_pieces_of_different_parts_and_no_pieces_are_refused(tmp_path: Path, make_part: MakePart) -> None:
    coverage = Coverage("full", "test", 4, 4)
    with pytest.raises(ValueError, match=r"those before it .*equal ones expected"):
        save_parts(tmp_path, [make_part(2), make_part(2, dim=9)], coverage, inputs={})
    with pytest.raises(ValueError, match="there are no pieces to write"):
        save_parts(tmp_path, [], coverage, inputs={})
    assert not (tmp_path / "manifest.json").exists()


def test_a_part_that_is_damaged_says_what_to_run(tmp_path: Path, make_part: MakePart) -> None:
    save_parts(tmp_path, [make_part(3)], Coverage("full", "test", 3, 3), inputs={})
    files = PartFiles.open(tmp_path)
    path = next(tmp_path.glob("videos*.parquet"))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(WorkspaceError, match=r"videos.*\.parquet cannot be read .*run `vtr embed RUN`"):
        list(files.videos())


def test_what_auto_takes() -> None:
    gib = 1 << 30
    assert choose(60_000, 512, gib) == "Flat"
    assert choose(1_000_000, 512, 8 * gib) == "IVF4096,Flat"
    assert choose(1_000_000, 512, 2 * gib) == "IVF4096,SQ8"
    assert choose(1_000_000, 512, gib // 4) == "OPQ64,IVF4096,PQ64"
    assert choose(10_000_000, 7 * 64, gib).startswith("OPQ56,IVF")


def test_files_are_mapped_and_not_copied(tmp_path: Path, make_part: MakePart) -> None:
    build_index(tmp_path, make_part(3000), embed_output="x", factory="HNSW8")
    index = RetrievalIndex.open(tmp_path)
    mapped = Path("/proc/self/maps").read_text()
    for name in ("videos.f32", "videos.faiss", "captions.f32", "captions.faiss", "videos.arrow"):
        assert str(tmp_path / "000001" / name) in mapped
    assert index.num_videos == 3000


def test_an_early_layout_is_named(tmp_path: Path, make_part: MakePart) -> None:
    build_index(tmp_path, make_part(5), embed_output="x")
    manifest = read_json(tmp_path / "manifest.json")
    del manifest["layout"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(WorkspaceError, match=r"has layout 1, .*; layout 2 was expected. Run `vtr index RUN` again"):
        RetrievalIndex.open(tmp_path)
    build_index(tmp_path, make_part(5), embed_output="x")
    RetrievalIndex.open(tmp_path)


def test_an_index_of_another_model_is_refused(tmp_path: Path, make_part: MakePart) -> None:
    build_index(tmp_path, make_part(5), embed_output="x", train_output="old")
    with pytest.raises(WorkspaceError, match="made from train old, but train is now new"):
        RetrievalIndex.open(tmp_path, embed_output="x", train_output="new")


def test_two_videos_of_one_id_are_refused(tmp_path: Path, make_part: MakePart) -> None:
    part = make_part(5)
    twice = replace(part, videos=replace(part.videos, ids=("a", "b", "c", "b", "d")))
    with pytest.raises(ValueError, match="hold 'b' twice"):
        build_index(tmp_path, twice, embed_output="x")
    assert not (tmp_path / "manifest.json").exists()


class StandIn:
    """In the place of a GPU: it searches as FAISS does there, counts, and refuses long lists and a second thread."""

    def __init__(self, index: Any) -> None:
        self.index, self.asked = index, 0
        self.busy = threading.Lock()

    def search(self, queries: Any, count: int) -> Any:
        assert count <= gpu.MOST_LISTED
        assert self.busy.acquire(blocking=False), "FAISS on a GPU was asked by two threads at once"
        try:
            time.sleep(0.002)  # lets the other threads in, were they not kept out
            self.asked += 1
            return self.index.search(queries, count)
        finally:
            self.busy.release()


@pytest.mark.parametrize("factory", ["Flat", "IVF8,Flat"])
def test_a_gpu_gives_the_same_and_long_lists_go_to_the_cpu(
    tmp_path: Path, make_part: MakePart, monkeypatch: pytest.MonkeyPatch, factory: str
) -> None:
    part = make_part(3000, 1)
    build_index(tmp_path, part, embed_output="x", factory=factory, parameters="" if factory == "Flat" else "nprobe=8")
    made: list[StandIn] = []

    def move(*arguments: Any) -> StandIn:
        made.append(StandIn(arguments[2]))
        return made[-1]

    with pytest.raises(UnavailableError, match="finds no GPU"):
        RetrievalIndex.open(tmp_path, device="cuda")
    plain = RetrievalIndex.open(tmp_path, device="auto")
    monkeypatch.setattr(faiss, "StandardGpuResources", object, raising=False)
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", move, raising=False)
    monkeypatch.setattr("vtr.index.ranking.GATHER_COST", 1)
    on_gpu = RetrievalIndex.open(tmp_path, device="auto")
    for wanted in (10, 2500):
        before, after = plain.videos_for(part.texts, wanted), on_gpu.videos_for(part.texts, wanted)
        np.testing.assert_array_equal(before.rows, after.rows)
        np.testing.assert_array_equal(before.scores, after.scores)
    assert made[0].asked

    right, asked = plain.videos_for(part.texts, 10), made[0].asked
    some = [np.arange(first, 3000, 60) for first in range(24)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda rows: on_gpu.videos_for(text_rows(part.texts, rows), 10), some))
    assert made[0].asked >= asked + len(some)
    for rows, of_some in zip(some, found, strict=True):
        np.testing.assert_array_equal(of_some.rows, right.rows[rows])
