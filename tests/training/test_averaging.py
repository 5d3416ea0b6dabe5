"""The average of weights against a plain loop, and kept in a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vtr.config import TrainConfig
from vtr.models import build_model
from vtr.training.averaging import WeightAverage
from vtr.training.checkpoint import Learner, load_checkpoint, save_checkpoint
from vtr.training.optimiser import make_optimiser

State = dict[str, Tensor]


class Net(nn.Module):
    """Two layers that share their weight, and a norm with buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)
        self.last.weight = self.first.weight
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, 4]."""
        found: Tensor = self.last(torch.tanh(self.norm(self.first(x))))
        return found


def trained(net: nn.Module, average: WeightAverage, count: int) -> list[State]:
    """Train for some steps with an update after each; return the net's state after each."""
    optimiser, draw = torch.optim.SGD(net.parameters(), lr=0.5), torch.Generator().manual_seed(0)
    states = []
    for _ in range(count):
        optimiser.zero_grad()
        net(torch.randn(8, 4, generator=draw, dtype=torch.float64)).square().mean().backward()
        optimiser.step()
        average.update()
        states.append({name: value.clone() for name, value in net.state_dict().items()})
    return states


def plain(start: State, states: list[State], decay: float) -> State:
    """Return the average as a loop over floats; what is no parameter is as it was at last."""
    average = {name: value.flatten().tolist() for name, value in start.items()}
    for n, state in enumerate(states):
        kept = min(decay, (1 + n) / (10 + n))
        for name, values in average.items():
            new = state[name].flatten().tolist()
            is_buffer = "running" in name or "num_batches" in name
            average[name] = new if is_buffer else [kept * a + (1 - kept) * b for a, b in zip(values, new, strict=True)]
    return {name: torch.tensor(v, dtype=start[name].dtype).reshape(start[name].shape) for name, v in average.items()}


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_it_is_the_average_of_a_plain_loop(decay: float) -> None:
    torch.manual_seed(0)
    net = Net()
    start = {name: value.clone() for name, value in net.state_dict().items()}
    average = WeightAverage(net, decay)
    states = trained(net, average, 30)
    found = average.module.state_dict()
    for name, expected in plain(start, states, decay).items():
        torch.testing.assert_close(found[name], expected, rtol=1e-12, atol=1e-14)
    assert average.module.last.weight is average.module.first.weight
    assert int(average.updates) == 30
    assert torch.equal(states[-1]["first.weight"], net.first.weight), "the net itself is left alone"


def test_it_evaluates_and_is_no_part_of_what_trains() -> None:
    net = Net().train()
    average = WeightAverage(net, 0.9)
    assert net.training and not average.module.training
    assert not any(parameter.requires_grad for parameter in average.parameters())
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert set(average.state_dict()) == {"updates", *(f"module.{name}" for name in net.state_dict())}
    with pytest.raises(ValueError, match="decay is 1"):
        WeightAverage(net, 1.0)


def test_it_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(
    tmp_path: Path, toy_config: Callable[..., TrainConfig]
) -> None:
    config, model = toy_config(), build_model(toy_config(), {"appearance": 12}, 32)
    optimiser = make_optimiser(config.optimiser, model)
    average = WeightAverage(model, 0.999)

    def step(seed: int) -> None:
        draw = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=draw)
        optimiser.step()

    for seed in range(4):
        step(seed)
        average.update()
    save_checkpoint(tmp_path / "at", model, config, optimiser, {}, {"average": Learner(average, None)})
    step(4)
    average.update()
    whole = average.module.state_dict()

    model = build_model(config, {"appearance": 12}, 32)
    optimiser = make_optimiser(config.optimiser, model)
    average = WeightAverage(model, 0.999)
    load_checkpoint(tmp_path / "at", model, optimiser, {"average": Learner(average, None)}, torch.device("cpu"))
    assert int(average.updates) == 4
    step(4)
    average.update()
    assert all(torch.equal(value, whole[name]) for name, value in average.module.state_dict().items())
