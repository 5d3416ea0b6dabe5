"""Shots between cuts: TransNetV2's hidden layer over each shot (Souček & Lokoč 2020)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from feature_extraction.experts import SHOTS_PACKAGE
from feature_extraction.extractor import (
    Extracted,
    Frames,
    ModelExpert,
    Preparation,
    Reading,
    Sound,
    VideoInfo,
    features,
)
from feature_extraction.frames import FrameNeed, Sampling
from feature_extraction.preparations import reduced
from feature_extraction.shots import WEIGHTS, ShotFinder, ShotReading, ShotWindows, load_transnet, look
from feature_extraction.transnet import HIDDEN
from vtr.extract_config import ExtractConfig
from vtr.files import sha256_file
from vtr.packaged import package_path
from vtr.types import ExpertSpec

CPU_BATCH, GPU_BATCH = 1, 16


class ShotsExpert(ModelExpert):
    """1024-d mean of the network's hidden layer over a shot's frames, one a shot, with the shot's time.

    The network looks at all frames of the video, 100 at a time; what it says of a window is an item's answer, from
    which the reading makes shots.
    """

    frames = FrameNeed(Sampling("all", most=None), exact=ShotFinder.size)
    scaler = f"to {ShotFinder.size[0]} x {ShotFinder.size[1]}, aspect not kept"

    def __init__(self, config: ExtractConfig, name: str) -> None:
        self._own = config.of(name)
        self.batch = self._own.batch or CPU_BATCH
        self._device = torch.device("cpu")
        self.spec = ExpertSpec(
            name=name,
            dim=HIDDEN,
            modality="video",
            window_seconds=None,
            model_id=f"TransNetV2 ({self._own.precision})",
            weights_sha256=sha256_file(package_path(SHOTS_PACKAGE, WEIGHTS)),
            pretrained_on="ClipShots and TRECVID IACC.3, with synthetic cuts",
        )

    def load(self, device: str) -> None:
        """Load the network onto a device. See `ModelExpert.load`."""
        self._device = torch.device(device)
        self._network = load_transnet(device)
        self.batch = self._own.batch or (CPU_BATCH if self._device.type == "cpu" else GPU_BATCH)

    def embed(self, items: NDArray[Any]) -> NDArray[np.float32]:
        """Return what `look` says of windows [n, 100, 27, 48, 3]: [n, 50 * 1025]."""
        with reduced(self._device, self._own.precision):
            return look(self._network, items)

    def prepare(self, info: VideoInfo) -> Preparation:
        """Start on a video."""
        del info
        return ShotWindows()

    def begin(self, info: VideoInfo) -> Reading:
        """Start on a video."""
        return _Shots(ShotReading(self.embed_with or self.embed_all, info.duration_seconds))


class _Shots(Reading):
    def __init__(self, reading: ShotReading) -> None:
        self._reading = reading

    def add(self, frames: Frames) -> None:
        self._reading.add(frames)

    def finish(self, sound: Sound | None) -> Extracted | None:
        """Return one feature a shot, or None of a video without frames."""
        del sound
        shots = self._reading.finish()
        if not shots:
            return None
        start, end = zip(*shots, strict=True)
        return Extracted(features(self._reading.means(), start, end))
