"""How a workspace and a run are laid out on disk, and the manifest every stage leaves beside its output.

A workspace holds what does not depend on a model (annotations, splits, features); a run holds one trained model and
what was made with it (checkpoints, embeddings, index, results). Each stage's `manifest.json` holds a fingerprint of
its output and the fingerprints of the inputs it was made from, so a stale stage can be told from a current one.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from vtr import __version__
from vtr.errors import WorkspaceError
from vtr.files import TEMPORARY_PREFIX, StorePath, read_json, write_json
from vtr.packaged import lacking

FORMAT = 1
"""Raised when an older vtr could no longer read what this one writes."""

MANIFEST = "manifest.json"

IMPORT_RECORD = "import.json"
"""In a workspace whose features were imported: where from."""

LOCATION = "location.json"
"""In the folder of features, when they lie elsewhere: where."""


def _check_format(path: StorePath, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise WorkspaceError(f"{path} is not a vtr file: it holds no format number. Make the folder again.")
    if content["format"] > FORMAT:
        raise WorkspaceError(
            f"{path} was made by vtr {content.get('vtr', 'of unknown version')} in format {content['format']}; "
            f"this is vtr {__version__}, which reads formats up to {FORMAT}. Install the newer vtr."
        )
    return content


def _open(root: Path, marker: str, kind: str, make: str) -> dict[str, Any]:
    if not root.exists():
        raise WorkspaceError(f"{root} does not exist, a {kind} was expected. Make one with `{make}`.")
    if not root.is_dir():
        raise WorkspaceError(f"{root} is a file, the folder of a {kind} was expected.")
    path = root / marker
    if not path.exists():
        raise WorkspaceError(f"{root} is not a {kind}: it holds no {marker}. Make one with `{make}`.")
    return _check_format(path, read_json(path))


def holds_other_files(root: Path) -> bool:
    """Return whether a folder holds anything but what a killed write of its marker left behind."""
    return root.is_dir() and any(not path.name.startswith(TEMPORARY_PREFIX) for path in root.iterdir())


@dataclass(frozen=True)
class Workspace:
    """The folder that `vtr prepare` makes: annotations/, splits/, features/."""

    root: Path

    @classmethod
    def open(cls, root: Path) -> Workspace:
        """Open an existing workspace.

        Raises:
            WorkspaceError: there is none, or a newer vtr made it.
        """
        _open(root, "workspace.json", "workspace", f"vtr prepare ... --out {root}")
        return cls(root)

    @classmethod
    def create(cls, root: Path) -> Workspace:
        """Open the workspace at `root`, or make an empty one.

        Raises:
            WorkspaceError: `root` is a file, holds something else, cannot be written, or a newer vtr made it.
        """
        if (root / "workspace.json").exists() or root.is_file():
            return cls.open(root)
        if holds_other_files(root):
            raise WorkspaceError(
                f"{root} holds other files, an empty or new folder was expected. Choose another --out."
            )
        write_json(root / "workspace.json", {"format": FORMAT, "vtr": __version__})
        return cls(root)

    @property
    def annotations(self) -> Path:
        """Videos, captions and splits."""
        return self.root / "annotations"

    @property
    def own_splits(self) -> Path:
        """Splits of the user's own, one JSON each."""
        return self.root / "splits"

    @property
    def prepare_lock(self) -> Path:
        """Held while annotations and splits are written; beside their folder, which is replaced as a whole."""
        return self.root / ".lock"

    @property
    def features(self) -> Path:
        """What `vtr extract` knows (plan, spool, failures, lock), and the feature store unless that lies elsewhere."""
        return self.root / "features"

    @property
    def store(self) -> StorePath:
        """The feature store: one folder an expert. In `features`, or where `set_location` put it.

        Raises:
            WorkspaceError: the file that names the place is damaged, or the package for such URLs is missing.
        """
        record = self.features / LOCATION
        if not record.exists():
            return self.features
        content = _check_format(record, read_json(record))
        if not isinstance(content.get("url"), str):
            raise WorkspaceError(f"{record} names no place. Delete it if the features are in {self.features}.")
        return open_location(content["url"])

    def set_location(self, url: str) -> None:
        """Put the feature store at a URL, for example "s3://bucket/features", or in another folder.

        Raises:
            WorkspaceError: the workspace has features already, at another place; the place holds another workspace's
                features; or it cannot be opened.
        """
        held, new = self.store, open_location(url)
        if str(held.absolute() if isinstance(held, Path) else held) == str(new):
            return
        if _has_features(held):
            raise WorkspaceError(f"{self.root} has features in {held} already, they cannot go to {new} as well.")
        if _has_features(new):
            raise WorkspaceError(f"{new} holds the features of another workspace. Choose another place.")
        write_json(self.features / LOCATION, {"format": FORMAT, "url": str(new)})

    @property
    def text_features(self) -> Path:
        """Imported token states of captions: a feature store whose items are captions, one folder a text encoder."""
        return self.root / "text_features"

    @property
    def features_command(self) -> str:
        """The command that fills the feature store: `vtr import` where the features were imported."""
        imported = (self.root / IMPORT_RECORD).exists()
        return f"vtr import ... --out {self.root}" if imported else f"vtr extract {self.root}"

    @property
    def cache(self) -> Path:
        """What can be computed again: states of frozen text encoders."""
        return self.root / "cache"

    @property
    def ledger(self) -> Path:
        """The failure ledger of `vtr extract`."""
        return self.features / "failures.jsonl"


