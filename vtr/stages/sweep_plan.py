"""What a sweep trains: its variants, and of each the runs of its search and of its seeds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from vtr.config import TrainConfig
from vtr.errors import ConfigError, nearest
from vtr.sweep_config import SweepConfig, Value, changed
from vtr.types import Part

Chosen = Mapping[str, Value]
"""Full key -> value, of a search or of a grid."""


@dataclass(frozen=True)
class Variant:
    """One line of the table.

    Attributes:
        name: also the name of its folder.
        line: which of the config's variants it is a point of; "" where there is only one.
        point: its place in the grid; empty where there is none.
        changes: full key -> value, all that it changes of the training config but for what is searched.
        choices: the combinations that are searched; empty where nothing is.
    """

    name: str
    line: str
    point: Chosen
    changes: Mapping[str, Any]
    choices: tuple[Chosen, ...] = ()


@dataclass(frozen=True)
class PlannedRun:
    """One run.

    Attributes:
        variant: its name.
        chosen: what the search gives it.
        seed: of the run.
        config: complete.
        folder: its place below the sweep's folder of runs.
    """

    variant: str
    chosen: Chosen
    seed: int
    config: TrainConfig
    folder: str

    def __str__(self) -> str:
        return " ".join([self.variant, *([label(self.chosen)] if self.chosen else []), f"seed {self.seed}"])


@dataclass(frozen=True)
class Plan:
    """All of a sweep.

    Attributes:
        config: what was asked for.
        base: the training config that the variants change.
        variants: name -> variant, in the order of the table.
    """

    config: SweepConfig
    base: TrainConfig
    variants: Mapping[str, Variant] = field(default_factory=dict)

    def search_runs(self) -> list[PlannedRun]:
        """Return the runs that the searches choose by."""
        seed = self.config.search_seed
        return [self.run(v, chosen, seed) for v in self.variants.values() for chosen in v.choices]

    def seed_runs(self, variant: Variant, chosen: Chosen) -> list[PlannedRun]:
        """Return a variant's runs, one a seed. The one with the search's seed is the search's own run."""
        return [self.run(variant, chosen, seed) for seed in self.config.seeds]

    def run(self, variant: Variant, chosen: Chosen, seed: int) -> PlannedRun:
        """Return one run.

        Raises:
            ConfigError: a key is unknown or a value of the wrong type; the message names the variant.
        """
        changes = {**variant.changes, **chosen, "seed": seed}
        config = changed(self.base, changes, f"variant {variant.name}")
        places = [variant.name, *([label(chosen)] if chosen else []), f"seed-{seed}"]
        return PlannedRun(variant.name, chosen, seed, config, "/".join(places))

    def report_part(self, config: TrainConfig) -> tuple[str, Part]:
        """Return the split and the part that a run with some config is evaluated on."""
        return self.config.report.split or config.split, self.config.report.part

    @property
    def num_runs(self) -> int:
        """How many runs the sweep trains; a search's run that is also one of the seeds' counts once."""
        seeds, shared = self.config.seeds, self.config.search_seed in self.config.seeds
        return sum(len(seeds) + len(v.choices) - (shared and bool(v.choices)) for v in self.variants.values())

    def __str__(self) -> str:
        lines = [f"{self.num_runs} runs of {len(self.variants)} variants; compared with {self.config.baseline}"]
        for variant in self.variants.values():
            lines += [f"  {self.run(variant, chosen, self.config.search_seed)} (search)" for chosen in variant.choices]
            seeds = [s for s in self.config.seeds if not variant.choices or s != self.config.search_seed]
            best = " with what the search chooses," if variant.choices else ""
            lines += [f"  {variant.name}{best} seed {seed}" for seed in seeds]
        return "\n".join(lines)


def make_plan(config: SweepConfig, base: TrainConfig, held: Sequence[str]) -> Plan:
    """Return what a sweep trains, every run's config checked.

    Args:
        config: the sweep's configuration.
        base: the training config it starts from.
        held: the experts of the workspace.

    Raises:
        ConfigError: an override's key is unknown, a variant sets the seed or the split of the others, the baseline is
            none of the variants, or there are too few experts to leave one out.
    """
    plan = Plan(config, base, {variant.name: variant for variant in _variants(config, base, held)})
    names = list(plan.variants)
    if config.baseline not in names:
        raise ConfigError(
            f"baseline is '{config.baseline}', none of the variants.{nearest(config.baseline, names)} "
            f"Valid here: {', '.join(names)}"
        )
    for variant in plan.variants.values():
        for chosen in variant.choices or ({},):
            plan.run(variant, chosen, config.search_seed)
    return plan


def label(chosen: Chosen) -> str:
    """Return values with the ends of their keys, "margin=0.2,learning_rate=0.001", as a folder's name may be."""
    ends = [key.rpartition(".")[2] for key in chosen]
    names = [key if ends.count(end) > 1 else end for key, end in zip(chosen, ends, strict=True)]
    return ",".join(f"{name}={_word(value)}" for name, value in zip(names, chosen.values(), strict=True))


def _word(value: Value) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^A-Za-z0-9_.+-]", "_", text)


def _combinations(values: Mapping[str, Sequence[Value]]) -> list[Chosen]:
    """Return every combination; one that is empty where there are no keys."""
    return [dict(zip(values, one, strict=True)) for one in product(*values.values())]


def _variants(config: SweepConfig, base: TrainConfig, held: Sequence[str]) -> Iterator[Variant]:
    for line, settings in config.variants.items() or (("", None),):
        own = {} if settings is None else settings.set
        searched = {} if settings is None else settings.search
        choices = tuple(_combinations(searched)) if searched else ()
        for point in _combinations(config.grid):
            for left_out, experts in _left_out(config, base, held):
                changes = {**own, **point, **experts}
                name = "-".join(part for part in (line, label(point), left_out) if part)
                _check_keys(name, [own, point, experts, searched])
                yield Variant(name, line, point, changes, choices)


def _check_keys(name: str, sources: Sequence[Mapping[str, Any]]) -> None:
    keys = [key for source in sources for key in source]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise ConfigError(f"variant {name}: {', '.join(twice)} comes from two places; give it in one of them.")
    if "seed" in keys:
        raise ConfigError(f"variant {name}: it sets the seed. The sweep's `seeds` are those of all variants.")


def _left_out(config: SweepConfig, base: TrainConfig, held: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield a name and a change for all experts, and for all but each; one that changes nothing where none is left out.

    Raises:
        ConfigError: there are fewer than two experts.
    """
    if config.leave_out is None:
        yield "", {}
        return
    experts = list(base.experts or held)
    if len(experts) < 2:
        raise ConfigError(f"leave_out: experts needs two experts or more, there are {len(experts)}.")
    yield "all-experts", {"experts": experts}
    for expert in experts:
        yield f"without-{expert}", {"experts": [other for other in experts if other != expert]}


def uneven_searches(plan: Plan) -> str:
    """Return a warning where some variants are searched over more choices than others, else ""."""
    counts = {name: max(1, len(variant.choices)) for name, variant in plan.variants.items()}
    if len(set(counts.values())) < 2 or max(counts.values()) == 1:
        return ""
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"variants are searched over different numbers of choices ({listed}): the larger search has an advantage"
