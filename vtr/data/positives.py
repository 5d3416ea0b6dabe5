"""Which texts are known to describe which videos, so that a batch does not push true matches apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def same_words(text: str) -> str:
    """Return a caption as it is compared with others: lower case, single spaces, no full stop at the end."""
    return " ".join(text.lower().split()).rstrip(" .")


class KnownPositives:
    """The videos that each caption is known to describe: its own, and any that the same words were written for.

    Args:
        texts: N captions.
        videos: N video rows, that each caption was written for.
    """

    def __init__(self, texts: Sequence[str], videos: Sequence[int]) -> None:
        groups: dict[str, int] = {}
        self._group = np.array([groups.setdefault(same_words(text), len(groups)) for text in texts], np.int64)
        described: defaultdict[int, set[int]] = defaultdict(set)
        for group, video in zip(self._group.tolist(), videos, strict=True):
            described[group].add(video)
        self._own = np.array(videos, np.int64)
        self._several = {group: np.array(sorted(held)) for group, held in described.items() if len(held) > 1}

    def share(self) -> float:
        """Return the share of captions whose words were written for more than one video."""
        return float(np.isin(self._group, list(self._several)).mean()) if len(self._group) else 0.0

    def mask(self, pairs: Sequence[tuple[int, int]]) -> Tensor:
        """Return bool [B, B], True where the text of pair i is known to describe the video of pair j.

        Args:
            pairs: B (video row, caption row).
        """
        videos = np.array([video for video, _ in pairs])
        mask = videos[:, None] == videos
        for row, (_, caption) in enumerate(pairs):
            described = self._several.get(int(self._group[caption]))
            if described is not None:
                mask[row] |= np.isin(videos, described)
        return torch.from_numpy(mask)

    def described(self, captions: Sequence[int], num_videos: int) -> Tensor:
        """Return bool [N, V], True where a caption is known to describe a video.

        Args:
            captions: N caption rows.
            num_videos: V, the videos' rows are 0 to V - 1.
        """
        mask = np.zeros((len(captions), num_videos), bool)
        for row, caption in enumerate(captions):
            mask[row, self._own[caption]] = True
            described = self._several.get(int(self._group[caption]))
            if described is not None:
                mask[row, described] = True
        return torch.from_numpy(mask)
