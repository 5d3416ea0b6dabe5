"""Small models and batches of numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch

from vtr.config import MMTConfig
from vtr.models.mmt import MMT
from vtr.types import ExpertBatch, TextBatch, VideoBatch

DIMS = {"audio": 5, "face": 3, "motion": 4}
TEXT_DIM = 6


@pytest.fixture
def make_mmt() -> Callable[..., MMT]:
    """Makes small models with the same weights each time; keyword arguments change the config."""

    def make(expert_ids: Mapping[str, int] | None = None, **changes: object) -> MMT:
        values = {"dim": 8, "layers": 2, "heads": 2, "feed_forward": 16, "max_position": 31} | changes
        torch.manual_seed(0)
        model = MMT(MMTConfig.model_validate(values), DIMS, TEXT_DIM, expert_ids=expert_ids)
        for parameter in (model.position_embedding.weight, model.expert_embedding.weight):
            torch.nn.init.normal_(parameter)  # large enough that a wrong row shows
        return model.eval()

    return make


@pytest.fixture
def videos() -> VideoBatch:
    """Four videos with up to three features an expert: the second lacks audio, the third all but face, the last all."""
    generator = torch.Generator().manual_seed(1)
    present = torch.tensor([[1, 1, 1], [0, 1, 1], [0, 1, 0], [0, 0, 0]]).bool()
    experts = {}
    for place, (name, dim) in enumerate(DIMS.items()):
        counts = present[:, place] * torch.tensor([3, 2, 1, 3])
        mask = torch.arange(3) < counts[:, None]
        values = torch.randn((4, 3, dim), generator=generator) * mask[..., None]
        seconds = torch.rand((4, 3), generator=generator) * 25
        seconds[0, 1] = torch.nan
        aggregate = torch.randn((4, dim), generator=generator) * present[:, place, None]
        experts[name] = ExpertBatch(values, seconds, mask, aggregate)
    return VideoBatch(tuple("abcd"), experts, present)


@pytest.fixture
def texts() -> TextBatch:
    """Four texts as frozen states."""
    return TextBatch(tuple("wxyz"), states=torch.randn((4, TEXT_DIM), generator=torch.Generator().manual_seed(2)))
