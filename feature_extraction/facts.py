"""Which libraries decode, for the metadata of what is made from their frames."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

import av
import imageio_ffmpeg

from feature_extraction.sound import ffmpeg_binary


@cache
def decoder_facts() -> dict[str, str]:
    """Return the readers, their versions and how they scale, for the metadata of what is made from their frames."""
    libraries = {name: ".".join(map(str, numbers)) for name, numbers in av.library_versions.items()}
    return {
        "decord": version("decord"),
        "pyav": f"{av.__version__} (libavcodec {libraries['libavcodec']}, libswscale {libraries['libswscale']})",
        "pillow": version("pillow"),
        "ffmpeg": f"imageio-ffmpeg {imageio_ffmpeg.__version__}: {ffmpeg_binary()}",
        "scaler": "libswscale bilinear; Pillow bilinear for images and for further sizes of decord's frames",
    }
