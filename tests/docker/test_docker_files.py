"""The images and compose files, as far as can be told without Docker; docker/verify.sh builds and runs the images."""

from __future__ import annotations

import difflib
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from toy import ROOT
from typer.main import get_command

from vtr.cli import app

DOCKER = ROOT / "docker"
DOCKERFILES = (DOCKER / "Dockerfile", DOCKER / "Dockerfile.cpu")
STAGES = ("prepare", "extract", "train", "embed", "index", "evaluate")
TINI = ["/usr/bin/tini", "--"]


def instructions(path: Path) -> list[str]:
    """Return a Dockerfile's instructions, each on one line, without comments."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [" ".join(line.split()) for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]


def final_stage(path: Path) -> list[str]:
    found = instructions(path)
    return found[max(place for place, line in enumerate(found) if line.startswith("FROM ")) :]


def compose(*names: str) -> dict[str, Any]:
    """Return compose files merged as far as these go: keys of a later one's services win."""
    merged: dict[str, Any] = {}
    for name in names:
        for service, keys in yaml.safe_load((DOCKER / name).read_text(encoding="utf-8"))["services"].items():
            merged[service] = {**merged.get(service, {}), **keys}
    return merged


def words_of(service: dict[str, Any]) -> list[str]:
    """Return what a service runs after the image's `tini -- vtr`, with the variables' defaults filled in."""
    assert service["entrypoint"][:3] == [*TINI, "vtr"]
    return [re.sub(r"\$\{\w+:-(.*?)\}", r"\1", word) for word in service["entrypoint"][3:] + service["command"]]


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Parse a command line with the real command line's parser, running nothing."""
    command = get_command(app)
    queue = [command]
    while queue:
        found = queue.pop()
        if isinstance(commands := getattr(found, "commands", None), dict):
            queue.extend(commands.values())
        else:
            monkeypatch.setattr(found, "callback", lambda **_: None)

    def parse(words: list[str]) -> None:
        command.main(words, standalone_mode=False)  # raises what is wrong

    return parse


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_has_nothing_to_say(path: Path) -> None:
    _lint("hadolint", str(path))


def test_the_compose_files_are_what_the_compose_specification_says() -> None:
    files = (str(DOCKER / name) for name in ("compose.yaml", "compose.gpu.yaml"))
    _lint("check-jsonschema", "--builtin-schema", "vendor.compose-spec", *files)


@pytest.mark.parametrize("path", sorted(DOCKER.glob("*.sh")), ids=lambda path: path.name)
def test_shellcheck_has_nothing_to_say(path: Path) -> None:
    _lint("shellcheck", "--enable", "quote-safe-variables,check-unassigned-uppercase", str(path))


