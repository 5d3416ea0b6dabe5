"""CE against plain loops, forward and in training; MoEE, pooling, and CE's published size."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plain_ce import PlainCE, Sizes, gated, padded, released_state
from torch import Tensor, nn
from torch.nn.functional import normalize
from toy import ROOT

from vtr.config import TrainConfig, build, load
from vtr.errors import ConfigError
from vtr.interop.ce_checkpoint import load_ce_checkpoint
from vtr.model_config import CEConfig, VladConfig
from vtr.models import CE, assemble, build_model, check_text_mode
from vtr.models.ce import PairNorm
from vtr.models.saved import load_model, save_model
from vtr.models.vlad import NetVLAD
from vtr.types import Batch, ExpertBatch, TextBatch, VideoBatch

SIZES = Sizes(
    dims={"audio": 4, "face": 6, "ocr": 3, "scene": 5},
    clusters={"audio": 2, "ocr": 3, "text": 3},
    ghosts={"audio": 1, "ocr": 0, "text": 1},
    words=7,
    shared=8,
)
LENGTHS = {"audio": 4, "ocr": 5, "text": 6}
VARIANTS = pytest.mark.parametrize(("self_pairs", "keep_missing"), [(True, False), (False, False), (True, True)])


@dataclass(frozen=True)
class Case:
    """A random batch in both forms."""

    features: dict[str, Tensor]
    present: Tensor
    states: Tensor
    batch: Batch


def make_case(seed: int, size: int = 5) -> Case:
    """Draw videos that lack experts, sequences longer and shorter than what is read, and a caption for each."""
    torch.manual_seed(seed)
    present = torch.rand(size, len(SIZES.dims)) < 0.7
    present[0], present[1, 0] = torch.tensor([False, True, False, False]), True
    features, experts = {}, {}
    for place, (name, dim) in enumerate(SIZES.dims.items()):
        held = [int(torch.randint(1, 7, ())) if there else 0 for there in present[:, place].tolist()]
        rows = [torch.randn(count, dim, dtype=torch.float64) for count in held]
        mask = torch.arange(6) < torch.tensor(held)[:, None]
        mean = torch.stack([row.mean(0) if len(row) else row.new_zeros(dim) for row in rows])
        features[name] = padded(rows, LENGTHS[name]) if name in LENGTHS else mean
        experts[name] = ExpertBatch(padded(rows, 6), torch.full(mask.shape, torch.nan), mask, mean)
    words = [torch.randn(int(count), SIZES.words, dtype=torch.float64) for count in torch.randint(1, 9, (size,))]
    mask = torch.arange(8) < torch.tensor([len(row) for row in words])[:, None]
    ids = tuple(map(str, range(size)))
    texts = TextBatch(ids, attention_mask=mask.long(), token_states=padded(words, 8))
    return Case(features, present, padded(words, LENGTHS["text"]), Batch(VideoBatch(ids, experts, present), texts))


def both(tmp_path: Path, training: bool, **variant: Any) -> tuple[PlainCE, CE]:
    state = released_state(SIZES)
    torch.save({"state_dict": state}, tmp_path / "plain.pth")
    model = load_ce_checkpoint(tmp_path / "plain.pth", SIZES.dims, lengths=LENGTHS, **variant).double()
    model.load_state_dict(renamed(state, tmp_path))
    return PlainCE(state, SIZES, training=training, **variant), model.train(training)


def renamed(state: dict[str, Tensor], tmp_path: Path) -> dict[str, Tensor]:
    """Return released weights, or gradients in place of weights, under vtr's names in float64."""
    torch.set_default_dtype(torch.float64)
    try:
        torch.save({"state_dict": {name: value.detach() for name, value in state.items()}}, tmp_path / "state.pth")
        return load_ce_checkpoint(tmp_path / "state.pth", SIZES.dims, lengths=LENGTHS).state_dict()
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("case", ["case_0", "case_1"])
def test_the_plain_form_answers_as_the_released_code_did(shared: Path, case: str) -> None:
    folder = shared / "reference" / "ce" / case
    meta = json.loads((folder / "meta.json").read_text())
    state = torch.load(folder / "checkpoint.pth", weights_only=True)["state_dict"]
    with np.load(folder / "batch.npz") as content:
        stored = {name: torch.from_numpy(value).double() for name, value in content.items()}
    sizes = Sizes(meta["expert_dims"], meta["vlad_clusters"], {}, meta["text_dim"], meta["shared_dim"])
    double = {name: value.double() if value.is_floating_point() else value for name, value in state.items()}
    plain = PlainCE(double, sizes, self_pairs=True, keep_missing=False, training=False)
    features = {name: stored[f"features/{name}"] for name in sizes.dims}
    present = torch.stack([stored[f"available/{name}"] > 0 for name in sizes.dims], 1)
    expected = torch.stack([stored[f"vid_embds/{name}"] for name in sizes.dims], 1)
    with torch.no_grad():
        torch.testing.assert_close(plain.videos(features, present), expected, atol=1e-5, rtol=0)
        scores = plain.scores(features, present, stored["text"].flatten(0, 1))
    torch.testing.assert_close(scores, stored["similarities"], atol=1e-5, rtol=0)


