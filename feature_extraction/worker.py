"""One extraction worker: decodes a video once, shows it to the experts piece by piece, spools the result."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from feature_extraction.experts import load_model_of, make_extractors
from feature_extraction.extractor import Expert, Extracted, ModelExpert, Reading
from feature_extraction.frames import FrameNeed, Sampling
from feature_extraction.ledger import ALL_EXPERTS, Failure, Kind, Status, refuses
from feature_extraction.media import Decoder, DecodeRequest, MediaError, OpenVideo
from feature_extraction.memory import peak_bytes
from feature_extraction.model_server import RemoteModel, ServerLost, ran_out_of_memory
from feature_extraction.plan import Task
from feature_extraction.sources import SourceError, local_copy
from feature_extraction.spool import Spool, Spooled, spec_fingerprint
from feature_extraction.windows import is_silent
from vtr.errors import VtrError
from vtr.extract_config import ExtractConfig
from vtr.parent import die_with_parent
from vtr.store.schema import encode_row
from vtr.types import ExpertSpec

if TYPE_CHECKING:
    from feature_extraction.shots import ShotFinder

NOBODY = ""
"""The expert at work while the video is being decoded."""


@dataclass(frozen=True, slots=True)
class At:
    """A worker goes on with an expert, or NOBODY; who hangs or dies now is to blame."""

    expert: str


@dataclass(frozen=True, slots=True)
class Done:
    """A worker has spooled a video. `peak_bytes`: the most memory the worker and its decoder have held so far."""

    failures: tuple[Failure, ...]
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has loaded its experts.

    Attributes:
        specs: expert -> what its features are, with how its input is scaled.
        unavailable: expert -> why it could not be loaded.
    """

    specs: Mapping[str, tuple[ExpertSpec, str]]
    unavailable: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Models:
    """Where the models of model experts are.

    Attributes:
        address: of the model server; "" when each worker loads its own.
        served: the experts whose models the server holds.
        unavailable: expert -> why the server could not load it.
    """

    address: str = ""
    served: tuple[str, ...] = ()
    unavailable: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Found:
    """What the experts made of one video.

    Attributes:
        extracted: expert -> what it found, None for nothing.
        failures: what went wrong, also what is flagged only.
        decoder: who decoded it.
    """

    extracted: dict[str, Extracted | None] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    decoder: str = ""


