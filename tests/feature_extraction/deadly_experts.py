"""For tests: an expert that takes the whole Ray actor with it. Imported by name in the worker processes."""

from __future__ import annotations

import os
import signal

import numpy as np
from fake_experts import Mean
from numpy.typing import NDArray


class Assassin(Mean):
    """Kills the parent of its process over greenish clips, as the kernel may when memory runs out."""

    def look(self, colour: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the colours [N, 3] themselves."""
        red, green, _ = colour.mean(axis=0)
        if green > 150 > red:
            os.kill(os.getppid(), signal.SIGKILL)
        return colour
