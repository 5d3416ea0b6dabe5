"""What was asked of what, under which rules: in names that code compares and in words that a table carries."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from vtr.errors import ConfigError
from vtr.evaluation.correspondence import Owners
from vtr.evaluation.postprocess import POST_PROCESSING, check_scale
from vtr.evaluation.ranks import TIE_RULES, TIES_IN_WORDS, VIDEO_TO_TEXT, TieRule, VideoToText

NO_POST_PROCESSING = "none"


@dataclass(frozen=True, slots=True)
class Rules:
    """The choices that make figures differ.

    Attributes:
        ties: the tie rule, see `vtr.evaluation.ranks`.
        video_to_text: how a video with several captions is counted.
        post: a name of `vtr.evaluation.postprocess.POST_PROCESSING`, None for the scores as they are.
        scale: the post-processing's scale (beta), None for its default.

    Raises:
        ConfigError: there is a scale and nothing that takes one.
        InputError: the scale is not a positive number.
    """

    ties: TieRule = TIE_RULES[0]
    video_to_text: VideoToText = VIDEO_TO_TEXT[0]
    post: str | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        if self.scale is None:
            return
        if self.post is None:
            raise ConfigError(
                f"--scale {self.scale:g} belongs to a post-processing, and none was asked for. Add --post."
            )
        check_scale("--scale", self.scale)

    @property
    def suffix(self) -> str:
        """What a result's file name ends in: nothing for the default rules."""
        ties = "" if self.ties == TIE_RULES[0] else f"+{self.ties}"
        protocol = "" if self.video_to_text == VIDEO_TO_TEXT[0] else "+max_caption"
        post = "" if self.post is None else f"+{self.post}"
        own_scale = self.post is not None and self.scale not in (None, POST_PROCESSING[self.post].scale)
        return ties + protocol + post + (f"{self.scale:.10g}" if own_scale else "")

    @property
    def options(self) -> str:
        """The options of `vtr evaluate` that ask for these rules, each after a space."""
        given = {"ties": self.ties, "video-to-text": self.video_to_text, "post": self.post, "scale": self.scale}
        default = {"ties": TIE_RULES[0], "video-to-text": VIDEO_TO_TEXT[0], "post": None, "scale": None}
        return "".join(f" --{name} {value}" for name, value in given.items() if value != default[name])

    @property
    def post_in_words(self) -> str:
        """What was done to the scores."""
        if self.post is None:
            return NO_POST_PROCESSING
        return POST_PROCESSING[self.post].describe(self.scale)


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a part is evaluated.

    Attributes:
        name: captions a video, in short ("20 captions a video"), and whether some were left out.
        text_to_video, video_to_text: queries, gallery and tie rule of each direction, in words.
        ties, video_to_text_rule: the names of the rules.
        post_processing: what was done to the scores before they were ranked, "none" for nothing.
    """

    name: str
    text_to_video: str
    video_to_text: str
    ties: TieRule = TIE_RULES[0]
    video_to_text_rule: VideoToText = VIDEO_TO_TEXT[0]
    post_processing: str = NO_POST_PROCESSING

    @property
    def title(self) -> str:
        """The name, with the rules that are not the default."""
        rules = [TIES_IN_WORDS[self.ties]] if self.ties != TIE_RULES[0] else []
        rules += [self.video_to_text_rule] if self.video_to_text_rule != VIDEO_TO_TEXT[0] else []
        rules += [f"post-processing: {self.post_processing}"] if self.post_processing != NO_POST_PROCESSING else []
        return "; ".join([self.name, *rules])


def describe(video_of_text: Owners, num_videos: int, rules: Rules | None = None, left_out: int = 0) -> Protocol:
    """Return the protocol of a part, from its queries, its gallery and the rules.

    Args:
        video_of_text: [T], each query caption's video, -1 where it describes none.
        num_videos: V, the size of the gallery.
        rules: None for the default ones.
        left_out: how many queries of these videos are not among the texts.
    """
    rules = rules or Rules()
    owners = np.asarray(video_of_text, np.int64)
    queries, captions = np.unique(owners[owners >= 0], return_counts=True)
    asked = int(captions.sum())
    least, most = int(captions.min(initial=len(owners))), int(captions.max(initial=0))
    each = f"{least} caption{'s' if least > 1 else ''}" if least == most else f"{least} to {most} captions"
    gallery = f"{num_videos:,} videos" + _of_which(num_videos - len(queries), "without a query")
    listed = f"{len(owners):,} captions" + _of_which(len(owners) - asked, "of no video in the gallery")
    own = "its caption" if most == 1 else "the best-ranked of its own captions"
    counted = f"ranks {listed} and counts by {own}"
    if rules.video_to_text != VIDEO_TO_TEXT[0]:
        loose = len(owners) - asked
        others = f" and {loose:,} captions of no video in the gallery" if loose else ""
        counted = f"ranks {len(queries):,} videos{others} by the highest score of each one's captions"
    ties = TIES_IN_WORDS[rules.ties]
    missing = f", {left_out:,} queries left out" if left_out else ""
    return Protocol(
        f"{each} a video{missing}",
        f"each of {asked:,} captions ranks {gallery}; {ties}",
        f"each of {len(queries):,} videos {counted} ({rules.video_to_text}); {ties}",
        rules.ties,
        rules.video_to_text,
        rules.post_in_words,
    )


def _of_which(count: int, what: str) -> str:
    return f" ({count:,} of them {what})" if count else ""


def selection_notes(gallery: Collection[str], train: Collection[str], validation: Collection[str]) -> tuple[str, ...]:
    """Return what a reader must know when evaluated videos were used for training or for choosing the checkpoint.

    Args:
        gallery: ids of the evaluated videos.
        train, validation: ids of the videos the run learnt from, and of those its checkpoint was chosen by.
    """
    notes = []
    if learnt := len(set(gallery) & set(train)):
        notes.append(f"The model was trained on {learnt:,} of these {len(gallery):,} videos: this is no test.")
    if chosen := len(set(gallery) & set(validation)):
        notes.append(
            f"The checkpoint was chosen by {chosen:,} of these {len(gallery):,} videos, so the figures are optimistic."
        )
    return tuple(notes)
