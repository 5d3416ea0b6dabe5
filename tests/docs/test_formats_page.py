"""docs/formats.md: its examples run, its tables are the schemas of the files that vtr writes, every file is named."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy import ROOT, make_workspace

from vtr.config import TrainConfig
from vtr.retrieval.library import ITEM_SCHEMA
from vtr.stages.evaluate import evaluate
from vtr.stages.export import export
from vtr.store.ledger import Failure, Ledger
from vtr.store.schema import encode_row
from vtr.store.texts import FoundText
from vtr.store.writer import shard_name, write_expert_manifest, write_found, write_shard
from vtr.training.mine import mine
from vtr.training.train import train
from vtr.types import ExpertFeatures, ExpertSpec
from vtr.workspace import Run, Workspace

PAGE = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
NOT_MADE = ("features/location.json", "features/plan.jsonl", "import.json", "text_features/", "splits/", "report.html")
"""Files of the page that other stages make than those that are run here."""


def with_texts(workspace: Workspace, ids: list[str]) -> None:
    """Add an expert that reads, with its side table."""
    folder, spec = workspace.features / "ocr", ExpertSpec("ocr", 4, "text", None, "test")
    found = ExpertFeatures(np.ones((1, 4), np.float32), np.float32([0.5]), np.float32([1.5]))
    shard = folder / shard_name(0)
    checksum = write_shard(shard, spec, [encode_row(ids[0], found, ("EXIT",), "float16")], ids, {})
    text = FoundText("EXIT", 0, 0.5, 1.5, 0.9, (0.1, 0.2, 0.3, 0.4))
    texts = write_found(folder / "texts" / shard_name(0), {ids[0]: [text]})
    write_expert_manifest(
        folder,
        spec,
        {shard_name(0): checksum},
        inputs={"prepare": "test"},
        config={},
        counts={"examined": len(ids), "present": 1},
        counts_by_shard={shard_name(0): [len(ids), 1]},
        texts={shard_name(0): texts},
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, toy_config: Callable[..., TrainConfig]) -> Path:
    """A folder with ws, runs/mine and exported, made by the stages that make them."""
    folder = tmp_path_factory.mktemp("formats")
    workspace = make_workspace(folder / "ws")
    ids = [f"v{number:03d}" for number in range(60)]
    ledger = Ledger(workspace.ledger)
    ledger.settle(ids[0], ["motion"], [Failure(ids[0], "motion", "decode", "truncated", "it ends early", "partial")])
    ledger.settle(ids[1], [], [Failure(ids[1], "motion", "open", "unreadable", "no video")])
    ledger.settle(ids[1], ["motion"], [])
    train(workspace, toy_config(split="toy"), folder / "runs" / "mine", device="cpu")
    with_texts(workspace, ids)
    run = Run.open(folder / "runs" / "mine")
    evaluate(run, None, None, device="cpu")
    mine(run, device="cpu")
    export(run, None, None, to="parquet", out=folder / "exported")
    return folder


def section(title: str) -> str:
    """Return what stands below a heading, up to the next."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None, title
    return found[1]


