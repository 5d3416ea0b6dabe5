"""The complete YAML configurations that come along: by name where vtr is installed, by path in a checkout."""

from __future__ import annotations

from pathlib import Path

from vtr.errors import ConfigError, nearest

FOLDER = Path(__file__).with_name("configs")
"""In a checkout a link to the configs/ beside the packages; in a wheel, the files."""


def config_names() -> list[str]:
    """Return the names of the configurations, each with its stage: "train/default"."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))


def config_path(given: str, stage: str) -> Path:
    """Return the file that is meant by what a user gave for a configuration.

    Args:
        given: a path, or the name of a configuration that comes along, with or without the stage:
            "mmt_1ka_unified", "train/mmt_1ka_unified". What ends in .yaml, or is a file, is a path.
        stage: the folder of the configurations that fit: "train", "extract" or "sweeps"; "" for the demo's.

    Raises:
        ConfigError: it is not the path of anything, and none of the stage's configurations has the name; the message
            lists them.
    """
    path = Path(given)
    if path.suffix or path.is_file():
        return path
    names = sorted(file.stem for file in (FOLDER / stage).glob("*.yaml"))
    name = given.removeprefix(f"{stage}/") if stage else given
    if name in names:
        return FOLDER / stage / f"{name}.yaml"
    raise ConfigError(
        f"no file {given}, and no configuration of that name comes along.{nearest(name, names)} "
        f"Give a path that ends in .yaml, or one of: {', '.join(names)}."
    )


def read_config(name: str) -> str:
    """Return the text of a configuration that comes along, comments and all.

    Args:
        name: as `config_names` gives it; without the stage where only one stage has it.

    Raises:
        ConfigError: none, or several, have the name; the message lists those that can be meant.
    """
    names = config_names()
    found = [known for known in names if name in (known, known.rpartition("/")[2])]
    if len(found) != 1:
        if found:
            raise ConfigError(f"the configuration '{name}' may be any of {', '.join(found)}: give one of these names.")
        raise ConfigError(
            f"there is no configuration '{name}'.{nearest(name, names)} Those that come along are: {', '.join(names)}."
        )
    return (FOLDER / f"{found[0]}.yaml").read_text(encoding="utf-8")


def list_configs() -> str:
    """Return a line for each configuration: its name, and what it is for."""
    names = config_names()
    width = max(map(len, names))
    return "\n".join(f"{name.ljust(width)}  {_summary(read_config(name))}" for name in names)


def _summary(text: str) -> str:
    """Return the first sentence of the comment that a configuration opens with."""
    opening = text.partition("\n")[0].removeprefix("#").strip()
    return opening.partition(". ")[0].rstrip(".:")