def _lint(tool: str, *arguments: str) -> None:
    found = shutil.which(tool, path=Path(sys.executable).parent) or shutil.which(tool)
    assert found, f"{tool} comes with the extra dev"
    done = subprocess.run([found, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_bases_are_pinned_and_the_user_is_nobody_special(path: Path) -> None:
    bases = [line.split()[1] for line in instructions(path) if line.startswith("FROM ")]
    assert len(bases) == 2  # a builder, and the image
    assert all(re.fullmatch(r"docker\.io/\S+:\d+\.\d+\S*", base) for base in bases), bases
    final = final_stage(path)
    (user,) = (line.split()[1] for line in final if line.startswith("USER "))
    assert re.fullmatch(r"[1-9]\d{4}:[1-9]\d{4}", user), "1000 is taken in Ubuntu's images"
    assert f'org.opencontainers.image.base.name="{bases[-1]}"' in " ".join(final)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_the_image_runs_vtr_offline_and_is_watched(path: Path) -> None:
    final = final_stage(path)
    assert 'ENTRYPOINT ["/usr/bin/tini", "--", "vtr"]' in final
    (check,) = (line for line in final if line.startswith("HEALTHCHECK "))
    assert check.endswith('CMD ["python3", "/opt/vtr/healthcheck.py"]')
    (variables,) = (line for line in final if line.startswith("ENV "))
    assert "HF_HUB_OFFLINE=1" in variables and "HF_HOME=/weights/" in variables
    assert not any("pip " in line or "gcc" in line or "build-essential" in line for line in final)


def test_nothing_secret_is_named_or_copied() -> None:
    allowed = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    for path in DOCKERFILES:
        for line in instructions(path):
            assert not re.search(r"TOKEN|SECRET|PASSWORD|CREDENTIAL|API_KEY", line, re.IGNORECASE), line
            if line.startswith("COPY ") and "--from=" not in line:
                for source in line.split()[1:-1]:
                    assert any(Path(source).is_relative_to(entry) for entry in allowed), f"{source} is left out"
                    assert (ROOT / source).exists(), source
    for service in compose("compose.yaml", "compose.gpu.yaml").values():
        environment = service.get("environment", {})
        assert environment in ({}, ["VTR_TOKEN"], {"HF_HUB_OFFLINE": "0"})  # a name alone is the host's variable


def test_the_two_images_differ_in_what_they_must() -> None:
    gpu, cpu = (instructions(path) for path in DOCKERFILES)
    expected = ("FROM ", "ARG TORCH_INDEX_URL=", "RUN pip install '.[experts,serve", "LABEL ")
    for line in difflib.ndiff(cpu, gpu):
        assert line[0] not in "+-" or line[2:].startswith(expected), line
    (install,) = (line for line in gpu if "faiss-gpu" in line)
    assert "[experts,serve,gpu]" in install and "pip uninstall -y faiss-cpu" in install
    assert not any("faiss" in line for line in cpu)


def test_the_pinned_versions_are_those_that_vtr_asks_for() -> None:
    lines = (DOCKER / "constraints.txt").read_text(encoding="utf-8").splitlines()
    lines += (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned: dict[str, str] = {}
    for line in (line for line in lines if line and not line.startswith("#")):
        name, version = line.split("==")
        assert canonicalize_name(name) not in pinned, f"{name} is pinned twice"
        pinned[canonicalize_name(name)] = version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for line in [*project["dependencies"], *extras["experts"], *extras["serve"], *extras["gpu"]]:
        requirement = Requirement(line)
        version = pinned.get(canonicalize_name(requirement.name))
        assert version, f"{requirement.name} is pinned nowhere"
        assert requirement.specifier.contains(version), f"{line}, but {version} is pinned"


@pytest.mark.parametrize("files", [("compose.yaml",), ("compose.yaml", "compose.gpu.yaml")], ids=["cpu", "gpu"])
def test_compose_has_a_service_for_every_stage(files: tuple[str, ...], parses: Any) -> None:
    services = compose(*files)
    assert set(services) == {*STAGES, "vtr", "serve", "weights"}
    for name in (*STAGES, "serve"):
        words = words_of(services[name])
        assert words[0] == name
        parses(words)
    for name in STAGES:
        assert services[name]["network_mode"] == "${VTR_NETWORK:-none}"
        assert services[name]["healthcheck"] == {"disable": True}
    assert "healthcheck" not in services["serve"]  # the image's
    assert services["serve"]["ports"] == ["${VTR_ADDRESS:-127.0.0.1}:${VTR_PORT:-8000}:8000"]
    for service in services.values():
        assert [volume.split(":", 2)[-1] for volume in service["volumes"]] and service["cap_drop"] == ["ALL"]
        assert {volume.rsplit("}:", 1)[1] for volume in service["volumes"]} == {"/videos:ro", "/workspaces", "/weights"}


def test_stages_that_compute_get_the_gpus() -> None:
    services = compose("compose.yaml", "compose.gpu.yaml")
    assert {service["image"] for service in services.values()} == {"vtr:gpu"}
    for name in ("vtr", "extract", "train", "embed", "index", "evaluate", "serve"):
        (device,) = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": "${VTR_GPUS:-all}", "capabilities": ["gpu"]}
    for files, dockerfile in ((["compose.yaml"], "Dockerfile.cpu"), (["compose.gpu.yaml"], "Dockerfile")):
        assert {one["build"]["dockerfile"] for one in compose(*files).values()} == {f"docker/{dockerfile}"}


def test_weights_are_fetched_by_a_command_that_there_is() -> None:
    service = compose("compose.yaml")["weights"]
    assert service["entrypoint"] == [*TINI, "hf", "download"]
    scripts = metadata.distribution("huggingface-hub").entry_points
    assert "hf" in {script.name for script in scripts}


def test_commands_in_the_script_that_verifies_parse(parses: Any) -> None:
    with pytest.raises(Exception, match="No such option"):
        parses(["train", "WS", "--out", "RUN", "--epocks", "5"])
    script = (DOCKER / "verify.sh").read_text(encoding="utf-8")
    verified = re.findall(r"inside vtr (.*?)(?: \||$)", script, re.MULTILINE)
    assert verified
    for line in verified:
        parses(shlex.split(line))
