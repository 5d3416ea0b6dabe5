"""One video file read as the extract stage would, in this process: the video that is searched with."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from feature_extraction.checks import check_weights
from feature_extraction.experts import EXTRACTORS
from feature_extraction.extractor import Extracted
from feature_extraction.ledger import ALL_EXPERTS
from feature_extraction.media import MediaError
from feature_extraction.pipeline import available_experts, store_config, tell
from feature_extraction.sources import SourceError
from feature_extraction.worker import VideoWorker
from vtr.errors import InputError
from vtr.extract_config import ExtractConfig
from vtr.progress import say
from vtr.store.reader import FeatureStore
from vtr.types import ExpertFeatures
from vtr.workspace import Run, read_manifest


class VideoReader:
    """Experts that read one video file after another, in this process. Call `close` at the end.

    Args:
        config: which experts, and their settings.

    Raises:
        UnavailableError: none of the experts is installed.
    """

    def __init__(self, config: ExtractConfig) -> None:
        self.config = config
        installed, _ = available_experts(config, EXTRACTORS)
        self._experts, lost = check_weights(config, installed)
        tell(lost, self._experts)
        scratch = Path(tempfile.gettempdir())  # for what has to be fetched; a file of this machine has not
        with contextlib.ExitStack() as stack:
            self._worker = stack.enter_context(VideoWorker(config, self._experts, EXTRACTORS, scratch))
            tell(self._worker.unavailable, list(self._worker.extractors))
            self._held = stack.pop_all()

    def read(self, path: Path) -> dict[str, Extracted]:
        """Return what the experts find in one video file.

        Raises:
            InputError: the file cannot be read, or no expert finds anything in it.
        """
        try:
            found = self._worker.read(path.stem, str(path), self._experts)
        except (MediaError, SourceError) as error:
            raise InputError(
                f"{path} cannot be read as a video ({error}). Give another file, or convert it."
            ) from error
        for failure in found.failures:
            if failure.status != "absent":
                say(f"{path}: {failure.expert.replace(ALL_EXPERTS, 'the file')}: {failure.message}")
        kept = {name: extracted for name, extracted in found.extracted.items() if extracted is not None}
        if not kept:
            raise InputError(f"no expert finds anything in {path}; {', '.join(self._experts)} were asked.")
        return kept

    def close(self) -> None:
        """Let go of the experts."""
        self._held.close()


def extract_one(path: Path, config: ExtractConfig) -> dict[str, Extracted]:
    """Return what the experts find in one video file, in this process.

    Raises:
        InputError: the file cannot be read, or no expert finds anything in it.
        UnavailableError: none of the experts is installed.
    """
    _check_file(path)
    with contextlib.closing(VideoReader(config)) as reader:
        return reader.read(path)


def extract_like(run: Run, video: Path) -> dict[str, ExpertFeatures]:
    """Return one file's features, extracted as the run's workspace was.

    Raises:
        InputError, UnavailableError: see `extract_one`.
        WorkspaceError: the run is not trained.
    """
    found = extract_one(video, _config_like(run))
    return {name: extracted.features for name, extracted in found.items()}


class ExtractLike:
    """`extract_like` for file after file: models stay loaded. Another process that it is given to loads its own.

    Args:
        run: a trained run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._reader: VideoReader | None = None

    def __call__(self, video: Path) -> dict[str, ExpertFeatures]:
        """Return one file's features; see `extract_like`."""
        _check_file(video)
        config = _config_like(self._run)
        if self._reader is None or self._reader.config != config:  # it was extracted anew meanwhile
            self.close()
            self._reader = VideoReader(config)
        return {name: extracted.features for name, extracted in self._reader.read(video).items()}

    def close(self) -> None:
        """Let go of the models."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _config_like(run: Run) -> ExtractConfig:
    experts = read_manifest(run.root, "vtr train")["experts"]
    return store_config(FeatureStore(run.workspace.store), experts)


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path} is {'a folder' if path.is_dir() else 'not there'}, a video file was expected.")
