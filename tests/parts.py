"""Small embedded parts of random numbers, with and without missing experts."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import normalize

from vtr.coverage import Coverage
from vtr.embeddings import EmbeddedPart
from vtr.types import TextEmbeddings, VideoEmbeddings


def make_part(num_videos: int, per_video: int = 3, missing: float = 0.0, seed: int = 0, dim: int = 8) -> EmbeddedPart:
    """Return a random part: captions near their videos, and a share of the experts missing."""
    generator = torch.Generator().manual_seed(seed)
    owners = np.repeat(np.arange(num_videos), per_video)
    videos = normalize(torch.randn((num_videos, 4, dim), generator=generator), dim=-1)
    noise = torch.randn((len(owners), 4, dim), generator=generator)
    present = (torch.rand((num_videos, 4), generator=generator) >= missing).float()
    texts = TextEmbeddings(
        tuple(f"video{owner}#{row % max(per_video, 1)}" for row, owner in enumerate(owners)),
        normalize(videos[owners] + noise, dim=-1),
        torch.softmax(2 * torch.randn((len(owners), 4), generator=generator), dim=-1),
    )
    return EmbeddedPart(
        ("appearance", "audio", "motion", "ocr"),
        VideoEmbeddings(tuple(f"video{row}" for row in range(num_videos)), videos, present),
        texts,
        tuple(f"caption {row}" for row in range(len(owners))),
        owners,
        Coverage("full", "test", num_videos, num_videos),
    )
