"""Appearance: EfficientNet-lite2 features of single frames, pretrained on ImageNet (Tan & Le 2019, lite variant)."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from feature_extraction.extractor import ModelExpert, Preparation, VideoInfo
from feature_extraction.needs import frame_need
from feature_extraction.preparations import FramePreparation, reduced
from vtr.config import ExtractConfig
from vtr.files import sha256_file
from vtr.packaged import efficientnet_folder
from vtr.types import ExpertSpec

SIDE = 260
MEAN, STD = 0.498, 0.502
CPU_BATCH, GPU_BATCH = 4, 64
"""Frames at a time, unless `batch` is set. On one CPU core more than a few leave the cache and take longer each."""


class AppearanceExtractor(ModelExpert):
    """1280-d pooled features before the classifier, one a frame; each frame covers the time to the next.

    A frame is scaled to 260 x 260 without cropping, since what matters may stand at the edge.
    """

    scaler = f"bilinear with antialiasing to {SIDE} x {SIDE}, aspect not kept; (x / 255 - {MEAN}) / {STD}"

    def __init__(self, config: ExtractConfig, name: str = "appearance") -> None:
        self._own = config.of(name)
        self._weights = next(iter(sorted(efficientnet_folder().glob("*.pth"))))
        self.frames = frame_need(config, name)
        self.spec = ExpertSpec(
            name=name,
            dim=1280,
            modality="image",
            window_seconds=None,
            model_id="efficientnet-lite2",
            weights_sha256=sha256_file(self._weights),
            pretrained_on="ImageNet-1k",
        )

    def load(self, device: str) -> None:
        """Load the network onto a device."""
        from efficientnet_lite_pytorch import EfficientNet

        with contextlib.redirect_stdout(None):  # it prints
            model = EfficientNet.from_pretrained("efficientnet-lite2", weights_path=str(self._weights))
        fold_batch_norms(model.eval())
        self._device = torch.device(device)
        self._model: Any = model.to(self._device, memory_format=torch.channels_last)
        self.batch = self._own.batch or (CPU_BATCH if self._device.type == "cpu" else GPU_BATCH)

    def prepare(self, info: VideoInfo) -> Preparation:
        """Start on a video."""
        return FramePreparation(info, _scaled)

    @torch.inference_mode()
    def embed(self, items: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return [n, 1280] features of pictures [n, 3, 260, 260] in grey levels from 0 to 255."""
        pixels = torch.from_numpy(items).to(self._device)
        pixels = ((pixels / 255 - MEAN) / STD).contiguous(memory_format=torch.channels_last)
        with reduced(self._device, self._own.precision):
            maps: Tensor = self._model.extract_features(pixels)
        pooled: NDArray[np.float32] = maps.float().mean(dim=(2, 3)).cpu().numpy()
        return pooled


def _scaled(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return [N, 3, 260, 260] pictures in grey levels, not rounded: the network notices."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    pixels = nn.functional.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True)
    scaled: NDArray[np.float32] = pixels.numpy()
    return scaled


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