class VideoWorker:
    """Loaded experts and a decoder. Call `close` at the end.

    Args:
        config, experts, extractors: which experts, and their settings.
        scratch: a folder for videos that have to be fetched.
        models: the experts whose models another process holds.
    """

    def __init__(
        self,
        config: ExtractConfig,
        experts: Sequence[str],
        extractors: Mapping[str, str],
        scratch: Path,
        models: Models = Models(),
    ) -> None:
        _quiet_tqdm()
        self.config = config
        self._remote = RemoteModel(models.address)
        wanted = [name for name in experts if name not in models.unavailable]
        self.extractors, unavailable = make_extractors(wanted, config, extractors)
        self.unavailable: dict[str, str] = {**models.unavailable, **unavailable}
        for name, expert in list(self.extractors.items()):
            if name in models.served and isinstance(expert, ModelExpert):
                expert.embed_with = functools.partial(self._remote.embed, name)
            elif isinstance(expert, ModelExpert) and (lost := load_model_of(name, expert, "cpu")):
                self.unavailable[name] = lost
                del self.extractors[name]
        self._decoder = Decoder()
        self._shots: ShotFinder | None = None
        self._scratch = scratch
        scratch.mkdir(parents=True, exist_ok=True)

    def read(
        self, video_id: str, locator: str, experts: Sequence[str], begin: Callable[[str], None] = lambda _: None
    ) -> Found:
        """Return what each expert finds in a video.

        Args:
            video_id: for the failures.
            locator: a file, or what `feature_extraction.sources` fetches.
            experts: those to ask.
            begin: called with an expert's name whenever it goes on, and with NOBODY when the decoder does.

        Raises:
            MediaError, SourceError: the video cannot be read at all.
            ServerLost: the process with the models has died.
        """
        chosen = {name: self.extractors[name] for name in experts if name in self.extractors}
        with local_copy(locator, self._scratch, self.config.timeout_seconds) as source:
            # Needs of all experts, also of those that have read the video: pictures may be scaled from the largest.
            every = self.extractors.values()
            request = DecodeRequest(
                needs=tuple(dict.fromkeys(e.frames for e in every if e.frames is not None)),
                sound=any(expert.sound for expert in chosen.values()),
                max_seconds=self.config.max_seconds,
                timeout_seconds=self.config.timeout_seconds,
                reader=self.config.reader,
                strict=self.config.strict,
                images_per_second=source.images_per_second,
            )
            if any(need.sampling.kind == "shots" for need in request.needs):
                request = self._with_shots(source.path, request, begin)
            with self._decoder.open(source.path, request) as video:
                found = _Watching(video_id, chosen, request.needs, video, request.max_seconds, begin).watch()
                found.decoder = video.decoder
        return found

    def _with_shots(self, path: Path, request: DecodeRequest, begin: Callable[[str], None]) -> DecodeRequest:
        """Return the request with the video's shots, which takes a pass over all its frames."""
        from feature_extraction.shots import ShotFinder

        self._shots = self._shots or ShotFinder()
        need = FrameNeed(Sampling("all", most=None), exact=ShotFinder.size)
        with self._decoder.open(path, replace(request, needs=(need,), sound=False)) as video:
            finding = self._shots.begin(video.info.duration_seconds)
            for (frames,) in video.chunks():
                begin(NOBODY)
                if frames is not None:
                    finding.add(frames)
        return replace(request, shots=finding.finish())

    def process(self, task: Task, begin: Callable[[str], None] = lambda _: None) -> Spooled:
        """Return the encoded rows and the failures of one video; `begin` and ServerLost as in `read`.

        Raises:
            BrokenPipeError: the parent has gone.
            VtrError: it concerns the run, not this video alone.
        """
        try:
            found = self.read(task.video_id, task.path, task.experts, begin)
        except MediaError as error:
            if error.kind == "truncated":  # strict: another expert may not mind, one of sound where frames are damaged
                return _refused(task, error)
            return _all_failed(task, error.stage, error.kind, error.reason, error.decoder)
        except SourceError as error:
            return _all_failed(task, "fetch", error.kind, error.reason)
        except (BrokenPipeError, VtrError):  # the parent has gone, or has to know
            raise
        except Exception as error:  # one odd file must not end the run
            return _all_failed(task, "decode", _kind_of(error, "unreadable"), _words(error))
        rows: dict[str, dict[str, Any]] = {}
        for name, extracted in list(found.extracted.items()):
            if extracted is None:
                continue
            try:
                rows[name] = self._encoded(task.video_id, name, extracted)
            except ValueError as error:
                found.failures.append(Failure(task.video_id, name, "store", "store_error", str(error)))
                del found.extracted[name]
        texts = {name: e.found for name, e in found.extracted.items() if e is not None and e.found}
        examined = tuple(sorted(found.extracted))
        specs = {name: spec_fingerprint(self.extractors[name].spec) for name in examined}
        given_up = {failure.expert for failure in found.failures if failure.status == "failed" and task.redo}
        refused = tuple(name for name in task.experts if name in given_up or refuses(found.failures, name))
        return Spooled(task.video_id, rows, examined, tuple(found.failures), texts, found.decoder, specs, refused)

    def _encoded(self, video_id: str, name: str, extracted: Extracted) -> dict[str, Any]:
        row = encode_row(video_id, extracted.features, extracted.texts, self.config.dtype)
        if row["dim"] != self.extractors[name].spec.dim:
            expected = self.extractors[name].spec.dim
            raise ValueError(f"features have dim {row['dim']}, the expert's spec says {expected}")
        return row

    @property
    def peak_bytes(self) -> int:
        """The most memory that this process and its decoder have held so far, each at its own worst moment."""
        return peak_bytes() + self._decoder.peak_bytes()

    def close(self) -> None:
        """End the decoder."""
        self._decoder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Watching:
    """Shows one open video to the experts, piece by piece; an expert that fails costs the others nothing."""

    def __init__(
        self,
        video_id: str,
        experts: Mapping[str, Expert],
        needs: Sequence[FrameNeed],
        video: OpenVideo,
        max_seconds: float,
        begin: Callable[[str], None],
    ) -> None:
        self._video_id, self._experts, self._video, self._begin = video_id, experts, video, begin
        self._info = replace(video.info, duration_seconds=min(video.info.duration_seconds, max_seconds))
        self._piece = {name: needs.index(e.frames) for name, e in experts.items() if e.frames is not None}
        self._readings: dict[str, Reading] = {}
        self._found = Found()

    def watch(self) -> Found:
        """Return what the experts find.

        Raises:
            MediaError: no part of the video can be read, or not all of it and `strict` is set.
        """
        for name, expert in self._experts.items():
            with self._blaming(name):
                self._readings[name] = expert.begin(self._info)
        for pieces in self._video.chunks():
            self._add(pieces)
        for name in tuple(self._readings):
            self._finish(name)
        if self._video.damage:
            absent = {failure.expert for failure in self._found.failures if failure.status == "absent"}
            for name in self._found.extracted:
                if name not in absent:
                    self._fail(name, "decode", "truncated", self._video.damage, "partial")
        return self._found

    def _add(self, pieces: Sequence[Any]) -> None:
        for name in tuple(self._readings):
            frames = pieces[self._piece[name]] if name in self._piece else None
            if frames is not None and len(frames.images):
                with self._blaming(name):
                    self._readings[name].add(frames)

    def _finish(self, name: str) -> None:
        sound = None
        if self._experts[name].sound:
            if not self._video.info.has_sound:
                self._fail(name, "sound", "no_audio", "the video has no sound track", "absent")
            elif (error := self._video.sound_error) is not None:
                self._fail(name, error.stage, error.kind, error.reason, decoder=error.decoder)
                return
            sound = self._video.sound
        reading = self._readings[name]
        with self._blaming(name):
            self._found.extracted[name] = extracted = reading.finish(sound)
            silence = "the sound is silence" if sound is not None and is_silent(sound) else ""
            if extracted is None and (why := reading.too_little or silence):
                self._fail(name, "extract", "too_little", why, "absent")

    @contextlib.contextmanager
    def _blaming(self, name: str) -> Iterator[None]:
        """Enter what goes wrong inside the block as the expert's failure, and ask it no more."""
        self._begin(name)
        try:
            yield
        except (BrokenPipeError, ServerLost):
            raise
        except Exception as error:
            self._readings.pop(name, None)
            self._fail(name, "extract", _kind_of(error, "expert_error"), _words(error))
        self._begin(NOBODY)

    def _fail(
        self, name: str, stage: str, kind: Kind, message: str, status: Status = "failed", decoder: str = ""
    ) -> None:
        failure = Failure(self._video_id, name, stage, kind, message, status, decoder or self._video.decoder)
        self._found.failures.append(failure)


