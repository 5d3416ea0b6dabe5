"""Speech: Whisper tiny.en transcripts behind a voice gate, embedded by a sentence encoder (Radford et al. 2022)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from feature_extraction.extractor import SOUND_RATE, Expert, Extracted, Reading, Sound, VideoInfo, features
from feature_extraction.text_embedding import sentence_encoder
from vtr.extract_config import ExtractConfig
from vtr.files import sha256_file
from vtr.packaged import whisper_folder
from vtr.store.texts import FoundText, Word
from vtr.types import ExpertSpec

MAX_NO_SPEECH = 0.6
"""Segments that Whisper itself gives a higher chance of being no speech are dropped."""
MIN_LOG_PROBABILITY = -1.0
"""Segments with a lower mean token log-probability are dropped: on music and noise Whisper invents text."""
MAX_COMPRESSION = 2.4
"""Segments whose text compresses better repeat themselves, as Whisper does over music; its own limit."""
MIN_LETTERS = 2
NO_WORDS = re.compile(r"[\[(*♪].*[\])*♪]", re.DOTALL)
"""What Whisper writes where it hears no words, such as "[Music]" or "(applause)"."""
WINDOW_FRAMES = 3000
HOP = 160
"""Whisper hears 30 s at a time, as frames of 160 samples."""
OPENING, CLOSING = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"
"""Punctuation that belongs to the word after it, and to the word before it; faster-whisper's defaults."""


class SpeechExtractor(Expert):
    """One feature a spoken segment; the transcript and its words' times are kept.

    The voice gate is the VAD that faster-whisper ships.
    """

    sound = True
    scaler = "mono, 16 kHz"

    def __init__(self, config: ExtractConfig, name: str = "speech") -> None:
        from faster_whisper import WhisperModel

        folder = whisper_folder()
        whisper = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1, num_workers=1)
        self._listener = Listener(whisper)
        self._encoder = sentence_encoder(config.sentence_model)
        self.spec = ExpertSpec(
            name=name,
            dim=self._encoder.dim,
            modality="text",
            window_seconds=None,
            model_id=f"whisper-tiny.en + {self._encoder.model_id}",
            weights_sha256=sha256_file(folder / "model.bin"),
            pretrained_on="Whisper's 680,000 hours of speech; sentence pairs",
        )

    def begin(self, info: VideoInfo) -> Reading:
        """Start on a video."""
        del info
        return _SpeechReading(self)

    def hear(self, sound: Sound) -> Extracted | None:
        """Return one feature a spoken segment, or None when nobody speaks."""
        found = self._listener.listen(sound)
        if not found:
            return None
        texts = tuple(segment.text for segment in found)
        start, end = [segment.start_seconds for segment in found], [segment.end_seconds for segment in found]
        return Extracted(features(self._encoder.encode(texts), start, end), texts, found)


class _SpeechReading(Reading):
    def __init__(self, expert: SpeechExtractor) -> None:
        self._expert = expert

    def finish(self, sound: Sound | None) -> Extracted | None:
        return None if sound is None else self._expert.hear(sound)


class Listener:
    """Transcribes with faster-whisper, and finds the words' times without a change to the transcript.

    faster-whisper's own `word_timestamps=True` moves each window of 30 s to where the last word ended, so that sound
    beyond the first window is heard as other text: of 18 clips of MSR-VTT two changed, and of 4 minutes of them joined
    a third of the segments was lost. So the words of each window are aligned here, from the encoder output that the
    transcript was made from: the encoder runs once, and the alignment adds 8 % to the time (18 clips, one core).

    Args:
        whisper: a `faster_whisper.WhisperModel`, for this object alone.
    """

    def __init__(self, whisper: Any) -> None:
        from faster_whisper.tokenizer import Tokenizer

        self._whisper = whisper
        self._tokenizer = Tokenizer(whisper.hf_tokenizer, whisper.model.is_multilingual, "transcribe", "en")
        self._encode = whisper.encode
        whisper.encode = self._encode_and_keep
        self._encoded: Any = None

    def _encode_and_keep(self, window: Any) -> Any:
        self._encoded = self._encode(window)
        return self._encoded

    def listen(self, sound: Sound) -> tuple[FoundText, ...]:
        """Return the spoken segments of a sound, in order."""
        from faster_whisper.vad import SpeechTimestampsMap, get_speech_timestamps

        voiced = get_speech_timestamps(sound)
        if not voiced:
            return ()
        speech = np.concatenate([sound[part["start"] : part["end"]] for part in voiced])
        segments, _ = self._whisper.transcribe(
            speech,
            language="en",
            beam_size=1,
            temperature=0.0,  # no second try at random: the same sound gives the same words
            condition_on_previous_text=False,
        )
        times, last = SpeechTimestampsMap(voiced, SOUND_RATE), len(sound) / SOUND_RATE
        heard = [pair for pair in self._with_words(segments, len(speech) // HOP) if is_speech(pair[0])]
        return tuple(_found(*pair, feature, times, last) for feature, pair in enumerate(heard))

    def _with_words(self, segments: Iterable[Any], frames: int) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
        """Yield each segment with its words, in seconds of the voiced sound."""
        for window, encoded in self._windows(segments):
            aligned = [{"seek": s.seek, "start": s.start, "end": s.end, "tokens": s.tokens} for s in window]
            length = min(WINDOW_FRAMES, frames - window[0].seek)
            self._whisper.add_word_timestamps([aligned], self._tokenizer, encoded, length, OPENING, CLOSING, 0.0)
            yield from zip(window, (segment["words"] for segment in aligned), strict=True)

    def _windows(self, segments: Iterable[Any]) -> Iterator[tuple[list[Any], Any]]:
        """Yield the segments of one window after the other, with what the encoder made of it.

        A window is encoded before its first segment comes, and the next one after its last.
        """
        window: list[Any] = []
        encoded = None
        for segment in segments:
            if window and segment.seek != window[0].seek:
                yield window, encoded
                window = []
            if not window:
                encoded = self._encoded
            window.append(segment)
        if window:
            yield window, encoded


def _found(segment: Any, words: list[dict[str, Any]], feature: int, times: Any, last: float) -> FoundText:
    """Return a segment and its words in seconds of the whole sound.

    Args:
        segment: faster-whisper's, in seconds of the voiced sound.
        words: "word", "start", "end" and "probability" each, likewise.
        feature: which one it is.
        times: a `faster_whisper.vad.SpeechTimestampsMap`.
        last: length of the whole sound; Whisper rounds ends up.
    """
    spoken = []
    for word in words:
        part = times.get_chunk_index((word["start"] + word["end"]) / 2)  # start and end on the same side of a pause
        start, end = (min(float(times.get_original_time(word[name], part)), last) for name in ("start", "end"))
        spoken.append(Word(word["word"].strip(), start, end, float(word["probability"])))
    sure = [word.confidence for word in spoken] or [math.exp(segment.avg_logprob)]
    start, end = times.get_original_time(segment.start), min(times.get_original_time(segment.end, is_end=True), last)
    return FoundText(segment.text.strip(), feature, start, end, sum(sure) / len(sure), None, tuple(spoken))


def is_speech(segment: Any) -> bool:
    """Return whether a segment of faster-whisper's is to be believed."""
    text = segment.text.strip()
    return bool(
        segment.no_speech_prob <= MAX_NO_SPEECH
        and segment.avg_logprob >= MIN_LOG_PROBABILITY
        and segment.compression_ratio <= MAX_COMPRESSION
        and sum(character.isalnum() for character in text) >= MIN_LETTERS
        and not NO_WORDS.fullmatch(text)
    )
