"""For tests: small models, and batches of numbers for them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from vtr.model_config import MMTConfig
from vtr.models.mmt import MMT
from vtr.types import ExpertBatch, TextBatch, VideoBatch

DIMS = {"audio": 5, "face": 3, "motion": 4}
TEXT_DIM = 6


def small_mmt(expert_ids: Mapping[str, int] | None = None, **changes: object) -> MMT:
    """Return an MMT with the same weights each time; keyword arguments change the config."""
    values = {"dim": 8, "layers": 2, "heads": 2, "feed_forward": 16, "max_position": 31} | changes
    torch.manual_seed(0)
    model = MMT(MMTConfig.model_validate(values), DIMS, TEXT_DIM, expert_ids=expert_ids)
    for parameter in (model.position_embedding.weight, model.expert_embedding.weight):
        torch.nn.init.normal_(parameter)  # large enough that a wrong row shows
    return model.eval()


def some_videos() -> VideoBatch:
    """Return four with up to three features an expert: the second lacks audio, the third all but face, the last all."""
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


def some_texts() -> TextBatch:
    """Return four texts as frozen states."""
    return TextBatch(tuple("wxyz"), states=torch.randn((4, TEXT_DIM), generator=torch.Generator().manual_seed(2)))


def some_words() -> TextBatch:
    """Return four texts as frozen states of their tokens, up to five each."""
    mask = torch.arange(5) < torch.tensor([5, 3, 1, 4])[:, None]
    states = torch.randn((4, 5, TEXT_DIM), generator=torch.Generator().manual_seed(3)) * mask[..., None]
    return TextBatch(tuple("wxyz"), attention_mask=mask.long(), token_states=states)
