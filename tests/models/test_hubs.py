"""The correction for hubs: what plain loops say, against texts and videos that the model holds."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vtr.config import TrainConfig, build
from vtr.models import MoEE, build_model
from vtr.models.saved import load_model, save_model
from vtr.similarity import score_matrix
from vtr.types import ExpertBatch, TextBatch, VideoBatch

DIMS, TEXT_DIM, BETA = {"face": 3, "motion": 4}, 6, 7.0
SETTINGS = {
    "model": {
        "name": "moee",
        "dim": 8,
        "members": 2,
        "caption_regression": {"components": 4},
        "hub_correction": {"beta": BETA},
    }
}
CONFIG = build(TrainConfig, SETTINGS, "the test")


def some_videos(count: int, seed: int) -> VideoBatch:
    """Return videos of two features each; every third lacks face."""
    draw = torch.Generator().manual_seed(seed)
    present = torch.ones(count, 2, dtype=torch.bool)
    present[::3, 0] = False
    experts = {}
    for place, (name, dim) in enumerate(DIMS.items()):
        mask = present[:, place, None].expand(-1, 2)
        values = torch.randn(count, 2, dim, generator=draw) * mask[..., None]
        experts[name] = ExpertBatch(values, torch.zeros(count, 2), mask, values.amax(dim=1))
    return VideoBatch(tuple(f"v{seed}.{n}" for n in range(count)), experts, present)


def some_states(count: int, seed: int) -> Tensor:
    return torch.randn(count, TEXT_DIM, generator=torch.Generator().manual_seed(seed))


def some_texts(count: int, seed: int) -> TextBatch:
    return TextBatch(tuple(map(str, range(count))), states=some_states(count, seed))


def make(config: TrainConfig = CONFIG) -> MoEE:
    """Return a model that was fitted to 20 videos, with a caption each, and holds 5 of them and 9 texts."""
    model = build_model(config, DIMS, TEXT_DIM)
    assert isinstance(model, MoEE)
    videos = some_videos(20, 0)
    features, present = model.pooled(videos)
    model.fit_regression(videos.ids, features, present, some_states(20, 0), torch.arange(20), videos.ids)
    model.hold_hubs(videos.ids[:5], features[:5], present[:5], some_states(9, 1))
    return model.eval()


def plain(model: MoEE, texts: TextBatch, videos: VideoBatch) -> Tensor:
    """Return a model's scores without the correction."""
    hubs, model.hubs = model.hubs, None
    try:
        return score_matrix(model.embed_texts(texts), model.embed_videos(videos))
    finally:
        model.hubs = hubs


@torch.no_grad()
def held() -> VideoBatch:
    """Return the videos that the model holds, under the ids by which it knows them."""
    videos = some_videos(20, 0)
    experts = {
        name: ExpertBatch(e.values[:5], e.mid_seconds[:5], e.mask[:5], e.aggregate[:5])
        for name, e in videos.experts.items()
    }
    return VideoBatch(videos.ids[:5], experts, videos.present[:5])


def soft_maximum(values: list[float]) -> float:
    return math.log(sum(math.exp(BETA * value) for value in values) / len(values)) / BETA


@torch.no_grad()
def test_scores_are_less_the_soft_maximum_over_what_is_held_on_either_side() -> None:
    model = make()
    texts, videos = some_texts(6, 5), some_videos(7, 6)
    scores = plain(model, texts, videos)
    of_videos = plain(model, some_texts(9, 1), videos)
    of_texts, of_both = plain(model, texts, held()), plain(model, some_texts(9, 1), held())
    mean_video = sum(soft_maximum(of_both[:, v].tolist()) for v in range(5)) / 5
    mean_text = sum(soft_maximum(of_both[t].tolist()) for t in range(9)) / 9
    expected = torch.zeros(6, 7)
    for text in range(6):
        for video in range(7):
            of_video = soft_maximum(of_videos[:, video].tolist()) - mean_video
            of_text = soft_maximum(of_texts[text].tolist()) - mean_text
            expected[text, video] = scores[text, video] - of_video - of_text
    embedded = model.embed_texts(texts), model.embed_videos(videos)
    assert embedded[0].vectors.shape[2] == embedded[1].vectors.shape[2] == model.embedded_dim == 2 * 8 + 8
    torch.testing.assert_close(score_matrix(*embedded), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_correction_follows_the_weights_and_is_not_for_training() -> None:
    model = make()
    texts, videos = some_texts(6, 5), some_videos(7, 6)
    before = score_matrix(model.embed_texts(texts), model.embed_videos(videos))
    bank = model._bank
    assert torch.equal(score_matrix(model.embed_texts(texts), model.embed_videos(videos)), before)
    assert model._bank is bank, "embedded once"
    model.text_units.project.weight.mul_(-1).add_(0.1)
    fresh = make()
    fresh.load_state_dict(model.state_dict())
    model.eval()  # as all that embed with weights that change do first
    after = score_matrix(model.embed_texts(texts), model.embed_videos(videos))
    torch.testing.assert_close(after, score_matrix(fresh.embed_texts(texts), fresh.embed_videos(videos)))
    assert not torch.allclose(after, before)
    model.train()
    assert model.embed_texts(texts).vectors.shape[2] == model.embed_videos(videos).vectors.shape[2] == 16


@pytest.mark.parametrize("grad", [False, True])
def test_a_saved_model_holds_what_it_needs(tmp_path: Path, grad: bool) -> None:
    model = make()
    save_model(tmp_path, model, CONFIG)
    loaded, _ = load_model(tmp_path)
    assert isinstance(loaded, MoEE) and loaded.fitted == model.fitted
    with torch.inference_mode():
        loaded.embed_texts(some_texts(2, 3))  # what it keeps must serve where gradients are wanted, too
    with torch.set_grad_enabled(grad):
        texts, videos = some_texts(6, 5), some_videos(7, 6)
        for embed in ("texts", "videos"):
            given = texts if embed == "texts" else videos
            got, want = (getattr(one, f"embed_{embed}")(given).vectors for one in (loaded, model))
            assert torch.equal(got, want) and want.requires_grad == grad
    if grad:
        score_matrix(loaded.embed_texts(texts), loaded.embed_videos(videos)).sum().backward()
