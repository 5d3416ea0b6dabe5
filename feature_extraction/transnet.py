"""TransNetV2 (Souček & Lokoč 2020): which frames of a video end a shot. Names of tensors are the release's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEIGHT = 48, 27
FRAMES = 100
"""What the network sees at once."""
HIDDEN = 1024
DILATIONS = (1, 2, 4, 8)
FILTERS = (16, 32, 64)
LOOKUP = 101
"""Each frame is compared with those up to 50 before and after it."""
SIMILARITY = 128
BINS = 512
"""Colours of a histogram: 8 levels of red, green and blue each."""


class TransNetV2(nn.Module):
    """Windows of frames to what each frame's hidden layer says and whether it ends a shot."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, *(len(DILATIONS) * filters for filters in FILTERS))
        self.SDDCNN = nn.ModuleList(
            _Block(before, filters) for before, filters in zip(widths[:-1], FILTERS, strict=True)
        )
        self.frame_sim_layer = _FrameSimilarity(sum(widths[1:]))
        self.color_hist_layer = _ColourHistograms()
        maps = widths[-1] * (HEIGHT // 8) * (WIDTH // 8)
        self.fc1 = nn.Linear(maps + 2 * SIMILARITY, HIDDEN)
        self.cls_layer1 = nn.Linear(HIDDEN, 1)
        self.cls_layer2 = nn.Linear(HIDDEN, 1)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Look at windows of frames.

        Args:
            frames: [n, T, 27, 48, 3] uint8 RGB.

        Returns:
            The hidden layer [n, T, 1024], and the probability [n, T] that the frame is a shot's last one, or the middle
            of a gradual transition. (`cls_layer2`, which marks all frames of a transition, only helped training.)
        """
        maps = frames.permute(0, 4, 1, 2, 3).float() / 255
        steps = []
        for block in self.SDDCNN:
            maps = block(maps)
            steps.append(maps.mean(dim=(3, 4)))
        spread = maps.permute(0, 2, 3, 4, 1).flatten(2)
        similar = self.frame_sim_layer(torch.cat(steps, 1).transpose(1, 2))
        coloured = self.color_hist_layer(frames)
        hidden = functional.relu(self.fc1(torch.cat((coloured, similar, spread), 2)))
        return hidden, torch.sigmoid(self.cls_layer1(hidden)[..., 0])


class _Block(nn.Module):
    """Two dilated layers, the first one's answer added to the second's, at half the size."""

    def __init__(self, inputs: int, filters: int) -> None:
        super().__init__()
        self.DDCNN = nn.ModuleList(_Dilated(width, filters) for width in (inputs, len(DILATIONS) * filters))

    def forward(self, maps: Tensor) -> Tensor:
        first, second = self.DDCNN
        near = functional.relu(first(maps))
        return functional.avg_pool3d(functional.relu(second(near)) + near, (1, 2, 2))


class _Dilated(nn.Module):
    """Convolutions in space, then in time at four distances, side by side."""

    def __init__(self, inputs: int, filters: int) -> None:
        super().__init__()
        for dilation in DILATIONS:
            self.add_module(f"Conv3D_{dilation}", _Separable(inputs, filters, dilation))
        self.bn = nn.BatchNorm3d(len(DILATIONS) * filters, eps=1e-3)

    def forward(self, maps: Tensor) -> Tensor:
        ways = [getattr(self, f"Conv3D_{dilation}")(maps) for dilation in DILATIONS]
        normed: Tensor = self.bn(torch.cat(ways, 1))
        return normed


class _Separable(nn.Module):
    def __init__(self, inputs: int, filters: int, dilation: int) -> None:
        super().__init__()
        space = nn.Conv3d(inputs, 2 * filters, (1, 3, 3), padding=(0, 1, 1), bias=False)
        time = nn.Conv3d(
            2 * filters, filters, (3, 1, 1), dilation=(dilation, 1, 1), padding=(dilation, 0, 0), bias=False
        )
        self.layers = nn.ModuleList((space, time))

    def forward(self, maps: Tensor) -> Tensor:
        for layer in self.layers:
            maps = layer(maps)
        return maps


class _FrameSimilarity(nn.Module):
    """How like its neighbours in time each frame is, by the network's own maps."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.projection = nn.Linear(inputs, SIMILARITY)
        self.fc = nn.Linear(LOOKUP, SIMILARITY)

    def forward(self, steps: Tensor) -> Tensor:
        projected = functional.normalize(self.projection(steps), dim=2)
        return functional.relu(self.fc(_neighbours(projected)))


class _ColourHistograms(nn.Module):
    """How like its neighbours in time each frame is, by its colours."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(LOOKUP, SIMILARITY)

    def forward(self, frames: Tensor) -> Tensor:
        levels = frames.long() >> 5
        colours = ((levels[..., 0] << 6) + (levels[..., 1] << 3) + levels[..., 2]).flatten(2)
        counts = torch.zeros(*colours.shape[:2], BINS, device=frames.device)
        counts.scatter_add_(2, colours, torch.ones_like(colours, dtype=torch.float32))
        return functional.relu(self.fc(_neighbours(functional.normalize(counts, dim=2))))


def _neighbours(vectors: Tensor) -> Tensor:
    """Return the products [n, T, 101] of each vector [n, T, D] with those around it, 0 where there are none."""
    products = functional.pad(vectors @ vectors.transpose(1, 2), (LOOKUP // 2, LOOKUP // 2))
    steps = torch.arange(vectors.shape[1], device=vectors.device)[:, None]
    places = steps + torch.arange(LOOKUP, device=vectors.device)
    return products.gather(2, places.expand(len(vectors), -1, -1))
