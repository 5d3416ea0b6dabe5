"""What a sweep would train, and that all that is wrong with its config is said before anything trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from toy import ROOT, make_workspace

from vtr.config import TrainConfig
from vtr.errors import ConfigError, InputError, VtrError, WorkspaceError
from vtr.loss_config import MaxMarginRankingLossConfig, UnifiedLossConfig
from vtr.stages.sweep import plan_sweep
from vtr.stages.sweep_plan import Plan, make_plan, uneven_searches
from vtr.stages.sweep_runs import How
from vtr.sweep_config import load_sweep
from vtr.workspace import Workspace

EXPERTS = ("appearance", "face", "ocr")


def planned(tmp_path: Path, **values: object) -> Plan:
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({"train": {"epochs": 2}, "baseline": "released", **values}))
    return make_plan(*load_sweep(path), EXPERTS)


RELEASED = {"set": {"loss.name": "max_margin"}}
SEARCHED = {"search": {"loss.margin": [0.1, 0.2], "optimiser.learning_rate": [1e-3, 1e-5]}}


def test_variants_differ_in_what_they_set_and_in_nothing_else(tmp_path: Path) -> None:
    plan = planned(tmp_path, seeds=[4, 5], variants={"released": RELEASED, "unified": {"set": {"loss.margin": 0.3}}})
    runs = [run for variant in plan.variants.values() for run in plan.seed_runs(variant, {})]
    assert [run.folder for run in runs] == [
        "released/seed-4", "released/seed-5", "unified/seed-4", "unified/seed-5",
    ]  # fmt: skip
    losses = [MaxMarginRankingLossConfig(name="max_margin")] * 2 + [UnifiedLossConfig(margin=0.3)] * 2
    for run, loss in zip(runs, losses, strict=True):
        assert run.config == TrainConfig(epochs=2, seed=run.seed, loss=loss)
    assert plan.num_runs == 4


def test_a_search_has_every_combination_and_shares_its_seed(tmp_path: Path) -> None:
    plan = planned(tmp_path, seeds=[0, 1, 2], variants={"released": RELEASED, "unified": SEARCHED})
    found = plan.search_runs()
    assert [(run.config.loss.margin, run.config.optimiser.learning_rate, run.seed) for run in found] == [
        (0.1, 1e-3, 0), (0.1, 1e-5, 0), (0.2, 1e-3, 0), (0.2, 1e-5, 0),
    ]  # fmt: skip
    assert found[1].folder == "unified/margin=0.1,learning_rate=1e-05/seed-0"
    chosen = plan.seed_runs(plan.variants["unified"], found[1].chosen)
    assert (chosen[0], chosen[0].folder) == (found[1], found[1].folder)
    assert plan.num_runs == 3 + 4 + 2
    assert str(plan).startswith("9 runs of 2 variants; compared with released\n")
    assert len(str(plan).splitlines()) == 10
    assert uneven_searches(plan).endswith("(released 1, unified 4): the larger search has an advantage")
    even = planned(tmp_path, variants={"released": RELEASED | SEARCHED, "unified": SEARCHED})
    assert uneven_searches(even) == ""
    apart = planned(tmp_path, seeds=[1, 2], variants={"released": RELEASED, "unified": SEARCHED})
    assert apart.num_runs == len(str(apart).splitlines()) - 1 == 2 + 4 + 2


def test_a_grid_crosses_variants_and_experts_are_left_out_in_turn(tmp_path: Path) -> None:
    grid = {"loss.margin": [0.0, 0.5]}
    plan = planned(tmp_path, baseline="margin=0.5", grid=grid)
    assert [(v.name, v.line, v.point) for v in plan.variants.values()] == [
        ("margin=0", "", {"loss.margin": 0.0}), ("margin=0.5", "", {"loss.margin": 0.5}),
    ]  # fmt: skip
    crossed = planned(tmp_path, baseline="a-margin=0", variants={"a": RELEASED, "b": {}}, grid=grid)
    assert list(crossed.variants) == ["a-margin=0", "a-margin=0.5", "b-margin=0", "b-margin=0.5"]
    plan = planned(tmp_path, baseline="all-experts", leave_out="experts")
    used = {name: plan.run(variant, {}, 0).config.experts for name, variant in plan.variants.items()}
    assert used == {
        "all-experts": EXPERTS,
        "without-appearance": ("face", "ocr"),
        "without-face": ("appearance", "ocr"),
        "without-ocr": ("appearance", "face"),
    }
    two = planned(tmp_path, train={"experts": ["ocr", "face"]}, baseline="all-experts", leave_out="experts")
    assert list(two.variants) == ["all-experts", "without-ocr", "without-face"]


def test_the_training_config_is_found_beside_the_sweep_and_changed_for_all(tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("epochs: 7\nloss: {name: unified, gamma: 9.0}\n")
    plan = planned(tmp_path, train="train.yaml", set={"split": "own"}, variants={"released": RELEASED})
    run = plan.run(plan.variants["released"], {}, 3)
    loss = MaxMarginRankingLossConfig(name="max_margin")
    assert run.config == TrainConfig(epochs=7, split="own", seed=3, loss=loss)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"variant": {}}, "unknown key 'variant'. Did you mean 'variants'?"),
        ({"variants": {"released": {"sett": {}}}}, "unknown key 'variants.released.sett'. Did you mean 'set'?"),
        ({"baseline": "releasd"}, "baseline is 'releasd', none of the variants. Did you mean 'released'?"),
        ({"variants": {}}, "names nothing to compare: give variants, grid or leave_out"),
        ({"variants": {"released": {"set": {"loss.margn": 1}}}},
         "variant released: the settings: unknown key 'loss.margn'. Did you mean 'margin'?"),
        ({"variants": {"released": {"search": {"optimiser.rate": [1]}}}},
         "variant released: the settings: unknown key 'optimiser.rate'"),
        ({"variants": {"released": {"search": {"loss.margin": [0.1, "wide"]}}}}, "margin is 'wide'"),
        ({"set": {"los": 1}}, "unknown key 'los'. Did you mean 'loss'?"),
        ({"train": {"epoch": 1}}, "train: unknown key 'epoch'. Did you mean 'epochs'?"),
        ({"seeds": []}, "seeds is"),
        ({"seeds": [1, 1]}, "a value occurs twice"),
        ({"variants": {"released": {"search": {"loss.margin": []}}}}, "variants.released.search.loss.margin is []"),
        ({"variants": {"released": {"set": {"seed": 3}}}}, "it sets the seed"),
        ({"variants": {"released": {"set": {"loss.margin": 1.0}, "search": {"loss.margin": [1.0]}}}},
         "variant released: loss.margin comes from two places"),
        ({"variants": {"released/a": {}}}, "variants.released/a"),
        ({"leave_out": "experts", "train": {"experts": ["ocr"]}}, "needs two experts or more, there are 1"),
        ({"report": {"part": "train"}}, "report.part is 'train'"),
    ],
)  # fmt: skip
def test_mistakes_are_named(tmp_path: Path, values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        planned(tmp_path, **{"variants": {"released": {}}, **values})
    assert message in str(raised.value)


def test_a_training_config_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.yaml does not exist"):
        planned(tmp_path, train="none.yaml", variants={"released": {}})


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("small") / "ws", without_features=3)


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ({"report": {"split": "toi"}}, WorkspaceError, "toi"),
        ({"train": {"split": "folder"}}, WorkspaceError, "variant released: "),
        ({"variants": {"released": {"set": {"experts": ["apearance"]}}}}, ConfigError,
         "variant released: .*no expert 'apearance'. Did you mean 'appearance'"),
        ({"variants": {"released": {"set": {"experts": ["motion"]}}}}, WorkspaceError,
         "variant released: .* of toy train have no features"),
        ({"variants": {"released": {"set": {"model.name": "ce"}}}}, ConfigError, "variant released: .*frozen_tokens"),
    ],
)  # fmt: skip
def test_what_the_workspace_lacks_is_said_first(
    small: Workspace, tmp_path: Path, values: dict[str, object], kind: type[VtrError], message: str
) -> None:
    path = tmp_path / "sweep.yaml"
    base = {"train": {"split": "toy"}, "baseline": "released", "variants": {"released": {}}}
    path.write_text(yaml.safe_dump(base))
    assert plan_sweep(small, path, How()).num_runs == 3
    path.write_text(yaml.safe_dump({**base, **values}))
    with pytest.raises(kind, match=message):
        plan_sweep(small, path, How())


SWEEPS = sorted((ROOT / "configs" / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_sweep_of_ours_is_whole_and_opens_with_its_command(path: Path) -> None:
    plan = make_plan(*load_sweep(path), EXPERTS)
    assert len(plan.config.seeds) >= 3
    splits = {plan.run(v, {}, 0).config.split for v in plan.variants.values()}
    assert splits == {"clips-holdout"}
    comment = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"vtr sweep WS --config {path.stem} " in line for line in comment)


def test_each_loss_gets_the_same_search() -> None:
    for path in SWEEPS:
        if path.stem.startswith("losses"):
            plan = make_plan(*load_sweep(path), EXPERTS)
            assert {variant.changes["loss.name"] for variant in plan.variants.values()} == {
                "max_margin", "triplet_hn", "contrastive", "unified",
            }  # fmt: skip
            sizes = {tuple(len(values) for values in v.search.values()) for v in plan.config.variants.values()}
            rates = {v.search["optimiser.learning_rate"] for v in plan.config.variants.values()}
            assert len(sizes) == len(rates) == 1
