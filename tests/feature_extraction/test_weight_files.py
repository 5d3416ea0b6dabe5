"""Files of weights that are not what they should be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from feature_extraction.weight_files import fill, read_weights
from vtr.errors import UnavailableError


class Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self._path}",)


def network() -> nn.Module:
    with torch.device("meta"):
        return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


def weights() -> dict[str, torch.Tensor]:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).state_dict()


def test_names_lose_what_several_gpus_put_before_them(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"module.a.module.b": torch.ones(2)}, path)
    assert list(read_weights(path, "s3d")) == ["a.module.b"]


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path, trace = tmp_path / "weights.pt", tmp_path / "trace"
    torch.save({"state_dict": Runs(trace)}, path)
    with pytest.raises(UnavailableError, match=r"expert s3d: .*weights\.pt names \S*system, which .* could run code"):
        read_weights(path, "s3d")
    assert not trace.exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0, 10, 200, -40])
def test_a_damaged_file_is_named(tmp_path: Path, kept: int, zipped: bool) -> None:
    path = tmp_path / "weights.pt"
    torch.save(weights(), path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UnavailableError, match=r"^expert s3d: .*weights\.pt is (empty|torn|damaged).*; get another\.$"):
        read_weights(path, "s3d", "get another")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": {"a": 1}}])
def test_a_file_without_tensors_is_named(tmp_path: Path, content: object) -> None:
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    with pytest.raises(UnavailableError, match=r"weights\.pt holds .*a state dict of tensors was expected"):
        read_weights(path, "s3d")


def test_half_precision_becomes_single_and_counters_may_be_missing() -> None:
    made, halved = network(), {k: v.half() for k, v in weights().items() if "tracked" not in k}
    fill(made, dict(halved), "wrong")
    assert {v.dtype for k, v in made.state_dict().items() if "tracked" not in k} == {torch.float32}
    torch.testing.assert_close(made.state_dict()["0.weight"], halved["0.weight"].float())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.weight": None}, r"^This file: it lacks 1 tensors, first 0\.weight\. "),
        ({"1.more": torch.ones(1)}, r"it holds 1 that do not belong there, first 1\.more\. "),
        ({"0.weight": torch.ones(3, 2)}, r"0\.weight has shape \(3, 2\), \(2, 3\) was expected"),
    ],
)
def test_weights_of_another_network_are_named(change: dict[str, torch.Tensor | None], message: str) -> None:
    changed = {name: value for name, value in (weights() | change).items() if value is not None}
    with pytest.raises(UnavailableError, match=message):
        fill(network(), changed, "This file")
