"""Drawing the small world: backgrounds, objects, their motion, and words, with Pillow."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vtr.demo.world import Scene

RGB = tuple[int, int, int]
COLOURS: dict[str, RGB] = {
    "red": (214, 40, 40),
    "blue": (40, 80, 220),
    "yellow": (245, 205, 30),
    "green": (40, 160, 60),
    "purple": (140, 50, 180),
}
SKIES: dict[str, tuple[RGB, RGB]] = {
    "beach": ((120, 190, 240), (200, 230, 250)),
    "forest": ((90, 150, 110), (40, 90, 50)),
    "city": ((10, 12, 35), (40, 40, 80)),
    "snow": ((200, 215, 230), (245, 248, 252)),
    "desert": ((250, 200, 130), (240, 220, 170)),
    "room": ((225, 205, 180), (210, 185, 160)),
}


def frames(scene: Scene) -> Iterator[NDArray[np.uint8]]:
    """Yield the clip's frames [H, W, 3], one for each 1/rate second."""
    background = _background(scene)
    sprite_side = round(min(scene.size) * 0.34)
    sprite = _sprite(scene, sprite_side * 2)
    count = round(scene.seconds * scene.rate[0] / scene.rate[1])
    for number in range(count):
        image = background.copy()
        x, y, scale = _place(scene.motion, number / count, number * scene.rate[1] / scene.rate[0])
        side = max(6, round(sprite_side * scale))
        shown = sprite.resize((side, side), Image.Resampling.BILINEAR)
        image.paste(shown, (round(x * scene.size[0] - side / 2), round(y * scene.size[1] - side / 2)), shown)
        if scene.word:
            _write(image, scene.word.upper())
        yield np.asarray(image)


def _place(motion: str, share: float, seconds: float) -> tuple[float, float, float]:
    """Return the object's centre as shares of width and height, and its scale.

    Args:
        share: of the clip that has passed, 0 to 1.
        seconds: since the clip began.
    """
    x, y, scale = 0.5, 0.55, 1.0
    turn = 2 * math.pi * seconds
    if motion in ("left", "right"):
        x = 0.15 + 0.7 * (share if motion == "right" else 1 - share)
    elif motion in ("up", "down"):
        y = 0.25 + 0.5 * (share if motion == "down" else 1 - share)
    elif motion == "bounce":
        y = 0.75 - 0.4 * abs(math.sin(turn * 0.75))
    elif motion == "circle":
        x, y = 0.5 + 0.22 * math.cos(turn * 0.5), 0.52 + 0.22 * math.sin(turn * 0.5)
    elif motion == "grow":
        scale = 0.4 + 1.5 * share
    elif motion == "shrink":
        scale = 1.9 - 1.5 * share
    elif motion == "shake":
        x = 0.5 + 0.06 * math.sin(turn * 3)
    return x, y, scale


def _background(scene: Scene) -> Image.Image:
    width, height = scene.size
    top, bottom = (np.array(colour, float) for colour in SKIES[scene.scene])
    rows = np.linspace(0, 1, height)[:, None]
    sky = (top * (1 - rows) + bottom * rows).astype(np.uint8)
    image = Image.fromarray(np.repeat(sky[:, None], width, axis=1))
    PAINTERS[scene.scene](ImageDraw.Draw(image), width, height, random.Random(scene.scene))
    return image


def _beach(pen: ImageDraw.ImageDraw, width: int, height: int, draw: random.Random) -> None:
    del draw
    pen.rectangle((0, height * 0.5, width, height * 0.72), fill=(30, 110, 180))
    pen.rectangle((0, height * 0.72, width, height), fill=(235, 215, 160))
    pen.ellipse((width * 0.78, height * 0.06, width * 0.92, height * 0.24), fill=(255, 240, 120))


