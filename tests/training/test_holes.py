"""Data with holes: videos, experts and captions with nothing in them, parts that are small or empty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import make_workspace, write_features

from vtr.annotations.prepare import prepare_annotations
from vtr.config import DataConfig, TextConfig, TrainConfig
from vtr.data.corpus import Corpus, check_learnable, load_corpus
from vtr.data.features import FeatureChoice
from vtr.data.sampling import cut_batches, epoch_batches
from vtr.data.texts import CaptionTable
from vtr.errors import ConfigError, WorkspaceError
from vtr.losses import build_loss
from vtr.models import build_model
from vtr.models.saved import load_model
from vtr.models.text import TextInput
from vtr.stages.status import status
from vtr.store.reader import FeatureStore
from vtr.training.data import TrainingData, make_data
from vtr.training.dry_run import dry_run
from vtr.training.train import train
from vtr.types import Annotations, Batch, Caption, Split, Video
from vtr.workspace import Workspace

MakeConfig = Callable[..., TrainConfig]
BARE = ("v003", "v017", "v044", "v055")
"""Two training videos, one of validation and one of test, of which no expert has a feature."""

MODELS = {
    "mmt": {"name": "mmt", "dim": 16, "layers": 2, "heads": 2, "feed_forward": 32},
    "ce": {"name": "ce", "dim": 16},
    "moee": {"name": "ce", "dim": 16, "gating": "none"},
    "ce vlad": {"name": "ce", "dim": 16, "vlad": {"motion": {"clusters": 3, "ghosts": 1, "length": 4}}},
}


def without(workspace: Workspace, ids: Sequence[str], experts: Sequence[str] = ("appearance", "motion")) -> Workspace:
    """Take the features of some videos away."""
    for name in experts:
        held = FeatureStore(workspace.store).read(name)
        left = {video_id: value for video_id, value in held.items() if video_id not in ids}
        write_features(workspace, name, left, list(held), {"prepare": "test"})
    return workspace


@pytest.fixture
def holed(tmp_path: Path) -> Workspace:
    return without(make_workspace(tmp_path / "ws"), BARE)


def corpus_of(workspace: Workspace, *, keep: bool) -> Corpus:
    parts = ("train", "validation", "test")
    return load_corpus(workspace, "toy", parts=parts, available_only=True, keep_missing_videos=keep)


def data_of(corpus: Corpus, config: TrainConfig, workspace: Workspace) -> TrainingData:
    captions = [*corpus.captions("train"), *corpus.queries("validation")]
    table = CaptionTable(captions, TextInput(config.text), workspace)
    return make_data(corpus, table, FeatureChoice.of(config))


def test_training_videos_without_features_are_kept_only_where_asked_for(
    holed: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    dropped, kept = corpus_of(holed, keep=False), corpus_of(holed, keep=True)
    assert capsys.readouterr().err == "2 videos of toy train kept without any features: v003, v017\n"
    for corpus, train_videos, line in (
        (dropped, 38, "toy train: 38 of 40"),
        (kept, 40, "toy train: 40 of 40, 2 of them without any features"),
    ):
        assert len(corpus.video_ids("train")) == train_videos
        assert len(corpus.captions("train")) == 3 * train_videos
        assert str(corpus.coverage("train")) == line
        for part in ("validation", "test"):
            assert len(corpus.video_ids(part)) == 9 and len(corpus.queries(part)) == 27
            assert str(corpus.coverage(part)) == f"toy {part}: 9 of 10"
    assert kept.featureless("train") == ("v003", "v017") and dropped.featureless("train") == ()
    with pytest.raises(WorkspaceError, match=r"2 of 40 videos of toy train have no features"):
        load_corpus(holed, "toy", parts=("train",), available_only=False)
    load_corpus(holed, "toy", parts=("train",), available_only=False, keep_missing_videos=True)


def test_a_training_part_of_nothing_but_holes_is_refused(tmp_path: Path) -> None:
    workspace = without(make_workspace(tmp_path / "ws"), [f"v{number:03d}" for number in range(40)])
    with pytest.raises(WorkspaceError, match=r"40 of 40 videos of toy train have no features: nothing is left"):
        load_corpus(workspace, "toy", parts=("train",), available_only=True, keep_missing_videos=True)


@pytest.mark.parametrize("keep_missing", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_a_batch_with_a_video_of_no_expert_gives_finite_scores_and_gradients(
    name: str, keep_missing: bool, holed: Workspace, toy_config: MakeConfig, tiny_bert: Path
) -> None:
    mode = "frozen" if name == "mmt" else "frozen_tokens"
    model_config = MODELS[name] | {"keep_missing": keep_missing}
    config = toy_config(model=model_config, text={"model": str(tiny_bert), "mode": mode})
    data = data_of(corpus_of(holed, keep=True), config, holed)
    bare, other = (data.table.video_ids.index(video_id) for video_id in ("v003", "v007"))
    pairs = [(row, data.train[row][0]) for row in (bare, other, 1, 9, 21, 30)]
    batch = data.batch(pairs, np.random.default_rng(0), torch.device("cpu"))
    assert batch.videos.ids[0] == "v003" and not batch.videos.present[0].any()
    model = build_model(config, data.table.dims, data.captions.dim).train()
    scores = model(batch)
    assert scores.isfinite().all()
    assert scores[:, 0].eq(0).all() or keep_missing, "no expert counts, so there is nothing to compare"
    assert scores[:, 1:].ne(0).all()
    build_loss(config.loss)(scores).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert gradients and all(gradient.isfinite().all() for gradient in gradients.values())
    assert any(gradient.ne(0).any() for gradient in gradients.values())


@pytest.mark.parametrize("name", MODELS)
def test_a_video_of_no_expert_changes_nothing_about_the_others(
    name: str, holed: Workspace, toy_config: MakeConfig, tiny_bert: Path
) -> None:
    mode = "frozen" if name == "mmt" else "frozen_tokens"
    config = toy_config(model=MODELS[name], text={"model": str(tiny_bert), "mode": mode})
    data = data_of(corpus_of(holed, keep=True), config, holed)
    model = build_model(config, data.table.dims, data.captions.dim).eval()
    rows = [data.table.video_ids.index(video_id) for video_id in ("v003", "v007", "v009")]
    pairs = [(row, data.train[row][0]) for row in rows]
    with torch.inference_mode():
        batches: list[Batch] = [data.batch(some, None, torch.device("cpu")) for some in (pairs, pairs[1:])]
        with_it, alone = (model(batch) for batch in batches)
    torch.testing.assert_close(with_it[1:, 1:], alone)


def test_a_run_goes_on_with_the_videos_it_was_begun_with(
    holed: Workspace, tmp_path: Path, toy_config: MakeConfig
) -> None:
    given: dict[str, Any] = {"device": "cpu", "available_only": True}
    train(holed, toy_config(epochs=1), tmp_path / "run", keep_missing_videos=True, **given)
    with pytest.raises(ConfigError, match="begun on other videos"):
        train(holed, toy_config(epochs=2), tmp_path / "run", **given)


def test_an_expert_that_no_training_video_has_is_named(tmp_path: Path, toy_config: MakeConfig) -> None:
    training = [f"v{number:03d}" for number in range(40)]
    workspace = without(make_workspace(tmp_path / "ws"), training, experts=["motion"])
    wanted = r"motion: no features of any of the 40 videos of toy train.*--set experts=\[appearance\]"
    named = toy_config(experts=["appearance", "motion"])
    with pytest.raises(ConfigError, match=wanted):
        train(workspace, named, tmp_path / "run", device="cpu")
    with pytest.raises(ConfigError, match=wanted):
        dry_run(workspace, named)
    check_learnable(load_corpus(workspace, "toy", ["appearance"], parts=("train",), available_only=False))
    embedded = load_corpus(workspace, "toy", ["appearance", "motion"], parts=("test",), available_only=False)
    assert len(embedded.video_ids("test")) == 10


def test_where_no_expert_is_named_those_that_no_training_video_has_are_left_out(
    tmp_path: Path, toy_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    training = [f"v{number:03d}" for number in range(40)]
    workspace = without(make_workspace(tmp_path / "ws"), training, experts=["motion"])
    trained = train(workspace, toy_config(epochs=1), tmp_path / "run", device="cpu")
    assert "left out, as no training video has any: motion" in capsys.readouterr().err
    model, _ = load_model(trained.run.checkpoints / "best", "cpu")
    assert model.experts == ("appearance",)
    assert not train(workspace, toy_config(epochs=1), tmp_path / "run", device="cpu").fresh
    (tmp_path / "run" / "manifest.json").unlink()  # as of a run that was cut off
    [line] = [line for line in str(status(workspace.root)).splitlines() if line.split()[:1] == ["train"]]
    assert line.split()[1] == "partly"


def test_captions_that_tokenise_to_nothing_are_counted_and_named(
    toy: Workspace, tiny_bert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["a red dog", "…", "\N{DOG}\N{DOG FACE} \N{CAT}", "\N{DOG} dog", "猫", "...", "the", "\u200b\u00ad"]
    captions = [Caption(f"v{at}#0", f"v{at}", text) for at, text in enumerate(texts)]
    for mode in ("fine_tuned", "frozen", "frozen_tokens"):
        source = TextInput(TextConfig(model=str(tiny_bert), mode=mode))  # type: ignore[arg-type]
        table = CaptionTable(captions, source, toy)
        said = [line for line in capsys.readouterr().err.splitlines() if "captions have" in line]
        assert said == [
            "5 of 8 captions have no word that the text model knows; they are used all the same: "
            "v1#0, v2#0, v4#0, v5#0, v7#0"
        ]
        assert table.batch(range(8)).ids == tuple(caption.id for caption in captions)
        CaptionTable([captions[0], captions[3]], source, toy)
        assert "captions have" not in capsys.readouterr().err


def test_batches_larger_than_the_training_part_are_cut_and_it_is_said(
    tmp_path: Path, toy_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = make_workspace(tmp_path / "ws", videos=12)
    said = "data.batch_size is 16 and a pass has 8 pairs: every batch holds 8"
    for data in ({"batch_size": 16}, {"batch_size": 16, "steps_per_epoch": 3}):
        train(workspace, toy_config(epochs=1, data=data), tmp_path / f"run{len(data)}", device="cpu")
        assert said in capsys.readouterr().err.splitlines()
        assert said in dry_run(workspace, toy_config(data=data)).splitlines()
        config = DataConfig.model_validate(data)
        batches = list(epoch_batches({row: [row] for row in range(8)}, config, seed=0, epoch=0))
        assert batches and all(len(batch) == 8 for batch in batches)
    assert cut_batches(16, DataConfig(batch_size=16)) == ""


def test_an_empty_part_is_refused_with_what_the_split_has(tmp_path: Path, toy_config: MakeConfig) -> None:
    videos = tuple(Video(f"v{number:03d}") for number in range(60))
    captions = tuple(Caption(f"{video.id}#0", video.id, "a dog") for video in videos)
    ids = tuple(video.id for video in videos)
    splits = [Split("tested", (), (), ids), Split("taught", ids, (), ())]
    workspace = make_workspace(tmp_path / "ws")
    prepare_annotations(Annotations(videos, captions), splits, workspace.root)
    with pytest.raises(WorkspaceError, match=r"split tested lists no train videos; it has 60 test\. Choose another"):
        train(workspace, toy_config(split="tested"), tmp_path / "run", device="cpu")
    for part in ("validation", "test"):
        with pytest.raises(WorkspaceError, match=f"split taught lists no {part} videos; it has 60 train"):
            load_corpus(workspace, "taught", parts=(part,), available_only=True)
    load_corpus(workspace, "taught", parts=("train", "validation"), available_only=False)