@VARIANTS
def test_embeddings_weights_and_scores_are_the_plain_ones(tmp_path: Path, self_pairs: bool, keep_missing: bool) -> None:
    plain, model = both(tmp_path, False, self_pairs=self_pairs, keep_missing=keep_missing)
    case = make_case(0)
    with torch.inference_mode():
        videos, texts = model.embed_videos(case.batch.videos), model.embed_texts(case.batch.texts)
        expected_texts, expected_weights = plain.texts(case.states)
        torch.testing.assert_close(videos.vectors, plain.videos(case.features, case.present), atol=1e-10, rtol=0)
        torch.testing.assert_close(texts.vectors, expected_texts, atol=1e-10, rtol=0)
        torch.testing.assert_close(texts.weights, expected_weights, atol=1e-10, rtol=0)
        expected = plain.scores(case.features, case.present, case.states)
        torch.testing.assert_close(model(case.batch), expected, atol=1e-10, rtol=0)


@VARIANTS
def test_training_steps_give_the_plain_gradients_and_running_statistics(
    tmp_path: Path, self_pairs: bool, keep_missing: bool
) -> None:
    plain, model = both(tmp_path, True, self_pairs=self_pairs, keep_missing=keep_missing)
    for seed in (1, 2):
        case = make_case(seed)
        coefficients = torch.randn(5, 5, dtype=torch.float64)
        (plain.scores(case.features, case.present, case.states) * coefficients).sum().backward()
        (model(case.batch) * coefficients).sum().backward()
    statistics = renamed(plain.state, tmp_path)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, statistics[name], atol=1e-10, rtol=0, msg=name)
    gradients = {n: v if v.grad is None else v.grad for n, v in plain.state.items()}
    expected = renamed(gradients, tmp_path)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, expected[name], atol=1e-9, rtol=1e-7, msg=name)