def _forest(pen: ImageDraw.ImageDraw, width: int, height: int, draw: random.Random) -> None:
    pen.rectangle((0, height * 0.75, width, height), fill=(70, 60, 30))
    for place in range(9):
        x = width * (place + draw.random() * 0.6) / 9
        tall = height * draw.uniform(0.5, 0.75)
        pen.rectangle((x - 4, height * 0.5, x + 4, height * 0.8), fill=(80, 50, 25))
        pen.polygon(
            ((x - 22, height * 0.72), (x + 22, height * 0.72), (x, height * 0.8 - tall)), fill=(20, 70 + 8 * place, 30)
        )


def _city(pen: ImageDraw.ImageDraw, width: int, height: int, draw: random.Random) -> None:
    for place in range(8):
        left, right = width * place / 8, width * (place + 0.85) / 8
        top = height * draw.uniform(0.2, 0.6)
        pen.rectangle((left, top, right, height), fill=(35, 35, 45))
        for y in range(int(top) + 6, height - 8, 16):
            for x in range(int(left) + 4, int(right) - 5, 11):
                if draw.random() < 0.5:
                    pen.rectangle((x, y, x + 5, y + 8), fill=(250, 220, 120))


def _snow(pen: ImageDraw.ImageDraw, width: int, height: int, draw: random.Random) -> None:
    pen.polygon(((0, height * 0.6), (width * 0.3, height * 0.3), (width * 0.6, height * 0.6)), fill=(160, 175, 195))
    pen.rectangle((0, height * 0.6, width, height), fill=(250, 252, 255))
    for _ in range(90):
        x, y = draw.random() * width, draw.random() * height
        pen.ellipse((x, y, x + 3, y + 3), fill=(255, 255, 255))


def _desert(pen: ImageDraw.ImageDraw, width: int, height: int, draw: random.Random) -> None:
    del draw
    pen.ellipse((-width * 0.3, height * 0.6, width * 0.7, height * 1.4), fill=(225, 175, 95))
    pen.ellipse((width * 0.3, height * 0.68, width * 1.4, height * 1.5), fill=(210, 155, 75))
    pen.rectangle((width * 0.1, height * 0.4, width * 0.13, height * 0.7), fill=(50, 120, 60))
    pen.rectangle((width * 0.06, height * 0.48, width * 0.17, height * 0.52), fill=(50, 120, 60))


def _room(pen: ImageDraw.ImageDraw, width: int, height: int, draw: random.Random) -> None:
    del draw
    pen.rectangle((0, height * 0.8, width, height), fill=(140, 90, 55))
    pen.rectangle((width * 0.06, height * 0.12, width * 0.3, height * 0.45), fill=(170, 215, 245), outline=(90, 60, 40))
    pen.line((width * 0.18, height * 0.12, width * 0.18, height * 0.45), fill=(90, 60, 40), width=3)
    pen.rectangle((width * 0.75, height * 0.35, width * 0.95, height * 0.82), fill=(110, 70, 40))


PAINTERS = {"beach": _beach, "forest": _forest, "city": _city, "snow": _snow, "desert": _desert, "room": _room}


def _sprite(scene: Scene, side: int) -> Image.Image:
    image = Image.new("RGBA", (side, side))
    fill, edge = COLOURS[scene.colour], (25, 25, 25)
    SHAPES[scene.object](ImageDraw.Draw(image), side, fill, edge)
    return image


def _ball(pen: ImageDraw.ImageDraw, s: int, fill: RGB, edge: RGB) -> None:
    pen.ellipse((s * 0.05, s * 0.05, s * 0.95, s * 0.95), fill=fill, outline=edge, width=3)
    pen.ellipse((s * 0.25, s * 0.2, s * 0.42, s * 0.37), fill=(255, 255, 255))


