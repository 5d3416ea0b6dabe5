"""What libraries say while models load: nothing, as every worker would say it again, unless it is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import save_tiny
from toy import ROOT

LOAD = """
import sys
from feature_extraction.experts import EXTRACTORS, make_extractors
from vtr.extract_config import ExtractConfig
models = dict(pair.split("=") for pair in sys.argv[1:])
config = ExtractConfig.model_validate({"settings": {name: {"model": model} for name, model in models.items()}})
made, unavailable = make_extractors(list(models), config, EXTRACTORS)
assert not unavailable, unavailable
made["clip"].load("cpu")
"""


def said(folder: Path, **environment: str) -> str:
    """Return what a process says that loads two models over which `transformers` warns."""
    models = [f"{name}={save_tiny(kind, folder)}" for name, kind in (("clip", "clip"), ("speech_whisper", "whisper"))]
    own = {name: value for name, value in os.environ.items() if name != "TRANSFORMERS_VERBOSITY"}
    own |= {"PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-c", LOAD, *models]
    return subprocess.run(command, capture_output=True, text=True, env=own, check=True).stderr


@pytest.mark.parametrize("asked", [False, True])
def test_warnings_are_shown_where_they_are_asked_for(model_files: Path, asked: bool) -> None:
    heard = said(model_files, **({"TRANSFORMERS_VERBOSITY": "warning"} if asked else {}))
    assert ("[transformers]" in heard) == asked, heard
    assert asked or heard == ""
