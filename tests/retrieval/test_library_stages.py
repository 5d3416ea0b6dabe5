"""What other commands do with a library: the kind of its index, exports, its state, and the words that name it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from stand_in_extraction import StandInExtraction, make_clip
from typer.testing import CliRunner

from vtr.cli import app
from vtr.errors import InputError, WorkspaceError
from vtr.files import read_json
from vtr.index.build import Settings, held_settings
from vtr.retrieval import Retriever
from vtr.retrieval.ingest import Ingestion, IngestSummary, Request
from vtr.retrieval.library import LibraryFolder
from vtr.similarity import flat_videos
from vtr.stages.export import export
from vtr.stages.index import index, verify_index
from vtr.stages.search import Question, search
from vtr.workspace import Run


def ingest(run: Run, *folders: Path, **options: object) -> IngestSummary:
    return Ingestion(run, StandInExtraction(), device="cpu").ingest(Request(folders, **options))  # type: ignore[arg-type]


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    make_clip(tmp_path / "clips" / "beach.mp4", 1)
    make_clip(tmp_path / "clips" / "long.mp4", 2, 75)
    return tmp_path / "clips"


def test_the_index_of_a_library_is_of_the_kind_that_is_asked_for(toy_run: Run, clips: Path) -> None:
    ingest(toy_run, clips)
    exact = Retriever.load(toy_run).search(["a red dog"], 12)[0]
    retriever = Retriever.load(toy_run)
    assert not index(toy_run, None, None).fresh
    made = index(toy_run, None, None, factory="IVF2,Flat", parameters="nprobe=2")
    assert made.fresh
    assert made.folder == LibraryFolder(toy_run.library).index
    assert not (toy_run.embeddings / "toy-train").exists()  # no second gallery is made beside it
    assert held_settings(made.folder) == Settings("IVF2,Flat", "nprobe=2")
    assert retriever.refresh()  # a searcher takes it up
    found = retriever.search(["a red dog"], 12)[0]
    assert [hit.video_id for hit in found] == [hit.video_id for hit in exact]  # both lists are searched
    make_clip(clips / "snow.mp4", 9)
    ingest(toy_run, clips)
    assert not index(toy_run, "library", None).fresh
    assert Retriever.load(toy_run).num_videos == 13
    assert verify_index(toy_run, None, None).startswith(f"{made.folder}: ")
    segment = read_json(made.folder / "manifest.json")["segments"][0]["name"]
    (made.folder / segment / "videos.f32").write_bytes(b"")
    with pytest.raises(WorkspaceError, match=r"videos\.f32"):
        verify_index(toy_run, None, None)


def test_a_library_is_exported_with_the_stretches_of_its_videos(toy_run: Run, clips: Path, tmp_path: Path) -> None:
    ingest(toy_run, clips, only_these=True, window_seconds=30)
    part = Retriever.load(toy_run).part
    done = CliRunner().invoke(app, ["export", str(toy_run.root), "--to", "parquet", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    rows = pq.read_table(tmp_path / "out" / "videos.parquet").to_pylist()
    assert [row["id"] for row in rows] == list(part.videos.ids)
    np.testing.assert_array_equal([row["vector"] for row in rows], flat_videos(part.videos).numpy())
    told = {row["id"]: (row["video_id"], row["start_seconds"], row["end_seconds"]) for row in rows}
    assert told == {
        "beach": ("beach", None, None),
        "long@0-30": ("long", 0, 30),
        "long@30-60": ("long", 30, 60),
        "long@60-75": ("long", 60, 75),
    }
    assert {row["path"] for row in rows} == {str(clips / "beach.mp4"), str(clips / "long.mp4")}
    assert read_json(tmp_path / "out" / "vtr.json")["embed"] == LibraryFolder(toy_run.library).output()
    export(toy_run, "library", None, to="milvus", out=tmp_path / "milvus")
    rows = pq.read_table(tmp_path / "milvus" / "videos" / "videos.parquet").to_pylist()
    assert [row["start_seconds"] for row in rows] == [0, 0, 30, 60]  # no value is missing there


def test_a_library_of_another_model_is_not_indexed(toy_run: Run, clips: Path) -> None:
    ingest(toy_run, clips)
    manifest, folder = toy_run.root / "manifest.json", LibraryFolder(toy_run.library).index
    manifest.write_text(manifest.read_text().replace(read_json(manifest)["output"], "feedfeedfeedfeed"))
    with pytest.raises(WorkspaceError, match="was embedded by model"):
        index(toy_run, None, None, factory="IVF2,Flat")
    assert held_settings(folder) == Settings()


def test_without_a_library_its_name_is_refused(toy_run: Run, tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match=r"holds no video.*vtr ingest"):
        index(toy_run, "library", None)
    with pytest.raises(WorkspaceError, match=r"holds no video.*vtr ingest"):
        export(toy_run, "library", None, to="parquet", out=tmp_path / "out")


def test_the_state_of_a_librarys_workspace_is_mended_by_ingest(toy_run: Run, clips: Path) -> None:
    make_clip(clips / "broken.mp4", 5, fails=True)
    ingest(toy_run, clips, only_these=True)
    told = CliRunner().invoke(app, ["status", str(toy_run.library / "workspace")])
    assert told.exit_code == 0, told.output
    assert f"vtr ingest {toy_run.root} --retry-failed" in told.output
    assert "vtr extract" not in told.output


def test_a_table_says_once_how_many_videos_a_library_holds(toy_run: Run, clips: Path) -> None:
    ingest(toy_run, clips)
    [table] = search(toy_run, Question("a red dog"), top=3, extract=lambda *_: {})
    assert table.splitlines()[0] == "a red dog: the best 3 of 12 videos (the library)"


def test_the_id_that_was_perhaps_meant_is_named(toy_run: Run, clips: Path) -> None:
    ingest(toy_run, clips)
    with pytest.raises(InputError, match=r"no video 'clips/baech'\. Did you mean 'clips/beach'\?"):
        Retriever.load(toy_run).similar("clips/baech")
