"""Ablation against masking, text by text and video by video; protocols and tables in words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from vtr.coverage import Coverage
from vtr.embeddings import EmbeddedPart
from vtr.evaluation.ablation import ablations, num_ablations
from vtr.evaluation.metrics import evaluate_scores
from vtr.evaluation.protocols import describe, selection_notes
from vtr.evaluation.table import Table
from vtr.similarity import exact_scores
from vtr.types import TextEmbeddings, VideoEmbeddings

EXPERTS = ("appearance", "audio", "motion")


@pytest.fixture
def part() -> EmbeddedPart:
    generator = torch.Generator().manual_seed(4)
    owners = np.repeat(np.arange(20), 2)
    videos = normalize(torch.randn((20, 3, 6), generator=generator), dim=-1)
    texts = normalize(videos[owners] + torch.randn((40, 3, 6), generator=generator), dim=-1)
    present = (torch.rand((20, 3), generator=generator) > 0.3).float()
    weights = torch.softmax(torch.randn((40, 3), generator=generator), dim=-1)
    ids = tuple(str(row) for row in range(40))
    embedded = VideoEmbeddings(ids[:20], videos, present)
    return EmbeddedPart(
        EXPERTS, embedded, TextEmbeddings(ids, texts, weights), ids, owners, Coverage("full", "test", 20, 20)
    )


def test_ablation_is_masking_in_the_score(part: EmbeddedPart) -> None:
    """An expert that is left out counts as one that no video has."""
    found = list(ablations(part))
    assert len(found) == num_ablations(part) == 6
    for some in found:
        word, _, name = some.label.partition(" ")
        chosen = torch.tensor([(expert == name) == (word == "only") for expert in EXPERTS])
        masked = VideoEmbeddings(part.videos.ids, part.videos.vectors, part.videos.present * chosen)
        expected = evaluate_scores(exact_scores(part.texts, masked), part.video_of_text)
        assert some.metrics == expected, some.label
        assert some.share == pytest.approx(float((masked.present.sum(1) > 0).float().mean()))


def test_one_expert_has_no_ablation_and_two_have_one_each(part: EmbeddedPart) -> None:
    def first(count: int) -> EmbeddedPart:
        videos = VideoEmbeddings(part.videos.ids, part.videos.vectors[:, :count], part.videos.present[:, :count])
        texts = TextEmbeddings(part.texts.ids, part.texts.vectors[:, :count], part.texts.weights[:, :count])
        return EmbeddedPart(EXPERTS[:count], videos, texts, part.texts_plain, part.video_of_text, part.coverage)

    assert list(ablations(first(1))) == []
    assert [some.label for some in ablations(first(2))] == ["only appearance", "only audio"]
    assert num_ablations(first(2)) == 2


def test_protocols_in_words() -> None:
    many = describe(np.repeat(np.arange(2990), 20), 2990)
    assert many.name == "20 captions a video"
    assert many.text_to_video.startswith("each of 59,800 captions ranks 2,990 videos; ties share")
    assert "each of 2,990 videos ranks 59,800 captions and counts by the best-ranked of its own" in many.video_to_text
    single = describe([0, 1, 2], 5)
    assert single.name == "1 caption a video"
    assert "ranks 5 videos (2 of them without a query)" in single.text_to_video
    assert "each of 3 videos ranks 3 captions and counts by its caption" in single.video_to_text
    assert describe([0, 0, 1], 2).name == "1 to 2 captions a video"


def test_notes_on_earlier_use() -> None:
    assert selection_notes(["a", "b"], ["c"], ["d"]) == ()
    learnt, chosen = selection_notes(["a", "b", "c"], ["a"], ["b", "c", "z"])
    assert "trained on 1 of these 3 videos" in learnt
    assert "chosen by 2 of these 3 videos" in chosen


def test_tables_line_up() -> None:
    lines = str(Table("title", ("", "R@1"), (("text to video", "9.1"), ("x", "100.0")))).splitlines()
    assert lines == ["title", "                 R@1", "-" * 20, "text to video    9.1", "x              100.0"]
