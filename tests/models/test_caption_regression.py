"""The caption regression: what scikit-learn's kernel ridge regression says, with and without a video's source."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.kernel_ridge import KernelRidge

from vtr.models.caption_regression import RIDGE, SHARPNESS, WHITENING, CaptionRegression, spread_states

VIDEOS, PARTS, TEXT_DIM = 30, (4, 6, 3), 5
SOURCES = [f"source{number // 3}" for number in range(VIDEOS)]
IDS = [f"v{number}" for number in range(VIDEOS)]


def drawn(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return features [count, P] of very unequal sizes, and which are there; every fifth video lacks the last part."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(count, sum(PARTS))) * np.repeat([1.0, 30.0, 0.1], PARTS) + 2
    seen = np.ones(x.shape, bool)
    seen[::5, -PARTS[-1] :] = False
    return torch.from_numpy(np.where(seen, x, 0)).float(), torch.from_numpy(seen)


def standardised(x: torch.Tensor, seen: torch.Tensor, of: tuple[torch.Tensor, torch.Tensor]) -> NDArray[np.float64]:
    """Return unit vectors of features centred and scaled as those of `of` want, part by part, in numpy."""
    like, known = (values.numpy() for values in of)
    found = np.zeros(x.shape)
    at = 0
    for width in PARTS:
        part = slice(at, at + width)
        rows = known[:, at]
        mean = like[rows, part].astype(np.float64).mean(axis=0)
        scale = np.sqrt(np.square(like[rows, part] - mean).mean())
        found[:, part] = np.where(seen.numpy()[:, part], (x.numpy()[:, part] - mean) / scale, 0)
        at += width
    return found


def cosine_kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(SHARPNESS * (x @ y.T - 1))


def fitted(components: int = sum(PARTS)) -> tuple[CaptionRegression, NDArray[np.float64], torch.Tensor]:
    """Return a regression, the unit vectors it should see of its videos, and what it was fitted to."""
    features, seen = drawn(VIDEOS, 0)
    targets = torch.from_numpy(np.random.default_rng(1).normal(size=(VIDEOS, TEXT_DIM)))
    model = CaptionRegression(sum(PARTS), components, TEXT_DIM)
    model.fit(IDS, features, seen, PARTS, targets, SOURCES)
    x = standardised(features, seen, (features, seen))
    x = x - x.mean(axis=0)
    return model, x / np.linalg.norm(x, axis=1, keepdims=True), targets


def test_predictions_are_those_of_kernel_ridge_regression_up_to_their_size() -> None:
    model, support, targets = fitted()
    features, seen = drawn(8, 2)
    new = standardised(features, seen, drawn(VIDEOS, 0))
    stored = standardised(*drawn(VIDEOS, 0), drawn(VIDEOS, 0))
    new = new - stored.mean(axis=0)
    new /= np.linalg.norm(new, axis=1, keepdims=True)
    ridge = KernelRidge(alpha=RIDGE, kernel="precomputed")
    expected = ridge.fit(cosine_kernel(support, support), targets.numpy()).predict(cosine_kernel(new, support))
    got = model.eval()([f"new{place}" for place in range(8)], features, seen).numpy()
    size = expected.ravel() @ got.ravel() / (got.ravel() @ got.ravel())
    np.testing.assert_allclose(got * size, expected, rtol=1e-3, atol=1e-4)


def test_held_out_predictions_are_those_of_a_fit_without_the_videos_of_the_source() -> None:
    model, support, targets = fitted()
    expected = np.zeros((VIDEOS, TEXT_DIM))
    for source in dict.fromkeys(SOURCES):
        out = np.array([name == source for name in SOURCES])
        ridge = KernelRidge(alpha=RIDGE, kernel="precomputed")
        ridge.fit(cosine_kernel(support[~out], support[~out]), targets.numpy()[~out])
        expected[out] = ridge.predict(cosine_kernel(support[out], support[~out]))
    held_out = model(IDS, *drawn(VIDEOS, 0)).numpy()
    assert np.sqrt(np.square(held_out).mean()) == pytest.approx(1, rel=1e-5)
    np.testing.assert_allclose(held_out * np.sqrt(np.square(expected).mean()), expected, rtol=1e-3, atol=1e-4)


def test_stored_videos_are_known_by_their_ids_in_training_and_later_by_their_features() -> None:
    model, _, _ = fitted()
    features, seen = drawn(VIDEOS, 0)
    held_out = model.held_out
    assert torch.equal(model.train()(IDS, features * 1.1, seen), held_out), "whatever their features are now"
    assert torch.equal(model.eval()(["x"] * VIDEOS, features, seen), held_out), "under any name"
    strangers = model(IDS, features * 1.1, seen)
    assert not torch.allclose(strangers, held_out, atol=0.1)
    mixed = model.train()(["new", *IDS[1:]], features * 1.1, seen)
    torch.testing.assert_close(mixed[:1], strangers[:1])
    assert torch.equal(mixed[1:], held_out[1:])


def test_few_components_see_the_directions_of_most_variance() -> None:
    """Features of two directions and a little noise: two components say what all of them do."""
    draw = torch.Generator().manual_seed(0)
    flat = torch.randn(40, 2, generator=draw) @ torch.randn(2, 13, generator=draw)
    features = flat + 1e-4 * torch.randn(40, 13, generator=draw)
    seen, targets = torch.ones(40, 13, dtype=torch.bool), torch.randn(40, TEXT_DIM, generator=draw)
    predictions = []
    for components in (2, 13):
        model = CaptionRegression(13, components, TEXT_DIM)
        model.fit([str(n) for n in range(40)], features, seen, (13,), targets, [str(n) for n in range(40)])
        assert model.basis.shape == (13, components)
        predictions.append(model.eval()([""] * 40, features, seen))
    torch.testing.assert_close(predictions[0], predictions[1], rtol=1e-2, atol=1e-2)


def test_a_fit_is_the_same_each_time_and_leaves_the_generators_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    first, _, _ = fitted(components=4)
    assert torch.equal(torch.get_rng_state(), before) and not seeded
    torch.manual_seed(4)
    second, _, _ = fitted(components=4)
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())


def test_states_are_evened_out_along_their_principal_axes() -> None:
    draw = np.random.default_rng(0)
    states = draw.normal(size=(60, 4)) * np.array([5.0, 1.0, 0.5, 0.1])
    video_of_text = np.repeat(np.arange(12), 5)
    values, axes = np.linalg.eigh(np.cov(states.T, bias=True))
    rotated = (states - states.mean(axis=0)) @ axes / np.maximum(values, values.max() * 1e-3) ** WHITENING
    rotated /= np.linalg.norm(rotated, axis=1, keepdims=True)
    means = np.stack([rotated[video_of_text == video].mean(axis=0) for video in range(12)])
    got = spread_states(torch.from_numpy(states), torch.from_numpy(video_of_text), 12).numpy()
    means -= means.mean(axis=0)
    np.testing.assert_allclose(got @ got.T, means @ means.T, rtol=1e-6, atol=1e-9)  # axes have no sign