def _quiet_tqdm() -> None:
    """Give tqdm, which libraries use, a lock of this process: its own is a semaphore that killed processes leak."""
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())


def _all_failed(task: Task, stage: str, kind: Kind, message: str, decoder: str = "") -> Spooled:
    failure = Failure(task.video_id, ALL_EXPERTS, stage, kind, message, decoder=decoder)
    return task.nothing_read((failure,))


def _refused(task: Task, error: MediaError) -> Spooled:
    failures = [
        Failure(task.video_id, name, error.stage, "truncated", error.reason, decoder=error.decoder)
        for name in task.experts
    ]
    return Spooled(task.video_id, {}, (), tuple(failures), refused=task.experts)


def _kind_of(error: Exception, otherwise: Kind) -> Kind:
    return "out_of_memory" if ran_out_of_memory(error) else otherwise


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _end(*_: object) -> None:
    """End the process, once: the second of two requests would come in the middle of its last acts."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(0)


def run_worker(
    connection: Connection,
    config: ExtractConfig,
    experts: Sequence[str],
    extractors: Mapping[str, str],
    spool: Spool,
    scratch: Path,
    models: Models,
) -> None:
    """Answer tasks until the connection ends.

    Sends Ready first; then for each task At whenever another expert goes on, and Done. What stops the whole run (a disk
    that is full, a defect) is sent as a VtrError. When the model server dies it only waits: the parent replaces both.
    """
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    signal.signal(signal.SIGTERM, _end)
    worker = None
    try:
        worker = VideoWorker(config, experts, extractors, scratch, models)
        specs = {name: (expert.spec, expert.scaler) for name, expert in worker.extractors.items()}
        connection.send(Ready(specs, worker.unavailable))
        while True:
            task = connection.recv()
            with contextlib.suppress(ServerLost):
                done = worker.process(task, lambda expert: connection.send(At(expert)))
                spool.put(done)
                connection.send(Done(done.failures, worker.peak_bytes))
    except (EOFError, BrokenPipeError):
        return
    except VtrError as error:
        connection.send(error)
    except Exception:
        connection.send(VtrError(f"an extraction worker failed unexpectedly:\n{traceback.format_exc()}"))
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending
        if worker is not None:
            worker.close()
