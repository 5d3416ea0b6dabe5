"""Every dependency has bounds, a reason, a licence and a pin; weights are listed as the table of experts has them."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from toy import ROOT

from vtr.experts import EXPERTS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BY_EXTRA = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
INSTALLED_EXTRAS = ("experts", "ray", "serve", "dev")
"""What `make install` installs."""
DATED = {"fsspec", "s3fs", "gcsfs"}
"""Their versions are dates: there is no next major version."""
NO_UPPER_BOUND = {"setuptools"}
"""Its major version rises several times a year; what vtr asks of it has been stable."""


def asked() -> dict[str, set[str]]:
    """Return every package that pyproject.toml names, with the extras that bring it."""
    found: dict[str, set[str]] = {}
    for extra, lines in BY_EXTRA.items():
        for line in lines:
            found.setdefault(Requirement(line).name, set()).add(extra)
    return found


def rows(page: str, heading: str) -> dict[str, list[str]]:
    """Return the rows of the table below a heading of a page, by their first cell without its backticks."""
    text = (ROOT / page).read_text(encoding="utf-8")
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line] for line in lines]
    assert len({row[0] for row in cells}) == len(cells)
    return {row[0].strip("`"): row[1:] for row in cells}


def pins() -> dict[str, str]:
    """Return the versions of constraints.txt by canonical name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.mark.parametrize(("page", "heading"), [("CONTRIBUTING.md", "Dependencies"), ("THIRD_PARTY.md", "Packages")])
def test_a_table_names_every_package_and_no_other(page: str, heading: str) -> None:
    table = rows(page, heading)
    told = {name: set(cells[0].split(", ")) for name, cells in table.items()}
    assert told == asked()
    assert all(cells[1] for cells in table.values())


def test_licences_are_those_of_the_installed_packages() -> None:
    compared = 0
    for name, (_, licence, _) in rows("THIRD_PARTY.md", "Packages").items():
        try:
            stated = metadata.metadata(name).get("License-Expression")
        except metadata.PackageNotFoundError:
            continue
        if stated:
            assert licence == stated, name
            compared += 1
    assert compared > 25


def test_weights_have_the_licence_that_vtr_experts_shows() -> None:
    told = {name: cells[1] for name, cells in rows("THIRD_PARTY.md", "Weights, by expert").items()}
    assert told == {name: expert.licence for name, expert in EXPERTS.items()}


def test_commercial_use_follows_from_the_licence() -> None:
    for name, cells in rows("THIRD_PARTY.md", "Weights, by expert").items():
        assert ("not allowed" in cells[2]) == ("NC" in EXPERTS[name].licence), name
        if model := EXPERTS[name].model:
            assert f"`{model}`" in cells[0], name


def test_special_parts_are_of_packages_that_vtr_asks_for() -> None:
    special = rows("THIRD_PARTY.md", "Packages with parts under other licences")
    noted = {name for name, cells in rows("THIRD_PARTY.md", "Packages").items() if "see above" in cells[2]}
    assert noted == special.keys() and special.keys() <= asked().keys()


def test_versions_are_bounded() -> None:
    for line in (line for lines in BY_EXTRA.values() for line in lines):
        one = Requirement(line)
        operators = {bound.operator for bound in one.specifier}
        if one.name in DATED | NO_UPPER_BOUND:
            assert operators == {">="}, line
        else:
            assert operators in ({"=="}, {">=", "<"}), line


def test_pythons_named_are_those_allowed() -> None:
    pattern = re.compile(r"Programming Language :: Python :: (3\.\d+)")
    named = {found[1] for line in PROJECT["classifiers"] if (found := pattern.fullmatch(line))}
    allowed = Requirement(f"python{PROJECT['requires-python']}").specifier
    assert named == {f"3.{minor}" for minor in range(20) if f"3.{minor}.9" in allowed}


def test_pins_hold_on_every_machine_and_within_the_bounds() -> None:
    assert all(Version(version).local is None for version in pins().values())
    assert pins()["torch"] == "2.13.0"
    for extra in ("", *INSTALLED_EXTRAS):
        for one in map(Requirement, BY_EXTRA[extra]):
            version = pins().get(canonicalize_name(one.name))
            if one.name != "setuptools":  # pip leaves it out of what it lists, with Python 3.11
                assert version and version in one.specifier, f"{one}: constraints.txt has {version}"


def test_what_the_dependencies_bring_is_pinned_too() -> None:
    wanted = [Requirement(line) for extra in ("", *INSTALLED_EXTRAS) for line in BY_EXTRA[extra]]
    seen: set[tuple[str, str]] = set()
    while wanted:
        one = wanted.pop()
        for extra in one.extras | {""}:
            if (one.name, extra) in seen:
                continue
            seen.add((one.name, extra))
            for inner in map(Requirement, metadata.requires(one.name) or []):
                if inner.marker is None or inner.marker.evaluate({"extra": extra}):
                    wanted.append(inner)
    names = {canonicalize_name(name) for name, _ in seen}
    assert names - pins().keys() <= {"setuptools", "python-dateutil"}
    assert len(names) > 100


def test_images_copy_what_the_build_reads() -> None:
    for path in sorted((ROOT / "docker").glob("Dockerfile*")):
        text = path.read_text(encoding="utf-8")
        for name in ("configs", *PROJECT["license-files"]):
            assert re.search(rf"^COPY .*\b{re.escape(Path(name).name)}\b", text, re.MULTILINE), (path.name, name)
