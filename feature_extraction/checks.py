"""What can be known about experts before their libraries and models are loaded: whether their weights are there."""

from __future__ import annotations

from collections.abc import Sequence

from feature_extraction.experts import reason
from feature_extraction.hub import expert_folder, sentence_folder
from feature_extraction.releases import released_file
from vtr.errors import ConfigError, UnavailableError
from vtr.experts import find_expert
from vtr.extract_config import ExtractConfig


def check_weights(config: ExtractConfig, experts: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Look for the weights of experts on this machine, and download from the hub what is missing.

    Returns:
        The experts whose weights are here and show no damage, and for each other one what to do about it.

    Raises:
        ConfigError: models are of types that their experts do not read; the message names all of them.
    """
    wrong: list[str] = []
    unavailable: dict[str, str] = {}
    for name in experts:
        try:
            _find_weights(config, name)
        except UnavailableError as error:
            unavailable[name] = reason(name, error)
        except ConfigError as error:
            wrong.append(str(error))
    if wrong:
        raise ConfigError("\n".join(wrong))
    return [name for name in experts if name not in unavailable], unavailable


def _find_weights(config: ExtractConfig, name: str) -> None:
    line = find_expert(name, config.settings)
    if line.needs == "a file of weights":
        released_file(config, name)
    elif line.needs == "hub or folder":
        expert_folder(config, name)
    if "sentence_model" in line.settings:
        sentence_folder(config.sentence_model)
