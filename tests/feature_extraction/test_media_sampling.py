"""Named samplings against loops over frames, on regular and irregular times."""

from __future__ import annotations

import numpy as np
import pytest

from feature_extraction.frames import Sampling
from feature_extraction.sampling import common_size, fit, sample

REGULAR = np.arange(100) / 25
RNG = np.random.default_rng(3)
IRREGULAR = np.concatenate([[0.0], np.cumsum(RNG.exponential(0.2, 80))])


def on_screen(times: np.ndarray, point: float) -> int:
    """Return the last frame that has appeared by then."""
    return max(index for index, time in enumerate(times) if time <= point + 1e-3)


@pytest.mark.parametrize(("times", "end"), [(REGULAR, 4.0), (IRREGULAR, float(IRREGULAR[-1]) + 0.1)])
@pytest.mark.parametrize("count", [1, 7, 40])
def test_uniform_and_fps_take_the_middles_of_equal_spans(times: np.ndarray, end: float, count: int) -> None:
    expected = sorted({on_screen(times, (k + 0.5) * end / count) for k in range(count)})
    assert sample(Sampling("uniform", most=count), times, end).tolist() == expected
    assert sample(Sampling("fps", per_second=count / end, most=None), times, end).tolist() == expected
    assert sample(Sampling("fps", per_second=60, most=count), times, end).tolist() == expected


def test_few_frames_are_all_taken_and_none_twice() -> None:
    times = np.array([0.0, 0.01, 0.02, 5.0])
    assert sample(Sampling("uniform", most=30), times, 6.0).tolist() == [0, 1, 2, 3]
    assert sample(Sampling("uniform", most=4), times, 6.0).tolist() == [0, 1, 2, 3]
    assert sample(Sampling("uniform", most=None), times, 6.0).tolist() == [0, 1, 2, 3]
    assert sample(Sampling("uniform", most=3), times, 6.0).tolist() == [2, 3]
    assert sample(Sampling("fps", per_second=100), np.array([0.0]), 0.04).tolist() == [0]


def test_all_is_thinned_by_rank_not_by_time() -> None:
    times = np.array([0.0, 0.1, 0.2, 0.3, 9.0, 9.1])
    assert sample(Sampling("all", most=None), times, 10.0).tolist() == [0, 1, 2, 3, 4, 5]
    assert sample(Sampling("all", most=6), times, 10.0).tolist() == [0, 1, 2, 3, 4, 5]
    assert sample(Sampling("all", most=3), times, 10.0).tolist() == [1, 3, 5]


def test_every_shot_gets_its_frames_from_within() -> None:
    shots = ((0.0, 1.0), (1.0, 1.04), (1.04, 4.0))
    found = sample(Sampling("shots", per_shot=2, most=None), REGULAR, 4.0, shots)
    assert found.tolist() == [on_screen(REGULAR, point) for point in (0.25, 0.75, 1.01, 1.78, 3.26)]
    assert sample(Sampling("shots", per_shot=1, most=None), REGULAR, 4.0).tolist() == [50]  # no shots: one
    assert sample(Sampling("shots", per_shot=1, most=2), REGULAR, 4.0, shots).tolist() == [12, 63]


def test_shots_behind_the_end_of_reading_are_left_out() -> None:
    shots = ((0.0, 1.0), (1.0, 3.0), (3.0, 4.0))
    found = sample(Sampling("shots", per_shot=1, most=None), REGULAR[:50], 2.0, shots)
    assert found.tolist() == [12, 37]


def test_sizes() -> None:
    assert fit(640, 360, 480) == (640, 360)
    assert fit(1280, 720, 480) == (854, 480)
    assert fit(129, 65, 480) == (128, 64)
    assert common_size([(224, 224), (224, 224)], 100, 50) == (224, 224)
    assert common_size([(640, 480), (224, 224)], 640, 480) == (640, 480)
    assert common_size([(300, 100), (100, 300)], 640, 480) == (300, 300)
    assert common_size([(300, 100), (100, 300)], 160, 120) == (160, 120)
