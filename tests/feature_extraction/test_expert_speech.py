"""Spoken words are written down; what is not speech is left out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from faster_whisper import WhisperModel
from painted_clips import media
from scipy.signal import resample_poly

from feature_extraction.experts.speech import is_speech
from feature_extraction.text_embedding import sentence_encoder
from vtr.demo.sound import RATE, speak
from vtr.extract_config import ExtractConfig
from vtr.packaged import whisper_folder

STORY = (
    "The old dog is barking at a red car.",
    "My sister plays a slow song on the guitar.",
    "He cooks rice and fish for twenty guests.",
    "Nobody knew where the children had gone.",
    "In winter the lake is covered with thick ice.",
    "They bought bread, butter and seven apples.",
    "Please close the window before you leave.",
    "A young doctor opened the heavy door.",
    "The train to the mountains leaves at nine.",
    "We watched the football match on television.",
    "Yesterday it rained from morning until night.",
    "Her brother repairs bicycles in a small shop.",
    "This machine cuts paper faster than that one.",
    "Everybody laughed when the clown fell over.",
)
GREY = np.full((1, 16, 16, 3), 128, np.uint8)


def sound_of(text: str) -> np.ndarray:
    return resample_poly(speak(text), 160, RATE // 100).astype(np.float32)


@pytest.fixture(scope="module")
def spoken() -> np.ndarray:
    """A sentence from eSpeak NG, [S] float32 at 16 kHz."""
    return sound_of("The quick brown dog is cooking dinner in the kitchen.")


def test_words_are_recognised_timed_and_embedded(extractor, spoken: np.ndarray) -> None:
    sound = np.concatenate([np.zeros(32000, np.float32), spoken])
    found = extractor("speech").extract(media(GREY, sound=sound))
    text = " ".join(found.texts).lower()
    assert {"cooking", "dinner", "kitchen"} <= set(text.replace(".", "").split())
    assert found.features.start_seconds[0] == pytest.approx(2.0, abs=0.6)  # the gate leaves 0.4 s of air
    assert found.features.end_seconds[-1] <= len(sound) / 16000
    expected = sentence_encoder(ExtractConfig().sentence_model).encode(found.texts)
    np.testing.assert_allclose(found.features.values, expected, atol=1e-5)


def test_the_transcript_is_faster_whispers_own(extractor) -> None:
    """More than one window of 30 s, with pauses that the voice gate takes out: text and times of the library."""
    pause = np.zeros(24000, np.float32)
    sound = np.concatenate([part for text in STORY for part in (sound_of(text), pause)])
    assert np.sum(np.abs(sound) > 0) > 31 * 16000
    whisper = WhisperModel(str(whisper_folder()), device="cpu", compute_type="int8", cpu_threads=1)
    options = {"language": "en", "beam_size": 1, "temperature": 0.0, "condition_on_previous_text": False}
    expected = [s for s in whisper.transcribe(sound, vad_filter=True, **options)[0] if is_speech(s)]
    found = extractor("speech").extract(media(GREY, sound=sound))
    assert found.texts == tuple(segment.text.strip() for segment in expected)
    np.testing.assert_allclose(found.features.start_seconds, [segment.start for segment in expected], rtol=1e-6)
    ends = [min(segment.end, len(sound) / 16000) for segment in expected]
    np.testing.assert_allclose(found.features.end_seconds, ends, rtol=1e-6)
    words = [word for segment in found.found for word in segment.words]
    assert len(words) > 50
    assert all(0 <= word.confidence <= 1 for word in words)
    middles = [(word.start_seconds + word.end_seconds) / 2 for word in words]
    assert middles == sorted(middles)
    spoken = np.abs(sound) > 0.01
    heard = [spoken[int(word.start_seconds * 16000) : int(word.end_seconds * 16000) + 1600].any() for word in words]
    assert np.mean(heard) > 0.95  # no word lies in a pause


def test_words_are_timed(extractor) -> None:
    """Two sentences at known places: each word is found where its sentence is, and the words make up the text."""
    first, second = sound_of("The dog is barking."), sound_of("She plays the guitar.")
    starts = (1.0, 1.0 + len(first) / 16000 + 4.0)
    sound = np.zeros(int(starts[1] * 16000) + len(second), np.float32)
    for start, samples in zip(starts, (first, second), strict=True):
        sound[int(start * 16000) :][: len(samples)] = samples
    found = extractor("speech").extract(media(GREY, sound=sound))
    assert [segment.feature for segment in found.found] == list(range(len(found.texts)))
    for segment, text in zip(found.found, found.texts, strict=True):
        assert segment.text == text == " ".join(word.text for word in segment.words)
        assert segment.box is None
        assert segment.confidence == pytest.approx(np.mean([word.confidence for word in segment.words]))
    at = {word.text.strip(".").lower(): word for segment in found.found for word in segment.words}
    for word, start, samples in (("barking", starts[0], first), ("guitar", starts[1], second)):
        length = len(samples) / 16000
        assert start + 0.3 * length < at[word].start_seconds < at[word].end_seconds <= start + length + 0.2
    assert at["she"].start_seconds == pytest.approx(starts[1], abs=0.5)


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
