"""Small models and batches of numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_models import small_mmt, some_texts, some_videos

from vtr.models.mmt import MMT
from vtr.types import TextBatch, VideoBatch


@pytest.fixture
def make_mmt() -> Callable[..., MMT]:
    """Makes small models with the same weights each time; keyword arguments change the config."""
    return small_mmt


@pytest.fixture
def videos() -> VideoBatch:
    """Four videos with up to three features an expert: the second lacks audio, the third all but face, the last all."""
    return some_videos()


@pytest.fixture
def texts() -> TextBatch:
    """Four texts as frozen states."""
    return some_texts()
