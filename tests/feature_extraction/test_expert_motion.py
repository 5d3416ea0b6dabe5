"""Motion features tell apart what moves how. Scenes are shifted, turned and zoomed exactly, by PIL."""

from __future__ import annotations

import numpy as np
import pytest
from painted_clips import media
from PIL import Image, ImageFilter

from feature_extraction.experts.motion import DIM, DIRECTIONS, GRID
from feature_extraction.extractor import Frames

RATE = 12.5
SIDE = 112
RIGHT, DOWN, LEFT, UP = 0, 2, 4, 6
U, V, _, _, SPEED, _, DIVERGENCE, CURL, ACROSS, BELOW, _, SHARE, TURNS_X, TURNS_Y = range(14)


def texture(side: int) -> Image.Image:
    noise = np.random.default_rng(1).integers(0, 255, (side, side), dtype=np.uint8)
    return Image.fromarray(noise).filter(ImageFilter.GaussianBlur(1.5))


def square_at(x: float, y: float) -> np.ndarray:
    """Return a grey frame with a textured square of 40 pixels whose corner is at (x, y)."""
    image = Image.new("L", (SIDE, SIDE), 90)
    image.paste(texture(40), (round(x), round(y)))
    return np.asarray(image)


def features_of(extractor, frames, rate: float = RATE):
    images = np.stack(frames)
    seconds = np.arange(len(images)) / rate
    colour = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    duration = len(images) / rate
    return extractor("motion").extract(media(colour, motion=Frames(images, seconds), duration_seconds=duration))


def split(extracted) -> tuple[np.ndarray, np.ndarray]:
    """Return the first second's histograms [GRID * GRID, DIRECTIONS + 1] and its 14 global numbers."""
    values = extracted.features.values[0]
    return values[: DIM - 14].reshape(GRID * GRID, DIRECTIONS + 1), values[DIM - 14 :]


@pytest.mark.parametrize(
    ("dx", "dy", "direction"),
    [(2, 0, RIGHT), (-2, 0, LEFT), (0, 2, DOWN), (0, -2, UP)],
    ids=["right", "left", "down", "up"],
)
def test_direction_and_speed_are_seen(extractor, dx: int, dy: int, direction: int) -> None:
    frames = [square_at(36 + dx * (n - 6), 36 + dy * (n - 6)) for n in range(13)]
    histograms, numbers = split(features_of(extractor, frames))
    assert histograms[:, :DIRECTIONS].sum(axis=0).argmax() == direction
    true_speed = 2 * RATE / SIDE  # frame heights per second
    expected = np.array([dx, dy]) / 2 * true_speed
    np.testing.assert_allclose(numbers[[U, V]], expected, atol=0.4 * true_speed)  # a halo moves less
    assert numbers[[TURNS_X, TURNS_Y]].max() == 0


def test_faster_is_faster(extractor) -> None:
    slow, fast = (split(features_of(extractor, [square_at(10 + v * n, 36) for n in range(13)]))[1] for v in (1, 4))
    assert fast[SPEED] > 2 * slow[SPEED]


def test_where_it_moves_is_seen(extractor) -> None:
    frames = [square_at(n % 2 * 2, 0) for n in range(13)]
    histograms, numbers = split(features_of(extractor, frames))
    assert histograms[0, :DIRECTIONS].sum() > 0.5
    assert histograms[8, :DIRECTIONS].sum() == 0
    assert numbers[ACROSS] < 0
    assert numbers[BELOW] < 0


def test_turning_approaching_and_retreating_differ(extractor) -> None:
    scene = texture(300)

    def crop(image: Image.Image) -> np.ndarray:
        left = (image.width - SIDE) // 2
        return np.asarray(image.crop((left, left, left + SIDE, left + SIDE)))

    def zoomed(factor: float) -> np.ndarray:
        side = round(300 * factor)
        return crop(scene.resize((side, side), Image.Resampling.BICUBIC))

    clockwise = [crop(scene.rotate(-2 * n, Image.Resampling.BICUBIC)) for n in range(13)]
    numbers = {
        "clockwise": split(features_of(extractor, clockwise))[1],
        "back": split(features_of(extractor, clockwise[::-1]))[1],
        "nearer": split(features_of(extractor, [zoomed(1.02**n) for n in range(13)]))[1],
        "farther": split(features_of(extractor, [zoomed(1.02**-n) for n in range(13)]))[1],
    }
    turning = np.deg2rad(2) * RATE  # curl / 2 of a rigid turn, in radians per second; y points down
    assert numbers["clockwise"][CURL] == pytest.approx(turning, rel=0.3)
    assert numbers["back"][CURL] == pytest.approx(-turning, rel=0.3)
    assert numbers["nearer"][DIVERGENCE] == pytest.approx(0.02 * RATE, rel=0.4)
    assert numbers["farther"][DIVERGENCE] == pytest.approx(-0.02 * RATE, rel=0.4)
    assert abs(numbers["clockwise"][DIVERGENCE]) < 0.2 * abs(numbers["nearer"][DIVERGENCE])


def test_bouncing_is_told_from_moving_on(extractor) -> None:
    places = [0, 4, 8, 4, 0, 4, 8, 4, 0, 4, 8, 4, 0]
    bouncing = split(features_of(extractor, [square_at(36, 30 + place) for place in places]))[1]
    falling = split(features_of(extractor, [square_at(36, 10 + 4 * n) for n in range(13)]))[1]
    assert bouncing[TURNS_Y] == pytest.approx(5 / 11)  # it turns 5 times in 12 steps
    assert bouncing[TURNS_X] == 0
    assert falling[TURNS_Y] == 0


def test_a_still_picture_stands_still(extractor) -> None:
    histograms, numbers = split(features_of(extractor, [square_at(36, 36)] * 26))
    assert (histograms[:, :DIRECTIONS] == 0).all()
    np.testing.assert_allclose(histograms[:, DIRECTIONS], 1)
    assert (numbers == 0).all()


def test_velocity_is_per_second_whatever_the_rate(extractor) -> None:
    fast = [square_at(2 * n, 36) for n in range(13)]
    every_other = features_of(extractor, fast[::2], RATE / 2)
    np.testing.assert_allclose(split(every_other)[1][SPEED], split(features_of(extractor, fast))[1][SPEED], rtol=0.2)


def test_each_second_has_its_feature_and_time(extractor) -> None:
    found = features_of(extractor, [square_at(n, 36) for n in range(31)]).features
    assert found.start_seconds.tolist() == [0, 1, 2]
    np.testing.assert_allclose(found.end_seconds, [1, 2, 31 / RATE], rtol=1e-6)


def test_frames_too_far_apart_have_no_motion(extractor) -> None:
    frames = [square_at(10 * n, 36) for n in range(6)]
    assert features_of(extractor, frames, rate=1) is None
    assert features_of(extractor, frames[:1]) is None
