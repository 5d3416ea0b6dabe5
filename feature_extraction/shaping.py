"""The settings that shape features: written down with them, and compared before more are added to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vtr.errors import ConfigError
from vtr.expert_line import Expert
from vtr.experts import EXPERTS, KINDS
from vtr.extract_config import ExtractConfig

OF_FRAMES = ("sampling", "frames_per_second", "max_frames", "frames_per_shot", "frame_side", "reader")
"""Settings that shape the features of experts that look at frames as they are set."""
OF_ALL = ("max_seconds", "dtype")
"""Settings that shape every expert's features."""
FIXED = ("audio", "audio_ast", "motion", "shots", "speech", "speech_whisper", "vggish")
"""Experts that look at no frames, or always at the same."""
OWN = "own"
"""Under this name, what is set for the one expert."""
SHAPES_NOTHING = {"batch"}


def shaping_settings(config: ExtractConfig, expert: str) -> dict[str, Any]:
    """Return the settings that shape an expert's features, JSON-able."""
    own = config.of(expert)
    return {
        **{name: getattr(config, name) for name in _names(expert, own.kind, own.sampling or config.sampling)},
        OWN: own.model_dump(mode="json", exclude=SHAPES_NOTHING),
    }


def _names(expert: str, kind: str | None, sampling: str) -> list[str]:
    """Return which settings for all experts shape an expert's features."""
    line = _line(expert, kind)
    of_frames = OF_FRAMES if line is None or line.name not in FIXED else ()
    names = [*of_frames, *OF_ALL, *(line.settings if line is not None else ())]
    return [name for name in names if name != "frames_per_shot" or sampling == "shots"]


def _line(expert: str, kind: str | None) -> Expert | None:
    """Return the expert's line in the table, or that of its kind; None for experts that tests bring."""
    return KINDS.get(str(kind)) or EXPERTS.get(expert)


def _is_read(expert: str, own: Mapping[str, Any], name: str) -> bool:
    """Return whether the expert reads a setting of its own. Earlier versions recorded also those that it does not."""
    line = _line(expert, own.get("kind"))
    return line is None or name in ("kind", *line.takes)


def _completed(expert: str, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return recorded settings; what an earlier version did not record had its default."""
    default = shaping_settings(ExtractConfig(), expert)
    return {**default, **recorded, OWN: {**default[OWN], **recorded.get(OWN, {})}}


def differences(expert: str, recorded: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (setting, its value as recorded, its value now) for settings that differ and shape the expert's features.

    A setting for all experts shapes nothing where the expert has its own.
    """
    held = _completed(expert, recorded)
    for name, value in now.items():
        both_own = None not in (held[OWN].get(name), now[OWN].get(name))
        if name != OWN and not both_own and held.get(name) != value:
            yield name, held.get(name), value
    for name, value in now[OWN].items():
        if held[OWN][name] != value and _is_read(expert, now[OWN], name):
            yield f"settings.{expert}.{name}", held[OWN][name], value


def recorded_config(recorded: Mapping[str, Mapping[str, Any]]) -> ExtractConfig:
    """Return the settings with which experts were extracted, so that one more video can be read alike.

    Args:
        recorded: expert -> the settings in its manifest.

    Raises:
        ConfigError: the experts were extracted with settings that differ, or not extracted but imported.
    """
    values: dict[str, Any] = {}
    settings = {}
    for expert, of_expert in recorded.items():
        if "release" in of_expert:
            raise ConfigError(f"the {expert} features were imported: no other video can be extracted in the same way.")
        held = _completed(expert, of_expert)
        own = held.pop(OWN)
        settings[expert] = {name: value for name, value in own.items() if _is_read(expert, own, name)}
        for name in _names(expert, own.get("kind"), own.get("sampling") or held.get("sampling", "")):
            value = held[name]
            if settings[expert].get(name) is None and values.setdefault(name, value) != value:
                raise ConfigError(f"the experts were extracted with differing {name}: {values[name]}, {value}.")
    return ExtractConfig.model_validate({"experts": tuple(recorded), "settings": settings, **values})
