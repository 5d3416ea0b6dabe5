"""Released checkpoints, from `vtr import` on: they answer as the released code did, and are runs like any other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from toy import write_features

from vtr.annotations.prepare import prepare_annotations
from vtr.config import TrainConfig, load
from vtr.data.corpus import load_corpus
from vtr.data.features import FeatureChoice, FeatureTable
from vtr.data.texts import CaptionTable
from vtr.embeddings import load_part
from vtr.errors import ConfigError, InputError, WorkspaceError
from vtr.interop.mmt_features import import_mmt_features
from vtr.models.text import TextInput
from vtr.similarity import score_matrix
from vtr.stages.evaluate import evaluate
from vtr.stages.imports import import_ce_checkpoint, import_mmt_checkpoint
from vtr.stages.report import report
from vtr.stages.search import Question, search
from vtr.stages.status import status
from vtr.training.embed import embed
from vtr.training.train import train
from vtr.types import Annotations, Caption, ExpertFeatures, Split, Video
from vtr.workspace import Run, Workspace

RELEASES = {"mmt_release_1ka": "1k-A", "mmt_release_full": "full"}


def take_over(shared: Path, release: str, tmp_path: Path) -> Run:
    """Import a release's features and its checkpoint."""
    folder = shared / "reference" / release
    workspace = import_mmt_features(folder / "MSRVTT", tmp_path / "ws", workers=1).workspace
    split = RELEASES[release]
    import_mmt_checkpoint(
        folder / "checkpoint.pth", str(folder / "text_model"), workspace, tmp_path / "run", split=split
    )
    return Run.open(tmp_path / "run")


@pytest.mark.parametrize("release", RELEASES)
def test_tokens_times_and_masks_are_the_released_loaders(shared: Path, tmp_path: Path, release: str) -> None:
    run = take_over(shared, release, tmp_path)
    config = load(TrainConfig, run.config)
    with np.load(shared / "reference" / release / "expected.npz") as stored:
        expected = dict(stored)
    order = json.loads((shared / "reference" / release / "meta.json").read_text())["video_order"]
    corpus = load_corpus(run.workspace, config.split, config.experts, parts=("test",), available_only=False)
    table = FeatureTable.load(corpus.store, order, corpus.experts, FeatureChoice.of(config))
    for name, expert in table.batch(range(len(order))).experts.items():
        width = expert.mask.shape[1]
        mask, times = expected[f"mask/{name}"], expected[f"times/{name}"]
        np.testing.assert_array_equal(expert.mask.numpy(), mask[:, :width] > 0)
        assert not mask[:, width:].any()
        ours = (expert.mid_seconds + 2).clamp(0, 31).nan_to_num(nan=1.0).numpy()  # 1 is the position without a time
        np.testing.assert_array_equal(ours, times[:, :width])
    place = {video_id: row for row, video_id in enumerate(order)}
    captions = sorted(corpus.queries("test"), key=lambda c: (place[c.video_id], int(c.id.split("#")[1])))
    tokens = CaptionTable(captions, TextInput(config.text), run.workspace).batch(range(len(captions)))
    assert tokens.input_ids is not None and tokens.attention_mask is not None
    theirs = expected["token_ids"].reshape(-1, *expected["token_ids"].shape[2:])[expected["query_masks"].ravel() > 0]
    width = tokens.input_ids.shape[1]
    np.testing.assert_array_equal(tokens.attention_mask.numpy(), theirs[:, :width, 1])
    np.testing.assert_array_equal((tokens.input_ids * tokens.attention_mask).numpy(), theirs[:, :width, 0])
    assert not theirs[:, width:].any()


@pytest.mark.parametrize("release", RELEASES)
def test_similarities_of_mmt_are_the_released_codes(shared: Path, tmp_path: Path, release: str) -> None:
    run = take_over(shared, release, tmp_path)
    part = load_part(embed(run, RELEASES[release], "test", device="cpu").folder)
    with np.load(shared / "reference" / release / "expected.npz") as stored:
        expected = stored["similarities"]
    order = json.loads((shared / "reference" / release / "meta.json").read_text())["video_order"]
    columns = [part.videos.ids.index(video_id) for video_id in order]
    rows = sorted(
        range(len(part.texts.ids)),
        key=lambda t: (order.index(part.texts.ids[t].split("#")[0]), int(part.texts.ids[t].split("#")[1])),
    )
    scores = score_matrix(part.texts, part.videos).numpy()[rows][:, columns]
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_an_imported_run_is_a_run_like_any_other(shared: Path, tmp_path: Path) -> None:
    run = take_over(shared, "mmt_release_1ka", tmp_path)
    text = str(evaluate(run, None, None, device="cpu"))
    assert "1k-A test: 8 of 8; 1 caption a video" in text
    (answer,) = search(run, Question("a man talks"), top=2, as_json=True, extract=None)  # type: ignore[arg-type]
    assert len(json.loads(answer)["results"]) == 2
    shown = status(run.workspace.root)
    assert "stale" not in shown and "elsewhere, by its authors" in shown
    assert "no training log" not in report(run)
    again = import_mmt_checkpoint(
        shared / "reference" / "mmt_release_1ka" / "checkpoint.pth",
        str(shared / "reference" / "mmt_release_1ka" / "text_model"),
        run.workspace,
        run.root,
    )
    assert not again.fresh
    with pytest.raises(ConfigError, match=r"holds the checkpoint .*checkpoint\.pth, or the same with other settings"):
        import_mmt_checkpoint(
            shared / "reference" / "mmt_release_1ka" / "checkpoint.pth",
            str(shared / "reference" / "mmt_release_1ka" / "text_model"),
            run.workspace,
            run.root,
            keep_missing=False,
        )
    with pytest.raises(ConfigError, match="imported checkpoint, which is not trained on"):
        train(run.workspace, load(TrainConfig, run.config, ["split=full"]), run.root, device="cpu", available_only=True)


