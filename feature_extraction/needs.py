"""From settings to what an expert needs decoded."""

from __future__ import annotations

from feature_extraction.frames import FrameNeed, Sampling
from vtr.extract_config import ExtractConfig


def frame_need(config: ExtractConfig, expert: str, exact: tuple[int, int] | None = None) -> FrameNeed:
    """Return the frames an expert of single frames reads: what is set for it, else what is set for all.

    Args:
        config: the settings.
        expert: the expert's name.
        exact: (width, height) of the pictures; by default `frame_side` rules.
    """
    own = config.of(expert)
    sampling = Sampling(
        kind=own.sampling or config.sampling,
        per_second=own.frames_per_second or config.frames_per_second,
        most=own.max_frames or (None if (own.sampling or config.sampling) == "all" else config.max_frames),
        per_shot=config.frames_per_shot,
    )
    return FrameNeed(sampling, side=config.frame_side, exact=exact)
