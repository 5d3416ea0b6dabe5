"""Lines that one model finds and another one reads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from tiny_models import READ, save_tiny

from feature_extraction.experts import make_extractor
from feature_extraction.experts.trocr import TrOCRExpert
from vtr.extract_config import ExtractConfig


@pytest.fixture(scope="module")
def expert(tmp_path_factory: pytest.TempPathFactory) -> TrOCRExpert:
    """A model that reads the same whatever it sees."""
    path = str(save_tiny("trocr", tmp_path_factory.mktemp("tiny models")))
    made = make_extractor("ocr_trocr", ExtractConfig.model_validate({"settings": {"ocr_trocr": {"model": path}}}))
    assert isinstance(made, TrOCRExpert)
    return made


def board(*lines: str) -> np.ndarray:
    image = Image.new("RGB", (320, 240), (30, 60, 90))
    for row, line in enumerate(lines):
        ImageDraw.Draw(image).text((20, 40 + 100 * row), line, (250, 250, 240), ImageFont.load_default(30))
    return np.asarray(image)


def test_every_line_is_read_where_it_stands(expert: TrOCRExpert) -> None:
    found = expert.read(board("COFFEE", "Open late"))
    assert [line.text for line in found] == [READ, READ]
    for line, top in zip(found, (40, 140), strict=True):
        left, upper, right, lower = line.box
        assert left * 320 == pytest.approx(20, abs=10)
        assert top - 10 < upper * 240 < top + 20
        assert 0 < right <= 1
        assert (lower - upper) * 240 < 60
        assert line.confidence > 0.9
    assert expert.read(board()) == []


@torch.no_grad()
def test_confidence_is_the_models_own(expert: TrOCRExpert) -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), dtype=np.uint8)
    pixels = expert._scaler.normalise(torch.from_numpy(pictures))
    tokens = expert._tokenizer(READ, add_special_tokens=False)["input_ids"] + [expert._tokenizer.eos_token_id]
    given = torch.tensor([[expert._trocr.config.decoder_start_token_id, *tokens[:-1]]] * 3)
    logits = expert._trocr(pixel_values=pixels, decoder_input_ids=given).logits.double().softmax(dim=-1)
    chances = logits[:, range(len(tokens)), tokens].log().mean(dim=1).exp()
    found = expert._read_lines(pictures)
    assert [text for text, _ in found] == [READ] * 3
    assert [sure for _, sure in found] == pytest.approx(chances.tolist(), abs=1e-5)


def test_a_line_does_not_depend_on_its_batch(expert: TrOCRExpert, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = expert.read(board("COFFEE", "Open late"))
    monkeypatch.setattr(expert, "_batch", 1)
    alone = expert.read(board("COFFEE", "Open late"))
    assert [line.text for line in alone] == [line.text for line in whole]
    assert [line.confidence for line in alone] == pytest.approx([line.confidence for line in whole], abs=1e-5)
