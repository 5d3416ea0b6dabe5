"""Stand-ins for wandb and mlflow: their signatures, what they refuse, and a record of what they were given."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any


class WandbRun:
    """What `wandb.init` returns."""

    def __init__(self, held: dict[str, Any]) -> None:
        self.held = held

    def log(self, data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        """Keep figures; like wandb's, it keeps none of a step before the latest."""
        assert isinstance(data, dict) and self.held["exit_code"] == "running" and commit is None
        if step is not None and step >= self.held["step"]:
            self.held["step"] = step
            self.held["rows"].setdefault(step, {}).update(data)

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """End the run."""
        assert self.held["exit_code"] == "running" and quiet is None
        self.held["exit_code"] = exit_code


class Wandb(ModuleType):
    """The package; `runs` holds id -> what was kept."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.runs: dict[str, dict[str, Any]] = {}

    def init(
        self,
        entity: str | None = None,
        project: str | None = None,
        dir: str | None = None,
        id: str | None = None,
        name: str | None = None,
        notes: str | None = None,
        tags: list[str] | None = None,
        config: dict[str, Any] | None = None,
        config_exclude_keys: list[str] | None = None,
        config_include_keys: list[str] | None = None,
        allow_val_change: bool | None = None,
        group: str | None = None,
        job_type: str | None = None,
        mode: str | None = None,
        force: bool | None = None,
        reinit: bool | None = None,
        resume: bool | str | None = None,
        **others: Any,
    ) -> WandbRun:
        """Begin a run, or go on with one."""
        unset = (entity, project, notes, tags, config_exclude_keys, config_include_keys, group, job_type, mode, force)
        assert all(value is None for value in (*unset, reinit)) and not others, "its environment variables decide"
        assert id is not None and not set(id) & set("/\\#?%:")
        if id in self.runs:
            assert resume == "allow" and allow_val_change
        held = self.runs.setdefault(id, {"rows": {}, "step": 0, "starts": 0})
        held |= {"name": name, "config": config, "dir": dir, "exit_code": "running", "starts": held["starts"] + 1}
        return WandbRun(held)


class Mlflow(ModuleType):
    """The package; `runs` holds id -> what was kept."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.runs: dict[str, dict[str, Any]] = {}
        self.active: str | None = None

    def start_run(
        self,
        run_id: str | None = None,
        experiment_id: str | None = None,
        run_name: str | None = None,
        nested: bool = False,
        parent_run_id: str | None = None,
        tags: dict[str, Any] | None = None,
        description: str | None = None,
        log_system_metrics: bool | None = None,
    ) -> SimpleNamespace:
        """Begin a run, or go on with one; only one is active at a time."""
        assert all(value is None for value in (experiment_id, parent_run_id, tags, description, log_system_metrics))
        if self.active is not None and not nested:
            raise RuntimeError(f"Run with UUID {self.active} is already active.")
        if run_id is not None and run_id not in self.runs:
            raise RuntimeError(f"Run '{run_id}' not found")
        self.active = run_id or f"made-here-{len(self.runs)}"
        held = self.runs.setdefault(self.active, {"name": run_name, "rows": {}, "params": {}, "starts": 0})
        held |= {"status": "RUNNING", "starts": held["starts"] + 1}
        return SimpleNamespace(info=SimpleNamespace(run_id=self.active))

    def log_params(
        self, params: dict[str, Any], synchronous: bool | None = None, run_id: str | None = None
    ) -> dict[str, Any]:
        """Keep parameters, which can never change."""
        assert self.active is not None and synchronous is None and run_id is None
        assert len(params) <= 100 and all(len(str(value)) <= 500 for value in params.values())
        held = self.runs[self.active]["params"]
        assert not held, "the same parameters with other values would be refused"
        held |= {name: str(value) for name, value in params.items()}
        return params

    def log_metrics(
        self,
        metrics: dict[str, float],
        step: int | None = None,
        synchronous: bool | None = None,
        run_id: str | None = None,
        timestamp: int | None = None,
    ) -> None:
        """Keep figures."""
        assert self.active is not None and (synchronous, run_id, timestamp) == (None, None, None)
        assert all(isinstance(value, (int, float)) for value in metrics.values())
        self.runs[self.active]["rows"].setdefault(step, {}).update(metrics)

    def end_run(self, status: str = "FINISHED") -> None:
        """End the active run."""
        assert self.active is not None and status in ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")
        self.runs[self.active]["status"] = status
        self.active = None
