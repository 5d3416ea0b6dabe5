"""Folders of images as videos: one image a frame, in the natural order of their names (2 before 10)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
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
    places = _places(names)
    missing = int(places[-1]) + 1 - len(names)
    damage = f"{missing} of {missing + len(names)} images are missing, by their numbers" if missing else None
    seconds = places / images_per_second
    info = VideoInfo(folder, float(seconds[-1]) + 1 / images_per_second, width, height, images_per_second, False)
    return Contents(info, seconds, damage=damage, images=tuple(names))


def _places(names: list[str]) -> NDArray[np.int64]:
    """Return which frame each image is, [N], the first 0.

    Where a number in the names goes up in equal steps, but for gaps, images are missing in the gaps. Otherwise they are
    one frame after the other.
    """
    found = [re.search(r"([0-9]+)[^0-9]*$", name.rpartition(".")[0]) for name in names]
    numbers = np.array([int(match[1]) if match else 0 for match in found])
    steps = np.diff(numbers)
    if len(names) > 1 and steps.min() > 0 and not (steps % steps.min()).any():
        return np.asarray((numbers - numbers[0]) // steps.min(), np.int64)
    return np.arange(len(names), dtype=np.int64)


def _first_size(folder: str, names: list[str]) -> tuple[int, int]:
    for name in names:
        try:
            return open_image(Path(folder, name)).size
        except Exception:  # Pillow's plug-ins raise what they like; the reader reports broken images
            continue
    raise ValueError(f"none of the {len(names)} images can be read")
