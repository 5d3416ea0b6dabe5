"""Atomic writes and locks: nothing half-written is visible, and errors are words."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vtr import files
from vtr.errors import InputError, WorkspaceError
from vtr.files import (
    TEMPORARY_PREFIX,
    atomic_directory,
    atomic_file,
    atomic_link,
    lock,
    locked_by,
    read_json,
    remove_temporaries,
    sha256_file,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_write_leaves_the_former_file(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "former")
    with pytest.raises(error), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "former"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_folder_leaves_the_former_one(tmp_path: Path, error: type[BaseException]) -> None:
    folder = tmp_path / "made"
    with atomic_directory(folder) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "one").write_text("1")
    with pytest.raises(error), atomic_directory(folder) as temporary:
        (temporary / "two").write_text("2")
        raise error
    assert names(tmp_path) == ["made"] and names(folder) == ["sub"]
    with atomic_directory(folder) as temporary:
        (temporary / "two").write_text("2")
    assert names(tmp_path) == ["made"] and names(folder) == ["two"]


def test_a_folder_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "made"
    with atomic_directory(folder) as temporary:
        (temporary / "one").write_text("1")
    rename = Path.rename

    def fail_for_new(self: Path, target: Path) -> Path:
        if (self / "two").exists():
            raise OSError(28, "No space left on device")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail_for_new)
        patch.setattr(files, "_exchange", lambda *_: False)  # as on a file system that cannot
        with pytest.raises(WorkspaceError, match="No space left"), atomic_directory(folder) as temporary:
            (temporary / "two").write_text("2")
    assert names(tmp_path) == ["made"] and names(folder) == ["one"]


def test_a_folder_that_is_replaced_is_there_all_the_time(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    with atomic_directory(folder) as temporary:
        (temporary / "content").write_text("0")
    if not files._exchange(folder, folder):
        pytest.skip("this file system cannot exchange names")
    over, missed, seen = threading.Event(), [], set()

    def look() -> None:
        while not over.is_set():
            try:
                seen.update(path.name for path in folder.iterdir())
            except FileNotFoundError:
                missed.append(True)

    looking = threading.Thread(target=look)
    looking.start()
    for number in range(200):
        with atomic_directory(folder) as temporary:
            (temporary / "content").write_text(str(number))
    over.set()
    looking.join()
    assert not missed
    assert seen == {"content"}
    assert names(tmp_path) == ["made"] and (folder / "content").read_text() == "199"


def test_outputs_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path in (file / "below.txt", file / "deep" / "below.txt", Path("/proc/nowhere/a.txt")):
        with pytest.raises(WorkspaceError, match=f"cannot write {path}: .*finished work is kept"):
            write_text(path, "text")
        with pytest.raises(WorkspaceError, match="cannot write"), atomic_directory(path):
            pass
        with pytest.raises(WorkspaceError, match="cannot write"), lock(path, "do it"):
            pass


def test_a_full_disk_is_an_error_in_words(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from vtr.errors import WorkspaceError;"
        "from vtr.files import write_text;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "path = Path(sys.argv[1]);"
        "\ntry: write_text(path, 'x' * 5000)"
        "\nexcept WorkspaceError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True, check=True)
    assert "cannot write" in done.stdout and "File too large" in done.stdout
    assert names(tmp_path) == []


def test_json_round_trip_and_refusals(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"é": [1, 2.5, None, "x"]})
    assert read_json(path) == {"é": [1, 2.5, None, "x"]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"nan": float("nan")})
    assert read_json(path) == {"é": [1, 2.5, None, "x"]}
    path.write_text('{"a": [1, 2')
    with pytest.raises(InputError, match=r"a\.json is not whole JSON .*line 1.*cut in half"):
        read_json(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is not whole JSON"):
        read_json(path)
    with pytest.raises(InputError, match="is a directory"):
        read_json(tmp_path)
    with pytest.raises(InputError, match="none does not exist"):
        read_json(tmp_path / "none")
    with pytest.raises(InputError, match="cannot be read: Not a directory"):
        read_json(path / "below")


def test_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"content").hexdigest()


def test_leftovers_of_killed_writers_are_removed(tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY_PREFIX}1-a").touch()
    (tmp_path / f"{TEMPORARY_PREFIX}2-b").mkdir()
    (tmp_path / f"{TEMPORARY_PREFIX}2-b" / "c").touch()
    (tmp_path / "kept").touch()
    remove_temporaries(tmp_path)
    assert names(tmp_path) == ["kept"]


HOLDER = """
import sys, time
from pathlib import Path
from vtr.files import lock
with lock(Path(sys.argv[1]), "hold"):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_lock_names_its_holder_and_goes_when_it_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "deep" / ".lock"
    assert locked_by(path) is None
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        assert locked_by(path) == holder.pid
        message = f"cannot dance: process {holder.pid} is already at it"
        with pytest.raises(WorkspaceError, match=message), lock(path, "dance"):
            pytest.fail("two hold one lock")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert locked_by(path) is None
    with lock(path, "dance"):
        assert locked_by(path) == os.getpid()
    assert locked_by(path) is None


def test_a_lock_is_freed_by_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), lock(tmp_path / ".lock", "do it"):
        raise KeyboardInterrupt
    assert locked_by(tmp_path / ".lock") is None


def test_being_looked_at_does_not_keep_a_lock_from_being_taken(tmp_path: Path) -> None:
    """`locked_by` holds a shared lock for an instant; `lock` waits that long."""
    import fcntl
    import threading

    path = tmp_path / ".lock"
    with path.open("w") as probe:
        fcntl.flock(probe, fcntl.LOCK_SH)
        released = threading.Timer(0.03, fcntl.flock, (probe, fcntl.LOCK_UN))
        released.start()
        with lock(path, "do it"):
            pass
        released.join()


def test_a_lock_that_cannot_be_written_is_an_error_in_words() -> None:
    with pytest.raises(WorkspaceError, match="cannot write /dev/full"), lock(Path("/dev/full"), "do it"):
        pass


def test_a_link_that_cannot_be_made_is_an_error_in_words(tmp_path: Path) -> None:
    atomic_link(tmp_path / "link", "one")
    atomic_link(tmp_path / "link", "two")
    assert (tmp_path / "link").readlink() == Path("two")
    with pytest.raises(WorkspaceError, match=r"cannot write .*nowhere"):
        atomic_link(tmp_path / "nowhere" / "link", "one")