def test_features_of_other_dims_and_missing_splits_are_refused(shared: Path, tmp_path: Path, toy: Workspace) -> None:
    folder = shared / "reference" / "mmt_release_1ka"
    file, text = folder / "checkpoint.pth", str(folder / "text_model")
    with pytest.raises(WorkspaceError, match=r"no expert .face."):
        import_mmt_checkpoint(file, text, toy, tmp_path / "run")
    workspace = import_mmt_features(folder / "MSRVTT", tmp_path / "released", workers=1).workspace
    with pytest.raises(WorkspaceError, match="no split '1k-B'"):
        import_mmt_checkpoint(file, text, workspace, tmp_path / "run", split="1k-B")
    shutil.rmtree(workspace.features / "face")
    write_features(workspace, "face", {"video7138": features(np.ones((1, 5), np.float32))}, ["video7138"], {})
    with pytest.raises(InputError, match=r"takes face features of dim 512; .* has 5"):
        import_mmt_checkpoint(file, text, workspace, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def features(values: np.ndarray) -> ExpertFeatures:
    nowhere = np.full(len(values), np.nan, np.float32)
    return ExpertFeatures(values, nowhere, nowhere)


def ce_workspace(case: Path, root: Path) -> tuple[Workspace, dict[str, np.ndarray]]:
    """Make a workspace of a reference case of CE: its features, and its captions' token states."""
    with np.load(case / "batch.npz") as stored:
        held = dict(stored)
    ids = [f"v{row}" for row in range(len(held["text"]))]
    captions = [Caption(f"{i}#{at}", i, f"caption {at} of {i}") for i in ids for at in range(held["text"].shape[1])]
    annotations = Annotations(tuple(map(Video, ids)), tuple(captions))
    split = Split("full", (), (), tuple(ids))
    workspace = prepare_annotations(annotations, [split], root).workspace
    for key, stored_values in held.items():
        kind, _, name = key.partition("/")
        if kind == "features":
            rows = {
                i: features(row[None] if row.ndim == 1 else row[row.any(axis=1)])
                for i, row, there in zip(ids, stored_values, held[f"available/{name}"], strict=True)
                if there
            }
            write_features(workspace, name, rows, ids, {"prepare": "test"})
    states = held["text"].reshape(len(captions), *held["text"].shape[2:])
    of_captions = {c.id: features(row[row.any(axis=1)]) for c, row in zip(captions, states, strict=True)}
    texts = SimpleNamespace(features=workspace.text_features)
    write_features(texts, "openai", of_captions, list(of_captions), {})  # type: ignore[arg-type]
    return workspace, held


@pytest.mark.parametrize("case", ["case_0", "case_1"])
def test_similarities_of_ce_are_the_released_codes(shared: Path, tmp_path: Path, case: str) -> None:
    folder = shared / "reference" / "ce" / case
    workspace, held = ce_workspace(folder, tmp_path / "ws")
    lengths = {name: held[f"features/{name}"].shape[1] for name in ("audio", "ocr", "speech")}
    lengths["text"] = held["text"].shape[2]
    summary = import_ce_checkpoint(
        folder / "checkpoint.pth", "openai-gpt", workspace, tmp_path / "run", lengths=lengths
    )
    part = load_part(embed(summary.run, None, "test", device="cpu").folder)
    np.testing.assert_allclose(score_matrix(part.texts, part.videos).numpy(), held["similarities"], atol=1e-5)


def test_ce_is_refused_with_text_states_of_another_length(shared: Path, tmp_path: Path, tiny_bert: Path) -> None:
    folder = shared / "reference" / "ce" / "case_0"
    workspace, _ = ce_workspace(folder, tmp_path / "ws")
    shutil.rmtree(workspace.text_features)
    with pytest.raises(InputError, match=r"reads token states of length 20; those of the text model .* have 32"):
        import_ce_checkpoint(folder / "checkpoint.pth", str(tiny_bert), workspace, tmp_path / "run")
    torch.save({"state_dict": {"pooling.x": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="not a checkpoint of CE with the experts audio, face"):
        import_ce_checkpoint(tmp_path / "other.pth", str(tiny_bert), workspace, tmp_path / "run")