def test_without_gating_each_expert_has_a_gated_unit_of_its_own() -> None:
    config = CEConfig(name="ce", dim=8, gating="none", vlad={}, text_vlad=VladConfig(clusters=2))
    torch.manual_seed(0)
    model = CE(config, SIZES.dims, SIZES.words).double().eval()
    case = make_case(3)
    found = model.embed_videos(case.batch.videos).vectors
    for place, name in enumerate(SIZES.dims):
        unit: Any = model.video_units[place]
        y = case.batch.videos.experts[name].aggregate @ unit.project.weight.T + unit.project.bias
        gate = y @ unit.gate_weight[0].T + unit.gate_bias[0]  # fresh batch norm: mean 0, variance 1
        expected = normalize(y * (gate / (1 + unit.gate_norm.eps) ** 0.5).sigmoid(), dim=-1)
        torch.testing.assert_close(found[:, place], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_without_gating_pooled_experts_too_go_through_a_gated_unit_alone(training: bool) -> None:
    """The plain unit reads the model's weights and has running statistics of its own."""
    pools = {name: VladConfig(clusters=2, ghosts=1, length=4) for name in ("audio", "ocr")}
    torch.manual_seed(0)
    config = CEConfig(name="ce", dim=8, gating="none", vlad=pools, text_vlad=VladConfig(clusters=2))
    model = CE(config, SIZES.dims, SIZES.words).double().train(training)
    norms = {name: nn.BatchNorm1d(8).double().train(training) for name in SIZES.dims}
    for name, unit in zip(SIZES.dims, model.video_units, strict=True):
        for values in unit.gate_norm.state_dict().values():  # type: ignore[union-attr, operator]
            if values.is_floating_point():
                values.uniform_(0.5, 1.5)
        norms[name].load_state_dict(unit.gate_norm.state_dict())  # type: ignore[union-attr, operator]
    units = dict(zip(SIZES.dims, model.video_units, strict=True))

    def linear(name: str, x: Tensor) -> Tensor:
        expert, _, layer = name.partition(".")
        unit: Any = units[expert]
        weight, bias = unit.project.weight, unit.project.bias
        if layer != "fc":
            weight, bias = unit.gate_weight[0], unit.gate_bias[0]
        return x @ weight.T + bias

    videos = make_case(3).batch.videos
    pooled = {name: expert.aggregate for name, expert in videos.experts.items()}
    for at, name in enumerate(pools):  # NetVLAD itself is compared with loops elsewhere
        twin = NetVLAD(SIZES.dims[name], pools[name]).double().train(training)
        twin.load_state_dict(model.vlads[at].state_dict())
        pooled[name] = twin(videos.experts[name].values, videos.experts[name].mask)
    found = model.embed_videos(videos).vectors
    for place, name in enumerate(SIZES.dims):
        expected = gated(linear, lambda full, x: norms[full.partition(".")[0]](x), name, pooled[name])
        torch.testing.assert_close(found[:, place], expected, atol=1e-12, rtol=0)
        running: Any = model.video_units[place].gate_norm
        torch.testing.assert_close(running.running_var, norms[name].running_var, atol=1e-12, rtol=0)


def plain_vlad(model: NetVLAD, norm: nn.BatchNorm1d, sequences: list[Tensor]) -> Tensor:
    """Return NetVLAD of sequences [N, D] of any length, cluster by cluster."""
    shares = norm(torch.cat(sequences) @ model.assign).softmax(1).split([len(rows) for rows in sequences])
    found = []
    for rows, share in zip(sequences, shares, strict=True):
        columns = [
            sum((share[n, k] * (rows[n] - model.centres[:, k]) for n in range(len(rows))), rows.new_zeros(model.dim))
            for k in range(model.clusters)
        ]
        found.append(normalize(torch.stack([normalize(column, dim=0) for column in columns], 1).flatten(), dim=0))
    return torch.stack(found)


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_without_a_length_pooling_is_that_of_the_bare_sequences(training: bool) -> None:
    """An empty one among them; forward, running statistics and gradients."""
    torch.manual_seed(0)
    ours = NetVLAD(5, VladConfig(clusters=3, ghosts=2)).double()
    plain = NetVLAD(5, VladConfig(clusters=3, ghosts=2)).double()
    ours.norm.running_mean.uniform_()  # type: ignore[union-attr]
    plain.load_state_dict(ours.state_dict())
    ours.train(training)
    plain.train(training)
    sequences = [torch.randn(count, 5, dtype=torch.float64) for count in (4, 2, 0, 1)]
    mask = torch.arange(6) < torch.tensor([4, 2, 0, 1])[:, None]
    dirty = padded(sequences, 6).masked_fill(~mask[..., None], 9.0)
    weights = torch.randn(4, 15, dtype=torch.float64)
    found, expected = ours(dirty, mask), plain_vlad(plain, plain.norm, sequences)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    assert not found[2].any()
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    for (name, parameter), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, atol=1e-10, rtol=0, msg=name)
    torch.testing.assert_close(ours.state_dict(), plain.state_dict(), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    "precision",
    [
        torch.float32,
        torch.bfloat16,
    ],
    ids=["float32", "bfloat16"],
)
def test_the_norm_of_pairs_keeps_torchs_running_statistics_in_any_precision(precision: torch.dtype) -> None:
    """Under autocast torch's own batch norm sums up in float32."""
    torch.manual_seed(0)
    ours, plain = PairNorm(8).train(), nn.BatchNorm1d(8).train()
    for _ in range(20):
        pairs = (torch.randn(64, 9, 8) * 2 + 1).to(precision)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
            ours(pairs)
            for place in range(9):
                plain(pairs[:, place])
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, atol=1e-4, rtol=1e-4, msg=name)


