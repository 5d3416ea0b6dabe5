"""Words drawn into frames are read, with the time they are on screen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from painted_clips import media
from PIL import Image, ImageDraw, ImageFont

from feature_extraction.experts import make_extractor
from feature_extraction.experts.ocr import Line
from feature_extraction.extractor import Frames
from feature_extraction.needs import frame_need
from feature_extraction.text_embedding import sentence_encoder
from vtr.extract_config import ExpertConfig, ExtractConfig

BLANK = np.full((240, 320, 3), 120, np.uint8)


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
    frames = np.stack([board("EXIT"), BLANK, board("EXIT")])
    found = extractor("ocr").extract(media(frames))
    assert len(found.found) == 2
    assert found.texts == ("EXIT",)
    assert (found.features.start_seconds.tolist(), found.features.end_seconds.tolist()) == ([0], [3])


def test_every_reading_is_kept_with_its_place_time_and_feature(extractor) -> None:
    frames = np.stack([board("COFFEE", "Open late")] * 3 + [BLANK] + [board("COFFEE")] * 2)
    found = extractor("ocr").extract(media(frames, duration_seconds=5.5)).found
    assert [(one.text, one.feature, one.start_seconds, one.end_seconds) for one in found] == [
        ("COFFEE", 0, 0, 3),
        ("Open late", 1, 0, 3),
        ("COFFEE", 0, 4, 5.5),
    ]
    assert all(0.6 <= one.confidence <= 1 and one.words == () for one in found)
    for one, row in zip(found, (0, 1, 0), strict=True):
        ink = ImageDraw.Draw(Image.new("RGB", (320, 240)))
        drawn = ink.textbbox((20, 40 + 70 * row), one.text, ImageFont.load_default(30))
        np.testing.assert_allclose(
            np.multiply(one.box, (320, 240, 320, 240)), drawn, atol=12
        )  # the detector leaves a margin


def test_a_text_written_otherwise_is_the_same_feature_and_kept_as_read(monkeypatch: pytest.MonkeyPatch) -> None:
    expert = make_extractor("ocr", ExtractConfig())
    lines = iter([[Line("Exit", 0.9, (0, 0, 1, 1))], [Line("EXIT", 0.8, (0, 0, 1, 1)), Line("no", 0.7, (0, 0, 1, 1))]])
    monkeypatch.setattr(expert, "read", lambda _: next(lines))
    found = expert.extract(media(np.stack([board("A"), board("something else")])))
    assert found.texts == ("Exit", "no")
    assert [(one.text, one.feature) for one in found.found] == [("Exit", 0), ("EXIT", 0), ("no", 1)]


def test_piece_by_piece_is_as_all_at_once(extractor) -> None:
    frames = np.stack([board("COFFEE")] * 3 + [board("GARAGE", "Exit")] * 3)
    whole = media(frames, np.arange(6) * 0.5)
    reading = extractor("ocr").begin(whole.info)
    for at in range(6):
        reading.add(Frames(frames[at : at + 1], whole.frames.seconds[at : at + 1]))
    pieces, together = reading.finish(None), extractor("ocr").extract(whole)
    assert (pieces.texts, pieces.found) == (together.texts, together.found)
    np.testing.assert_array_equal(pieces.features.values, together.features.values)
    np.testing.assert_array_equal(pieces.features.end_seconds, together.features.end_seconds)


@pytest.mark.parametrize(
    ("config", "seen", "end"),
    [
        (ExtractConfig(text_frames_per_second=1.0), [0, 3], 4.0),  # of the frames 1 s apart the first three are alike
        (ExtractConfig(text_frames_per_second=0.5), [0], 4.0),
        (ExtractConfig(settings={"ocr": ExpertConfig(frames_per_second=2.0)}), [0, 3], 4.0),  # all, as it asked
        (ExtractConfig(settings={"ocr": ExpertConfig(sampling="all")}), [0, 3], 4.5),
    ],
)
def test_frames_alike_are_read_once_and_others_thinned(
    monkeypatch: pytest.MonkeyPatch, config: ExtractConfig, seen: list[int], end: float
) -> None:
    expert = make_extractor("ocr", config)
    read = []
    monkeypatch.setattr(expert, "read", lambda image: read.append(image) or [Line("words", 0.9, (0, 0, 1, 1))])
    different = [board("A"), board("something else"), board("a third", "and more"), board("the last of them")]
    frames = np.stack([different[place] for place in (0, 0, 0, 0, 0, 0, 3, 3)])
    found = expert.extract(media(frames, np.arange(8) * 0.5, duration_seconds=4.5))
    assert [next(n for n, one in enumerate(different) if (one == image).all()) for image in read] == seen
    assert found.features.end_seconds.tolist() == [end]


def test_its_frames_are_those_of_the_other_frame_experts(extractor) -> None:
    assert extractor("ocr").frames == frame_need(ExtractConfig(), "appearance")
    own = ExtractConfig(settings={"ocr": ExpertConfig(frames_per_second=4.0)})
    need = make_extractor("ocr", own).frames
    assert need == replace(extractor("ocr").frames, sampling=replace(need.sampling, per_second=4.0))


def test_one_thread_reads(extractor) -> None:
    reader = extractor("ocr")._reader
    reader(board("EXIT"))  # networks are loaded when they are first asked
    sessions = [reader.text_det.session.session, reader.text_rec.session.session]
    assert [session.get_session_options().intra_op_num_threads for session in sessions] == [1, 1]
