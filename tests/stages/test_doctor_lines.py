"""The lines that the doctor gives for what is missing or broken name what vtr itself asks for."""

from __future__ import annotations

import tomllib

import pytest
from packaging.requirements import Requirement
from toy import ROOT

from vtr.stages import doctor as stage
from vtr.stages.doctor import DISTRIBUTIONS, doctor

CORE = {
    "torch": "torch",
    "decord": "decord",
    "PyAV": "av",
    "faiss": "faiss-cpu",
    "transformers": "transformers",
    "pyarrow": "pyarrow",
}


def asked(distribution: str) -> Requirement:
    """Return what pyproject.toml asks for of a core distribution."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return next(one for one in map(Requirement, project["dependencies"]) if one.name == distribution)


@pytest.fixture
def _metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the doctor the checkout's own requirements, whatever was last installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    monkeypatch.setattr(stage.metadata, "requires", lambda name: {"vtr": project["dependencies"]}[name])


@pytest.mark.usefixtures("_metadata")
def test_a_missing_core_package_is_named_with_its_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "has_module", lambda _: False)
    found = {finding.name: finding for finding in doctor().findings}
    for name, distribution in CORE.items():
        line = found[name].mend.removeprefix("pip install ").strip("'")
        assert found[name].state == "missing" and Requirement(line) == asked(distribution)
    assert found["expert face"].mend == "pip install 'vtr[experts]'"
    assert found["extra serve"].mend == "pip install 'vtr[serve]'"


@pytest.mark.usefixtures("_metadata")
def test_a_broken_one_is_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise OSError(f"{name}: undefined symbol")

    monkeypatch.setattr(stage.importlib, "import_module", broken)
    found = {finding.name: finding for finding in doctor().findings}
    assert found["PyAV"].state == "broken" and "undefined symbol" in found["PyAV"].text
    assert found["PyAV"].mend == "pip install 'av>=14,<19' --force-reinstall"


def test_names_of_modules_and_distributions_are_told_apart() -> None:
    assert {name: CORE[name] for name in CORE if CORE[name] != name} == DISTRIBUTIONS
