"""Audio features: Whisper's encoder states a second, and log-mel statistics where Whisper is absent."""

from __future__ import annotations

import ctranslate2
import numpy as np
import pytest
from painted_clips import media
from transformers import WhisperFeatureExtractor
from transformers.audio_utils import mel_filter_bank

from feature_extraction.experts import audio
from feature_extraction.experts.audio import FFT, MEL_BINS, LogMelExtractor, mel_filters, whole_seconds
from vtr.extract_config import ExtractConfig
from vtr.packaged import whisper_folder

GREY = np.full((1, 16, 16, 3), 128, np.uint8)
RATE = 16000


def tone(hertz: float, seconds: float) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def test_states_are_the_encoders_averaged_over_each_second(extractor) -> None:
    sound = np.concatenate([tone(300, 1.5), tone(1200, 1.5)])
    found = extractor("audio").extract(media(GREY, sound=sound)).features
    mel = WhisperFeatureExtractor(feature_size=80)(sound, sampling_rate=RATE, return_tensors="np").input_features
    model = ctranslate2.models.Whisper(str(whisper_folder()), device="cpu", compute_type="float32", intra_threads=1)
    states = np.asarray(model.encode(ctranslate2.StorageView.from_array(np.ascontiguousarray(mel, np.float32))))[0]
    expected = states[:150].reshape(3, 50, 384).mean(axis=1)
    np.testing.assert_allclose(found.values, expected, atol=0.02 * np.abs(expected).max())
    assert found.start_seconds.tolist() == [0, 1, 2]
    assert found.end_seconds.tolist() == [1, 2, 3]


def test_sound_beyond_whispers_window_goes_on(extractor) -> None:
    sound = np.concatenate([tone(300, 30), tone(1200, 3.3)])
    found = extractor("audio").extract(media(GREY, sound=sound)).features
    assert len(found.values) == 33
    assert found.end_seconds[-1] == pytest.approx(33.3, abs=0.02)
    similar = np.corrcoef(found.values[[10, 20, 31]])
    assert similar[0, 1] > similar[0, 2]


def test_a_rest_below_half_a_second_joins_the_last_second() -> None:
    for length, expected in ((1, [(0, 1)]), (24, [(0, 24)]), (74, [(0, 74)]), (76, [(0, 50), (50, 76)])):
        starts, ends = whole_seconds(length, 50)
        assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == expected


def test_filters_are_the_htk_mel_scale() -> None:
    expected = mel_filter_bank(FFT // 2 + 1, MEL_BINS, 0, RATE / 2, RATE, mel_scale="htk")
    np.testing.assert_allclose(mel_filters(), expected, atol=1e-5)


def test_log_mel_statistics_show_the_pitch() -> None:
    found = LogMelExtractor().extract(media(GREY, sound=np.concatenate([tone(300, 1), tone(2500, 1)]))).features
    assert found.values.shape == (2, 2 * MEL_BINS)
    for values, hertz in zip(found.values, (300, 2500), strict=True):
        loudest = mel_filters()[:, values[:MEL_BINS].argmax()].argmax() * RATE / FFT
        assert loudest == pytest.approx(hertz, abs=2 * RATE / FFT)
    assert found.values[:, MEL_BINS:].min() >= 0


def test_log_mel_takes_over_where_whisper_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "has_module", lambda _: False)
    expert = audio.make_audio_extractor(ExtractConfig())
    assert expert.spec.pretrained_on == "nothing"
    assert expert.spec.model_id == "log-mel statistics"
    assert expert.extract(media(GREY, sound=tone(440, 0.01))).features.values.shape == (1, expert.spec.dim)
    assert expert.extract(media(GREY, sound=np.zeros(RATE, np.float32))) is None
