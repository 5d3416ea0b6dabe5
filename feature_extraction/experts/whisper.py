"""Speech through `transformers`: transcripts of a Whisper model (Radford et al. 2022) of any size, voice-gated."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from feature_extraction.damage import UNREADABLE, first_sentence
from feature_extraction.experts.speech import MAX_COMPRESSION, MIN_LETTERS, MIN_LOG_PROBABILITY, NO_WORDS
from feature_extraction.extractor import SOUND_RATE, Expert, Extracted, Reading, Sound, VideoInfo, features
from feature_extraction.hub import expert_folder, model_of, weights_sha256
from feature_extraction.quiet import quiet_transformers
from feature_extraction.text_embedding import SentenceEncoder, sentence_encoder
from feature_extraction.transcript import Heard, Segment, segments
from feature_extraction.transformers_expert import DTYPES, load_model, worker_device
from feature_extraction.windows import is_silent
from vtr.errors import ConfigError, UnavailableError, some
from vtr.experts import find_expert
from vtr.extract_config import ExtractConfig
from vtr.packaged import has_module
from vtr.store.texts import FoundText, Word
from vtr.types import ExpertSpec

PIECE_SECONDS = 30
"""What Whisper hears at once."""
PIECE = PIECE_SECONDS * SOUND_RATE


class WhisperExpert(Expert):
    """One feature a spoken segment; the transcript is kept, with the times of its words where the model can tell them.

    Voice is found by the detector that faster-whisper ships, and only what it lets through is transcribed; without that
    package all sound is, in pieces of 30 seconds. Every worker process has a model of its own.

    Args:
        config: the settings; `settings.NAME` says model, language and precision, `sentence_model` how text is embedded.
        name: the expert's name.

    Raises:
        ConfigError: the model is no Whisper model.
        UnavailableError: weights are missing or cannot be read.
    """

    sound = True
    scaler = "mono, 16 kHz, log-mel as Whisper's"

    def __init__(self, config: ExtractConfig, name: str) -> None:
        own, line = config.of(name), find_expert(name, config.settings)
        model = model_of(config, name)
        self._name, self._folder, self._language = name, expert_folder(config, name), own.language
        self._device, self._dtype = torch.device(worker_device(config)), DTYPES[own.precision]
        self._load()
        self._encoder: SentenceEncoder = sentence_encoder(config.sentence_model)
        self.spec = ExpertSpec(
            name=name,
            dim=self._encoder.dim,
            modality="text",
            window_seconds=None,
            model_id=f"{model} ({own.language or 'any language'}, {own.precision}) + {self._encoder.model_id}",
            weights_sha256=weights_sha256(self._folder),
            pretrained_on=line.pretrained_on,
        )

    def begin(self, info: VideoInfo) -> Reading:
        """Start on a video."""
        del info
        return _Listening(self)

    def transcribe(self, sound: Sound) -> list[Segment]:
        """Return the spoken segments of a sound, in order, without those that are not to be believed."""
        found = []
        for start, end in voice_pieces(sound):
            piece = sound[start:end]
            heard = self._hear(piece)
            spoken = segments(
                heard, self._decode, self._first_special, self._first_time, last_seconds=len(piece) / SOUND_RATE
            )
            found += [_later(segment, start / SOUND_RATE) for segment in spoken if is_believable(segment)]
        return found

    def read(self, sound: Sound) -> Extracted | None:
        """Return a feature and the text of every spoken segment, or None when nobody speaks."""
        spoken = self.transcribe(sound)
        if not spoken:
            return None
        texts = tuple(segment.text for segment in spoken)
        start, end = zip(*((segment.start_seconds, segment.end_seconds) for segment in spoken), strict=True)
        found = tuple(_found(number, segment) for number, segment in enumerate(spoken))
        return Extracted(features(self._encoder.encode(texts), start, end), texts, found)

    def _load(self) -> None:
        from transformers import AutoFeatureExtractor, AutoTokenizer, WhisperForConditionalGeneration

        quiet_transformers()
        try:
            self._spectra: Any = AutoFeatureExtractor.from_pretrained(  # type: ignore[no-untyped-call]
                self._folder, local_files_only=True
            )
            self._tokenizer: Any = AutoTokenizer.from_pretrained(self._folder, local_files_only=True)
        except UNREADABLE as error:
            raise UnavailableError(
                f"expert {self._name}: {self._folder} holds weights but no tokeniser or preprocessor_config.json "
                f"({first_sentence(error)}). Download the model completely."
            ) from error
        model, _ = load_model(WhisperForConditionalGeneration, self._folder, self._name, optional=("proj_out.",))
        self._whisper: Any = model.to(self._device, self._dtype)
        settings = self._whisper.generation_config
        if not hasattr(settings, "no_timestamps_token_id"):
            raise UnavailableError(
                f"expert {self._name}: {self._folder}/generation_config.json does not name Whisper's time tokens "
                "(no_timestamps_token_id). The file of the released model was expected; download the model completely."
            )
        self._first_special = int(self._tokenizer.eos_token_id)
        self._first_time = int(settings.no_timestamps_token_id) + 1
        self._multilingual = bool(getattr(settings, "is_multilingual", False))
        self._tells_words = bool(getattr(settings, "alignment_heads", None))
        spoken = [str(token).strip("<|>") for token in settings.lang_to_id] if self._multilingual else ["en"]
        if self._language not in (None, *spoken):
            raise ConfigError(
                f"settings.{self._name}.language is {self._language}, which {self._folder} does not speak. One "
                f"of {some(sorted(spoken))} was expected, or leave it out."
            )

    @torch.inference_mode()
    def _hear(self, piece: NDArray[np.float32]) -> Heard:
        """Return the model's answer to at most 30 seconds: always its most probable next token, nothing at random."""
        given = self._spectra(piece, sampling_rate=SOUND_RATE, return_tensors="pt", return_attention_mask=True)
        speaking = {"language": self._language, "task": "transcribe"} if self._multilingual else {}
        out = self._whisper.generate(
            given.input_features.to(self._device, self._dtype),
            attention_mask=given.attention_mask.to(self._device),
            return_timestamps=True,
            return_token_timestamps=self._tells_words,
            force_unique_generate_call=True,
            return_dict_in_generate=True,
            output_scores=True,
            do_sample=False,
            num_beams=1,
            **speaking,
        )
        sequence = out["sequences"][0].tolist()
        scores = torch.stack([score[0].float() for score in out["scores"]]).log_softmax(dim=-1).cpu().numpy()
        prompt = len(sequence) - len(scores)
        tokens = sequence[prompt:]
        ends = out["token_timestamps"][0].double().cpu().numpy()[prompt:] if self._tells_words else None
        log_probabilities = scores[np.arange(len(tokens)), tokens].astype(np.float64)
        return Heard(tokens, log_probabilities, ends, self._spoken_language(sequence[:prompt]))

    def _spoken_language(self, prompt: list[int]) -> str:
        if not self._multilingual:
            return "en"
        names = [str(token).strip("<|>") for token in self._tokenizer.convert_ids_to_tokens(prompt)]
        return names[1] if len(names) > 1 else ""

    def _decode(self, tokens: Iterable[int]) -> str:
        return str(self._tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False))


