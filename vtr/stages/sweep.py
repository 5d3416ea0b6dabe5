"""The sweep stage: an experiment of many runs, from its config to its table and figures."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vtr.annotations.tables import load_split
from vtr.config import TrainConfig
from vtr.data.texts import CaptionTable
from vtr.errors import ConfigError, VtrError, WorkspaceError
from vtr.files import lock
from vtr.models.text import TextInput
from vtr.progress import say
from vtr.stages.sweep_plan import Chosen, Plan, PlannedRun, make_plan, uneven_searches
from vtr.stages.sweep_results import Results, collect, write_results
from vtr.stages.sweep_runs import Failure, How, Job, SweepFolder, Tally, carry_out
from vtr.store.reader import FeatureStore
from vtr.sweep_config import load_sweep
from vtr.training.device import choose_device
from vtr.training.train import load_training_corpus, training_captions
from vtr.workspace import Workspace


@dataclass(frozen=True)
class SweepSummary:
    """What a sweep has come to.

    Attributes:
        results: of the runs that are done.
        files: where they were written.
        failures: the runs that failed.
        skipped: variants that were not trained since runs of their search failed.
    """

    results: Results
    files: tuple[Path, ...]
    failures: tuple[Failure, ...]
    skipped: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether all runs are done."""
        return not (self.failures or self.skipped)

    def __str__(self) -> str:
        lines = [str(self.results), "", f"written to {', '.join(map(str, self.files))}"]
        lines += [f"failed: {failure}" for failure in self.failures]
        lines += [f"not trained: {name}; a run of its search failed" for name in self.skipped]
        return "\n".join(lines if self.whole else [*lines, "the same command tries again what is missing"])


def plan_sweep(workspace: Workspace, config: Path, how: How) -> Plan:
    """Return what a sweep would train; all that can be wrong with it is found here, before anything trains.

    Args:
        workspace: captions, splits and features.
        config: the sweep's YAML file.
        how: how the runs would be made.

    Raises:
        InputError, ConfigError, WorkspaceError: see `load_sweep`, `make_plan` and `vtr.training.train.train`; or a
            split lacks the part to report on, or the one that a search chooses by.
    """
    settings, base = load_sweep(config)
    choose_device(how.device)
    plan = make_plan(settings, base, FeatureStore(workspace.store).experts)
    if uneven := uneven_searches(plan):
        say(uneven)
    for variant in plan.variants.values():
        first = plan.run(variant, (variant.choices or ({},))[0], settings.search_seed)
        try:
            _check_parts(workspace, plan, first.config, searched=bool(variant.choices))
            load_training_corpus(workspace, first.config, available_only=how.available_only)
        except VtrError as error:
            raise type(error)(f"variant {variant.name}: {error}") from error
    return plan


def sweep(workspace: Workspace, plan: Plan, out: Path, how: How) -> SweepSummary:
    """Train and evaluate all runs of a plan that are not done yet, and write the results.

    Args:
        workspace: captions, splits and features.
        plan: what to train.
        out: the sweep's folder.
        how: how the runs are made.

    Raises:
        ConfigError: a run was begun with another config.
        WorkspaceError: a run was begun on other data, or `out` is in use, holds something else, or cannot be written.
    """
    folder = SweepFolder.create(out, workspace)
    with lock(out / ".lock", f"sweep into {out}"):
        searches, direct = plan.search_runs(), _without_search(plan)
        for planned in (*searches, *direct):
            folder.check_begun(planned)
        tally = Tally(plan.num_runs)
        say(f"{tally.total} runs, {how.parallel} at a time, {how.threads} threads each; what they say is in {out}/logs")
        if how.parallel > 1:
            _fill_caches(workspace, [*searches, *direct], how)
        jobs = [*map(Job, searches), *(_reported(plan, planned) for planned in direct)]
        failures = carry_out(folder, jobs, how, tally)
        chosen = choose(plan, folder)
        following = [p for name, best in chosen.items() for p in plan.seed_runs(plan.variants[name], best)]
        for planned in following:
            folder.check_begun(planned)
        failures += carry_out(folder, [_reported(plan, planned) for planned in following], how, tally)
        results = collect(plan, folder, chosen)
        files = write_results(results, plan, folder, chosen, [str(failure) for failure in failures])
    skipped = [name for name, variant in plan.variants.items() if variant.choices and name not in chosen]
    return SweepSummary(results, tuple(files), tuple(failures), tuple(skipped))


def choose(plan: Plan, folder: SweepFolder) -> dict[str, Chosen]:
    """Return what each search chooses by validation RSUM (of equals, the first), where all its runs are done."""
    chosen: dict[str, Chosen] = {}
    for name, variant in plan.variants.items():
        runs = [plan.run(variant, values, plan.config.search_seed) for values in variant.choices]
        if not runs or not all(folder.is_trained(run) for run in runs):
            continue
        rsums = [folder.validation_rsum(run) or 0.0 for run in runs]
        best = runs[rsums.index(max(rsums))]
        say(f"{name}: the best of {len(runs)} runs by validation RSUM, {max(rsums):.1f}, is {best}")
        chosen[name] = best.chosen
    return chosen


def _without_search(plan: Plan) -> list[PlannedRun]:
    return [run for v in plan.variants.values() if not v.choices for run in plan.seed_runs(v, {})]


def _reported(plan: Plan, planned: PlannedRun) -> Job:
    return Job(planned, plan.report_part(planned.config))


def _check_parts(workspace: Workspace, plan: Plan, config: TrainConfig, *, searched: bool) -> None:
    if searched and not load_split(workspace, config.split).validation:
        raise ConfigError(
            f"split {config.split} has no validation part for the search to choose by. Take a split that "
            "has one, or leave `search` out."
        )
    name, part = plan.report_part(config)
    if not load_split(workspace, name).part(part):
        raise WorkspaceError(f"split {name} has no {part} part to report on. Set report.split or report.part.")


def _fill_caches(workspace: Workspace, runs: list[PlannedRun], how: How) -> None:
    """Compute the states of frozen text encoders once, before several processes would each compute them.

    Where that fails, so will the run, which then says why; the others go on.
    """
    seen: list[Mapping[str, object]] = []
    for planned in runs:
        config = planned.config
        key = {"split": config.split, "experts": config.experts, "text": config.text}
        if config.text.mode == "fine_tuned" or key in seen:
            continue
        seen.append(key)
        with contextlib.suppress(VtrError):
            corpus = load_training_corpus(workspace, config, available_only=how.available_only)
            CaptionTable([*training_captions(corpus), *corpus.queries("validation")], TextInput(config.text), workspace)
