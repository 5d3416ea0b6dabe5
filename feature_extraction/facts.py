"""Which libraries decode, for the metadata of what is made from their frames and their sound."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import av

from feature_extraction.sound import ffmpeg_binary


@cache
def decoder_facts() -> dict[str, str]:
    """Return what `vtr.workspace.versions` does not tell: the libraries within the decoders, and how they scale."""
    libraries = {name: ".".join(map(str, numbers)) for name, numbers in av.library_versions.items()}
    return {
        "pyav": f"libavcodec {libraries['libavcodec']}, libswscale {libraries['libswscale']}",
        "ffmpeg": _ffmpeg_version(),
        "scaler": "libswscale bilinear; Pillow bilinear for images and for further grey sizes of decord's frames",
    }


def _ffmpeg_version() -> str:
    """Return what ffmpeg says it is; the name of its file where it says nothing."""
    binary = ffmpeg_binary()
    try:
        said = subprocess.run([binary, "-version"], capture_output=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        said = b""
    first = (said.decode(errors="replace").splitlines() or [Path(binary).name])[0]
    return first.partition(" Copyright")[0]
