"""What searching without training reads videos with: an image expert of CLIP's kind, and what is spoken and shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from feature_extraction.checks import check_weights
from feature_extraction.experts import EXTRACTORS
from feature_extraction.hub import expert_folder, sentence_folder
from feature_extraction.pipeline import available_experts, tell
from feature_extraction.transformers_expert import load_config
from vtr.config import load
from vtr.errors import ConfigError, UnavailableError
from vtr.extract_config import ExpertConfig, ExtractConfig
from vtr.model_config import TextSideConfig, ZeroShotConfig

KNOWN = {"clip": "openai/clip-vit-base-patch32", "siglip": "google/siglip-base-patch16-224"}
"""What `--model` may say in short."""
TEXT = "text"
"""`--model text`: no image expert."""
IMAGE, WORDS = "clip", ("ocr", "speech")
"""The experts: of pictures, and of words."""


def choose(model: str, weights: Mapping[str, float], overrides: Sequence[str]) -> tuple[ZeroShotConfig, ExtractConfig]:
    """Return how videos are searched and read without training.

    Experts of words that are not installed are passed over, and that is told.

    Args:
        model: clip, siglip, text, or a local folder or hub name of a model of CLIP's or SigLIP's kind.
        weights: expert -> how much it counts.
        overrides: "a.b=c", each, of `ExtractConfig`.

    Raises:
        UnavailableError: the model is not here and cannot be had; the message says what to run.
        ConfigError: it is of another kind, or a setting is wrong.
    """
    config = load(ExtractConfig, None, overrides, _base(model))
    experts, _ = available_experts(config, EXTRACTORS)
    here, lost = check_weights(config, experts)
    if IMAGE in config.experts and IMAGE not in here:
        reason = lost.get(IMAGE, "its packages are not installed")
        raise UnavailableError(
            f"--model {model}: {reason} Give such a folder to --model; or use --model text, which needs no such "
            "weights and finds words that are spoken or shown."
        )
    tell({name: why for name, why in lost.items() if name != IMAGE}, here)
    config = config.model_copy(update={"experts": tuple(here)})
    texts = {name: _text_side(config, name) for name in here}
    return ZeroShotConfig(name="zero_shot", texts=texts, weights=dict(weights)), config


def _base(model: str) -> ExtractConfig:
    """Return the settings before overrides: long videos are read as densely as short ones."""
    plain = ExtractConfig()
    most = int(plain.frames_per_second * plain.max_seconds)
    if model == TEXT:
        return ExtractConfig(experts=WORDS, max_frames=most)
    name = KNOWN.get(model, model)
    if Path(name).expanduser().is_dir():
        name = str(Path(name).expanduser().resolve())
    return ExtractConfig(experts=(IMAGE, *WORDS), settings={IMAGE: ExpertConfig(model=name)}, max_frames=most)


def _text_side(config: ExtractConfig, name: str) -> TextSideConfig:
    """Return the text encoder in whose space an expert's features lie."""
    if name in WORDS:
        folder = sentence_folder(config.sentence_model)
        dim = int(load_config(folder, name).hidden_size)
        return TextSideConfig(kind="sentence", model=config.sentence_model, dim=dim)
    folder, model = expert_folder(config, name), str(config.of(name).model)
    described = load_config(folder, name)
    if described.model_type == "clip":
        return TextSideConfig(kind="clip", model=model, dim=int(described.projection_dim))
    if described.model_type == "siglip":
        return TextSideConfig(kind="siglip", model=model, dim=int(described.vision_config.hidden_size))
    raise ConfigError(
        f"{model} is a model of type '{described.model_type}', which reads pictures only. One with a text side was "
        "expected: CLIP or SigLIP."
    )
