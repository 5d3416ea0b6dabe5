"""Spoken words are written down; what is not speech is left out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from painted_clips import media
from scipy.signal import resample_poly

from feature_extraction.experts.speech import is_speech
from feature_extraction.text_embedding import sentence_encoder
from vtr.config import ExtractConfig
from vtr.demo.sound import RATE, speak

GREY = np.full((1, 16, 16, 3), 128, np.uint8)


@pytest.fixture(scope="module")
def spoken() -> np.ndarray:
    """A sentence from eSpeak NG, [S] float32 at 16 kHz."""
    samples = speak("The quick brown dog is cooking dinner in the kitchen.")
    return resample_poly(samples, 160, RATE // 100).astype(np.float32)


def test_words_are_recognised_timed_and_embedded(extractor, spoken: np.ndarray) -> None:
    sound = np.concatenate([np.zeros(32000, np.float32), spoken])
    found = extractor("speech").extract(media(GREY, sound=sound))
    text = " ".join(found.texts).lower()
    assert {"cooking", "dinner", "kitchen"} <= set(text.replace(".", "").split())
    assert found.features.start_seconds[0] == pytest.approx(2.0, abs=0.6)  # the gate leaves 0.4 s of air
    assert found.features.end_seconds[-1] <= len(sound) / 16000
    expected = sentence_encoder(ExtractConfig().sentence_model).encode(found.texts)
    np.testing.assert_allclose(found.features.values, expected, atol=1e-5)


def test_the_same_sound_gives_the_same_words(extractor, spoken: np.ndarray) -> None:
    noisy = spoken + np.random.default_rng(0).normal(0, 0.003, spoken.shape).astype(np.float32)
    first, second = (extractor("speech").extract(media(GREY, sound=noisy)) for _ in range(2))
    assert first.texts == second.texts
    np.testing.assert_array_equal(first.features.values, second.features.values)


@pytest.mark.parametrize("kind", ["noise", "tone", "click", "almost nothing"])
def test_what_is_no_speech_is_absent(extractor, kind: str) -> None:
    time = np.arange(48000) / 16000
    sound = {
        "noise": np.random.default_rng(0).normal(0, 0.1, 48000),
        "tone": 0.3 * np.sin(2 * np.pi * 440 * time),
        "click": np.where(np.arange(48000) % 8000 == 0, 0.9, 0.0),
        "almost nothing": np.full(50, 0.1),
    }[kind]
    assert extractor("speech").extract(media(GREY, sound=sound.astype(np.float32))) is None


def test_doubtful_segments_are_dropped() -> None:
    good = {"text": " Hello there.", "no_speech_prob": 0.1, "avg_logprob": -0.3, "compression_ratio": 1.2}
    assert is_speech(SimpleNamespace(**good))
    doubtful = {
        "text": [" [Music]", " (upbeat music)", " ♪ la la ♪", " *applause*", " ...", ""],
        "no_speech_prob": [0.9],
        "avg_logprob": [-1.5],
        "compression_ratio": [3.0],
    }
    for name, values in doubtful.items():
        for value in values:
            assert not is_speech(SimpleNamespace(**{**good, name: value})), (name, value)


def test_words_around_a_bracket_are_kept() -> None:
    spoken_aside = " (laughs) I told you (again) so."
    segment = SimpleNamespace(text=spoken_aside, no_speech_prob=0.1, avg_logprob=-0.3, compression_ratio=1.2)
    assert is_speech(segment)
