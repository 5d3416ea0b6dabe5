"""The index stage: skips what is current, renews what is stale, refuses what it cannot trust."""

from __future__ import annotations

from dataclasses import asdict

import pyarrow.parquet as pq
import pytest

from vtr.errors import WorkspaceError
from vtr.files import read_json, write_json
from vtr.index.build import Settings, held_settings
from vtr.retrieval.galleries import embed_and_index
from vtr.stages.index import index
from vtr.store.reader import FeatureStore
from vtr.training.embed import embed
from vtr.workspace import Run


def test_index_follows_embed_and_is_kept(run: Run) -> None:
    with pytest.raises(WorkspaceError, match=r"Run `vtr embed .*--split full --part test` first"):
        index(run, None, None)
    embed(run, None, None, device="cpu")
    made = index(run, None, None)
    assert made.fresh
    assert str(made).startswith("full test: 6 of 6; 6 videos and 12 captions indexed in")
    before = (made.folder / "000001" / "videos.f32").stat().st_mtime_ns
    again = index(run, None, None)
    assert not again.fresh
    assert (again.folder / "000001" / "videos.f32").stat().st_mtime_ns == before
    assert read_json(made.folder / "manifest.json")["inputs"] == {
        "embed": read_json(run.embeddings / "full-test" / "manifest.json")["output"],
        "train": read_json(run.root / "manifest.json")["output"],
    }


def test_an_index_that_is_made_anew_keeps_all_that_was_asked_of_it(run: Run) -> None:
    embed(run, None, None, device="cpu")
    asked = Settings("IVF2,Flat", "nprobe=2", 0.6, 1 << 24)
    folder = index(run, None, None, **asdict(asked)).folder
    assert not index(run, None, None).fresh
    manifest = read_json(folder / "manifest.json")
    write_json(folder / "manifest.json", manifest | {"inputs": {"embed": "of another time"}})
    made = index(run, None, None)
    assert made.fresh
    assert held_settings(folder) == asked
    assert made.index.kind.startswith("IVF2,Flat nprobe=2")
    assert index(run, None, None, factory="IVF3,Flat").fresh  # the parameters were of the other kind
    assert held_settings(folder) == Settings("IVF3,Flat", "", 0.6, 1 << 24)


def test_stale_embeddings_are_named_and_renewed(run: Run) -> None:
    embed_and_index(run, "val", None, device="cpu")
    manifest = read_json(run.root / "manifest.json")
    write_json(run.root / "manifest.json", manifest | {"output": "another"})
    with pytest.raises(WorkspaceError, match=r"made from train \w+, but train is now another\. Run `vtr embed"):
        index(run, "val", None)
    assert embed_and_index(run, "val", None, device="cpu").embedded.coverage.part == "validation"
    index(run, "val", None)


def test_missing_features_stop_the_stage(run: Run) -> None:
    store = FeatureStore(run.workspace.features)
    for expert in store.experts:  # the first test video loses its features
        path = store.shards(expert)[0]
        table = pq.read_table(path)
        gone = read_json(run.workspace.annotations / "splits" / "full.json")["test"][0]
        pq.write_table(table.filter([name.as_py() != gone for name in table["video_id"]]), path)
    with pytest.raises(WorkspaceError, match="1 of 6 videos of full test have no features"):
        embed_and_index(run, None, None, device="cpu")
    assert str(embed_and_index(run, None, None, device="cpu", available_only=True)).startswith("full test: 5 of 6; 5")
