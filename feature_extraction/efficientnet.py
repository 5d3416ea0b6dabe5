"""The EfficientNet-lite networks of several experts, pretrained on ImageNet (Tan & Le 2019, lite variants).

One process holds each of them once a device. A batch of pictures that one expert has pooled is kept for another that
looks at the same pictures, so that the network runs once.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from feature_extraction.preparations import reduced
from vtr.extract_config import Precision
from vtr.packaged import efficientnet_weights

MEAN, STD = 0.498, 0.502
DIM, CLASSES = 1280, 1000
CPU_BATCH, GPU_BATCH = 4, 64
"""Frames at a time, unless `batch` is set. On one CPU core more than a few leave the cache and take longer each."""
KEPT_BATCHES = 32
"""Batches of pooled features that wait for another expert: more than the frames that a worker is given at a time."""


@dataclass(frozen=True, slots=True)
class Lite:
    """One network: EfficientNet-lite`number`, which sees pictures of `side` x `side`."""

    number: int
    side: int

    @property
    def name(self) -> str:
        """Its name among the packages that hold it."""
        return f"efficientnet-lite{self.number}"

    @property
    def scaler(self) -> str:
        """How pictures are made for it, in words."""
        return f"bilinear with antialiasing to {self.side} x {self.side}, aspect not kept; (x / 255 - {MEAN}) / {STD}"

    def weights(self) -> Path:
        """Return the file of its weights; UnavailableError where its package is missing."""
        return efficientnet_weights(self.number)

    def scaled(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return frames [N, H, W, 3] as pictures [N, 3, side, side] in grey levels, not rounded: it notices.

        Nothing is cropped, since what matters may stand at the edge.
        """
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float()  # contiguous scales sooner
        pixels = nn.functional.interpolate(pixels, (self.side, self.side), mode="bilinear", antialias=True)
        scaled: NDArray[np.float32] = pixels.numpy()
        return scaled


LITE0, LITE1, LITE2 = Lite(0, 224), Lite(1, 240), Lite(2, 260)


class Network:
    """One network on one device. Make it with `network`, which shares it.

    Args:
        lite: which one.
        device: "cpu", "cuda" or "cuda:1".

    Attributes:
        shares: keep what is pooled for `take_or_pool`; set where an expert asks for it.

    Raises:
        UnavailableError: the package of its weights is missing.
    """

    def __init__(self, lite: Lite, device: str) -> None:
        from efficientnet_lite_pytorch import EfficientNet

        with contextlib.redirect_stdout(None):  # it prints
            model = EfficientNet.from_pretrained(lite.name, weights_path=str(lite.weights()))
        fold_batch_norms(model.eval())
        self.device = torch.device(device)
        self.shares = False
        self._model: Any = model.to(self.device, memory_format=torch.channels_last)
        self._kept: OrderedDict[tuple[Precision, bytes], NDArray[np.float32]] = OrderedDict()

    def pool(self, pictures: NDArray[np.float32], precision: Precision) -> NDArray[np.float32]:
        """Return the features [n, 1280] before the classifier of pictures [n, 3, side, side], grey levels 0 to 255."""
        pooled = self._run(pictures, precision)
        if self.shares:
            self._kept[precision, _digest(pictures)] = pooled
            if len(self._kept) > KEPT_BATCHES:
                self._kept.popitem(last=False)
        return pooled

    def take_or_pool(self, pictures: NDArray[np.float32], precision: Precision) -> NDArray[np.float32]:
        """Return what `pool` gave for the same batch, which is then given away, or else what it would give."""
        kept = self._kept.pop((precision, _digest(pictures)), None)
        return self._run(pictures, precision) if kept is None else kept

    @torch.inference_mode()
    def _run(self, pictures: NDArray[np.float32], precision: Precision) -> NDArray[np.float32]:
        pixels = torch.from_numpy(pictures).to(self.device)
        pixels = ((pixels / 255 - MEAN) / STD).contiguous(memory_format=torch.channels_last)
        with reduced(self.device, precision):
            maps: Tensor = self._model.extract_features(pixels)
        pooled: NDArray[np.float32] = maps.float().mean(dim=(2, 3)).cpu().numpy()
        return pooled

    @torch.inference_mode()
    def classify(self, pooled: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities [n, 1000] of ImageNet's classes, of features [n, 1280]."""
        logits: Tensor = self._model._fc(torch.from_numpy(pooled).to(self.device))
        probabilities: NDArray[np.float32] = logits.softmax(dim=1).cpu().numpy()
        return probabilities


@cache
def network(lite: Lite, device: str) -> Network:
    """Return a network on a device, loaded once a process. See `Network`."""
    return Network(lite, device)


def _digest(pictures: NDArray[np.float32]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(pictures).data).digest()


def fold_batch_norms(model: Any) -> None:
    """Fold every batch norm into the convolution before it, and clip in place: the same numbers, a third sooner.

    Args:
        model: an `efficientnet_lite_pytorch.EfficientNet` in evaluation mode; changed in place.
    """
    pairs = [(model, "_conv_stem", "_bn0"), (model, "_conv_head", "_bn1")]
    for block in model._blocks:
        pairs += [(block, "_depthwise_conv", "_bn1"), (block, "_project_conv", "_bn2")]
        if hasattr(block, "_expand_conv"):
            pairs.append((block, "_expand_conv", "_bn0"))
    for owner, convolution, norm in pairs:
        setattr(owner, convolution, fuse_conv_bn_eval(getattr(owner, convolution), getattr(owner, norm)))
        setattr(owner, norm, nn.Identity())
    for module in model.modules():
        if isinstance(module, nn.ReLU6):
            module.inplace = True
