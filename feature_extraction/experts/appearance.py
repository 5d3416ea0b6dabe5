"""Appearance: EfficientNet-lite features of single frames; one expert each of lite2, lite1 and lite0."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from feature_extraction.efficientnet import CPU_BATCH, DIM, GPU_BATCH, LITE0, LITE1, LITE2, Lite, network
from feature_extraction.extractor import ModelExpert, Preparation, VideoInfo
from feature_extraction.needs import frame_need
from feature_extraction.preparations import FramePreparation
from vtr.extract_config import ExtractConfig
from vtr.files import sha256_file
from vtr.types import ExpertSpec

LITES: Mapping[str, Lite] = {"appearance": LITE2, "appearance_lite1": LITE1, "appearance_lite0": LITE0}
"""Expert -> its network."""


class AppearanceExtractor(ModelExpert):
    """1280-d pooled features before the classifier, one a frame; each frame covers the time to the next.

    Args:
        config: the settings.
        name: one of `LITES`, which says the network.
    """

    def __init__(self, config: ExtractConfig, name: str) -> None:
        self._own = config.of(name)
        self._lite = LITES[name]
        self.scaler = self._lite.scaler
        self.frames = frame_need(config, name)
        self.spec = ExpertSpec(
            name=name,
            dim=DIM,
            modality="image",
            window_seconds=None,
            model_id=self._lite.name,
            weights_sha256=sha256_file(self._lite.weights()),
            pretrained_on="ImageNet-1k",
        )

    def load(self, device: str) -> None:
        """Load the network onto a device."""
        self._network = network(self._lite, device)
        self.batch = self._own.batch or (CPU_BATCH if self._network.device.type == "cpu" else GPU_BATCH)

    def prepare(self, info: VideoInfo) -> Preparation:
        """Start on a video."""
        return FramePreparation(info, self._lite.scaled)

    def embed(self, items: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return [n, 1280] features of pictures [n, 3, side, side] in grey levels from 0 to 255."""
        return self._network.pool(items, self._own.precision)
