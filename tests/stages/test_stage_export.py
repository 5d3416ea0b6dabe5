"""Exports against the embeddings they are of, and LanceDB's neighbours against the exact ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from vtr.embeddings import load_part
from vtr.errors import InputError, UnavailableError, WorkspaceError
from vtr.files import read_json
from vtr.similarity import exact_scores, flat_texts, flat_videos
from vtr.stages.export import export
from vtr.training.embed import embed
from vtr.workspace import Run


@pytest.fixture
def embedded(run: Run) -> Run:
    embed(run, "full", "train", device="cpu")
    return run


def test_every_form_holds_the_vectors(embedded: Run, tmp_path: Path) -> None:
    part = load_part(embedded.embeddings / "full-train")
    expected = {
        "videos": (part.videos.ids, flat_videos(part.videos)),
        "captions": (part.texts.ids, flat_texts(part.texts)),
    }
    for to in ("parquet", "qdrant-jsonl", "milvus"):
        made = export(embedded, "full", "train", to=to, out=tmp_path / to)
        assert str(made) == f"24 videos and 48 captions for {to} in {tmp_path / to}"
        for kind, (ids, vectors) in expected.items():
            if to == "qdrant-jsonl":
                points = [json.loads(line) for line in (tmp_path / to / f"{kind}.jsonl").read_text().splitlines()]
                assert [point["id"] for point in points] == list(range(len(ids)))
                rows = [point["payload"] | {"vector": point["vector"]} for point in points]
            else:
                place = f"{kind}.parquet" if to == "parquet" else f"{kind}/{kind}.parquet"
                rows = pq.read_table(tmp_path / to / place).to_pylist()
            assert [row["id"] for row in rows] == list(ids)
            np.testing.assert_array_equal(np.asarray([row["vector"] for row in rows], np.float32), vectors.numpy())
        captions = [row["text"] for row in rows]
        assert captions == list(part.texts_plain)
        assert [row["video_id"] for row in rows] == [part.videos.ids[video] for video in part.video_of_text]
        sidecar = read_json(tmp_path / to / "vtr.json")
        assert (sidecar["dim"], sidecar["metric"]) == (vectors.shape[1], "inner product")
        assert sidecar["collections"] == {"videos": 24, "captions": 48}
        assert sidecar["masked"] == bool((part.videos.present != 1).any())


def test_lancedb_finds_the_exact_neighbours(embedded: Run, tmp_path: Path) -> None:
    lancedb = pytest.importorskip("lancedb")
    export(embedded, "full", "train", to="lancedb", out=tmp_path / "db")
    table = lancedb.connect(str(tmp_path / "db")).open_table("videos")
    part = load_part(embedded.embeddings / "full-train")
    weights = part.texts.weights.double().numpy() @ part.videos.present.double().numpy().T
    numerators = exact_scores(part.texts, part.videos).numpy() * weights
    for row, vector in enumerate(flat_texts(part.texts).numpy()):
        found = table.search(vector).distance_type("dot").limit(5).to_list()
        right = np.argsort(-numerators[row], kind="stable")[:5]
        values = [1 - hit["_distance"] for hit in found]
        np.testing.assert_allclose(values, numerators[row][right], atol=1e-5)
        assert {hit["id"] for hit in found[:1]} <= {part.videos.ids[video] for video in right[:2]}


def test_mistakes_are_named(embedded: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(InputError, match="there exists already"):
        export(embedded, "full", "train", to="parquet", out=tmp_path / "there")
    with pytest.raises(WorkspaceError, match="not there or not finished"):
        export(embedded, "full", "test", to="parquet", out=tmp_path / "new")
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(UnavailableError, match=r"pip install 'vtr\[lancedb\]'"):
        export(embedded, "full", "train", to="lancedb", out=tmp_path / "new")
    assert not (tmp_path / "new").exists()
