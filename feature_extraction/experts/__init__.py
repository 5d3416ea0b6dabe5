"""The extractors, one a file. `EXTRACTORS` says which class reads which expert."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import cast

from feature_extraction.extractor import Expert
from vtr.config import ExtractConfig
from vtr.errors import ConfigError, UnavailableError
from vtr.experts import EXPERTS
from vtr.packaged import INSTALL_EXPERTS, has_module

EXTRACTORS: Mapping[str, str] = {
    "appearance": "feature_extraction.experts.appearance:AppearanceExtractor",
    "audio": "feature_extraction.experts.audio:make_audio_extractor",
    "face": "feature_extraction.experts.face:FaceExtractor",
    "motion": "feature_extraction.experts.motion:MotionExtractor",
    "ocr": "feature_extraction.experts.ocr:OCRExtractor",
    "speech": "feature_extraction.experts.speech:SpeechExtractor",
}
"""Expert -> "module:callable" that takes an ExtractConfig and the expert's name."""


def missing_packages(name: str) -> tuple[str, ...]:
    """Return the packages an expert needs and that are not installed."""
    return tuple(package for package in EXPERTS[name].packages if not has_module(package))


def make_extractor(name: str, config: ExtractConfig, extractors: Mapping[str, str] = EXTRACTORS) -> Expert:
    """Load an expert.

    Raises:
        ConfigError: there is no such expert.
        UnavailableError: its packages or weights are not installed; the message holds the line that mends it.
    """
    if name not in extractors:
        raise ConfigError(f"there is no expert '{name}'. The experts are: {', '.join(extractors)}.")
    module, _, factory = extractors[name].partition(":")
    try:
        return cast(Expert, getattr(importlib.import_module(module), factory)(config, name))
    except ImportError as error:
        raise UnavailableError(f"expert {name}: {error}. Install what it needs with: {INSTALL_EXPERTS}") from error
