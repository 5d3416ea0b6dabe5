"""One extraction worker: decodes a video once, runs the experts on it, spools the result."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from feature_extraction.decoder import die_with_parent
from feature_extraction.experts import make_extractor
from feature_extraction.extractor import Extracted, Extractor
from feature_extraction.ledger import ALL_EXPERTS, Failure
from feature_extraction.media import Decoder, DecodeRequest, MediaError
from feature_extraction.spool import Spool, Spooled
from vtr.config import ExtractConfig
from vtr.errors import UnavailableError, VtrError
from vtr.store.schema import encode_row
from vtr.types import ExpertSpec


@dataclass(frozen=True, slots=True)
class Task:
    """One video to read, for the experts that still lack it."""

    video_id: str
    path: str
    experts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class At:
    """A worker begins with an expert; if it dies or hangs now, that expert is to blame."""

    expert: str


@dataclass(frozen=True, slots=True)
class Done:
    """A worker has spooled a video."""

    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has loaded its experts.

    Attributes:
        specs: expert -> what its features are, with how its input is scaled.
        unavailable: expert -> why it could not be loaded.
    """

    specs: Mapping[str, tuple[ExpertSpec, str]]
    unavailable: Mapping[str, str]


class VideoWorker:
    """Loaded experts and a decoder. Call `close` at the end."""

    def __init__(self, config: ExtractConfig, experts: Sequence[str], extractors: Mapping[str, str]) -> None:
        self.config = config
        self.extractors: dict[str, Extractor] = {}
        self.unavailable: dict[str, str] = {}
        for name in experts:
            try:
                self.extractors[name] = make_extractor(name, config, extractors)
            except UnavailableError as error:
                self.unavailable[name] = str(error)
        self._decoder = Decoder()

    def read(
        self, path: str, experts: Sequence[str], begin: Callable[[str], None] = lambda _: None
    ) -> tuple[dict[str, Extracted | None], dict[str, MediaError]]:
        """Return what each expert finds in a file, and each expert's failure.

        Args:
            path: the file.
            experts: those to ask.
            begin: called with each expert's name before the expert is asked.

        Raises:
            MediaError: the file cannot be decoded.
        """
        chosen = {name: self.extractors[name] for name in experts if name in self.extractors}
        config = self.config
        media = self._decoder.decode(
            path,
            DecodeRequest(
                frames_per_second=config.frames_per_second,
                max_frames=config.max_frames,
                frame_side=config.frame_side,
                max_seconds=config.max_seconds,
                timeout_seconds=config.timeout_seconds,
                reader=config.reader,
                motion=any(extractor.needs_motion for extractor in chosen.values()),
                sound=any(extractor.needs_sound for extractor in chosen.values()),
            ),
        )
        found: dict[str, Extracted | None] = {}
        failed: dict[str, MediaError] = {}
        for name, extractor in chosen.items():
            if extractor.needs_sound and media.sound_error:
                failed[name] = MediaError("sound", media.sound_error)
                continue
            begin(name)
            try:
                found[name] = extractor.extract(media)
            except Exception as error:
                failed[name] = MediaError("extract", f"{type(error).__name__}: {error}")
        return found, failed

    def process(self, task: Task, begin: Callable[[str], None] = lambda _: None) -> Spooled:
        """Return the encoded rows and the failures of one video; `begin` as in `read`."""
        try:
            found, failed = self.read(task.path, task.experts, begin)
        except MediaError as error:
            return Spooled(task.video_id, {}, (), (Failure(task.video_id, ALL_EXPERTS, error.stage, error.reason),))
        except BrokenPipeError:  # the parent has gone
            raise
        except Exception as error:  # one odd file must not end the run
            reason = f"{type(error).__name__}: {error}"
            return Spooled(task.video_id, {}, (), (Failure(task.video_id, ALL_EXPERTS, "decode", reason),))
        rows: dict[str, dict[str, Any]] = {}
        for name, extracted in list(found.items()):
            if extracted is None:
                continue
            try:
                rows[name] = encode_row(task.video_id, extracted.features, extracted.texts, self.config.dtype)
                if rows[name]["dim"] != self.extractors[name].spec.dim:
                    expected = self.extractors[name].spec.dim
                    raise ValueError(f"features have dim {rows.pop(name)['dim']}, the expert's spec says {expected}")
            except ValueError as error:
                failed[name] = MediaError("store", str(error))
                del found[name]
        failures = tuple(Failure(task.video_id, name, error.stage, error.reason) for name, error in failed.items())
        return Spooled(task.video_id, rows, tuple(sorted(found)), failures)

    def close(self) -> None:
        """End the decoder."""
        self._decoder.close()


def run_worker(
    connection: Connection,
    config: ExtractConfig,
    experts: Sequence[str],
    extractors: Mapping[str, str],
    spool: Spool,
) -> None:
    """Answer tasks until the connection ends.

    Sends Ready first; then for each task At before each expert, and Done. What stops the whole run (a disk that is
    full, a defect) is sent as a VtrError.
    """
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        worker = VideoWorker(config, experts, extractors)
        specs = {name: (extractor.spec, extractor.scaler) for name, extractor in worker.extractors.items()}
        connection.send(Ready(specs, worker.unavailable))
        while True:
            task = connection.recv()
            done = worker.process(task, lambda expert: connection.send(At(expert)))
            spool.put(done)
            connection.send(Done(done.failures))
    except (EOFError, BrokenPipeError):
        return
    except VtrError as error:
        connection.send(error)
    except Exception:
        connection.send(VtrError(f"an extraction worker failed unexpectedly:\n{traceback.format_exc()}"))
