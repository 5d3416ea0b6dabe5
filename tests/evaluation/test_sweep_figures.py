"""The figures of a sweep: the numbers they show, and that they can be drawn."""

from __future__ import annotations

import pytest

from vtr.evaluation.seeds import OverSeeds
from vtr.evaluation.sweep_figures import Point, by_epoch, draw_png, epoch_figures, grid_figures


def log(*rsums: float, loss: float = 1.0) -> list[dict[str, object]]:
    """Return a log with an epoch of training and a validation for each RSUM."""
    lines: list[dict[str, object]] = [{"kind": "train", "step": 0, "epoch": 0, "loss": 99.0}]
    for epoch, rsum in enumerate(rsums, 1):
        means = {"loss": loss / epoch, "positive_similarity": 0.1 * epoch, "hardest_negative_similarity": -0.1 * epoch}
        lines.append({"kind": "epoch", "step": 5 * epoch, "epoch": epoch, **means})
        lines.append({"kind": "validation", "step": 5 * epoch, "epoch": epoch, "rsum": rsum})
    return lines


def test_epochs_are_means_over_the_runs_that_have_them() -> None:
    found = by_epoch("a", [log(10, 30), log(20, 50, 70)], "validation", "rsum")
    assert found is not None
    assert (found.name, found.x) == ("a", (1, 2, 3))
    assert (found.y, found.low, found.high) == ((15, 40, 70), (10, 30, 70), (20, 50, 70))
    assert by_epoch("a", [log(1)], "validation", "t2v_R1") is None


def test_figures_3_and_4_have_a_line_a_variant() -> None:
    logs = {"one": [log(10, 30), log(20, 50)], "two": [log(5, 6, loss=2.0)]}
    third, fourth = epoch_figures(logs)
    loss, rsum = third.panels
    assert (third.name, loss.log, rsum.log) == ("figure3", True, False)
    assert [(one.name, one.y) for one in loss.series] == [("one", (1.0, 0.5)), ("two", (2.0, 1.0))]
    assert [(one.name, one.y) for one in rsum.series] == [("one", (15, 40)), ("two", (5, 6))]
    assert [[one.y for one in panel.series] for panel in fourth.panels] == [
        [pytest.approx((0.1, 0.2))] * 2,
        [pytest.approx((-0.1, -0.2))] * 2,
    ]
    assert "one ends at 0.5 at epoch 2" in third.description
    for figure in (third, fourth):
        assert draw_png(figure).startswith(b"\x89PNG")


def test_what_logs_do_not_hold_is_not_drawn() -> None:
    only = [line for line in log(10, 20) if line["kind"] == "validation"]
    (figure,) = epoch_figures({"one": [only]})
    assert [panel.title for panel in figure.panels] == ["Validation RSUM"]
    assert epoch_figures({"one": [[]]}) == []


def test_figure_5_has_a_line_for_each_way_the_rest_is_set() -> None:
    points = [
        Point(line, {"loss.margin": margin, "data.batch_size": size}, OverSeeds(100 * margin + size, 2.0))
        for line in ("a", "b")
        for margin in (0.2, 0.0)
        for size in (32, 64)
    ]
    (figure,) = grid_figures(points)
    margin, size = figure.panels
    assert (margin.x_label, size.x_label) == ("margin", "batch_size")
    assert [one.name for one in margin.series] == [
        "a batch_size=32",
        "a batch_size=64",
        "b batch_size=32",
        "b batch_size=64",
    ]
    first = margin.series[0]
    assert (first.x, first.y, first.low, first.high) == ((0.0, 0.2), (32, 52), (30, 50), (34, 54))
    assert size.series[0].x == (32, 64)
    assert draw_png(figure).startswith(b"\x89PNG")


def test_no_figure_5_without_numbers_that_vary() -> None:
    one = OverSeeds(1.0, None)
    assert grid_figures([Point("a", {}, one), Point("b", {}, one)]) == []
    assert grid_figures([Point("", {"loss.name": "unified"}, one), Point("", {"loss.name": "triplet_hn"}, one)]) == []
    assert grid_figures([Point("", {"loss.margin": 0.1}, one)]) == []


def test_many_lines_are_told_apart() -> None:
    many = {f"variant {place}": [log(place, place + 1)] for place in range(9)}
    assert draw_png(epoch_figures(many)[0]).startswith(b"\x89PNG")
