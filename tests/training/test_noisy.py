"""Noisy correspondence: the judgements against loops and known answers, and mismatched captions that are found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from toy import WORDS, make_workspace

from vtr.config import TextConfig, TrainConfig
from vtr.data.corpus import load_corpus
from vtr.data.texts import CaptionTable
from vtr.errors import ConfigError
from vtr.files import read_json
from vtr.losses import unified_loss
from vtr.losses.scores import negative_gaps
from vtr.models import build_model
from vtr.training import noisy
from vtr.training.correspondence import clean_probability, judge, predict, soft_labels
from vtr.training.data import TrainingData, make_data
from vtr.training.train import train
from vtr.types import TextBatch

MakeConfig = Callable[..., TrainConfig]
NCR = {"loss": {"name": "adaptive_margin_unified"}, "noisy_correspondence": {"warmup_epochs": 4}}


def test_two_groups_of_losses_are_told_apart() -> None:
    draw = np.random.default_rng(0)
    losses = np.concatenate((draw.normal(2.0, 0.3, 700), draw.normal(5.0, 0.6, 300)))
    probability = clean_probability(losses)
    assert (probability[:700] > 0.5).mean() > 0.99
    assert (probability[700:] > 0.5).mean() < 0.01
    assert np.array_equal(probability, clean_probability(10 * losses - 3))  # only their order and spread count


def test_equal_losses_tell_nothing() -> None:
    assert (clean_probability(np.full(5, 0.7)) == 1).all()
    assert (clean_probability(np.array([0.7])) == 1).all()


def test_predictions_equal_loops() -> None:
    scores = torch.rand((23, 23), generator=torch.Generator().manual_seed(1)).double() * 0.4
    scores += torch.eye(23) * torch.linspace(-0.2, 0.3, 23).double()
    positives = torch.eye(23, dtype=torch.bool)
    positives[3, 7] = True
    s, left = scores.tolist(), []
    for i in range(23):
        rows = [max(0.0, 0.2 + s[i][j] - s[i][i]) for j in range(23) if not positives[i, j]]
        columns = [max(0.0, 0.2 + s[j][i] - s[i][i]) for j in range(23) if not positives[j, i]]
        left.append(max(0.0, 0.2 - (sum(rows) + sum(columns)) / 23 / 2))
    best = sum(sorted(left)[-3:]) / 3  # 23 // 10 + 1
    expected = [min(1.0, value / best) for value in left]
    assert predict(scores, 0.2, positives).tolist() == pytest.approx(expected, abs=1e-12)
    assert 0.0 in expected and 1.0 in expected


def test_labels_of_clean_pairs_lean_on_the_peer_and_of_noisy_ones_on_both_predictions() -> None:
    clean = np.array([True, True, False])
    found = soft_labels(clean, np.float32([1.0, 0.6, 0.2]), np.float32([0.1, 0.5, 0.3]), np.float32([0.9, 0.9, 0.1]))
    assert found.tolist() == pytest.approx([1.0, 0.6 + 0.4 * 0.5, 0.2])


class BagOfWords:
    """A text source whose states tell the words plainly, so that little training learns them."""

    config = TextConfig(mode="frozen")
    dim = 32

    def key(self) -> str:
        return "bag of words"

    def states(self, texts: Sequence[str], advance: object = None) -> torch.Tensor:
        del advance
        draw = torch.Generator().manual_seed(0)
        vectors = {word: torch.randn(32, generator=draw) for word in sorted(WORDS)}
        return torch.stack([sum(vectors[word] for word in text.split()) for text in texts])

    def batch(self, ids: Sequence[str], texts: Sequence[str]) -> TextBatch:
        return TextBatch(tuple(ids), states=self.states(texts))


def load(root: Path, config: TrainConfig, mismatched: float) -> tuple[TrainingData, np.ndarray]:
    """Return a toy corpus whose captions were given to wrong videos for a share of them, and which captions those
    are."""
    workspace = make_workspace(root, videos=180)
    corpus = load_corpus(workspace, config.split, parts=("train", "validation"), available_only=False)
    captions = list(corpus.annotations.captions)
    data = make_data(corpus, CaptionTable(captions, BagOfWords(), workspace))
    draw = np.random.default_rng(5)
    rows = np.array([row for captions in data.train.values() for row in captions])
    wrong = draw.choice(rows, int(mismatched * len(rows)), replace=False)
    moved = dict(zip(wrong.tolist(), np.roll(wrong, 7).tolist(), strict=True))
    shuffled = {video: [moved.get(row, row) for row in captions] for video, captions in data.train.items()}
    data.train.clear()
    data.train.update(shuffled)
    return data, wrong


def test_judging_measures_each_pair_against_a_batch(tmp_path: Path, toy_config: MakeConfig) -> None:
    config = toy_config(**NCR, data={"batch_size": 1000, "max_features": 3})
    data, _ = load(tmp_path / "ws", config, 0.0)
    pairs = [(video, caption) for video, captions in data.train.items() for caption in captions][:40]
    model = build_model(config, data.table.dims, data.captions.dim).eval()
    found = judge(model, data, pairs, config, torch.device("cpu"), (1,))
    with torch.inference_mode():  # all pairs are one batch here, in another order, which changes nothing
        scores = model(data.batch(pairs, None, torch.device("cpu")))
    positives = data.positives.mask(pairs)
    expected = unified_loss(scores, 0.2, 50.0, "none", positives=positives).sum(dim=0)
    assert found.loss == pytest.approx(expected.numpy(), rel=1e-4)
    assert (negative_gaps(scores, positives).isinf().sum(dim=-1) > 1).any()  # known positives were left out
    smaller = config.model_copy(update={"data": toy_config().data})
    several = judge(model, data, pairs, smaller, torch.device("cpu"), (1,))
    assert (several.loss < found.loss + 1e-6).all()  # a part of the negatives makes a part of the loss


def test_mismatched_captions_are_found(tmp_path: Path, toy_config: MakeConfig) -> None:
    config = toy_config(**NCR, epochs=16, data={"batch_size": 32, "max_features": 3, "passes": 3})
    data, wrong = load(tmp_path / "ws", config, 0.3)
    peer = build_model(config.model_copy(update={"seed": 9}), data.table.dims, data.captions.dim)
    trainer = noisy.NoisyTrainer(
        config, build_model(config, data.table.dims, data.captions.dim), peer, data, tmp_path, torch.device("cpu")
    )
    trainer.train()
    table = pq.read_table(tmp_path / noisy.JUDGED)
    ids = {data.captions.captions[row].id for row in wrong}
    is_wrong = np.array([caption in ids for caption in table["caption_id"].to_pylist()])
    for name in ("clean_probability_a", "clean_probability_b"):
        probability = table[name].to_numpy()
        later = (probability[~is_wrong][:, None] > probability[is_wrong]).mean()
        ties = (probability[~is_wrong][:, None] == probability[is_wrong]).mean()
        assert later + ties / 2 > 0.8  # the area under the ROC curve


def test_the_better_peer_is_kept_and_the_run_says_so(tmp_path: Path, toy_config: MakeConfig) -> None:
    workspace = make_workspace(tmp_path / "ws", videos=120)
    config = toy_config(**NCR, epochs=6)
    summary = train(workspace, config, tmp_path / "run", device="cpu")
    manifest = read_json(tmp_path / "run" / "manifest.json")
    assert "two peers" in manifest["selection"]
    assert summary.progress.epoch == 6
    lines = (tmp_path / "run" / "log.jsonl").read_text()
    assert lines.count('"kind": "correspondence"') == 2 and lines.count('"kind": "validation"') == 6


def test_another_loss_is_refused(tmp_path: Path, toy_config: MakeConfig) -> None:
    workspace = make_workspace(tmp_path / "ws")
    with pytest.raises(ConfigError, match=r"loss.name is unified.*--set loss.name=adaptive_margin_unified"):
        train(workspace, toy_config(noisy_correspondence={}), tmp_path / "run", device="cpu")
