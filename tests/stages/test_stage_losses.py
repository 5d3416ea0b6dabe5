"""What `vtr losses` lists is what a config takes, and its examples load."""

from __future__ import annotations

import shlex

import pytest
import yaml

from vtr.config import TrainConfig, load
from vtr.loss_config import LOSS_CONFIGS
from vtr.losses import LOSSES
from vtr.stages.losses import LINE, Loss, losses

LISTED = {loss.name: loss for loss in losses().losses}


def overrides_in(usage: str) -> list[str]:
    """Return the values of `--set` as a shell hands them over."""
    words = shlex.split(usage)
    assert words[:5] == ["vtr", "train", "WS", "--out", "RUN"]
    assert words[5::2] == ["--set"] * len(words[6::2])
    return words[6::2]


def test_all_losses_are_listed_in_the_order_of_the_configs() -> None:
    assert list(LISTED) == [config.model_fields["name"].annotation.__args__[0] for config in LOSS_CONFIGS]
    assert set(LISTED) == set(LOSSES)


@pytest.mark.parametrize("config", LOSS_CONFIGS, ids=lambda config: config.__name__)
def test_every_parameter_and_its_default_is_listed(config: type) -> None:
    loss = LISTED[config.model_fields["name"].annotation.__args__[0]]
    assert loss.summary == config.__doc__.splitlines()[0]
    fields = {name: field for name, field in config.model_fields.items() if name != "name"}
    assert {parameter.name for parameter in loss.parameters} == set(fields)
    for parameter in loss.parameters:
        field = fields[parameter.name]
        assert parameter.meaning
        assert " ".join(field.description.split()) == parameter.meaning
        if field.is_required():
            assert parameter.default is None
            assert parameter.value == "required"
        else:
            default = yaml.safe_load(parameter.default)
            assert (tuple(default) if isinstance(default, list) else default) == field.default
            assert parameter.value.startswith(parameter.default)


@pytest.mark.parametrize("loss", LISTED.values(), ids=LISTED)
def test_the_example_loads_and_names_the_loss(loss: Loss) -> None:
    loaded = load(TrainConfig, None, overrides_in(loss.usage)).loss
    assert loaded.name == loss.name
    for parameter in loss.parameters:
        if parameter.default is not None:
            assert str(loaded.model_dump(mode="json")[parameter.name]) == str(yaml.safe_load(parameter.default))


@pytest.mark.parametrize("loss", LISTED.values(), ids=LISTED)
def test_every_choice_and_default_loads_by_its_own_override(loss: Loss) -> None:
    for parameter in loss.parameters:
        for value in filter(None, (parameter.default, *parameter.others)):
            load(TrainConfig, None, [*overrides_in(loss.usage), f"loss.{parameter.name}={value}"])


def test_the_text_has_it_all_and_is_no_wider_than_a_line() -> None:
    text = str(losses())
    plain = " ".join(text.split())
    for loss in LISTED.values():
        assert f"\n\n{loss.name}\n  {loss.summary}" in text
        assert f"\n  {loss.usage}" in text
        for parameter in loss.parameters:
            assert f"{parameter.name} {parameter.value} {parameter.meaning}" in plain
    assert max(map(len, text.splitlines())) <= LINE
