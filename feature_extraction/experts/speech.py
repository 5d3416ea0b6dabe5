"""Speech: Whisper tiny.en transcripts behind a voice gate, embedded by a sentence encoder (Radford et al. 2022)."""

from __future__ import annotations

import re
from typing import Any

from feature_extraction.extractor import SOUND_RATE, Extracted, Media, features
from feature_extraction.text_embedding import sentence_encoder
from vtr.config import ExtractConfig
from vtr.files import sha256_file
from vtr.packaged import whisper_folder
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


class SpeechExtractor:
    """One feature a spoken segment; the transcript is kept. The voice gate is the VAD that faster-whisper ships."""

    needs_motion = False
    needs_sound = True
    scaler = "mono, 16 kHz"

    def __init__(self, config: ExtractConfig) -> None:
        from faster_whisper import WhisperModel

        folder = whisper_folder()
        self._whisper = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1, num_workers=1)
        self._encoder = sentence_encoder(config.sentence_model)
        self.spec = ExpertSpec(
            name="speech",
            dim=self._encoder.dim,
            modality="text",
            window_seconds=None,
            model_id=f"whisper-tiny.en + {self._encoder.model_id}",
            weights_sha256=sha256_file(folder / "model.bin"),
            pretrained_on="Whisper's 680,000 hours of speech; sentence pairs",
        )

    def extract(self, media: Media) -> Extracted | None:
        """Return one feature a spoken segment, or None when nobody speaks."""
        if media.sound is None:
            return None
        segments, _ = self._whisper.transcribe(
            media.sound,
            language="en",
            beam_size=1,
            temperature=0.0,  # no second try at random: the same sound gives the same words
            vad_filter=True,
            condition_on_previous_text=False,
        )
        last = len(media.sound) / SOUND_RATE  # Whisper rounds a segment's end up
        kept = [(s.text.strip(), s.start, min(s.end, last)) for s in segments if is_speech(s)]
        if not kept:
            return None
        texts, start, end = zip(*kept, strict=True)
        return Extracted(features(self._encoder.encode(texts), start, end), tuple(texts))


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
