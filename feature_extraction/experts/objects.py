"""Objects: which of ImageNet's 1000 classes single frames show, as three EfficientNets see it."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from feature_extraction.efficientnet import CLASSES, CPU_BATCH, LITE0, LITE1, LITE2, network
from feature_extraction.extractor import ModelExpert, Preparation, VideoInfo
from feature_extraction.needs import frame_need
from feature_extraction.preparations import FramePreparation
from vtr.extract_config import ExtractConfig
from vtr.files import sha256_file
from vtr.types import ExpertSpec

LITES = (LITE2, LITE1, LITE0)
GPU_BATCH = 32


class ObjectsExpert(ModelExpert):
    """1000-d, one a frame: the square roots of the class probabilities, the mean of three networks' softmax.

    Square roots (Hellinger's) because float16 keeps small probabilities then, and because features have unit length:
    the product of two is the Bhattacharyya coefficient of their distributions. Each frame covers the time to the next.

    An item holds the picture of a frame for each network, one after another. Where the appearance experts ran before
    on the same pictures in the same process, in the same batches, their pooled features are taken and no network runs.
    """

    scaler = "; ".join(f"{lite.name}: {lite.scaler}" for lite in LITES)

    def __init__(self, config: ExtractConfig, name: str) -> None:
        self._own = config.of(name)
        self.frames = frame_need(config, name)
        hashes = [sha256_file(lite.weights()) for lite in LITES]
        self.spec = ExpertSpec(
            name=name,
            dim=CLASSES,
            modality="image",
            window_seconds=None,
            model_id=" + ".join(lite.name for lite in LITES),
            weights_sha256=hashlib.sha256("".join(hashes).encode()).hexdigest(),
            pretrained_on="ImageNet-1k",
        )

    def load(self, device: str) -> None:
        """Load the networks onto a device."""
        self._networks = [network(lite, device) for lite in LITES]
        for one in self._networks:
            one.shares = True
        self.batch = self._own.batch or (CPU_BATCH if self._networks[0].device.type == "cpu" else GPU_BATCH)

    def prepare(self, info: VideoInfo) -> Preparation:
        """Start on a video."""
        return FramePreparation(info, _scaled)

    def embed(self, items: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return [n, 1000] square roots of probabilities, of items [n, 3 * (260^2 + 240^2 + 224^2)]."""
        ends = np.cumsum([3 * lite.side**2 for lite in LITES])[:-1]
        together = np.zeros((len(items), CLASSES), np.float32)
        for lite, one, pictures in zip(LITES, self._networks, np.split(items, ends, axis=1), strict=True):
            pooled = one.take_or_pool(pictures.reshape(-1, 3, lite.side, lite.side), self._own.precision)
            together += one.classify(pooled)
        roots: NDArray[np.float32] = np.sqrt(together / len(LITES))
        return roots


def _scaled(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.concatenate([lite.scaled(images).reshape(len(images), -1) for lite in LITES], axis=1)
