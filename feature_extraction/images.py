"""Folders of images as videos: one image a frame, in the natural order of their names (2 before 10)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from feature_extraction.frames import VideoInfo
from feature_extraction.probing import Contents, NoVideoError
from vtr.annotations.locators import IMAGE_SUFFIXES


def image_names(folder: str) -> list[str]:
    """Return the names of a folder's images in natural order."""
    names = [
        path.name for path in Path(folder).iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."
    ]
    return sorted(names, key=_natural)


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Numbers by value, the rest by letter."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name.lower())
    return [(int(part), "") if part[0] in "0123456789" else (-1, part) for part in parts], name


def open_image(path: Path) -> Image.Image:
    """Return an image as RGB, turned as its EXIF data asks.

    Raises:
        OSError, ValueError, SyntaxError, Image.DecompressionBombError: it is no image, or damaged.
    """
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def inspect_images(folder: str, images_per_second: float | None) -> Contents:
    """Return what a folder of images holds. The picture size is that of the first image that can be read.

    Raises:
        NoVideoError: there are no images.
        ValueError: nobody said how many images a second there are, or none can be read.
    """
    names = image_names(folder)
    if not names:
        raise NoVideoError(f"{folder} is a folder without images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    if images_per_second is None:
        raise ValueError(f"{folder} is a folder of {len(names)} images: say how many there are a second")
    width, height = _first_size(folder, names)
    count = len(names)
    info = VideoInfo(folder, count / images_per_second, width, height, images_per_second, has_sound=False)
    return Contents(info, np.arange(count, dtype=np.float64) / images_per_second, images=tuple(names))


def _first_size(folder: str, names: list[str]) -> tuple[int, int]:
    for name in names:
        try:
            return open_image(Path(folder, name)).size
        except Exception:  # Pillow's plug-ins raise what they like; the reader reports broken images
            continue
    raise ValueError(f"none of the {len(names)} images can be read")
