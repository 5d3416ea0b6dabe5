"""What a URL needs that is not installed: the line that is told is one that brings it."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest
from fsspec.registry import known_implementations
from toy import ROOT

from vtr.annotations import listed
from vtr.annotations.prepare import prepare_list
from vtr.errors import WorkspaceError
from vtr.packaged import URL_EXTRAS, lacking
from vtr.stages.doctor import EXTRAS
from vtr.workspace import open_location

INSTALL = {"s3": r'pip install "vtr\[s3\]"', "gs": r'pip install "vtr\[gcs\]"'}


def extras() -> dict[str, list[str]]:
    found = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return found["project"]["optional-dependencies"]


@pytest.mark.parametrize("scheme", URL_EXTRAS)
def test_the_extra_brings_what_fsspec_opens_the_url_with(scheme: str) -> None:
    package = known_implementations[scheme]["class"].partition(".")[0]
    (requirement,) = extras()[URL_EXTRAS[scheme]]
    assert requirement.partition(">=")[0] == package


def test_the_doctor_looks_for_extras_that_there_are() -> None:
    assert {extra for extra, *_ in EXTRAS} <= extras().keys() and set(URL_EXTRAS.values()) <= {
        name for name, *_ in EXTRAS
    }


@pytest.fixture
def _without(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, module, None)
    listed._needed.cache_clear()


@pytest.mark.usefixtures("_without")
@pytest.mark.parametrize("scheme", INSTALL)
def test_a_store_and_a_list_say_what_to_install(scheme: str, tmp_path: Path) -> None:
    with pytest.raises(
        WorkspaceError, match=rf"{scheme}://bucket/ws cannot be opened: {scheme}:// .*{INSTALL[scheme]}"
    ):
        open_location(f"{scheme}://bucket/ws")
    source = tmp_path / "l.txt"
    source.write_text(f"{scheme}://bucket/a.mp4\n")
    assert INSTALL[scheme].replace("\\", "") in str(prepare_list(source, tmp_path / "ws"))


def test_other_protocols_name_the_package() -> None:
    error = ImportError("Install adlfs to access Azure")
    assert lacking("abfs://a/b", error) == (
        "abfs:// needs a package that is not here (Install adlfs to access Azure). Install the package that is named"
    )
