"""What is done: S3D features of windows of frames, pretrained on Kinetics-400 (Xie et al. 2018).

The layout of the weights is that of S3D_kinetics400.pt, which Kyle Min released with TASED-Net (Min & Corso 2019).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from feature_extraction.clips import ClipPreparation, middle
from feature_extraction.extractor import Preparation, VideoInfo
from feature_extraction.frames import FrameNeed, Sampling
from feature_extraction.weight_files import WeightFileExpert
from vtr.errors import ConfigError
from vtr.extract_config import ExtractConfig

SIDE, CROP = 256, 224
WINDOW, FRAMES_PER_SECOND = 64, 25.0
"""Kinetics networks of that family were trained on clips of 64 frames at 25 a second (Carreira & Zisserman 2017)."""
MIN_WINDOW = 16
"""The network keeps one step in time of 8 frames, and pools over two of them."""
DIM = 1024
NORM_EPS = 1e-3
INCEPTION = {
    5: (192, 64, 96, 128, 16, 32, 32),
    6: (256, 128, 128, 192, 32, 96, 64),
    8: (480, 192, 96, 208, 16, 48, 64),
    9: (512, 160, 112, 224, 24, 64, 64),
    10: (512, 128, 128, 256, 24, 64, 64),
    11: (512, 112, 144, 288, 32, 64, 64),
    12: (528, 256, 160, 320, 32, 128, 128),
    14: (832, 256, 160, 320, 32, 128, 128),
    15: (832, 384, 192, 384, 48, 128, 128),
}
"""Place in the network -> widths of an inception block (Szegedy et al. 2015, table 1): in; 1 x 1; before 3 x 3, 3 x 3;
before the second 3 x 3 (there 5 x 5), the second 3 x 3; after pooling."""


class S3DExpert(WeightFileExpert):
    """1024-d features before the classifier, one a window of 64 frames at 25 a second.

    The feature's product with the classifier's weights is the released network's answer. Pictures are scaled to a
    shorter side of 256 and cut to the middle 224 x 224, RGB in [-1, 1].
    """

    head = ("fc.",)
    batches = (1, 8)
    scaler = f"bilinear with antialiasing to a shorter side of {SIDE}; middle {CROP} x {CROP}; 2 x / 255 - 1"

    def __init__(self, config: ExtractConfig, name: str) -> None:
        super().__init__(config, name)
        self._window = self.own.window or WINDOW
        if self._window < MIN_WINDOW:
            raise ConfigError(
                f"settings.{name}.window is {self._window}, but S3D reads at least {MIN_WINDOW} frames at once."
            )
        self.frames = FrameNeed(self._sampling(), side=SIDE)
        rate = self.frames.sampling.per_second
        self.spec = self._spec(DIM, "video", self._window / rate if self.frames.sampling.kind == "fps" else None)

    def prepare(self, info: VideoInfo) -> Preparation:
        """Start on a video."""
        return ClipPreparation(info, _scaled, self._window, self.own.stride or self._window)

    def network(self) -> nn.Module:
        """Return an S3D without its classifier."""
        return S3D()

    def inputs(self, items: Tensor) -> Tensor:
        """Return [n, 3, window, 224, 224] of clips [n, window, 224, 224, 3]."""
        return (items.float() * (2 / 255) - 1).permute(0, 4, 1, 2, 3)

    def _sampling(self) -> Sampling:
        kind = self.own.sampling or "fps"
        if kind == "shots" or (kind == "uniform" and self.own.max_frames is None):
            mend = "fps, all, or uniform with max_frames" if kind == "shots" else "max_frames beside it, or fps or all"
            raise ConfigError(f"settings.{self.name}.sampling is {kind}; for windows of frames, {mend} was expected.")
        return Sampling(kind, self.own.frames_per_second or FRAMES_PER_SECOND, self.own.max_frames)


def _scaled(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = images.shape[1:3]
    factor = SIDE / min(height, width)
    return middle(images, round(height * factor), round(width * factor), CROP)


class S3D(nn.Module):
    """Clips [n, 3, T, H, W], T >= 16, to features [n, 1024]. Names of tensors are the release's."""

    def __init__(self) -> None:
        super().__init__()
        parts: dict[int, nn.Module] = {
            0: _Separable(3, 64, 7, stride=2),
            1: nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            2: _Pointwise(64, 64),
            3: _Separable(64, 192, 3),
            4: nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            7: nn.MaxPool3d(3, 2, 1),
            13: nn.MaxPool3d(2, 2),
            **{place: _Inception(*widths) for place, widths in INCEPTION.items()},
        }
        self.base = nn.Sequential(*(parts[place] for place in sorted(parts)))

    def forward(self, clips: Tensor) -> Tensor:
        """Return [n, 1024]: means over space and two steps in time, then over time."""
        steps = self.base(clips).mean(dim=(3, 4))
        return functional.avg_pool1d(steps, 2, stride=1).mean(dim=2)


class _Pointwise(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 1, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=NORM_EPS)

    def forward(self, maps: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(maps)))


class _Separable(nn.Module):
    """A convolution in space, then one in time."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1) -> None:
        super().__init__()
        pad = size // 2
        self.conv_s = nn.Conv3d(inputs, outputs, (1, size, size), (1, stride, stride), (0, pad, pad), bias=False)
        self.bn_s = nn.BatchNorm3d(outputs, eps=NORM_EPS)
        self.conv_t = nn.Conv3d(outputs, outputs, (size, 1, 1), (stride, 1, 1), (pad, 0, 0), bias=False)
        self.bn_t = nn.BatchNorm3d(outputs, eps=NORM_EPS)

    def forward(self, maps: Tensor) -> Tensor:
        maps = functional.relu(self.bn_s(self.conv_s(maps)))
        return functional.relu(self.bn_t(self.conv_t(maps)))


class _Inception(nn.Module):
    """Four ways through, side by side. See INCEPTION for the widths."""

    def __init__(self, inputs: int, point: int, narrow: int, wide: int, narrow2: int, wide2: int, pooled: int) -> None:
        super().__init__()
        self.branch0 = nn.Sequential(_Pointwise(inputs, point))
        self.branch1 = nn.Sequential(_Pointwise(inputs, narrow), _Separable(narrow, wide, 3))
        self.branch2 = nn.Sequential(_Pointwise(inputs, narrow2), _Separable(narrow2, wide2, 3))
        self.branch3 = nn.Sequential(nn.MaxPool3d(3, 1, 1), _Pointwise(inputs, pooled))

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([branch(maps) for branch in self.children()], 1)
