"""Changing an index that is searched: videos are added and removed without building it anew.

What is added becomes a small segment beside the main one, and is searched exactly; what is removed is listed. So a
change costs what is changed. Once more than a fifth of the videos lie outside the main segment or were removed from it,
the change folds all into a new main segment, as `vtr index` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vtr.coverage import Coverage
from vtr.embeddings import CaptionBatch, EmbeddedPart, HeldPart
from vtr.errors import ConfigError, WorkspaceError
from vtr.files import lock
from vtr.index.build import add_segment, make_main
from vtr.index.layout import SegmentEntry, State, commit, open_segments, read_state, sweep_unnamed, with_removed
from vtr.index.search import RetrievalIndex
from vtr.index.segment import Rows, Segment
from vtr.progress import say
from vtr.types import VideoEmbeddings

FOLD_SHARE = 5
"""One video in so many may lie outside the main segment, or be removed from it, before all is folded into a new one."""

MOST_SEGMENTS = 9
"""Segments that are searched one by one; when there are more, those added are merged into one."""


def add_videos(folder: Path, part: EmbeddedPart, *, embed_output: str) -> None:
    """Add videos, and captions of theirs, to the index in `folder`; a video that it holds already is replaced.

    A search meanwhile sees the index as it was, or as it is afterwards.

    Args:
        folder: an index that `build_index` wrote.
        part: the embeddings of the new videos, of the same experts and dim; it may have no captions.
        embed_output: the fingerprint of all the embeddings the index is then made from.

    Raises:
        WorkspaceError: there is no index, or it is damaged, of embeddings of another shape, or being written.
    """
    with lock(folder / ".lock", f"change the index {folder}"):
        sweep_unnamed(folder)
        state = read_state(folder)
        shape = part.experts, int(part.videos.vectors.shape[2])
        if shape != (state.experts, state.dim):
            raise WorkspaceError(
                f"videos of experts {', '.join(shape[0])} and dim {shape[1]} cannot be added to the index {folder}, "
                f"which has {', '.join(state.experts)} and dim {state.dim}. Embed them with the model the index is of."
            )
        segments = open_segments(folder, state)
        state = _without(folder, state, segments, part.videos.ids)[0]
        if part.videos.ids:
            state = add_segment(folder, state, HeldPart(part))
        _finish(folder, state, embed_output)


def remove_videos(folder: Path, video_ids: Sequence[str], *, embed_output: str) -> int:
    """Remove videos, and their captions, from the index in `folder`, and return how many it held.

    Raises:
        WorkspaceError: there is no index, or it is damaged, or being written.
    """
    with lock(folder / ".lock", f"change the index {folder}"):
        sweep_unnamed(folder)
        state = read_state(folder)
        state, count = _without(folder, state, open_segments(folder, state), video_ids)
        _finish(folder, state, embed_output)
    return count


def _without(folder: Path, state: State, segments: Sequence[Segment], video_ids: Sequence[str]) -> tuple[State, int]:
    """Return the state without some videos, and how many it held."""
    removed: dict[str, Rows] = {}
    captions: dict[str, int] = {}
    count = 0
    for segment in segments:
        if len(rows := segment.find(video_ids)):
            removed[segment.name] = np.union1d(segment.removed, rows)
            captions[segment.name] = int(np.isin(segment.owners, removed[segment.name]).sum())
            count += len(rows)
    return with_removed(folder, state, removed, captions), count


def _finish(folder: Path, state: State, embed_output: str) -> None:
    """Make a changed state the index, folded where that is due."""
    covered = state.coverage
    coverage = replace(covered, available=state.videos, total=max(covered.total, state.videos))
    inputs = dict(state.inputs) | {"embed": embed_output}
    state = replace(state, inputs=inputs, coverage=coverage)
    main, *added = state.segments
    outside = main.removed_videos + sum(entry.videos for entry in added)
    if FOLD_SHARE * outside > main.live:
        state = _folded(folder, state)
    elif len(state.segments) > MOST_SEGMENTS:
        state = _merged(folder, state)
    commit(folder, state)


def _folded(folder: Path, state: State) -> State:
    """Return a state with all videos in one new main segment; the state as it is where FAISS cannot make one."""
    source = LiveSource(RetrievalIndex(state, open_segments(folder, state)), state.coverage)
    try:
        return make_main(folder, source, state.generation + 1, state.config, state.inputs)
    except ConfigError as error:  # so few are left that the kind cannot be trained on them
        say(f"the index {folder} stays in {len(state.segments)} segments: {error}")
        return state


def _merged(folder: Path, state: State) -> State:
    """Return a state with all that was added in one segment."""
    main, *added = state.segments
    held: Mapping[str, Segment] = {segment.name: segment for segment in open_segments(folder, state)}
    alone = replace(state, segments=tuple(added))
    source = LiveSource(RetrievalIndex(alone, [held[entry.name] for entry in added]), state.coverage)
    files = {name: facts for name, facts in state.files.items() if _of(name) in _names(main)}
    return add_segment(folder, replace(state, generation=state.generation + 1, segments=(main,), files=files), source)


def _of(name: str) -> str:
    return name.partition("/")[0]


def _names(entry: SegmentEntry) -> set[str]:
    return {entry.name, entry.removed}


@dataclass(frozen=True)
class LiveSource:
    """What can be found in an opened index, as embeddings to make another of.

    Attributes:
        index: the index.
        coverage: how much of a part it is.
    """

    index: RetrievalIndex
    coverage: Coverage

    @property
    def experts(self) -> tuple[str, ...]:
        """E expert names."""
        return self.index.experts

    @property
    def dim(self) -> int:
        """D."""
        return self.index.state.dim

    def videos(self) -> Iterator[VideoEmbeddings]:
        """Yield the videos, some at a time."""
        for rows in self.index.video_blocks():
            yield self.index.videos_at(rows)

    def captions(self) -> Iterator[CaptionBatch]:
        """Yield the captions, some at a time."""
        for rows in self.index.caption_blocks():
            yield self.index.captions_at(rows)
