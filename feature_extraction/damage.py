"""What is wrong with files of models, as far as it shows without loading them: torn, empty, or something else."""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

HEAD = 512
"""Bytes at the beginning of a file that tell what it is."""
UNREADABLE = (
    OSError,
    ValueError,
    RuntimeError,
    LookupError,
    AttributeError,
    TypeError,
    EOFError,
    ImportError,
    pickle.UnpicklingError,
    SafetensorError,
)
"""What libraries raise over files that are not what they should be."""


def weights_damage(path: Path) -> str:
    """Return what is wrong with a file of weights, by its first bytes, its table of contents and its size.

    Args:
        path: a safetensors file by its suffix, else one that `torch.save` wrote.

    Returns:
        How a sentence about the file ends, such as "is empty"; "" where nothing shows.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(HEAD)
        found = _not_weights(head)
        return found or (
            _safetensors_damage(path, size) if path.suffix == ".safetensors" else _torch_damage(path, head)
        )
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"


def read_object(path: Path) -> tuple[dict[str, Any], str]:
    """Return the object that a JSON file holds, and what is wrong with the file: "", or as `weights_damage` says it."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        return {}, f"cannot be read ({error.strerror or error})"
    try:
        value = json.loads(raw)
    except ValueError:
        found = _not_weights(raw[:HEAD])
        return {}, "is no JSON, or is cut off" if found in ("", "is text") else found
    return (value, "") if isinstance(value, dict) else ({}, "holds no JSON object")


def first_sentence(error: Exception) -> str:
    """Return an error's class and first sentence: libraries go on for paragraphs, about other things."""
    sentence = re.split(r"(?<=[.!?]) (?=[A-Z])", " ".join(str(error).split()))[0].rstrip(".")
    return f"{type(error).__name__}: {sentence}" if sentence else type(error).__name__


def _not_weights(head: bytes) -> str:
    if not head:
        return "is empty"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, as comes in place of a file that needs a login or has moved"
    if head.startswith(b"version https://git-lfs"):
        return "is Git LFS's pointer to the file (`git lfs pull` fetches the file itself)"
    return "" if any(byte < 32 and byte not in b"\t\n\f\r" for byte in head) else "is text"


def _safetensors_damage(path: Path, size: int) -> str:
    """See `weights_damage`. The file begins with the length of its table (8 bytes) and the table, in JSON."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        begun = file.read(1)
        if size > 8 and begun != b"{":
            return "is no safetensors file"
        if size < 8 + length or size <= 8:
            return "is torn: it ends within its own table of tensors"
        table = begun + file.read(length - 1)
    try:
        entries = json.loads(table)
        end = max([0, *(entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__")])
    except (ValueError, LookupError, TypeError, AttributeError):
        return "is no safetensors file"
    expected = 8 + length + end
    what = "torn" if size < expected else "damaged"
    return "" if size == expected else f"is {what}: it has {size:,} bytes, {expected:,} by its own table"


def _torch_damage(path: Path, head: bytes) -> str:
    if head.startswith(pickle.PROTO):  # as PyTorch wrote until 1.6; it has no table of contents
        return ""
    if not head.startswith(b"PK"):
        return "is of no format that torch.save writes"
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError):
        return "is torn: it begins as torch.save begins and lacks its end"
    held = any(name.endswith("/data.pkl") for name in names)
    return "" if held else "is an archive that torch.save did not write"
