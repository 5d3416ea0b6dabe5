"""Transcripts: tokens cut into segments and words, and a whole model's way from sound to text."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import transformers as tf
from scipy.signal import resample_poly
from tiny_models import SAID, save_tiny

from feature_extraction.experts import make_extractor, whisper
from feature_extraction.experts.whisper import WhisperExpert, is_believable, voice_pieces
from feature_extraction.extractor import Extracted
from feature_extraction.text_embedding import sentence_encoder
from feature_extraction.transcript import Heard, Segment, segments
from vtr.demo.sound import RATE, speak
from vtr.extract_config import ExtractConfig

TEXTS = [b" hello", b" wor", b"ld", b".", b" ca", b"f\xc3", b"\xa9", "日".encode(), "本".encode()]
FIRST_SPECIAL, FIRST_TIME = 100, 200


def decode(tokens) -> str:
    return b"".join(TEXTS[token] for token in tokens).decode("utf-8", errors="replace")


def cut(tokens: list[int], language: str = "en", last: float = 10.0, ends: np.ndarray | None = None) -> list[Segment]:
    times = np.arange(1, len(tokens) + 1) * 0.1 if ends is None else ends
    heard = Heard(tokens, np.log(np.linspace(0.5, 1, len(tokens))), times, language)
    return segments(heard, decode, FIRST_SPECIAL, FIRST_TIME, last)


def test_time_tokens_cut_the_text_into_segments() -> None:
    found = cut([200, 0, 1, 2, 3, 250, 260, 4, 5, 6, 300, 100])
    assert [(one.text, one.start_seconds, one.end_seconds) for one in found] == [
        ("hello world.", 0.0, 1.0),
        ("café", 1.2, 2.0),
    ]
    assert found[0].log_probability == pytest.approx(np.log(np.linspace(0.5, 1, 12))[1:5].mean())


def test_words_have_the_times_and_the_certainty_of_their_tokens() -> None:
    first, second = cut([200, 0, 1, 2, 3, 250, 250, 4, 5, 6, 300])
    assert [word.text for word in first.words] == ["hello", "world."]
    assert [(word.start_seconds, word.end_seconds) for word in first.words] == [
        (0.0, pytest.approx(0.2)),
        (pytest.approx(0.2), pytest.approx(0.5)),
    ]
    sure = np.linspace(0.5, 1, 11)
    assert first.words[0].confidence == pytest.approx(sure[1])
    assert first.words[1].confidence == pytest.approx(sure[2:5].prod() ** (1 / 3))
    assert [word.text for word in second.words] == ["café"]  # a character in two tokens
    assert second.words[0].start_seconds == second.words[0].end_seconds == 1.0  # its tokens' times lie before it


def test_languages_without_spaces_have_a_word_a_character() -> None:
    assert [word.text for word in cut([200, 7, 8, 250], language="ja")[0].words] == ["日", "本"]
    assert [word.text for word in cut([200, 7, 8, 250], language="en")[0].words] == ["日本"]


def test_a_segment_without_an_end_lasts_to_the_end() -> None:
    (found,) = cut([225, 0], last=3.0)
    assert (found.start_seconds, found.end_seconds) == (0.5, 3.0)
    (found,) = cut([200, 0, 1000], last=3.0)  # Whisper rounds up, or makes times up
    assert found.end_seconds == 3.0


def test_nothing_said_is_no_segment() -> None:
    assert cut([200, 250, 100]) == []
    assert cut([]) == []


def test_a_model_that_cannot_align_gives_no_words() -> None:
    heard = Heard([200, 0, 250], np.zeros(3), None, "en")
    assert segments(heard, decode, FIRST_SPECIAL, FIRST_TIME, 5.0)[0].words == ()


@pytest.mark.parametrize(
    ("text", "log_probability", "expected"),
    [
        ("Hello there.", -0.3, True),
        ("Hello there.", -1.2, False),
        ("[Music]", -0.1, False),
        ("a", -0.1, False),
        ("thank you " * 40, -0.1, False),
    ],
)
def test_what_whisper_invents_is_dropped(text: str, log_probability: float, expected: bool) -> None:
    assert is_believable(Segment(text, 0.0, 1.0, log_probability, ())) is expected


@pytest.fixture(scope="module")
def expert(tmp_path_factory: pytest.TempPathFactory) -> WhisperExpert:
    """A model that says the same whatever it hears."""
    path = save_tiny("whisper", tmp_path_factory.mktemp("tiny models"))
    made = make_extractor(
        "speech_whisper", ExtractConfig.model_validate({"settings": {"speech_whisper": {"model": str(path)}}})
    )
    assert isinstance(made, WhisperExpert)
    return made


@pytest.fixture(scope="module")
def spoken() -> np.ndarray:
    samples = speak("The quick brown dog is cooking dinner in the kitchen.")
    return resample_poly(samples, 160, RATE // 100).astype(np.float32)


def read(expert: WhisperExpert, sound: np.ndarray) -> Extracted:
    found = expert.read(sound)
    assert found is not None
    return found


def test_text_words_and_times_come_through_the_whole_model(expert: WhisperExpert, spoken: np.ndarray) -> None:
    sound = np.concatenate([np.zeros(80000, np.float32), spoken])
    found = read(expert, sound)
    assert found.texts == (SAID.strip(),)
    expected = sentence_encoder(ExtractConfig().sentence_model).encode(found.texts)
    np.testing.assert_allclose(found.features.values, expected, atol=1e-5)
    (start,), (end,) = found.features.start_seconds, found.features.end_seconds
    assert start == pytest.approx(5.0, abs=0.6)  # the gate leaves 0.4 s of air
    assert end - start == pytest.approx(1.2)
    (one,) = found.found
    assert (one.text, one.feature, one.start_seconds) == (SAID.strip(), 0, pytest.approx(start))
    assert [word.text for word in one.words] == SAID.split()
    assert all(start - 1e-6 <= word.start_seconds <= word.end_seconds <= end + 1e-6 for word in one.words)
    assert one.confidence > 0.99


def test_words_are_those_of_the_librarys_own_pipeline(
    expert: WhisperExpert, spoken: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whisper, "voice_pieces", lambda sound: [(0, len(sound))])
    (one,) = read(expert, spoken).found
    pipeline = tf.pipeline("automatic-speech-recognition", model=str(expert._folder), dtype="float32")
    told = {"num_beams": 1, "task": "transcribe", "language": "en"}
    expected = pipeline(spoken.copy(), return_timestamps="word", generate_kwargs=told)["chunks"]
    assert [word.text for word in one.words] == [chunk["text"].strip() for chunk in expected]
    ends = [min(chunk["timestamp"][1], 1.2) for chunk in expected]  # the segment ends at 1.2 s
    assert [word.end_seconds for word in one.words] == pytest.approx(ends, abs=0.02)


def test_voice_is_found_and_silence_skipped(spoken: np.ndarray) -> None:
    pause = np.zeros(16000 * 40, np.float32)
    pieces = voice_pieces(np.concatenate([pause, spoken, pause, spoken]))
    assert len(pieces) == 2
    assert pieces[0][0] / 16000 == pytest.approx(40, abs=0.6)
    assert all(end - start <= 30 * 16000 for start, end in pieces)
    assert voice_pieces(pause) == []


def test_long_speech_is_cut_into_pieces_that_whisper_can_hear(spoken: np.ndarray) -> None:
    speech = np.concatenate([spoken] * 25)
    pieces = voice_pieces(speech)
    assert len(pieces) >= len(speech) / 16000 / 30
    assert all(0 < end - start <= 30 * 16000 for start, end in pieces)
    assert all(before[1] <= after[0] for before, after in pairwise(pieces))


def test_without_the_detector_all_sound_is_transcribed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whisper, "has_module", lambda _: False)
    assert voice_pieces(np.zeros(16000 * 65, np.float32)) == [(0, 480000), (480000, 960000), (960000, 1040000)]