def _car(pen: ImageDraw.ImageDraw, s: int, fill: RGB, edge: RGB) -> None:
    pen.rounded_rectangle((s * 0.02, s * 0.45, s * 0.98, s * 0.75), s * 0.08, fill=fill, outline=edge, width=3)
    pen.polygon(
        ((s * 0.2, s * 0.45), (s * 0.32, s * 0.24), (s * 0.68, s * 0.24), (s * 0.82, s * 0.45)), fill=fill, outline=edge
    )
    pen.polygon(
        ((s * 0.29, s * 0.43), (s * 0.36, s * 0.29), (s * 0.64, s * 0.29), (s * 0.72, s * 0.43)), fill=(200, 230, 250)
    )
    for x in (0.25, 0.75):
        pen.ellipse((s * (x - 0.12), s * 0.63, s * (x + 0.12), s * 0.87), fill=edge, outline=(150, 150, 150), width=3)


def _fish(pen: ImageDraw.ImageDraw, s: int, fill: RGB, edge: RGB) -> None:
    pen.polygon(((s * 0.7, s * 0.5), (s * 0.98, s * 0.25), (s * 0.98, s * 0.75)), fill=fill, outline=edge)
    pen.ellipse((s * 0.04, s * 0.26, s * 0.78, s * 0.74), fill=fill, outline=edge, width=3)
    pen.ellipse((s * 0.16, s * 0.4, s * 0.25, s * 0.49), fill=(255, 255, 255), outline=edge, width=2)
    pen.arc((s * 0.28, s * 0.32, s * 0.48, s * 0.68), 270, 90, fill=edge, width=3)


def _boat(pen: ImageDraw.ImageDraw, s: int, fill: RGB, edge: RGB) -> None:
    pen.rectangle((s * 0.48, s * 0.08, s * 0.52, s * 0.7), fill=edge)
    pen.polygon(((s * 0.54, s * 0.1), (s * 0.54, s * 0.6), (s * 0.9, s * 0.6)), fill=(250, 250, 250), outline=edge)
    pen.polygon(
        ((s * 0.05, s * 0.68), (s * 0.95, s * 0.68), (s * 0.78, s * 0.93), (s * 0.22, s * 0.93)),
        fill=fill,
        outline=edge,
    )


def _star(pen: ImageDraw.ImageDraw, s: int, fill: RGB, edge: RGB) -> None:
    points = []
    for corner in range(10):
        radius = s * (0.48 if corner % 2 == 0 else 0.2)
        angle = math.pi * corner / 5 - math.pi / 2
        points.append((s / 2 + radius * math.cos(angle), s / 2 + radius * math.sin(angle)))
    pen.polygon(points, fill=fill, outline=edge, width=3)


def _house(pen: ImageDraw.ImageDraw, s: int, fill: RGB, edge: RGB) -> None:
    pen.rectangle((s * 0.14, s * 0.45, s * 0.86, s * 0.95), fill=fill, outline=edge, width=3)
    pen.polygon(((s * 0.05, s * 0.47), (s * 0.5, s * 0.06), (s * 0.95, s * 0.47)), fill=(110, 60, 40), outline=edge)
    pen.rectangle((s * 0.42, s * 0.65, s * 0.58, s * 0.95), fill=(70, 45, 30))
    pen.rectangle((s * 0.2, s * 0.55, s * 0.36, s * 0.7), fill=(200, 230, 250), outline=edge)


SHAPES = {"ball": _ball, "car": _car, "fish": _fish, "boat": _boat, "star": _star, "house": _house}


def _write(image: Image.Image, word: str) -> None:
    """Write a word on a light board at the top of the picture."""
    font = ImageFont.load_default(size=30)
    pen = ImageDraw.Draw(image)
    left, top, right, bottom = pen.textbbox((0, 0), word, font=font)
    x = (image.width - (right - left)) / 2
    pen.rectangle((x - 10, 8, x + right - left + 10, 8 + bottom - top + 16), fill=(255, 255, 255), outline=(0, 0, 0))
    pen.text((x - left, 16 - top), word, font=font, fill=(0, 0, 0))
