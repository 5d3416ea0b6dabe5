"""Protocols: rules in file names and in words, for galleries where something is missing."""

from __future__ import annotations

import itertools

import pytest

from vtr.evaluation.postprocess import POST_PROCESSING
from vtr.evaluation.protocols import TIES_IN_WORDS, Rules, describe
from vtr.evaluation.ranks import TIE_RULES, VIDEO_TO_TEXT

MAX_CAPTION = VIDEO_TO_TEXT[1]


@pytest.mark.parametrize(
    ("rules", "suffix"),
    [
        (Rules(), ""),
        (Rules(ties="optimistic"), "+optimistic"),
        (Rules(video_to_text=MAX_CAPTION), "+max_caption"),
        (Rules(post="qb_norm"), "+qb_norm"),
        (Rules(post="qb_norm", scale=5), "+qb_norm5"),
        (Rules("pessimistic", MAX_CAPTION, "dual_softmax", 0.5), "+pessimistic+max_caption+dual_softmax0.5"),
    ],
)
def test_a_file_name_says_what_is_not_the_default(rules: Rules, suffix: str) -> None:
    assert rules.suffix == suffix


def test_different_rules_have_different_names_and_titles() -> None:
    chosen = [
        Rules(*values) for values in itertools.product(TIE_RULES, VIDEO_TO_TEXT, [None, *POST_PROCESSING], [None])
    ]
    chosen += [Rules(post=name, scale=scale) for name in POST_PROCESSING for scale in (3.0, 0.25)]
    assert len({rules.suffix for rules in chosen}) == len(chosen) == 30
    assert len({describe([0, 1], 2, rules).title for rules in chosen}) == 30


def test_a_title_names_the_rules_that_are_not_the_default() -> None:
    assert describe([0, 0, 1, 1], 2).title == "2 captions a video"
    rules = Rules("pessimistic", MAX_CAPTION, "inverted_softmax", 7)
    protocol = describe([0, 0, 1, 1], 2, rules)
    assert protocol.title == (
        "2 captions a video; ties take the worst of their places; max_caption_then_rank_videos; "
        "post-processing: inverted softmax over all test queries (transductive), scale 7"
    )
    assert (protocol.ties, protocol.video_to_text_rule) == ("pessimistic", MAX_CAPTION)
    assert protocol.post_processing == rules.post_in_words
    assert Rules().post_in_words == describe([0], 1).post_processing == "none"


@pytest.mark.parametrize("ties", TIE_RULES)
def test_each_direction_says_what_is_asked_of_what(ties: str) -> None:
    """Videos 0 and 3 have captions, 1 and 2 have none, and two captions describe neither."""
    owners = [0, -1, 3, 3, 0, 3, -1]
    rules = Rules(ties=ties)  # type: ignore[arg-type]
    found = describe(owners, 4, rules)
    words = TIES_IN_WORDS[rules.ties]
    assert found.name == "2 to 3 captions a video"
    assert found.text_to_video == f"each of 5 captions ranks 4 videos (2 of them without a query); {words}"
    assert found.video_to_text == (
        "each of 2 videos ranks 7 captions (2 of them of no video in the gallery) and counts by the best-ranked of its "
        f"own captions (best_own_caption_among_all_captions); {words}"
    )
    as_one = describe([0, 3, 3, 0, 3], 4, Rules(ties=rules.ties, video_to_text=MAX_CAPTION))
    assert as_one.text_to_video == found.text_to_video
    assert as_one.video_to_text == (
        "each of 2 videos ranks 2 videos by the highest score of each one's captions (max_caption_then_rank_videos); "
        f"{words}"
    )