@dataclass(frozen=True)
class Run:
    """The folder that `vtr train` makes: config, checkpoints, log, embeddings, index, results."""

    root: Path
    workspace: Workspace
    gallery: str | None = None
    """None for the workspace the run was trained on; else where what is made of another workspace lies."""

    @classmethod
    def open(cls, root: Path, workspace: Path | None = None) -> Run:
        """Open an existing run, on the workspace it was trained on or on another one (to search other videos).

        Raises:
            WorkspaceError: the run or its workspace is missing, or a newer vtr made it.
        """
        content = _open(root, "run.json", "run", f"vtr train WORKSPACE --config CONFIG --out {root}")
        if not isinstance(content.get("workspace"), str):
            raise WorkspaceError(f"{root / 'run.json'} does not name a workspace. Make the folder again.")
        own = (root / content["workspace"]).resolve()
        if workspace is None or workspace.resolve() == own:
            return cls(root, Workspace.open(own))
        name = f"{workspace.resolve().name}-{fingerprint(str(workspace.resolve()))[:8]}"
        return cls(root, Workspace.open(workspace), name)

    @classmethod
    def create(cls, root: Path, workspace: Workspace) -> Run:
        """Open the run at `root`, or make an empty one for `workspace`.

        Raises:
            WorkspaceError: `root` belongs to another workspace, holds something else, or cannot be written.
        """
        if (root / "run.json").exists() or root.is_file():
            run = cls.open(root)
            if run.workspace.root.resolve() != workspace.root.resolve():
                raise WorkspaceError(
                    f"{root} was trained on {run.workspace.root}, not on {workspace.root}. Choose another --out."
                )
            return run
        if holds_other_files(root):
            raise WorkspaceError(
                f"{root} holds other files, an empty or new folder was expected. Choose another --out."
            )
        relative = os.path.relpath(workspace.root.resolve(), root.resolve())
        write_json(root / "run.json", {"format": FORMAT, "vtr": __version__, "workspace": relative})
        return cls(root, workspace)

    @property
    def _made(self) -> Path:
        return self.root / "galleries" / self.gallery if self.gallery else self.root

    @property
    def config(self) -> Path:
        """The complete training configuration, as YAML."""
        return self.root / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        """checkpoints/last and checkpoints/best."""
        return self.root / "checkpoints"

    @property
    def log(self) -> Path:
        """One JSON object a line: training steps and validations."""
        return self.root / "log.jsonl"

    @property
    def embeddings(self) -> Path:
        """One folder per split and part, for example embeddings/full-test."""
        return self._made / "embeddings"

    @property
    def index(self) -> Path:
        """One FAISS index per split and part."""
        return self._made / "index"

    @property
    def evaluation(self) -> Path:
        """One JSON result per split and part."""
        return self._made / "evaluation"

    @property
    def query_bank(self) -> Path:
        """Training queries, and what they say about each gallery; made for QB-Norm."""
        return self._made / "query_bank"

    @property
    def offline_negatives(self) -> Path:
        """The hardest negatives of every training caption and video, for training another model."""
        return self.root / "offline_negatives"

    @property
    def library(self) -> Path:
        """What `vtr ingest` keeps: the videos put in by hand or by watching a folder, and the index of them all."""
        return self.root / "library"

    @property
    def extraction(self) -> Path:
        """How the videos of a run without training are read, as YAML; trained runs' workspaces say it themselves."""
        return self.root / "extract.yaml"

    @property
    def untrained(self) -> bool:
        """Whether `vtr ingest --model` made the run, without training."""
        return self.extraction.exists()

    @property
    def report(self) -> Path:
        """The page of results."""
        return self.root / "report.html"


