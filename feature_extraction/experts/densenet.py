"""Which place frames show: DenseNet-161 features, pretrained on Places365 (Huang et al. 2017, Zhou et al. 2017)."""

from __future__ import annotations

import re
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from feature_extraction.clips import middle
from feature_extraction.extractor import Preparation, VideoInfo
from feature_extraction.needs import frame_need
from feature_extraction.preparations import FramePreparation
from feature_extraction.weight_files import WeightFileExpert
from vtr.extract_config import ExtractConfig

SIDE, CROP = 256, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LAYERS = (6, 12, 36, 24)
GROWTH, STEM, BOTTLENECK = 48, 96, 4
DIM = 2208


class DenseNetPlacesExpert(WeightFileExpert):
    """2208-d pooled features before the classifier, one a frame; each frame covers the time to the next.

    Pictures are as in the release's own script: scaled to 256 x 256, aspect not kept, and the middle 224 x 224 of it.
    """

    head = ("classifier.",)
    scaler = f"bilinear with antialiasing to {SIDE} x {SIDE}, aspect not kept; middle {CROP} x {CROP}; ImageNet norm"

    def __init__(self, config: ExtractConfig, name: str) -> None:
        super().__init__(config, name)
        self.frames = frame_need(config, name)
        self.spec = self._spec(DIM, "image", None)

    def prepare(self, info: VideoInfo) -> Preparation:
        """Start on a video."""
        return FramePreparation(info, partial(middle, height=SIDE, width=SIDE, crop=CROP))

    def network(self) -> nn.Module:
        """Return a DenseNet-161 without its classifier."""
        return DenseNet161()

    def inputs(self, items: Tensor) -> Tensor:
        """Return [n, 3, 224, 224] of pictures [n, 224, 224, 3]."""
        mean, std = torch.tensor(MEAN, device=items.device), torch.tensor(STD, device=items.device)
        return ((items.float() / 255 - mean) / std).permute(0, 3, 1, 2)

    def rename(self, name: str) -> str:
        """Return today's name: until PyTorch 0.4 the norms of a dense layer were "norm.1" and "norm.2"."""
        return re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", name)


class DenseNet161(nn.Module):
    """Pictures [n, 3, H, W] to features [n, 2208]. Names of tensors are torchvision's."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(3, STEM, 7, stride=2, padding=3, bias=False))
        self.features.add_module("norm0", nn.BatchNorm2d(STEM))
        self.features.add_module("relu0", nn.ReLU(inplace=True))
        self.features.add_module("pool0", nn.MaxPool2d(3, stride=2, padding=1))
        width = STEM
        for block, layers in enumerate(LAYERS, 1):
            self.features.add_module(f"denseblock{block}", _DenseBlock(width, layers))
            width += layers * GROWTH
            if block < len(LAYERS):
                self.features.add_module(f"transition{block}", _Transition(width))
                width //= 2
        self.features.add_module("norm5", nn.BatchNorm2d(width))

    def forward(self, pictures: Tensor) -> Tensor:
        """Return [n, 2208], what the classifier would read."""
        return functional.relu(self.features(pictures)).mean(dim=(2, 3))


class _DenseLayer(nn.Module):
    """48 new maps of all maps before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, BOTTLENECK * GROWTH, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(BOTTLENECK * GROWTH)
        self.conv2 = nn.Conv2d(BOTTLENECK * GROWTH, GROWTH, 3, padding=1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.conv1(functional.relu(self.norm1(maps)))
        new: Tensor = self.conv2(functional.relu(self.norm2(maps)))
        return new


class _DenseBlock(nn.Module):
    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        for index in range(layers):
            self.add_module(f"denselayer{index + 1}", _DenseLayer(width + index * GROWTH))

    def forward(self, maps: Tensor) -> Tensor:
        for layer in self.children():
            maps = torch.cat((maps, layer(maps)), 1)
        return maps


class _Transition(nn.Module):
    """Half the maps, of half the size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width)
        self.conv = nn.Conv2d(width, width // 2, 1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        return functional.avg_pool2d(self.conv(functional.relu(self.norm(maps))), 2)
