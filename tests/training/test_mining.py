"""Mined negatives: against a full sort, through the command's function, and as training uses them."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from toy import make_workspace

from vtr.config import TrainConfig
from vtr.config import load as load_config
from vtr.data.corpus import load_corpus
from vtr.data.positives import KnownPositives, same_words
from vtr.data.texts import CaptionTable
from vtr.errors import VtrError, WorkspaceError
from vtr.losses import OfflineScores, offline_quintuplet_loss
from vtr.models import build_model
from vtr.models.text import TextInput
from vtr.similarity import score_matrix
from vtr.training import offline
from vtr.training.data import TrainingData, make_data
from vtr.training.mine import mine
from vtr.training.objective import OfflineObjective
from vtr.training.offline import OfflineNegatives, hardest_negatives
from vtr.training.train import train
from vtr.types import TextEmbeddings, VideoEmbeddings
from vtr.workspace import Run, Workspace

MakeConfig = Callable[..., TrainConfig]


def embeddings(texts: int, videos: int) -> tuple[TextEmbeddings, VideoEmbeddings]:
    draw = torch.Generator().manual_seed(3)
    present = torch.rand((videos, 2), generator=draw) < 0.8
    weights = torch.rand((texts, 2), generator=draw).softmax(dim=1)
    t, v = torch.randn((texts, 2, 4), generator=draw), torch.randn((videos, 2, 4), generator=draw)
    return (
        TextEmbeddings(tuple(f"t{n}" for n in range(texts)), t, weights),
        VideoEmbeddings(tuple(f"v{n}" for n in range(videos)), v, present),
    )


@pytest.mark.parametrize("top", [1, 4, 50])
def test_they_are_the_most_similar_that_do_not_match(top: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "BLOCK", 7)
    texts, videos = embeddings(30, 10)
    words, own = [f"words {n // 2}" for n in range(30)], [n % 10 for n in range(30)]
    of_texts, of_videos = hardest_negatives(texts, videos, KnownPositives(words, own), top)
    scores = score_matrix(texts, videos)
    matches = {(t, own[o]) for t in range(30) for o in range(30) if o == t or words[o] == words[t]}
    for t in range(30):
        others = sorted((v for v in range(10) if (t, v) not in matches), key=lambda v: -scores[t, v])
        assert [v for v in of_texts[t] if v >= 0] == others[:top]
    for v in range(10):
        others = sorted((t for t in range(30) if (t, v) not in matches), key=lambda t: -scores[t, v])
        assert [t for t in of_videos[v] if t >= 0] == others[:top]
    assert of_texts.shape == (30, min(top, 10)) and of_videos.shape == (10, min(top, 30))


def load(workspace: Workspace, config: TrainConfig) -> TrainingData:
    corpus = load_corpus(workspace, config.split, parts=("train", "validation"), available_only=False)
    table = CaptionTable(corpus.annotations.captions, TextInput(config.text), workspace)
    return make_data(corpus, table)


def test_a_run_mines_and_another_learns_from_it(toy: Workspace, tmp_path: Path, toy_config: MakeConfig) -> None:
    train(toy, toy_config(epochs=2), tmp_path / "first", device="cpu")
    first = Run.open(tmp_path / "first")
    config = toy_config(epochs=2, loss={"name": "offline_quintuplet", "negatives": str(tmp_path / "first")})
    with pytest.raises(WorkspaceError, match=r"offline_negatives is not there .* `vtr mine "):
        train(toy, config, tmp_path / "second", device="cpu")
    assert mine(first, top=5, device="cpu").fresh
    assert not mine(first, top=5, device="cpu").fresh
    printed = shlex.split(str(mine(first, top=6, device="cpu")).partition("next: ")[2])
    overrides = [word for option, word in itertools.pairwise(printed) if option == "--set"]
    offered = load_config(TrainConfig, Path(printed[printed.index("--config") + 1]), overrides)
    assert offered.loss.name == "offline_quintuplet"
    assert offered.loss.negatives == str(tmp_path / "first")
    assert offered.model_copy(update={"loss": config.loss}) == config  # all else is the first run's
    assert train(toy, config, tmp_path / "second", device="cpu").progress.epoch == 2

    data = load(toy, config)
    negatives = OfflineNegatives.load(str(tmp_path / "first"), data)
    pairs = [(video, caption) for video, captions in data.train.items() for caption in captions]
    for (video, caption), (other, text) in zip(pairs, negatives.draw(pairs, np.random.default_rng(0)), strict=True):
        assert other in data.train and other != video
        assert text not in data.train[video]
        own = {same_words(data.captions.captions[c].text) for c in data.train[video]}
        assert same_words(data.captions.captions[text].text) not in own
        held = {same_words(data.captions.captions[c].text) for c in data.train[other]}
        assert same_words(data.captions.captions[caption].text) not in held


def test_negatives_of_another_model_or_of_other_videos_are_refused(
    toy: Workspace, tmp_path: Path, toy_config: MakeConfig
) -> None:
    train(toy, toy_config(epochs=1), tmp_path / "first", device="cpu")
    mine(Run.open(tmp_path / "first"), top=5, device="cpu")
    config = toy_config(epochs=1, loss={"name": "offline_quintuplet", "negatives": str(tmp_path / "first")})
    with pytest.raises(WorkspaceError, match=r"no negatives for \d+ of the videos and captions"):
        train(make_workspace(tmp_path / "larger", videos=90), config, tmp_path / "second", device="cpu")
    manifest = tmp_path / "first" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"output": "that of another training"}))
    with pytest.raises(WorkspaceError, match=r"was made from train .* Run `vtr mine"):
        train(toy, config, tmp_path / "second", device="cpu")
    with pytest.raises(VtrError, match="does not exist"):
        nowhere = toy_config(loss={"name": "offline_quintuplet", "negatives": str(tmp_path / "nowhere")})
        train(toy, nowhere, tmp_path / "third", device="cpu")


def test_the_loss_sees_each_pair_with_its_own_negatives(
    toy: Workspace, toy_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_config(loss={"name": "offline_quintuplet", "negatives": "unused", "reduction": "sum"})
    data = load(toy, config)
    pairs = [(video, captions[0]) for video, captions in list(data.train.items())[:4]]
    drawn = [(video, captions[1]) for video, captions in list(data.train.items())[4:8]]
    of_text = {caption: np.array([other]) for (_, caption), (other, _) in zip(pairs, drawn, strict=True)}
    of_video = {video: np.array([text]) for (video, _), (_, text) in zip(pairs, drawn, strict=True)}
    objective = OfflineObjective(config, data, torch.device("cpu"), OfflineNegatives(of_text, of_video))
    model = build_model(config, data.table.dims, data.captions.dim).eval()

    def one(video: int, caption: int) -> Tensor:
        return objective.scores(model, data.batch([(video, caption)], None, torch.device("cpu")))[0, 0]

    monkeypatch.setattr(data.table, "batch", lambda rows, *_: type(data.table).batch(data.table, rows))
    found = objective.value(model, objective.load(pairs, np.random.default_rng(0)), pairs)
    scores = torch.stack([torch.stack([one(v, c) for v, _ in pairs]) for _, c in pairs])
    expected = offline_quintuplet_loss(
        scores,
        OfflineScores(
            text=torch.stack([one(other, c) for (_, c), (other, _) in zip(pairs, drawn, strict=True)]),
            video=torch.stack([one(v, text) for (v, _), (_, text) in zip(pairs, drawn, strict=True)]),
            pair=torch.stack([one(other, text) for other, text in drawn]),
        ),
    )
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
