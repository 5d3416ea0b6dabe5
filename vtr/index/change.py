"""Changing an index that is searched: videos are added and removed without building it anew."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vtr.embeddings import EmbeddedPart


def add_videos(folder: Path, part: EmbeddedPart, *, embed_output: str) -> None:
    """Add videos, and captions of theirs, to the index in `folder`; a video that it holds already is replaced.

    A search meanwhile sees the index as it was, or as it is afterwards.

    Args:
        folder: an index that `build_index` wrote.
        part: the embeddings of the new videos, of the same experts and dim; it may have no captions.
        embed_output: the fingerprint of all the embeddings the index is then made from.

    Raises:
        WorkspaceError: there is no index, or it is damaged or of embeddings of another shape.
    """
    raise NotImplementedError


def remove_videos(folder: Path, video_ids: Sequence[str], *, embed_output: str) -> int:
    """Remove videos, and their captions, from the index in `folder`, and return how many it held.

    Raises:
        WorkspaceError: there is no index, or it is damaged.
    """
    raise NotImplementedError
