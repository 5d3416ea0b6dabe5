"""The example in docs/extending.md is an expert that works."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from feature_extraction.experts import make_extractor
from feature_extraction.extractor import Frames, Media, VideoInfo
from vtr import experts
from vtr.extract_config import ExtractConfig

GUIDE = Path(__file__).parents[2] / "docs" / "extending.md"


def test_the_expert_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    code = re.search(
        r'^```python title="feature_extraction/experts/colour.py"\n(.*?)^```', text, re.DOTALL | re.MULTILINE
    )
    assert code is not None
    (tmp_path / "colour.py").write_text(code[1], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "colour", raising=False)
    images = np.random.default_rng(0).integers(0, 255, (5, 8, 12, 3), dtype=np.uint8)
    media = Media(VideoInfo("made by hand", 6.0, 12, 8, 1.0, False), Frames(images, np.arange(5.0)))
    expert = make_extractor("colour", ExtractConfig(), {"colour": "colour:ColourExpert"})
    found = expert.extract(media)
    assert found is not None
    for index, image in enumerate(images):
        expected = [image[..., channel].astype(float).sum() / 96 for channel in range(3)]
        np.testing.assert_allclose(found.features.values[index], expected, rtol=1e-6)
    assert found.features.start_seconds.tolist() == [0, 1, 2, 3, 4]
    assert found.features.end_seconds.tolist() == [1, 2, 3, 4, 6]
    assert expert.begin(media.info).finish(None) is None


def test_the_line_of_the_guide_is_one_of_the_table() -> None:
    line = re.search(r'Expert\("colour".*?\),\n', GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert line is not None
    made = eval(line[0].strip().rstrip(","), dict(vars(experts)))
    assert (made.name, made.needs, made.dim, made.takes) == ("colour", "packaged", "3", experts.FRAMES)
