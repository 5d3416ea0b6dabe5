"""What a video's captions would say, regressed in closed form from its features: kernel ridge regression."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

SHARPNESS = 2.0
"""How fast the kernel exp(sharpness * (cosine - 1)) falls as two videos look less alike."""

RIDGE = 0.2
"""Added to the kernel's diagonal."""

WHITENING = 0.35
"""The power of the eigenvalues that the text states are divided by along their principal axes; 0.5 is whitening."""

EIGENVALUE_FLOOR = 1e-3
"""Smaller eigenvalues count as this share of the largest."""

LEAST_SIZE = 0.1
"""Predictions are scaled to numbers of size 1; smaller ones than this share of the states' size, as if of that size."""

SAME = 1 - 1e-5
"""Videos whose features have a greater cosine are the same video."""

OVERSAMPLING, POWER_ITERATIONS = 20, 4
"""Of the randomised principal components (Halko et al. 2011, arXiv 0909.4061)."""


class CaptionRegression(nn.Module):
    """Predicts the mean state of a video's captions from the features of its experts.

    Kernel ridge regression (Saunders et al. 1998): `k(x, X) (K + ridge I)^-1 Y`, with x a video's features,
    standardised by expert, on their principal components; X and Y those and the caption states of the videos that `fit`
    was given, which are stored. A stored video's own captions are in Y, so it gets the prediction that the regression
    would make without the videos of its source (`held_out`; standardisation and components are still those of all):
    otherwise what is learnt on top would trust predictions that are too good.

    Args:
        width: P, the length of a video's features.
        components: R, how many principal components are kept.
        text_dim: H, the length of a text state.
        videos: N, how many videos are stored; 0 before `fit`.
    """

    constant = True
    centre: Tensor
    basis: Tensor
    support: Tensor
    weights: Tensor
    held_out: Tensor

    def __init__(self, width: int, components: int, text_dim: int, videos: int = 0) -> None:
        super().__init__()
        self.components = components
        kept = min(components, videos, width) if videos else 0
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("basis", torch.zeros(width, kept))
        self.register_buffer("support", torch.zeros(videos, kept))
        self.register_buffer("weights", torch.zeros(videos, text_dim))
        self.register_buffer("held_out", torch.zeros(videos, text_dim))
        self._row_of: dict[str, int] = {}

    @property
    def videos(self) -> int:
        """N, how many videos are stored."""
        return len(self.support)

    @torch.no_grad()
    def fit(
        self,
        ids: Sequence[str],
        features: Tensor,
        seen: Tensor,
        parts: Sequence[int],
        states: Tensor,
        sources: Sequence[str],
    ) -> None:
        """Fit to N videos, in float64 on the CPU.

        Args:
            ids: their ids, by which `forward` knows them.
            features: [N, P].
            seen: [N, P] bool, False in the columns of experts that a video lacks; these count as the mean.
            parts: widths of the parts of P that are standardised together, which add up to P.
            states: [N, H], the mean state of each one's captions, see `spread_states`.
            sources: what each was cut from; videos of one source are left out together.
        """
        place = self.centre.device
        x, known, widths = features.cpu().double(), seen.cpu(), list(parts)
        count = known.sum(dim=0).clamp_min(1)
        centre = (x * known).sum(dim=0) / count
        x = (x - centre) * known
        scales = [
            part.square().sum().div(mask.sum().clamp_min(1)).sqrt().clamp_min(1e-12).expand(part.shape[1])
            for part, mask in zip(torch.split(x, widths, dim=1), torch.split(known, widths, dim=1), strict=True)
        ]
        scale = torch.cat(scales)
        x = x / scale
        axes = _principal_axes(x, min(self.components, *x.shape))
        support = normalize(x @ axes, dim=1)
        y = states.cpu().double()
        kernel = _kernel(support @ support.T)
        kernel.diagonal().add_(RIDGE)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(kernel))
        weights = inverse @ y
        held_out = torch.empty_like(y)
        for rows in _by_source(sources):
            held_out[rows] = y[rows] - torch.linalg.solve(inverse[rows][:, rows], weights[rows])
        size = torch.maximum(_size(held_out), LEAST_SIZE * _size(y)).clamp_min(1e-12)
        found = {
            "centre": centre,
            "basis": axes / scale[:, None],
            "support": support,
            "weights": weights / size,
            "held_out": held_out / size,
        }
        for name, value in found.items():
            setattr(self, name, value.float().to(place))
        self._row_of = {video_id: row for row, video_id in enumerate(ids)}

    def forward(self, ids: Sequence[str], features: Tensor, seen: Tensor) -> Tensor:
        """Return predictions [B, H], of size about 1 a number, in float32; held out for stored videos.

        In training these are known by their ids, as features may be drawn anew each time; later by their features.

        Args:
            ids: B video ids.
            features: [B, P].
            seen: [B, P] bool, as for `fit`.
        """
        if self.training:
            rows = torch.tensor([self._row_of.get(video_id, -1) for video_id in ids], device=self.support.device)
            if all(video_id in self._row_of for video_id in ids):
                return self.held_out[rows]
        with torch.autocast(features.device.type, enabled=False):
            x = (features.float() - self.centre) * seen
            cosines = normalize(x @ self.basis, dim=1) @ self.support.T
            predicted: Tensor = _kernel(cosines) @ self.weights
        if not self.videos:
            return predicted
        if not self.training:
            nearest, rows = cosines.max(dim=1)
            rows = rows.where(nearest > SAME, -1)
        return torch.where((rows >= 0).unsqueeze(1), self.held_out[rows.clamp_min(0)], predicted)


def spread_states(states: Tensor, video_of_text: Tensor, videos: int) -> Tensor:
    """Return the mean state [N, H] of each video's captions, the states first evened out along their principal axes.

    Sentence states differ most in what all captions vary in; divided by a power of the variance along each axis, what
    is rare counts for more. The mean over the videos is 0.

    Args:
        states: [C, H], of all captions.
        video_of_text: [C] int64, the video that each describes, 0 to N - 1; each video has some.
        videos: N.
    """
    x = states.cpu().double()
    x = x - x.mean(dim=0)
    values, axes = torch.linalg.eigh(x.T @ x / len(x))
    values = values.clamp_min(values[-1] * EIGENVALUE_FLOOR).clamp_min(1e-12)
    x = normalize((x @ axes) / values.pow(WHITENING), dim=1)
    count = torch.bincount(video_of_text, minlength=videos).clamp_min(1)
    means = torch.zeros(videos, x.shape[1], dtype=x.dtype).index_add_(0, video_of_text, x) / count[:, None]
    return means - means.mean(dim=0)


def _kernel(cosines: Tensor) -> Tensor:
    return (SHARPNESS * (cosines - 1)).exp()


def _principal_axes(x: Tensor, count: int) -> Tensor:
    """Return [P, count] of centred [N, P]; random, but the same each time, and without a trace in the generators."""
    state = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(0)  # torch.manual_seed would seed those of GPUs, too
        _, _, axes = torch.svd_lowrank(x, q=min(count + OVERSAMPLING, *x.shape), niter=POWER_ITERATIONS)
    finally:
        torch.set_rng_state(state)
    return axes[:, :count]


def _size(x: Tensor) -> Tensor:
    return x.square().mean().sqrt()


def _by_source(sources: Sequence[str]) -> list[Tensor]:
    rows: dict[str, list[int]] = {}
    for row, source in enumerate(sources):
        rows.setdefault(source, []).append(row)
    return [torch.tensor(of_one) for of_one in rows.values()]
