"""Training on a GPU: batches of data that are held there, and runs whose losses are those of the CPU."""

from __future__ import annotations

from needs import needs

needs(__name__, "pydantic", "einops", "yaml", "pyarrow", "safetensors")

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from resident_cases import CPU, PLENTY, data, same_batch, tensors
from toy import make_config, make_workspace, save_tiny_bert

from vtr.training.device import set_determinism
from vtr.training.train import train

# Training asks torch for kernels that give the same bits each time, and to warn where it has none.
pytestmark = pytest.mark.filterwarnings("ignore:.*determin:UserWarning")


@pytest.fixture(autouse=True)
def any_kernels_afterwards(device: torch.device) -> Iterator[None]:
    """Undo what training sets for the whole process."""
    yield
    set_determinism(False, device)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with random weights."""
    return save_tiny_bert(tmp_path_factory.mktemp("bert"))


def test_training_data_on_a_device_give_the_batches_of_the_host(
    bert: Path, tmp_path: Path, device: torch.device
) -> None:
    host = data(make_workspace(tmp_path), bert)
    place = torch.device("cuda", 0) if device.type == "cuda" else device
    there, behind = host.within(place, PLENTY), host.within(place, 0)
    assert there.table.on_host == ()
    pairs = [(row, host.train[row][0]) for row in (0, 9, 4, 2)]
    for part in (None, slice(1, 3)):
        batch = there.batch(pairs, np.random.default_rng(0), place, part)
        held = tensors(batch.videos) | tensors(batch.texts)
        assert {value.device for value in held.values()} == {place}
        wanted = host.batch(pairs, np.random.default_rng(0), CPU, part)
        same_batch(batch.to(CPU), wanted)
        same_batch(behind.batch(pairs, np.random.default_rng(0), place, part).to(CPU), wanted)


def losses_of(run: Path) -> list[float]:
    """Return the losses that a run's log holds."""
    logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in logged if "loss" in line]


@pytest.mark.parametrize("mode", ["frozen", "fine_tuned"])
def test_a_run_has_the_losses_of_one_on_the_cpu(bert: Path, tmp_path: Path, mode: str, device: torch.device) -> None:
    workspace = make_workspace(tmp_path / "ws")
    runs = {}
    for name, precision in (("cpu", "float32"), (device.type, "float32"), (device.type, "bfloat16")):
        config = make_config(
            bert,
            precision=precision,
            model={"dim": 16, "layers": 1, "heads": 2, "feed_forward": 32, "dropout": 0.0},
            text={"model": str(bert), "mode": mode},
        )
        run = tmp_path / f"{len(runs)}"
        train(workspace, config, run, device=name)
        runs[run] = losses_of(run)
    expected, full, half = runs.values()
    assert len(expected) == len(full) == len(half) > 0
    assert full == pytest.approx(expected, rel=1e-2)
    assert half == pytest.approx(expected, rel=0.1)
    assert all(values[-1] < values[0] for values in runs.values())
