"""What is heard: VGGish features of 0.96 s of sound, pretrained on YouTube videos (Hershey et al. 2017).

The layout of the weights is that of torchvggish, a conversion of the weights that Google released with AudioSet.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from feature_extraction.extractor import SOUND_RATE, Preparation, Sound, VideoInfo
from feature_extraction.weight_files import WeightFileExpert
from feature_extraction.windows import is_silent
from vtr.errors import ConfigError
from vtr.extract_config import ExtractConfig

SPECTRUM, HOP, FFT = 400, 160, 512
"""Samples of a spectrum (25 ms), from one to the next (10 ms), and of its transform."""
SPECTRA, BANDS = 96, 64
LOWEST, HIGHEST = 125.0, 7500.0
LOG_OFFSET = 0.01
PATCH_SECONDS = SPECTRA * HOP / SOUND_RATE
PATCH_SAMPLES = (SPECTRA - 1) * HOP + SPECTRUM
WIDTHS = (64, 0, 128, 0, 256, 256, 0, 512, 512, 0)
"""Maps of each convolution; 0 halves the size."""
DIM = 128


class VGGishExpert(WeightFileExpert):
    """128-d embeddings, one each 0.96 s, as the network gives them: the PCA and rounding of AudioSet are left out.

    A rest shorter than 0.975 s (96 spectra) at the end is left out, as in the release; a track that is shorter is
    filled up with silence.
    """

    batches = (16, 256)
    sound = True
    scaler = f"mono, 16 kHz; log of {BANDS} mel bands from {LOWEST:g} to {HIGHEST:g} Hz, {SPECTRA} spectra 10 ms apart"

    def __init__(self, config: ExtractConfig, name: str) -> None:
        super().__init__(config, name)
        if self.own.window_seconds not in (None, PATCH_SECONDS):
            raise ConfigError(
                f"settings.{name}.window_seconds is {self.own.window_seconds:g}, but VGGish hears {PATCH_SECONDS} s at "
                "once. Leave it out; stride_seconds says how often."
            )
        self._stride = max(1, round((self.own.stride_seconds or PATCH_SECONDS) * SOUND_RATE))
        self.spec = self._spec(DIM, "audio", PATCH_SECONDS)

    def prepare(self, info: VideoInfo) -> Preparation:
        """Start on a video."""
        del info
        return _Patches(self._stride)

    def network(self) -> nn.Module:
        """Return a VGGish."""
        return VGGish()

    def inputs(self, items: Tensor) -> Tensor:
        """Return [n, 1, 96, 64] of patches [n, 96, 64]."""
        return items[:, None]


class _Patches(Preparation):
    """Every 0.96 s of sound are an item."""

    def __init__(self, stride: int) -> None:
        self._stride = stride
        self._starts = np.zeros(0, np.int64)
        self._samples = 0
        self._filters = mel_filters()

    def finish(self, sound: Sound | None) -> NDArray[np.float32] | None:
        """Return the patches [n, 96, 64] of the sound, or None when there is none."""
        if sound is None or is_silent(sound):
            return None
        self._samples = len(sound)
        padded = np.pad(sound, (0, max(0, PATCH_SAMPLES - len(sound))))
        self._starts = np.arange(0, len(padded) - PATCH_SAMPLES + 1, self._stride)
        return np.stack([log_mel(padded[start : start + PATCH_SAMPLES], self._filters) for start in self._starts])

    def times(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return when each patch starts and ends."""
        ends = np.minimum(self._starts + SPECTRA * HOP, self._samples)
        return self._starts / SOUND_RATE, ends / SOUND_RATE


def log_mel(sound: NDArray[np.float32], filters: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return [T, 64] logarithms of the mel bands of a sound at 16 kHz, T = 1 + (samples - 400) // 160."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(SPECTRUM) / SPECTRUM)  # periodic
    pieces = np.lib.stride_tricks.sliding_window_view(sound, SPECTRUM)[::HOP]
    magnitude = np.abs(np.fft.rfft(pieces * hann, FFT, axis=1))
    return np.log(magnitude @ filters + LOG_OFFSET).astype(np.float32)


def mel_filters() -> NDArray[np.float64]:
    """Return [257, 64] filters: triangles on the HTK mel scale itself, from 125 to 7500 Hz."""
    lowest, highest = (1127 * np.log1p(hertz / 700) for hertz in (LOWEST, HIGHEST))
    edges = np.linspace(lowest, highest, BANDS + 2)
    bins = 1127 * np.log1p(np.fft.rfftfreq(FFT, 1 / SOUND_RATE) / 700)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
    return filters


class VGGish(nn.Module):
    """Patches [n, 1, 96, 64] to embeddings [n, 128]. Names of tensors are torchvggish's."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for width in WIDTHS:
            if width:
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(inplace=True)]
                before = width
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        maps = before * (SPECTRA // 16) * (BANDS // 16)
        self.embeddings = nn.Sequential(
            nn.Linear(maps, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, DIM), nn.ReLU()
        )

    def forward(self, patches: Tensor) -> Tensor:
        """Return [n, 128]."""
        maps = self.features(patches).permute(0, 2, 3, 1)  # the weights are TensorFlow's, where channels come last
        found: Tensor = self.embeddings(maps.flatten(1))
        return found