def tables(title: str) -> list[list[list[str]]]:
    """Return the tables below a heading: rows of cells, without the head."""
    blocks = re.findall(r"(?:^\|.*\n)+", section(title), re.MULTILINE)
    return [[[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in b.splitlines()[2:]] for b in blocks]


def names(cell: str) -> list[str]:
    return re.findall("`([^`]+)`", cell)


def in_words(kind: pa.DataType) -> str:
    """Return a type as the page writes it."""
    if pa.types.is_fixed_size_list(kind):
        return f"fixed-size list of {in_words(kind.value_type)}"
    if pa.types.is_list(kind):
        return f"list of {in_words(kind.value_type)}"
    if pa.types.is_struct(kind):
        return f"struct of {', '.join(field.name for field in kind)}"
    return str(kind)


def described(schema: pa.Schema) -> list[list[str]]:
    return [[f"`{f.name}`", in_words(f.type) + ("" if f.nullable else ", not null")] for f in schema]


@pytest.mark.parametrize(
    ("title", "number", "file"),
    [
        ("Videos", 0, "ws/annotations/videos.parquet"),
        ("Captions", 0, "ws/annotations/captions.parquet"),
        ("Features", 0, "ws/features/appearance/part-00000.parquet"),
        ("Features", 0, "ws/features/ocr/part-00000.parquet"),
        ("Texts that were found", 0, "ws/features/ocr/texts/part-00000.parquet"),
        ("Embeddings", 0, "runs/mine/embeddings/toy-test/videos.parquet"),
        ("Embeddings", 1, "runs/mine/embeddings/toy-test/captions.parquet"),
        ("Ranks", 0, "runs/mine/evaluation/toy-test.ranks.parquet"),
        ("Hard negatives", 0, "runs/mine/offline_negatives/texts.parquet"),
        ("Hard negatives", 0, "runs/mine/offline_negatives/videos.parquet"),
        ("Exported embeddings", 0, "exported/videos.parquet"),
        ("Exported embeddings", 1, "exported/captions.parquet"),
    ],
)
def test_a_table_of_columns_is_the_file_s_schema(place: Path, title: str, number: int, file: str) -> None:
    assert [row[:2] for row in tables(title)[number]] == described(pq.read_schema(place / file))


def test_the_items_of_a_library_are_as_the_page_says() -> None:
    assert [row[:2] for row in tables("Items of a library")[0]] == described(ITEM_SCHEMA)


def keys(title: str) -> list[str]:
    return [name for row in tables(title)[0] for name in names(row[0])]


def test_the_keys_of_json_are_those_of_the_page(place: Path) -> None:
    split = json.loads((place / "ws/annotations/splits/toy.json").read_text())
    assert list(split) == keys("Splits")
    manifests = [json.loads(path.read_text()) for path in place.rglob("manifest.json")]
    assert {found["stage"] for found in manifests} == {"prepare", "extract", "train", "embed", "index", "mine"}
    for manifest in manifests:
        assert set(keys("Manifests")) <= set(manifest)
        assert f"`{manifest['stage']}`" in section("Manifests")
    evaluation = json.loads((place / "runs/mine/evaluation/toy-test.json").read_text())
    assert set(keys("Evaluations")) == set(evaluation)
    metrics = next(row for row in tables("Evaluations")[0] if row[0] == "`metrics`")
    assert set(names(metrics[1])) == {*evaluation["metrics"], *evaluation["metrics"]["text_to_video"]}
    assert keys("The ledger of failures") == [field.name for field in fields(Failure)]


def test_every_line_of_the_log_is_described(place: Path) -> None:
    by_kind = {names(kind)[0]: set(names(held)) for kind, held in tables("The training log")[0]}
    lines = [json.loads(line) for line in (place / "runs/mine/log.jsonl").read_text().splitlines()]
    assert {line["kind"] for line in lines} == set(by_kind)
    for line in lines:
        found = {
            key for key in line if key not in ("kind", "step", "epoch") and not re.fullmatch(r"(t2v|v2t)_R\d+", key)
        }
        assert found <= by_kind[line["kind"]]


def as_pattern(name: str) -> str:
    """Return a regular expression of a path in which words in capitals stand for names."""
    if name.endswith("/..."):
        return re.escape(name.removesuffix("...")) + ".*"
    return re.sub(r"[A-Z]+", "[^/]+", re.escape(name))


@pytest.mark.parametrize(("title", "root"), [("The files of a workspace", "ws"), ("The files of a run", "runs/mine")])
def test_every_file_is_named_and_every_name_is_a_file(place: Path, title: str, root: str) -> None:
    listed = [name for row in tables(title)[0] for name in names(row[0])]
    held = [path.relative_to(place / root).as_posix() for path in (place / root).rglob("*") if path.is_file()]
    held = [name for name in held if Path(name).name != ".lock"]
    assert [name for name in held if not any(re.fullmatch(as_pattern(one), name) for one in listed)] == []
    made = [one for one in listed if any(re.fullmatch(as_pattern(one), name) for name in held)]
    elsewhere = [one for one in listed if one not in made]
    assert [one for one in elsewhere if not one.startswith(NOT_MADE) and not one.endswith("/...")] == []


def test_every_file_of_a_segment_is_named(place: Path) -> None:
    listed = [name for row in tables("Indexes")[0] for name in names(row[0])]
    segments = [path for path in (place / "runs/mine/index/toy-test").iterdir() if path.is_dir()]
    for path in (path for segment in segments for path in segment.iterdir()):
        assert any(re.fullmatch(re.escape(one).replace("KIND", "(videos|captions)"), path.name) for one in listed)


@pytest.fixture(scope="module")
def results(place: Path) -> dict[str, Any]:
    """What the examples of the page leave behind, run one after the other as they stand there."""
    space: dict[str, Any] = {}
    before = Path.cwd()
    os.chdir(place)
    try:
        for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)):
            exec(compile(code, f"example {number} of docs/formats.md", "exec"), space)
    finally:
        os.chdir(before)
    return space


def test_the_examples_find_what_is_there(results: dict[str, Any]) -> None:
    assert results["captions_a_video"]["captions"].tolist() == [3] * 60
    assert results["queries"] is not None and len(results["split"]["test"]) == 10
    ((videos, count, dim),) = results["how_many"]
    assert (videos, dim) == (60, 12) and count == sum(map(len, results["features"].values()))
    assert {value.shape[1] for value in results["features"].values()} == {12}
    assert all((times[:, 1] - times[:, 0] == 1).all() for times in results["seconds"].values())
    assert results["expert"]["name"] == "appearance" and len(results["examined"]) == 60
    assert results["shown"]["text"].tolist() == ["EXIT"]
    assert results["failures"]["video_id"].tolist() == ["v000"]
    assert set(results["stages"]["stage"]) == {"prepare", "extract"}
    assert len(results["best"]) == 1 and results["shapes"]


def test_scores_and_ranks_of_the_examples_are_those_of_the_evaluation(place: Path, results: dict[str, Any]) -> None:
    evaluation = json.loads((place / "runs/mine/evaluation/toy-test.json").read_text())["metrics"]
    assert results["recall_at_1"] == pytest.approx(evaluation["text_to_video"]["recall"]["1"], abs=1e-9)
    for row in results["by_direction"].itertuples():
        assert row.r1 == pytest.approx(evaluation[row.direction]["recall"]["1"])
        assert row.r10 == pytest.approx(evaluation[row.direction]["recall"]["10"])
        assert row.medr == evaluation[row.direction]["median_rank"]
    assert sorted(results["ids"]) == sorted(results["videos"]["id"])
    held = dict(zip(results["ids"], results["vectors"], strict=True))
    flat = (results["v"] * results["available"][:, :, None]).reshape(len(results["videos"]), -1)
    for video_id, vector in zip(results["videos"]["id"], flat, strict=True):
        np.testing.assert_allclose(held[video_id], vector, rtol=1e-6)
    assert results["answers"].groupby("text").size().min() >= 5
