"""Words drawn into frames are read, with the time they are on screen."""

from __future__ import annotations

import numpy as np
import pytest
from painted_clips import media
from PIL import Image, ImageDraw, ImageFont

from feature_extraction.experts import make_extractor
from feature_extraction.text_embedding import sentence_encoder
from vtr.config import ExtractConfig


def board(*lines: str) -> np.ndarray:
    image = Image.new("RGB", (320, 240), (30, 60, 90))
    for row, line in enumerate(lines):
        draw = ImageDraw.Draw(image)
        draw.text((20, 40 + 70 * row), line, (250, 250, 240), ImageFont.load_default(30))
    return np.asarray(image)


def test_words_are_read_with_their_time_and_embedded(extractor) -> None:
    frames = np.stack([board("COFFEE", "Open late")] * 3 + [board()] * 2 + [board("GARAGE")] * 2)
    found = extractor("ocr").extract(media(frames, duration_seconds=6.5))
    assert found.texts == ("COFFEE", "Open late", "GARAGE")
    assert found.features.start_seconds.tolist() == [0, 0, 5]
    assert found.features.end_seconds.tolist() == [3, 3, 6.5]
    expected = sentence_encoder(ExtractConfig().sentence_model).encode(found.texts)
    np.testing.assert_allclose(found.features.values, expected, atol=1e-5)
    assert found.features.dim == extractor("ocr").spec.dim == 384


def test_nothing_to_read_is_absent(extractor) -> None:
    noise = np.random.default_rng(0).integers(100, 140, (2, 240, 320, 3), dtype=np.uint8)
    assert extractor("ocr").extract(media(noise)) is None


def test_a_text_that_comes_back_is_one_feature(extractor) -> None:
    frames = np.stack([board("EXIT"), board(), board("EXIT")])
    found = extractor("ocr").extract(media(frames))
    assert found.texts == ("EXIT",)
    assert (found.features.start_seconds.tolist(), found.features.end_seconds.tolist()) == ([0], [3])


def test_frames_alike_are_read_once_and_others_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    expert = make_extractor("ocr", ExtractConfig(text_frames_per_second=1.0))
    seen = []
    monkeypatch.setattr(expert, "_read", lambda image: seen.append(image) or ["words"])
    frames = np.stack([board("A")] * 6 + [board("something else")] * 2)
    found = expert.extract(media(frames, np.arange(8) * 0.5))
    assert len(seen) == 2  # of the four frames a second apart, the first three are alike
    assert found.features.end_seconds.tolist() == [4.0]


def test_one_thread_reads(extractor) -> None:
    sessions = [extractor("ocr")._reader.text_det.session.session, extractor("ocr")._reader.text_rec.session.session]
    assert [session.get_session_options().intra_op_num_threads for session in sessions] == [1, 1]
