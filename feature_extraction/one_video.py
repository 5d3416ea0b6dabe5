"""One video file read as the extract stage would, in this process: the video that is searched with."""

from __future__ import annotations

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


def extract_one(path: Path, config: ExtractConfig) -> dict[str, Extracted]:
    """Return what the experts find in one video file, in this process.

    Raises:
        InputError: the file cannot be read, or no expert finds anything in it.
        UnavailableError: none of the experts is installed.
    """
    if not path.is_file():
        raise InputError(f"{path} is {'a folder' if path.is_dir() else 'not there'}, a video file was expected.")
    installed, _ = available_experts(config, EXTRACTORS)
    experts, lost = check_weights(config, installed)
    tell(lost, experts)
    with tempfile.TemporaryDirectory() as scratch, VideoWorker(config, experts, EXTRACTORS, Path(scratch)) as worker:
        tell(worker.unavailable, list(worker.extractors))
        try:
            found = worker.read(path.stem, str(path), experts)
        except (MediaError, SourceError) as error:
            raise InputError(
                f"{path} cannot be read as a video ({error}). Give another file, or convert it."
            ) from error
    for failure in found.failures:
        if failure.status != "absent":
            say(f"{path}: {failure.expert.replace(ALL_EXPERTS, 'the file')}: {failure.message}")
    kept = {name: extracted for name, extracted in found.extracted.items() if extracted is not None}
    if not kept:
        raise InputError(f"no expert finds anything in {path}; {', '.join(experts)} were asked.")
    return kept


def extract_like(run: Run, video: Path) -> dict[str, ExpertFeatures]:
    """Return one file's features, extracted as the run's workspace was.

    Raises:
        InputError, UnavailableError: see `extract_one`.
        WorkspaceError: the run is not trained.
    """
    experts = read_manifest(run.root, "vtr train")["experts"]
    found = extract_one(video, store_config(FeatureStore(run.workspace.store), experts))
    return {name: extracted.features for name, extracted in found.items()}