class _Listening(Reading):
    """Waits for the sound."""

    def __init__(self, expert: WhisperExpert) -> None:
        self._expert = expert

    def finish(self, sound: Sound | None) -> Extracted | None:
        if sound is None or is_silent(sound):
            return None
        return self._expert.read(sound)


def voice_pieces(sound: Sound) -> list[tuple[int, int]]:
    """Return where pieces with voice start and end, in samples, each at most 30 seconds; neighbours are joined."""
    if not has_module("faster_whisper"):
        return [(start, min(start + PIECE, len(sound))) for start in range(0, len(sound), PIECE)]
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    found = get_speech_timestamps(sound, VadOptions(max_speech_duration_s=PIECE_SECONDS))
    pieces: list[tuple[int, int]] = []
    for span in found:
        start, end = int(span["start"]), min(int(span["end"]), int(span["start"]) + PIECE)
        if pieces and end - pieces[-1][0] <= PIECE:
            pieces[-1] = (pieces[-1][0], end)
        else:
            pieces.append((start, end))
    return pieces


def is_believable(segment: Segment) -> bool:
    """Return whether a segment is speech: on music and noise Whisper invents text, or repeats itself."""
    raw = segment.text.encode()
    return bool(
        segment.log_probability >= MIN_LOG_PROBABILITY
        and len(raw) / len(zlib.compress(raw)) <= MAX_COMPRESSION
        and sum(character.isalnum() for character in segment.text) >= MIN_LETTERS
        and not NO_WORDS.fullmatch(segment.text)
    )


def _later(segment: Segment, seconds: float) -> Segment:
    words = tuple(
        Word(word.text, word.start_seconds + seconds, word.end_seconds + seconds, word.confidence)
        for word in segment.words
    )
    start, end = segment.start_seconds + seconds, segment.end_seconds + seconds
    return Segment(segment.text, start, end, segment.log_probability, words)


def _found(number: int, segment: Segment) -> FoundText:
    sure = float(np.exp(min(segment.log_probability, 0.0)))
    return FoundText(segment.text, number, segment.start_seconds, segment.end_seconds, sure, words=segment.words)