def open_location(url: str) -> StorePath:
    """Return the place a URL or a path names. What is on this machine is a plain, absolute path.

    Raises:
        WorkspaceError: no such kind of URL is known, or the package for it is missing.
    """
    from upath import UPath

    try:
        place = UPath(url)
        local = place.protocol in ("", "file", "local")
        return Path(place.path).absolute() if local else place.fs and place
    except ImportError as error:
        raise WorkspaceError(f"{url} cannot be opened: {lacking(url, error)}.") from error
    except ValueError as error:
        raise WorkspaceError(f"{url} cannot be opened: {error}. Any fsspec URL or a folder was expected.") from error


def _has_features(place: StorePath) -> bool:
    return any(True for _ in place.glob(f"*/{MANIFEST}"))


VERSIONED = (
    "torch",
    "transformers",
    "faiss-cpu",
    "faiss-gpu",
    "pyarrow",
    "numpy",
    "av",
    "decord",
    "imageio-ffmpeg",
    "pillow",
    "opencv-python-headless",
    "opencv-python",
    "onnxruntime",
    "ctranslate2",
    "rapidocr",
    "faster-whisper",
    "dlib-bin",
)
"""The libraries that shape results."""


@functools.cache
def _found_versions() -> Mapping[str, str]:
    found = {"vtr": __version__, "python": platform.python_version()}
    for name in VERSIONED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that shape results."""
    return dict(_found_versions())


def fingerprint(value: Any) -> str:
    """Return a short hash of a JSON-able value; equal values give equal hashes."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_manifest(
    folder: StorePath, stage: str, *, output: str, inputs: Mapping[str, str], config: Any = None, **facts: Any
) -> None:
    """Write `folder/manifest.json` atomically, as the last act of a stage: where it stands, the stage is done.

    Args:
        stage: "prepare", "extract", "train", "embed", "index", "evaluate", "mine" or "query bank".
        output: fingerprint of what the stage made.
        inputs: stage name -> the `output` fingerprint of the input it was made from.
        config: the settings that shaped the output (JSON-able).
        facts: anything else worth keeping (counts, checksums, hashes).
    """
    made_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    content = {"format": FORMAT, "stage": stage, "output": output, "inputs": dict(inputs), "config": config}
    write_json(folder / MANIFEST, content | {"made_at": made_at, "versions": versions()} | facts)


def read_manifest(folder: StorePath, make: str) -> dict[str, Any]:
    """Read a stage's manifest.

    Args:
        make: the command that makes the folder, for the message.

    Raises:
        WorkspaceError: the stage has not been run, or a newer vtr ran it.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise WorkspaceError(f"{folder} is not there or not finished. Run `{make}` first.")
    return _check_format(path, read_json(path))


def check_made_from(folder: Path, stage: str, recorded: Mapping[str, str], current: str, make: str) -> None:
    """Check that a stage's input is still the one it was made from.

    Raises:
        WorkspaceError: it is another one; the message names both and the command that mends it.
    """
    if recorded.get(stage) != current:
        raise WorkspaceError(
            f"{folder} was made from {stage} {recorded.get(stage)}, but {stage} is now {current}. Run `{make}` again."
        )
