"""MoEE: plain loops give its embeddings, and its members are the models they would be alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import batch_norm

from vtr.config import TrainConfig, build
from vtr.data.features import FeatureTable
from vtr.model_config import MoEEConfig
from vtr.models import MoEE, assemble
from vtr.models.gating import GatedEmbeddingUnits
from vtr.models.saved import load_model, save_model
from vtr.similarity import score_matrix
from vtr.types import Batch, ExpertFeatures, TextBatch, VideoBatch

DIMS = {"face": 5, "motion": 7}
TEXT_DIM, DIM, MEMBERS = 6, 8, 3


def make(**settings: Any) -> MoEE:
    """Return a model with random weights and running statistics."""
    torch.manual_seed(0)
    chosen = {"name": "moee", "dim": DIM, "members": MEMBERS, "feature_dropout": 0.0, "dropout": 0.0, **settings}
    model = assemble(MoEEConfig.model_validate(chosen), DIMS, TEXT_DIM)
    assert isinstance(model, MoEE)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model


def a_batch(size: int = 6) -> Batch:
    """Return a batch in which every other video lacks motion."""
    draw = np.random.default_rng(0)
    features: dict[str, dict[str, ExpertFeatures]] = {name: {} for name in DIMS}
    ids = [f"v{number}" for number in range(size)]
    for place, video_id in enumerate(ids):
        for name, dim in DIMS.items():
            if name == "motion" and place % 2:
                continue
            count = int(draw.integers(1, 5))
            times = np.arange(count, dtype=np.float32)
            values = draw.normal(size=(count, dim)).astype(np.float32)
            features[name][video_id] = ExpertFeatures(values, times, times + 1)
    table = FeatureTable(ids, features, DIMS)
    texts = TextBatch(tuple(ids), states=torch.randn(size, TEXT_DIM, generator=torch.Generator().manual_seed(1)))
    return Batch(table.batch(range(size)), texts)


def gated(units: GatedEmbeddingUnits, member: int, rows: Tensor, running: bool) -> Tensor:
    """Return one member's unit vectors [N, D] of inputs [N, H], from the equations."""
    at = slice(member * DIM, (member + 1) * DIM)
    y = rows @ units.project.weight[at].T + units.project.bias[at]
    gate = y @ units.gate_weight[member].T + units.gate_bias[member]
    norm = units.gate_norm
    assert norm.running_mean is not None and norm.running_var is not None
    if running:
        gate = batch_norm(gate, norm.running_mean[at], norm.running_var[at], norm.weight[at], norm.bias[at])
    else:
        gate = batch_norm(gate, None, None, norm.weight[at], norm.bias[at], training=True)
    y = y * torch.sigmoid(gate)
    return y / y.norm(dim=1, keepdim=True)


def pooled(videos: VideoBatch, name: str) -> Tensor:
    """Return [N, 2 D], video by video."""
    expert, rows = videos.experts[name], []
    for values, mask in zip(expert.values, expert.mask, strict=True):
        held = values[mask]
        parts = [held.mean(dim=0), held.max(dim=0).values] if len(held) else [values.new_zeros(values.shape[1])] * 2
        rows.append(torch.cat([part / (part.square().mean().sqrt() + 1e-6) for part in parts]))
    return torch.stack(rows)


@pytest.mark.parametrize("training", [False, True])
def test_scores_are_the_mean_of_what_each_member_would_answer_alone(training: bool) -> None:
    batch, model = a_batch(), make()
    expected = torch.zeros(6, 6)
    weights = torch.softmax(batch.texts.states @ model.mixture.linear.weight.T + model.mixture.linear.bias, dim=1)  # type: ignore[operator]
    for member in range(MEMBERS):
        for text in range(6):
            for video in range(6):
                total, share = torch.tensor(0.0), torch.tensor(0.0)
                for place, (units, name) in enumerate(zip(model.video_units, DIMS, strict=True)):
                    if not batch.videos.present[video, place]:
                        continue
                    rows = batch.videos.present[:, place].nonzero().squeeze(1)
                    assert isinstance(units, GatedEmbeddingUnits)
                    vectors = gated(units, member, pooled(batch.videos, name)[rows], not training)
                    of_video = vectors[(rows == video).nonzero().item()]  # type: ignore[index]
                    assert batch.texts.states is not None
                    of_text = gated(model.text_units, place * MEMBERS + member, batch.texts.states, not training)[text]
                    total = total + weights[text, place] * (of_text @ of_video)
                    share = share + weights[text, place]
                expected[text, video] += (total / share / MEMBERS).detach()
    model.train(training)
    with torch.no_grad():
        texts, videos = model.embed(batch)
        torch.testing.assert_close(score_matrix(texts, videos), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(texts.vectors.norm(dim=2), torch.ones(6, 2))


def test_each_member_learns_from_its_own_score() -> None:
    """The gradient that reaches a member's weights is that of the loss of its score alone, over the members' number."""
    from vtr.losses import unified_loss
    from vtr.training.objective import Objective

    batch, model = a_batch(), make()
    settings = {"model": {"name": "moee"}, "loss": {"name": "unified", "gamma": 10.0}}
    objective = Objective(build(TrainConfig, settings, "the test"), None, torch.device("cpu"))  # type: ignore[arg-type]
    model.eval()
    objective.value(model, batch, [(row, row) for row in range(6)]).backward()  # type: ignore[no-untyped-call]
    member = slice(DIM, 2 * DIM)
    unit = model.video_units[0]
    assert isinstance(unit, GatedEmbeddingUnits) and unit.project.weight.grad is not None
    found = unit.project.weight.grad[member].clone()
    model.zero_grad()
    texts, videos = model.embed(batch)
    of_text = texts.vectors.unflatten(2, (MEMBERS, DIM))[:, :, 1] * MEMBERS**0.5
    of_video = videos.vectors.unflatten(2, (MEMBERS, DIM))[:, :, 1] * MEMBERS**0.5
    shares = texts.weights @ videos.present.float().T
    alone = torch.einsum("te,ted,ved,ve->tv", texts.weights, of_text, of_video, videos.present.float()) / shares
    (unified_loss(alone, 0.2, 10.0, "mean") / MEMBERS).backward()  # type: ignore[no-untyped-call]
    assert unit.project.weight.grad is not None
    torch.testing.assert_close(found, unit.project.weight.grad[member])
    assert found.abs().max() > 0


def test_videos_without_an_expert_change_nothing_for_those_with_it() -> None:
    model, batch = make(), a_batch()
    model.train()
    whole = model.embed_videos(batch.videos).vectors
    lacking = batch.videos.experts["motion"]
    noise = lacking.values.clone()
    noise[~lacking.mask] = 7.0
    changed = type(lacking)(noise, lacking.mid_seconds, lacking.mask, lacking.aggregate)
    videos = VideoBatch(batch.videos.ids, {**batch.videos.experts, "motion": changed}, batch.videos.present)
    torch.testing.assert_close(model.embed_videos(videos).vectors, whole)
    assert (whole[1::2, 1] == 0).all()  # every other video lacks motion


def test_a_saved_moee_answers_as_before(tmp_path: Path) -> None:
    model, batch = make().eval(), a_batch()
    settings = {"model": model.config.model_dump(), "text": {"mode": "frozen"}}
    (tmp_path / "saved").mkdir()
    save_model(tmp_path / "saved", model, build(TrainConfig, settings, "the test"))
    again, _ = load_model(tmp_path / "saved")
    with torch.no_grad():
        assert torch.equal(again(batch), model(batch))
