"""For tests: `vtr extract` as a process, with fake experts; its family of processes; and what a workspace holds."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from feature_extraction.ledger import Failure, read_ledger
from vtr.annotations.prepare import prepare_folder
from vtr.store.reader import FeatureStore
from vtr.store.schema import metadata_examined
from vtr.workspace import Workspace

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PATIENCE_SECONDS = 90.0
"""What a test waits for comes within seconds; this long on a machine that is busy with something else."""


def prepare(clips: Path, root: Path) -> Workspace:
    """Make a workspace of a folder of clips."""
    return prepare_folder(clips, None, root).workspace


def extract_command(workspace: Path, experts: str, *options: str, **settings: object) -> list[str]:
    """Return the command line of `vtr extract` with fake experts: two workers, 4 frames a second, 8 videos a shard."""
    values = {"frames_per_second": 4.0, "shard_videos": 8, "workers": 2, "devices": "[auto]"} | settings
    sets = [word for name, value in values.items() for word in ("--set", f"{name}={value}")]
    program = str(HERE / "vtr_with_fakes.py")
    return [sys.executable, program, "extract", str(workspace), "--experts", experts, *options, *sets]


def environment(**variables: object) -> dict[str, str]:
    """Return this process's environment, with the fake experts importable, and `variables`."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("TEST_")}
    path = f"{HERE}{os.pathsep}{ROOT}"
    return own | {"PYTHONPATH": path} | {name: str(value) for name, value in variables.items()}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str


@dataclass
class Running:
    """A command that runs; output goes to files, so that no pipe can fill."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """The command's process id."""
        return self.process.pid

    def family(self) -> dict[int, str]:
        """Return the command's living descendants, process id -> "worker", "decoder" or "other"."""
        found: dict[int, str] = {}
        parents = [self.pid]
        while parents:
            for child in _children(parents.pop()):
                kind = _kind(child)
                if kind:
                    found[child] = kind
                    parents.append(child)
        return found

    def until(self, met: Callable[[], Any], what: str) -> None:
        """Wait until `met` is true; it is asked until then. Fails when the command ends before."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not met():
            assert self.process.poll() is None or met(), f"it ended before this: {what}. {self.wait()}"
            assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_SECONDS:g} s"
            time.sleep(0.005)

    def wait(self) -> Ended:
        """Return how the command ended."""
        status = self.process.wait(PATIENCE_SECONDS)
        return Ended(status, self.log.with_suffix(".out").read_text(), self.log.with_suffix(".err").read_text())


@contextlib.contextmanager
def running(command: list[str], log: Path, **variables: object) -> Iterator[Running]:
    """Start a command, and end it with all its descendants at the end of the block if it still runs."""
    with log.with_suffix(".out").open("wb") as out, log.with_suffix(".err").open("wb") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environment(**variables))
    started = Running(process, log)
    try:
        yield started
    finally:
        family = started.family() if process.poll() is None else {}
        process.kill()
        process.wait()
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)


def run(command: list[str], log: Path, **variables: object) -> Ended:
    """Run a command to its end."""
    with running(command, log, **variables) as process:
        return process.wait()


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def _kind(pid: int) -> str:
    """Return what a process of the extraction is, by its command line; "" when it has gone."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        if "spawn_main" in words:
            return "worker"
        if "feature_extraction.decoder" in words:
            return "decoder"
        return "other" if words else ""
    return ""


def marked(name: str, value: str) -> list[int]:
    """Return the processes of this machine that were started with an environment variable of that value."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{name}={value}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def read_whole(path: Path) -> pa.Table:
    """Return all that a Parquet file holds.

    Raises:
        OSError, pa.ArrowException: it is not whole: it has no footer, or the checksum of a page does not fit.
    """
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        return file.read()


def rows(workspace: Workspace) -> dict[str, list[Any]]:
    """Return expert -> every row of its listed shards, in stored order, with its values as bytes."""
    store = FeatureStore(workspace.features)
    return {
        expert: [row for path in store.shards(expert) for row in read_whole(Path(path)).to_pylist()]
        for expert in store.experts
    }


def covered(workspace: Workspace) -> dict[str, list[str]]:
    """Return expert -> the videos its listed shards cover, each as often as it occurs."""
    store = FeatureStore(workspace.features)
    return {
        expert: sorted(
            video_id for path in store.shards(expert) for video_id in metadata_examined(pq.read_schema(path).metadata)
        )
        for expert in store.experts
    }


def shard_bytes(workspace: Workspace) -> dict[str, bytes]:
    """Return the content of every Parquet file that readers see."""
    files = workspace.features.glob("[!.]*/**/[!.]*.parquet")
    return {str(path.relative_to(workspace.features)): path.read_bytes() for path in files}


def leftovers(workspace: Workspace) -> list[str]:
    """Return the temporary files and spooled videos that a finished run should not leave."""
    hidden = [path for path in workspace.features.rglob(".*") if path.name != ".lock"]
    return sorted(str(path.relative_to(workspace.root)) for path in [*hidden, *workspace.root.glob(".tmp-*")])


def problems(workspace: Workspace) -> list[str]:
    """Return what is wrong with the store: checksums, shapes, videos that are in it twice."""
    store = FeatureStore(workspace.features)
    return [problem for expert in store.experts for problem in store.verify(expert)]


def failures(workspace: Workspace) -> dict[tuple[str, str], Failure]:
    """Return (video id, expert) -> what the ledger holds."""
    return {(failure.video_id, failure.expert): failure for failure in read_ledger(workspace.ledger)}


def peak_bytes(pid: int) -> int:
    """Return the most memory a process has held; 0 when it has gone."""
    with contextlib.suppress(OSError):
        if found := re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text()):
            return int(found[1]) * 1024
    return 0


class MemoryWatch:
    """Follows the peak memory of a command and its descendants while the block runs.

    Attributes:
        peaks: process id -> ("parent", "worker", "decoder" or "other", most bytes held). The kernel keeps the peak of
            each process, so that looking now and then misses only what one takes in its last moments.
    """

    def __init__(self, command: Running) -> None:
        self._command = command
        self.peaks: dict[int, tuple[str, int]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def _follow(self) -> None:
        while not self._over.wait(0.02):
            for pid, kind in {self._command.pid: "parent", **self._command.family()}.items():
                peak = peak_bytes(pid)
                self.peaks[pid] = (kind, max(peak, self.peaks.get(pid, ("", 0))[1]))

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def most(self, kind: str) -> int:
        """Return the largest peak of the processes of a kind, in bytes."""
        return max((peak for held, peak in self.peaks.values() if held == kind), default=0)
