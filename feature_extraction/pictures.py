"""Scaling frames to what an image or video model takes, with the model's own numbers.

The numbers come from the model's `preprocessor_config.json`. Frames are resized and cropped here, to 8-bit pictures
that are small to send; the model's device does the rest. The result is that of the library's own processors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from feature_extraction.damage import UNREADABLE, first_sentence
from vtr.errors import UnavailableError

RESAMPLING = {0: "nearest", 1: "Lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "Hamming"}
"""PIL's numbers, which the configs use."""


@dataclass(frozen=True, slots=True)
class PictureScaler:
    """From frames of any size to a model's pictures.

    Attributes:
        shorter_side: the shorter side is scaled to so many pixels, aspect kept; None where `resize` or nothing is done.
        resize: (height, width) that frames are scaled to, aspect not kept.
        crop: (height, width) cut from the middle afterwards; black is added where the frame is smaller.
        resample: PIL's number of the filter.
        factor: pixels times this, minus `mean`, divided by `std`, are the model's input.
        mean, std: [3], for red, green and blue.
    """

    shorter_side: int | None
    resize: tuple[int, int] | None
    crop: tuple[int, int] | None
    resample: int
    factor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of a picture."""
        size = self.crop or self.resize
        assert size is not None  # `read_scaler` refuses anything else
        return size

    def __str__(self) -> str:
        first = f"shorter side to {self.shorter_side}, " if self.shorter_side else ""
        first = f"{self.resize[1]} x {self.resize[0]}, aspect not kept, " if self.resize else first
        cut = f"middle {self.crop[1]} x {self.crop[0]}, " if self.crop else ""
        filtered = f"PIL {RESAMPLING.get(self.resample, self.resample)}: " if first else ""
        return f"{filtered}{first}{cut}(x * {self.factor:.6g} - {self.mean}) / {self.std}"

    def scale(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a frame [H, W, 3] as a picture [height, width, 3]."""
        picture = Image.fromarray(image)
        height, width = image.shape[:2]
        if self.shorter_side:
            height, width = _longer_in_proportion(height, width, self.shorter_side)
            picture = picture.resize((width, height), self.resample)
        elif self.resize:
            height, width = self.resize
            picture = picture.resize((width, height), self.resample)
        pixels = np.asarray(picture, np.uint8)
        return _middle(pixels, self.crop) if self.crop else pixels

    def scale_all(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return frames [N, H, W, 3] as pictures [N, height, width, 3]."""
        return np.stack([self.scale(image) for image in images])

    def normalise(self, pictures: Tensor) -> Tensor:
        """Return pictures [..., height, width, 3] uint8 as a model's input [..., 3, height, width] float32."""
        mean = torch.tensor(self.mean, device=pictures.device)
        std = torch.tensor(self.std, device=pictures.device)
        return ((pictures.float() * self.factor - mean) / std).movedim(-1, -3)


def read_scaler(folder: Path, expert: str) -> PictureScaler:
    """Read how a model wants its pictures.

    Raises:
        UnavailableError: the folder does not say, or says something this does not do, such as pictures of any size.
    """
    from transformers import AutoImageProcessor

    try:
        processor: Any = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            folder, backend="pil", local_files_only=True
        )
    except UNREADABLE as error:
        raise UnavailableError(
            f"expert {expert}: {folder} does not tell how pictures are scaled ({first_sentence(error)}). A "
            "preprocessor_config.json that transformers knows was expected there; download the model completely."
        ) from error
    shorter, resize = _sizes(_values(processor, "size")) if processor.do_resize else (None, None)
    crop = _values(processor, "crop_size") if getattr(processor, "do_center_crop", None) else {}
    scaler = PictureScaler(
        shorter_side=shorter,
        resize=resize,
        crop=(crop["height"], crop["width"]) if crop else None,
        resample=int(2 if processor.resample is None else processor.resample),
        factor=float(processor.rescale_factor) if processor.do_rescale else 1.0,
        mean=_three(processor.image_mean if processor.do_normalize else 0.0),
        std=_three(processor.image_std if processor.do_normalize else 1.0),
    )
    if scaler.crop is None and scaler.resize is None:
        raise UnavailableError(
            f"expert {expert}: {folder}/preprocessor_config.json asks for pictures of no fixed size "
            f"({processor.size}). A height and width, or a crop, was expected; use another model."
        )
    return scaler


def _values(processor: Any, name: str) -> dict[str, int]:
    size = getattr(processor, name)
    return {key: int(value) for key, value in dict(size).items() if value is not None}


def _sizes(size: dict[str, int]) -> tuple[int | None, tuple[int, int] | None]:
    if "height" in size and "width" in size:
        return None, (size["height"], size["width"])
    return (size["shortest_edge"] if set(size) == {"shortest_edge"} else None), None


def _three(value: Any) -> tuple[float, ...]:
    values = np.broadcast_to(np.asarray(value, np.float64), (3,))
    return tuple(values.tolist())


def _longer_in_proportion(height: int, width: int, shorter: int) -> tuple[int, int]:
    """Return (height, width) with the shorter side as asked; the longer one is cut to whole pixels, not rounded."""
    if height <= width:
        return shorter, int(shorter * width / height)
    return int(shorter * height / width), shorter


def _middle(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    above, left = max(0, -(-(size[0] - height) // 2)), max(0, -(-(size[1] - width) // 2))
    if height < size[0] or width < size[1]:
        below, right = max(0, size[0] - height - above), max(0, size[1] - width - left)
        pixels = np.pad(pixels, ((above, below), (left, right), (0, 0)))
        height, width = pixels.shape[:2]
    top, start = (height - size[0]) // 2, (width - size[1]) // 2
    return pixels[top : top + size[0], start : start + size[1]]