def test_without_a_length_padding_is_not_seen_and_with_one_it_is() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(3, 4, 5)
    mask = torch.arange(4) < torch.tensor([4, 2, 1])[:, None]
    vectors[~mask] = 0
    longer, longer_mask = nn.functional.pad(vectors, (0, 0, 0, 3)), nn.functional.pad(mask, (0, 3))
    dirty = longer.masked_fill(~longer_mask[..., None], 9.0)
    blind = NetVLAD(5, VladConfig(clusters=3, ghosts=2)).eval()
    torch.testing.assert_close(blind(dirty, longer_mask), blind(vectors, mask))
    single = blind(vectors[2:, :1], mask[2:, :1])
    torch.testing.assert_close(blind(longer, longer_mask)[2:], single)
    assert torch.isfinite(blind.train()(vectors[2:, :1], mask[2:, :1])).all(), "one vector cannot be normalised by"
    seeing = NetVLAD(5, VladConfig(clusters=3, ghosts=2, length=6)).eval()
    torch.testing.assert_close(seeing(vectors, mask), seeing(longer, longer_mask))
    other = NetVLAD(5, VladConfig(clusters=3, ghosts=2, length=4)).eval()
    other.load_state_dict(seeing.state_dict())
    assert not torch.allclose(seeing(vectors, mask), other(vectors, mask))


def test_at_the_published_sizes_ce_has_its_published_parameters() -> None:
    """183.45 M, as the README of CE's release says of its model for MSR-VTT full."""
    config = load(TrainConfig, ROOT / "configs" / "train" / "ce_full_released.yaml")
    sizes = (128, 512, 1024, 2048, 2048, 300, 512, 2208, 300)
    assert config.experts is not None
    with torch.device("meta"):
        model = assemble(config.model, dict(zip(config.experts, sizes, strict=True)), 768)
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == 183.45


def test_a_saved_ce_answers_as_before(tmp_path: Path) -> None:
    values = {"model": {"name": "ce", "dim": 8, "text_vlad": {"clusters": 2}}, "text": {"mode": "frozen_tokens"}}
    config = build(TrainConfig, values, "the test")
    model = build_model(config, SIZES.dims, SIZES.words).eval()
    save_model(tmp_path, model, config)
    loaded, loaded_config = load_model(tmp_path)
    assert loaded_config == config and isinstance(loaded, CE)
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    drawn = make_case(0).batch
    experts = {
        name: ExpertBatch(expert.values.float(), expert.mid_seconds, expert.mask, expert.aggregate.float())
        for name, expert in drawn.videos.experts.items()
    }
    assert drawn.texts.token_states is not None
    states = drawn.texts.token_states.float()
    texts = TextBatch(drawn.texts.ids, attention_mask=drawn.texts.attention_mask, token_states=states)
    batch = Batch(VideoBatch(drawn.videos.ids, experts, drawn.videos.present), texts)
    with torch.inference_mode():
        assert torch.equal(loaded(batch), model(batch))


def test_what_does_not_fit_is_refused_in_words() -> None:
    config = build(TrainConfig, {"model": {"name": "ce"}}, "the test")
    with pytest.raises(ConfigError, match=r"text\.mode is frozen and model\.name is ce, which takes frozen_tokens"):
        check_text_mode(config)
    with pytest.raises(ConfigError, match=r"text\.features is openai, .* text\.mode is frozen: frozen_tokens"):
        check_text_mode(build(TrainConfig, {"text": {"features": "openai"}}, "the test"))
    with pytest.raises(ConfigError, match=r"face is the only expert"):
        CE(CEConfig(name="ce", self_pairs=False), {"face": 3}, 5)
    model = CE(CEConfig(name="ce", dim=8), {"face": 3}, 5)
    mask = torch.ones(1, 2, dtype=torch.long)
    for wrong in (
        TextBatch(("a",), states=torch.zeros(1, 5)),
        TextBatch(("a",), input_ids=mask, attention_mask=mask),
        TextBatch(("a",), token_states=torch.zeros(1, 2, 6), attention_mask=mask),
    ):
        with pytest.raises(ValueError, match=r"states \[N, L, 5\] of each token expected"):
            model.embed_texts(wrong)
    with pytest.raises(ValueError, match="the batch has experts audio, face, ocr, scene; the model has face"):
        model.embed_videos(make_case(0).batch.videos)
