"""What the captions of the small run's videos name: of each video one colour and one thing."""

from __future__ import annotations

COLOURS = ("red", "green", "blue", "grey", "pink", "gold")
THINGS = ("dog", "car", "cook", "song", "ball", "boat")
