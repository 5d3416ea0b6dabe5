"""The losses that a config can name, with their parameters and a line that uses each."""

from __future__ import annotations

import json
import shlex
import textwrap
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from vtr.config_base import Config
from vtr.loss_config import LOSS_CONFIGS

LINE = 120
"""Width that the list is wrapped to."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a loss.

    Attributes:
        name: as in `loss.NAME`.
        default: as `--set` takes it; None where a value must be given.
        others: the other values it may have, where they are a few words.
        meaning: one line.
    """

    name: str
    default: str | None
    others: tuple[str, ...]
    meaning: str

    @property
    def value(self) -> str:
        """The default and the other choices, or "required"."""
        default = "required" if self.default is None else self.default
        return f"{default} (or {', '.join(self.others)})" if self.others else default


@dataclass(frozen=True, slots=True)
class Loss:
    """One loss.

    Attributes:
        name: as in `loss.name`.
        summary: what it is, in a line.
        parameters: all it takes, its own before those it shares with others.
        overrides: an example: what names the loss, all that is required, and its first parameter.
    """

    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    overrides: tuple[str, ...]

    @property
    def usage(self) -> str:
        """The command that trains with it, quoted for a shell."""
        words = [word for override in self.overrides for word in ("--set", override)]
        return shlex.join(["vtr", "train", "WS", "--out", "RUN", *words])

    def __str__(self) -> str:
        names = max(len(parameter.name) for parameter in self.parameters)
        values = max(len(parameter.value) for parameter in self.parameters)
        lines = [self.name, _wrap("  ", self.summary)]
        for one in self.parameters:
            lines.append(_wrap(f"    {one.name.ljust(names)}  {one.value.ljust(values)}  ", one.meaning))
        return "\n".join([*lines, f"  {self.usage}"])


@dataclass(frozen=True)
class Losses:
    """All losses."""

    losses: tuple[Loss, ...]

    def __str__(self) -> str:
        head = "Losses for `vtr train`, each with its parameters, their defaults, and an example."
        return "\n\n".join([head, *map(str, self.losses)])


def losses() -> Losses:
    """Read the losses from their config classes."""
    return Losses(tuple(_loss(config) for config in LOSS_CONFIGS))


def _loss(config: type[Config]) -> Loss:
    fields = {name: field for name, field in config.model_fields.items() if name != "name"}
    own = [name for name in fields if name in config.__annotations__]
    order = [*own, *(name for name in fields if name not in own)]
    parameters = tuple(_parameter(name, fields[name]) for name in order)
    (named,) = get_args(config.model_fields["name"].annotation)
    shown = {parameters[0].name, *(one.name for one in parameters if one.default is None)}
    examples = [f"loss.{one.name}={_example(one)}" for one in parameters if one.name in shown]
    summary = (config.__doc__ or "").strip().partition("\n")[0]
    return Loss(named, summary, parameters, (f"loss.name={named}", *examples))


def _parameter(name: str, field: FieldInfo) -> Parameter:
    default = None if field.is_required() else _as_set(field.default)
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    others = tuple(choice for choice in choices if choice != default)
    return Parameter(name, default, others, " ".join((field.description or "").split()))


def _as_set(value: Any) -> str:
    """Return a value as `--set` reads it."""
    return value if isinstance(value, str) else json.dumps(value)


def _example(parameter: Parameter) -> str:
    """Return the default, or for a required parameter a placeholder in capitals."""
    return parameter.name.upper() if parameter.default is None else parameter.default


def _wrap(head: str, text: str) -> str:
    """Return text behind a head, further lines indented by as much as the head takes."""
    filled = textwrap.fill(text, LINE - len(head), break_long_words=False, break_on_hyphens=False)
    return head + filled.replace("\n", "\n" + " " * len(head))
