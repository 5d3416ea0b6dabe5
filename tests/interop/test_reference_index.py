"""A flat index answers as sorting all scores does, on what the published code made: ids and scores, both directions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import test_ce_checkpoint as ce
import test_mmt_checkpoint as mmt
import torch
from numpy.typing import NDArray

from vtr.coverage import Coverage
from vtr.embeddings import EmbeddedPart
from vtr.index.build import build_index
from vtr.index.search import Found, RetrievalIndex
from vtr.interop.ce_checkpoint import load_ce_checkpoint
from vtr.interop.mmt_features import import_mmt_features
from vtr.retrieval import Retriever
from vtr.stages.imports import import_mmt_checkpoint
from vtr.store.reader import FeatureStore
from vtr.types import TextEmbeddings, VideoEmbeddings

RELEASES = {"mmt_release_1ka": "1k-A", "mmt_release_full": "full"}
WRONG_BY = 1e-5
"""What our float32 embeddings differ from the published ones by."""


def of_mmt(shared: Path, case: str) -> tuple[tuple[str, ...], TextEmbeddings, VideoEmbeddings, NDArray[np.float32]]:
    model, videos, texts, batch = mmt.load_case(shared, case)
    with torch.inference_mode():
        return model.experts, model.embed_texts(texts), model.embed_videos(videos), batch["similarities"]


def of_ce(shared: Path, case: str) -> tuple[tuple[str, ...], TextEmbeddings, VideoEmbeddings, NDArray[np.float32]]:
    stored = ce.stored_batch(shared, case)
    path = ce.folder_of(shared, case) / "checkpoint.pth"
    model = load_ce_checkpoint(path, ce.expert_dims(shared), lengths=ce.padded_lengths(stored))
    with torch.inference_mode():
        videos = model.embed_videos(ce.as_videos(stored, model.experts, cut=False))
        return model.experts, model.embed_texts(ce.as_texts(stored)), videos, stored["similarities"]


def loops(texts: TextEmbeddings, videos: VideoEmbeddings) -> NDArray[np.float64]:
    """Return [T, V] by the definition, a pair and an expert at a time."""
    text_vectors, weights = texts.vectors.double().numpy(), texts.weights.double().numpy()
    video_vectors, present = videos.vectors.double().numpy(), videos.present.double().numpy()
    scores = np.zeros((len(weights), len(present)))
    for t in range(scores.shape[0]):
        for v in range(scores.shape[1]):
            counts = weights[t] * present[v]
            cosines = [a @ b for a, b in zip(text_vectors[t], video_vectors[v], strict=True)]
            scores[t, v] = counts @ cosines / counts.sum() if counts.sum() > 0 else 0.0
    return scores


def check(found: Found, scores: NDArray[np.float64], published: NDArray[np.float32]) -> None:
    """Check answers against sorting scores [Q, N], and against what the published code says of each."""
    wanted = found.rows.shape[1]
    for query, (rows, values) in enumerate(zip(found.rows, found.scores, strict=True)):
        rounded = scores[query].astype(np.float32)
        np.testing.assert_array_equal(rows, np.lexsort((np.arange(len(rounded)), -rounded))[:wanted])
        np.testing.assert_array_equal(values, rounded[rows])
        np.testing.assert_allclose(values, published[query, rows], atol=WRONG_BY)
        np.testing.assert_allclose(values, np.sort(published[query])[::-1][:wanted], atol=WRONG_BY)


@pytest.mark.parametrize("case", [*mmt.CASES, *ce.CASES])
@pytest.mark.parametrize("wanted", [1, 3, 1000])
def test_flat_equals_brute_force_on_the_reference_cases(shared: Path, tmp_path: Path, case: str, wanted: int) -> None:
    experts, texts, videos, published = (of_mmt if case in mmt.CASES else of_ce)(shared, case)
    owners = np.arange(len(texts.ids)) * len(videos.ids) // len(texts.ids)
    coverage = Coverage("full", "test", len(videos.ids), len(videos.ids))
    part = EmbeddedPart(experts, videos, texts, texts.ids, owners, coverage)
    build_index(tmp_path, part, embed_output="x")
    index = RetrievalIndex.open(tmp_path, part, embed_output="x")
    scores = loops(texts, videos)
    check(index.videos_for(texts, wanted), scores, published)
    check(index.captions_for(videos, wanted), scores.T, published.T)


@pytest.mark.parametrize("release", RELEASES)
def test_a_retriever_answers_as_the_released_code_scores(shared: Path, tmp_path: Path, release: str) -> None:
    """From the released files to results: words and videos are embedded anew, and `similarities` says the order."""
    folder, split = shared / "reference" / release, RELEASES[release]
    workspace = import_mmt_features(folder / "MSRVTT", tmp_path / "ws", workers=1).workspace
    texts = str(folder / "text_model")
    import_mmt_checkpoint(folder / "checkpoint.pth", texts, workspace, tmp_path / "run", split=split)
    retriever = Retriever.load(tmp_path / "run", split=split, part="test")
    order = json.loads((folder / "meta.json").read_text())["video_order"]
    with np.load(folder / "expected.npz") as stored:
        published = stored["similarities"]
    plain = dict(zip(retriever.part.texts.ids, retriever.part.texts_plain, strict=True))
    captions = sorted(plain, key=lambda name: (order.index(name.split("#")[0]), int(name.split("#")[1])))
    for row, hits in enumerate(retriever.search([plain[name] for name in captions], len(order))):
        assert sorted(hit.video_id for hit in hits) == sorted(order)
        scores = [published[row, order.index(hit.video_id)] for hit in hits]
        assert [hit.score for hit in hits] == pytest.approx(scores, abs=WRONG_BY)
        assert [hit.score for hit in hits] == pytest.approx(np.sort(published[row])[::-1], abs=WRONG_BY)
        assert all(sum(hit.shares.values()) == pytest.approx(hit.score, abs=1e-6) for hit in hits)
    store = FeatureStore(workspace.store)
    every = {name: store.read(name) for name in store.experts}
    for column, video_id in enumerate(order):
        found = retriever.captions_for({n: held[video_id] for n, held in every.items() if video_id in held}, 1000)
        right = np.sort(published[:, column])[::-1]
        assert [hit.score for hit in found] == pytest.approx(right, abs=WRONG_BY)
