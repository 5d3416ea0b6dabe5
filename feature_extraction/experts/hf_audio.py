"""Sound models through `transformers`: Audio Spectrogram Transformer (AST, Gong et al. 2021) features of windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from feature_extraction.damage import UNREADABLE, first_sentence
from feature_extraction.extractor import SOUND_RATE, Preparation, Sound, VideoInfo
from feature_extraction.transformers_expert import TransformersExpert, load_model
from feature_extraction.windows import is_silent, sound_windows
from vtr.errors import ConfigError, UnavailableError
from vtr.extract_config import ExtractConfig

AUDIO_MODELS = {"audio-spectrogram-transformer": "ASTModel"}
"""By the model type in config.json."""
HOP_SECONDS = 0.01
FRAME = 400
"""Samples of one spectrum; shorter sound is filled up with silence."""


class AudioModelExpert(TransformersExpert):
    """One feature a window of sound, by default as long as the model hears at once (AST: 10.24 s); none of silence.

    The feature is the model's own, the mean of its two class tokens; pooling "mean" is that of all its patches.
    """

    sound = True

    def __init__(self, config: ExtractConfig, name: str) -> None:
        super().__init__(config, name)
        self._model_class = AUDIO_MODELS[self.model_config.model_type]
        self._mean = self._pooling("cls", ("cls", "mean")) == "mean"
        self._spectra = self._read_extractor()
        heard = self._spectra.max_length * HOP_SECONDS
        window = self.own.window_seconds or heard
        if window > heard + 1e-6:
            raise ConfigError(
                f"settings.{name}.window_seconds is {window:g}, but {self.model} hears {heard:g} s at once. "
                "Set at most that."
            )
        self._window = round(window * SOUND_RATE)
        self._stride = round((self.own.stride_seconds or window) * SOUND_RATE)
        self.scaler = f"mono, 16 kHz, {self._spectra.num_mel_bins} log-mel bands as transformers makes them for AST"
        self.spec = self._spec(self.model_config.hidden_size, "audio", window, "mean" if self._mean else "cls")

    def prepare(self, info: VideoInfo) -> Preparation:
        """Start on a video."""
        del info
        return _Spectra(self._spectra, self._window, self._stride)

    def _read_extractor(self) -> Any:
        from transformers import AutoFeatureExtractor

        try:
            spectra: Any = AutoFeatureExtractor.from_pretrained(  # type: ignore[no-untyped-call]
                self.folder, local_files_only=True
            )
        except UNREADABLE as error:
            raise UnavailableError(
                f"expert {self.name}: {self.folder} does not tell how sound becomes spectra "
                f"({first_sentence(error)}). Its preprocessor_config.json was expected there; download "
                "the model completely."
            ) from error
        if spectra.sampling_rate != SOUND_RATE:
            raise ConfigError(
                f"expert {self.name}: {self.model} hears sound at {spectra.sampling_rate} Hz; {SOUND_RATE} was "
                "expected."
            )
        return spectra

    def _load(self) -> Any:
        import transformers

        return load_model(getattr(transformers, self._model_class), self.folder, self.name, self.model_config)[0]

    def _embed(self, items: Tensor) -> Tensor:
        out = self._loaded(input_values=items.to(self._dtype))
        return torch.as_tensor(out.last_hidden_state[:, 2:].float().mean(dim=1) if self._mean else out.pooler_output)


class _Spectra(Preparation):
    """Every window of sound is an item: its log-mel spectra."""

    def __init__(self, spectra: Any, window: int, stride: int) -> None:
        self._spectra, self._window, self._stride = spectra, window, stride
        self._spans: list[tuple[int, int]] = []

    def finish(self, sound: Sound | None) -> NDArray[Any] | None:
        if sound is None or is_silent(sound):
            return None
        self._spans = sound_windows(len(sound), self._window, self._stride)
        pieces = [np.pad(sound[start:end], (0, max(0, FRAME - (end - start)))) for start, end in self._spans]
        items = self._spectra(pieces, sampling_rate=SOUND_RATE, return_tensors="np")["input_values"]
        return np.asarray(items, np.float32)

    def times(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        start, end = np.array(self._spans, np.float64).T / SOUND_RATE
        return start, end
