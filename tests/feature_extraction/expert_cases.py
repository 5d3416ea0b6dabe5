"""For tests: every expert that can run here, and something for each to see, read or hear."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydantic import PrivateAttr
from released_weights import RELEASES, save_released
from tiny_models import save_tiny

from feature_extraction.experts import make_extractor
from feature_extraction.extractor import Expert, Frames, Media, ModelExpert, VideoInfo
from vtr.extract_config import ExpertConfig, ExtractConfig

FRAMES, SPACING = 26, 0.08
DURATION = 4.0


class Watched(ExpertConfig):
    """Settings of one expert that note which of them are read."""

    _read: set[str] = PrivateAttr(default_factory=set)

    def __getattribute__(self, name: str) -> Any:
        if name in ExpertConfig.model_fields and self.__pydantic_private__ is not None:
            self._read.add(name)
        return super().__getattribute__(name)

    def noting_in(self, read: set[str]) -> Watched:
        """Return self; what is read from now on goes into `read`."""
        self._read = read
        return self


@dataclass(frozen=True)
class Case:
    """One expert with its settings.

    Attributes:
        name: the expert's name.
        tiny: the kind of tiny model that it loads; None for experts whose weights are packaged or released as a file.
        settings: `settings.NAME`, without the model.
        read: which settings of its own the expert has read so far.
    """

    name: str
    tiny: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    read: set[str] = field(default_factory=set, compare=False)

    def __str__(self) -> str:
        return "-".join([self.name, *map(str, self.settings.values())])

    def config(self, folder: Path, **more: Any) -> ExtractConfig:
        """Return settings under which the expert can be made; its random weights are saved in `folder`."""
        model = {"model": str(save_tiny(self.tiny, folder))} if self.tiny else {}
        if self.name in RELEASES:
            model = {"model": str(save_released(self.name, folder))}
        own = Watched.model_validate({**self.settings, **model, **more}).noting_in(self.read)
        return ExtractConfig(settings={self.name: own})

    def make(self, folder: Path, device: str = "cpu", **more: Any) -> Expert:
        """Return the expert, its model loaded."""
        expert = make_extractor(self.name, self.config(folder, **more))
        if isinstance(expert, ModelExpert):
            expert.load(device)
        return expert


NETWORKS = ("appearance", "appearance_lite0", "appearance_lite1", "objects", "shots")
"""Packaged experts that are model experts."""
PACKAGED = [Case(name) for name in (*NETWORKS, "audio", "face", "motion", "ocr", "speech")]
TINY = [
    Case("clip", "clip"),
    Case("clip", "clip", {"pooling": "mean"}),
    Case("my_siglip", "siglip", {"kind": "image"}),
    Case("appearance_vit", "dinov2"),
    Case("scene", "vit"),
    Case("motion_videomae", "videomae"),
    Case("motion_videomae", "videomae", {"stride": 3}),
    Case("motion_timesformer", "timesformer"),
    Case("motion_xclip", "xclip"),
    Case("audio_ast", "ast"),
    Case("audio_ast", "ast", {"window_seconds": 0.5, "stride_seconds": 0.3}),
    Case("speech_whisper", "whisper", {"language": "en"}),
    Case("ocr_trocr", "trocr"),
]
RELEASED = [
    Case("s3d", settings={"window": 16, "stride": 10}),  # two windows
    Case("vggish"),
    Case("densenet"),
]
"""Networks of full size, with random weights."""
CASES = [*PACKAGED, *TINY, *RELEASED]
MODELS = [case for case in (*TINY, *RELEASED) if case.name not in ("speech_whisper", "ocr_trocr")] + [
    case for case in PACKAGED if case.name in NETWORKS
]
HEARING = ("audio", "speech", "audio_ast", "speech_whisper", "vggish")


def media_for(case: Case, expert: Expert, shared: Path) -> Media:
    """Return a video of 4 seconds in which the expert finds something: 26 frames, or 4 where each costs much."""
    frames = None
    if expert.frames is not None:
        images = _faces(shared) if case.name == "face" else _scene()
        if case.name == "densenet":
            images = images[:: FRAMES // 4 + 1]
        seconds = np.arange(len(images)) * SPACING * FRAMES / len(images)
        frames = Frames(_as_needed(images, expert), seconds)
    height, width = (240, 320) if frames is None else frames.images.shape[1:3]
    info = VideoInfo("made by hand", DURATION, width, height, 1 / SPACING, expert.sound)
    return Media(info, frames, _voice() if expert.sound else None)


def _scene() -> NDArray[np.uint8]:
    """Return frames with a square that moves over noise, and words; half-way everything changes."""
    noise = np.random.default_rng(3).integers(60, 120, (FRAMES, 240, 320, 3), dtype=np.uint8)
    frames = []
    for index, ground in enumerate(noise):
        image = Image.fromarray(ground if index < FRAMES // 2 else 255 - ground)
        draw = ImageDraw.Draw(image)
        draw.rectangle((10 + 9 * index, 150, 60 + 9 * index, 200), (200, 40 + 5 * index, 20))
        draw.text((40, 40), "COFFEE", (255, 255, 255) if index < FRAMES // 2 else (0, 0, 0), ImageFont.load_default(40))
        frames.append(np.asarray(image))
    return np.stack(frames)


def _faces(shared: Path) -> NDArray[np.uint8]:
    import av

    with av.open(str(shared / "msrvtt" / "videos" / "video6909.mp4")) as container:
        frames = [
            frame.to_ndarray(format="rgb24") for frame, _ in zip(container.decode(video=0), range(2), strict=False)
        ]
    return np.stack([frames[index // 2] for index in range(4)])


def _as_needed(images: NDArray[np.uint8], expert: Expert) -> NDArray[np.uint8]:
    need = expert.frames
    assert need is not None
    size = need.exact
    if size is None and need.side < 240:
        size = (need.side * 4 // 3, need.side)
    pictures = [Image.fromarray(image).convert("L" if need.grey else "RGB") for image in images]
    return np.stack([np.asarray(picture.resize(size) if size else picture) for picture in pictures])


def _voice() -> NDArray[np.float32]:
    """Return 4 s of a spoken sentence over a hum."""
    from scipy.signal import resample_poly

    from vtr.demo.sound import RATE, speak

    spoken = resample_poly(speak("The quick brown dog is cooking dinner in the kitchen."), 160, RATE // 100)
    sound = 0.01 * np.sin(np.arange(round(DURATION * 16000)) * 0.05)
    sound[: len(spoken)] += spoken[: len(sound)]
    return sound.astype(np.float32)
