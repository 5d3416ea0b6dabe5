"""Where MSR-VTT's files lie below a folder: found by name, also inside zips that were not unpacked."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtr.annotations.folder import visible_files
from vtr.errors import InputError


@dataclass(frozen=True, slots=True)
class Place:
    """A file, or with `member` a file inside the zip `path`. `str()` names it for messages."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}:{self.member}" if self.member else str(self.path)

    def parsed(self) -> Any:
        """Return what the file holds as JSON.

        Raises:
            InputError: it cannot be read, or is not whole.
        """
        try:
            data = _from_zip(self.path, self.member) if self.member else self.path.read_bytes()
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {error.strerror}.") from error
        try:
            return json.loads(data)
        except ValueError as error:
            raise InputError(
                f"{self} is not whole JSON ({error}). It may have been cut in half: fetch it again."
            ) from error


def find_places(folder: Path, names: Iterable[str], zipped: Iterable[str] = ()) -> dict[str, tuple[Place, ...]]:
    """Return name -> where files of that name lie in a folder and below it, the shallowest first.

    Names of which there is no file are left out.

    Args:
        folder: where to look; hidden files and folders are passed over.
        names: file names to look for.
        zipped: those of them to look for inside zips too, where no plain file has the name.

    Raises:
        InputError: the folder is not one or cannot be read, a folder has the name of a file, or a zip is damaged.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder. Give the folder that holds MSR-VTT's files.")
    files = visible_files(folder)
    wanted = dict.fromkeys(names)
    if misplaced := [parent for parent in files if parent.name in wanted]:
        raise InputError(f"{misplaced[0]} is a folder, a file of that name was expected.")
    ordered = sorted((path for paths in files.values() for path in paths), key=lambda path: (len(path.parts), path))
    found = {name: tuple(Place(path) for path in ordered if path.name == name) for name in wanted}
    lacking = [name for name in zipped if not found[name]]
    for path in ordered if lacking else ():
        if path.suffix.lower() == ".zip":
            for member in members(path):
                if (name := Path(member).name) in lacking:
                    found[name] += (Place(path, member),)
    return {name: places for name, places in found.items() if places}


def files_of(places: Mapping[str, tuple[Place, ...]]) -> dict[str, Path]:
    """Return name -> the path of the first plain file of that name."""
    return {name: found[0].path for name, found in places.items() if not found[0].member}


def members(path: Path) -> list[str]:
    """Return the names of the files in a zip.

    Raises:
        InputError: it is damaged, or not a zip.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(_damaged(path, error)) from error


def _from_zip(path: Path, member: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(member)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        raise InputError(_damaged(path, error)) from error


def _damaged(path: Path, error: Exception) -> str:
    return f"{path} is not a whole zip ({error}). Fetch it again."
