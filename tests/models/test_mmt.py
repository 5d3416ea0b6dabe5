"""The video and text towers: against transformers' own BERT, and what must not change an embedding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vtr.errors import ConfigError
from vtr.losses import unified_loss
from vtr.models.gating import GatedEmbeddingUnits
from vtr.models.mmt import MMT
from vtr.models.transformer import Block, Packing
from vtr.types import Batch, ExpertBatch, TextBatch, VideoBatch


def at_seconds(videos: VideoBatch, expert: str, seconds: float) -> VideoBatch:
    """Return the videos with the first feature of the first video at another time."""
    changed = videos.experts[expert].mid_seconds.clone()
    changed[0, 0] = seconds
    return replace(videos, experts={**videos.experts, expert: replace(videos.experts[expert], mid_seconds=changed)})


def vectors(model: MMT, videos: VideoBatch) -> Tensor:
    with torch.inference_mode():
        return model.embed_videos(videos).vectors


def bert_layer(block: Block, dim: int, feed_forward: int, heads: int) -> torch.nn.Module:
    """Return transformers' BERT layer with the weights of one of our blocks."""
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertLayer

    config = BertConfig(hidden_size=dim, num_attention_heads=heads, intermediate_size=feed_forward, hidden_act="gelu")
    config._attn_implementation = "eager"
    layer = BertLayer(config).eval()
    ours = block.state_dict()
    theirs = {}
    for kind in ("weight", "bias"):
        for part, rows in zip(("query", "key", "value"), ours[f"qkv.{kind}"].chunk(3), strict=True):
            theirs[f"attention.self.{part}.{kind}"] = rows
        theirs[f"attention.output.dense.{kind}"] = ours[f"attention_out.{kind}"]
        theirs[f"attention.output.LayerNorm.{kind}"] = ours[f"attention_norm.{kind}"]
        theirs[f"intermediate.dense.{kind}"] = ours[f"widen.{kind}"]
        theirs[f"output.dense.{kind}"] = ours[f"narrow.{kind}"]
        theirs[f"output.LayerNorm.{kind}"] = ours[f"output_norm.{kind}"]
    layer.load_state_dict(theirs)
    return layer


def test_embeddings_equal_a_transformers_bert_over_tokens_made_one_by_one(
    make_mmt: Callable[..., MMT], videos: VideoBatch
) -> None:
    model = make_mmt()
    layers = [bert_layer(block, 8, 16, 2) for block in model.blocks]
    for row in range(len(videos.ids)):
        kinds, positions = model.expert_embedding.weight, model.position_embedding.weight
        tokens, seen, aggregate_at = [kinds[0] + positions[0]], [True], []
        for kind, (name, expert) in enumerate(videos.experts.items(), 1):
            aggregate_at.append(len(tokens))
            feature = torch.nn.functional.normalize(model.reduce[name](expert.aggregate[row]), dim=0)
            tokens.append(feature + kinds[kind] + positions[0])
            seen.append(bool(videos.present[row, kind - 1]))
            for slot in range(expert.mask.shape[1]):
                if not expert.mask[row, slot]:
                    continue  # no token at all, where the model has a masked one
                seconds = expert.mid_seconds[row, slot].item()
                position = 1 if seconds != seconds else min(int(seconds + 2), 31)
                feature = torch.nn.functional.normalize(model.reduce[name](expert.values[row, slot]), dim=0)
                tokens.append(feature + kinds[kind] + positions[position])
                seen.append(True)
        hidden = model.input_norm(torch.stack(tokens))[None]
        additive = torch.where(torch.tensor(seen), 0.0, -1e9)[None, None, None]
        for layer in layers:
            output = layer(hidden, additive)
            hidden = output[0] if isinstance(output, tuple) else output
        expected = torch.nn.functional.normalize(hidden[0, aggregate_at], dim=-1)
        torch.testing.assert_close(vectors(model, videos)[row], expected, atol=1e-5, rtol=0)


def test_the_last_block_gives_the_same_where_it_works_only_at_the_wanted_places() -> None:
    torch.manual_seed(0)
    block, x = Block(8, 2, 16, 0.1).eval(), torch.randn(9, 8)
    owner = torch.tensor([0, 1, 2, 1, 1, 0, 2, 2, 2])
    packing = Packing.of(owner, torch.tensor([1, 1, 0, 1, 0, 1, 1, 1, 1]).bool(), 3)
    wanted = torch.tensor([5, 3, 2])
    torch.testing.assert_close(block(x, packing, wanted), block(x, packing)[wanted])
    for video in range(3):  # and what another video holds changes nothing
        alone = owner == video
        seen = torch.tensor([1, 1, 0, 1, 0, 1, 1, 1, 1]).bool()[alone]
        packed = Packing.of(torch.zeros(int(alone.sum()), dtype=torch.long), seen, 1)
        torch.testing.assert_close(block(x[alone], packed), block(x, packing)[alone])


def test_padding_and_what_lies_under_a_mask_change_nothing(make_mmt: Callable[..., MMT], videos: VideoBatch) -> None:
    model = make_mmt()
    padded = {}
    for name, expert in videos.experts.items():
        pad = torch.nn.functional.pad
        mask = pad(expert.mask, (0, 2))
        values = pad(expert.values, (0, 0, 0, 2)).masked_fill(~mask[..., None], 7.0)
        padded[name] = ExpertBatch(values, pad(expert.mid_seconds, (0, 2), value=9.0), mask, expert.aggregate)
    torch.testing.assert_close(vectors(model, replace(videos, experts=padded)), vectors(model, videos))


def test_a_missing_expert_is_seen_by_no_other(make_mmt: Callable[..., MMT], videos: VideoBatch) -> None:
    model = make_mmt()
    audio = videos.experts["audio"]
    noisy = replace(audio, aggregate=audio.aggregate + ~videos.present[:, :1] * 3.0)
    changed = replace(videos, experts={**videos.experts, "audio": noisy})
    before, after = vectors(model, videos), vectors(model, changed)
    torch.testing.assert_close(after[:, 1:], before[:, 1:])
    assert (after[1, 0] - before[1, 0]).abs().max() > 1e-3  # its own embedding still comes from its token


def test_each_video_is_embedded_as_if_alone(make_mmt: Callable[..., MMT], videos: VideoBatch) -> None:
    model = make_mmt()
    together = vectors(model, videos)
    for row in range(4):
        experts = {
            n: ExpertBatch(*(getattr(e, f)[row : row + 1] for f in ("values", "mid_seconds", "mask", "aggregate")))
            for n, e in videos.experts.items()
        }
        alone = VideoBatch(("x",), experts, videos.present[row : row + 1])
        torch.testing.assert_close(vectors(model, alone)[0], together[row])


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (2.2, 2.9, True),  # one second, one position
        (2.9, 3.1, False),
        (29.0, 90.0, True),  # beyond the last position
        (28.9, 29.1, False),
        (float("nan"), -1.0, True),  # position 1 is for features without a time
        (float("nan"), 0.5, False),
        (1e30, 29.0, True),
    ],
)
def test_positions_are_whole_seconds(
    make_mmt: Callable[..., MMT], videos: VideoBatch, first: float, second: float, same: bool
) -> None:
    model = make_mmt()
    one, other = (vectors(model, at_seconds(videos, "face", seconds)) for seconds in (first, second))
    assert torch.allclose(one, other, atol=1e-6) == same


def test_vectors_have_unit_length_and_weights_sum_to_one(
    make_mmt: Callable[..., MMT], videos: VideoBatch, texts: TextBatch
) -> None:
    model = make_mmt()
    with torch.inference_mode():
        embedded = model.embed_texts(texts)
    assert embedded.vectors.shape == vectors(model, videos).shape == (4, 3, 8)
    torch.testing.assert_close(embedded.weights.sum(1), torch.ones(4))
    torch.testing.assert_close(embedded.vectors.norm(dim=-1), torch.ones(4, 3))
    torch.testing.assert_close(vectors(model, videos).norm(dim=-1), torch.ones(4, 3))


def test_missing_experts_count_only_where_they_are_kept(
    make_mmt: Callable[..., MMT], videos: VideoBatch, texts: TextBatch
) -> None:
    with torch.inference_mode():
        assert make_mmt(keep_missing=True).embed_videos(videos).present.all()
        assert torch.equal(make_mmt().embed_videos(videos).present, videos.present)
        scores = make_mmt()(Batch(videos, texts))
    assert torch.isfinite(scores).all()
    assert (scores[:, 3] == 0).all()  # the video without any expert
    assert (scores[:, :3] != 0).all()


def test_gradients_reach_every_parameter_also_with_missing_experts(
    make_mmt: Callable[..., MMT], videos: VideoBatch, texts: TextBatch
) -> None:
    model = make_mmt().train()
    unified_loss(model(Batch(videos, texts))).backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_scores_under_bfloat16_are_float32_and_near(
    make_mmt: Callable[..., MMT], videos: VideoBatch, texts: TextBatch
) -> None:
    model = make_mmt()
    with torch.inference_mode():
        exact = model(Batch(videos, texts))
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(Batch(videos, texts))
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, atol=0.05, rtol=0)


def test_gated_units_equal_one_unit_an_expert() -> None:
    torch.manual_seed(0)
    units, states = GatedEmbeddingUnits(6, 3, 4).train(), torch.randn(5, 6)
    expected = []
    for expert in range(3):
        project, gate, norm = torch.nn.Linear(6, 4), torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4).train()
        rows = slice(4 * expert, 4 * expert + 4)
        project.weight.data, project.bias.data = units.project.weight[rows], units.project.bias[rows]
        gate.weight.data, gate.bias.data = units.gate_weight[expert], units.gate_bias[expert]
        y = project(states)
        expected.append(torch.nn.functional.normalize(y * torch.sigmoid(norm(gate(y))), dim=-1))
    torch.testing.assert_close(units(states), torch.stack(expected, 1))


def test_one_text_cannot_be_trained_on_but_can_be_embedded(make_mmt: Callable[..., MMT], texts: TextBatch) -> None:
    one = TextBatch(("w",), states=texts.states[:1] if texts.states is not None else None)
    with pytest.raises(ValueError, match="1 text in a training batch"):
        make_mmt().train().embed_texts(one)
    assert make_mmt().embed_texts(one).vectors.shape == (1, 3, 8)


def test_sizes_that_exclude_each_other_and_no_experts_are_config_errors(make_mmt: Callable[..., MMT]) -> None:
    with pytest.raises(ConfigError, match=r"model.dim is 8 and model.heads is 3"):
        make_mmt(heads=3)
    with pytest.raises(ConfigError, match="no experts"):
        MMT(make_mmt().config, {}, 6)


@pytest.mark.parametrize(
    "ids", [{"audio": 1, "face": 2}, {"audio": 1, "face": 1, "motion": 2}, {"audio": 0, "face": 1, "motion": 2}]
)
def test_expert_ids_must_be_complete_and_apart(make_mmt: Callable[..., MMT], ids: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="one number from 1 up for each"):
        make_mmt(expert_ids=ids)


def test_another_batch_than_the_model_expects_is_refused(
    make_mmt: Callable[..., MMT], videos: VideoBatch, texts: TextBatch
) -> None:
    model = make_mmt()
    fewer = replace(videos, experts={n: e for n, e in videos.experts.items() if n != "face"})
    with pytest.raises(ValueError, match="has experts audio, motion; the model has audio, face, motion"):
        model.embed_videos(fewer)
    tokens = TextBatch(("w",), input_ids=torch.ones((1, 2), dtype=torch.long), attention_mask=torch.ones((1, 2)))
    with pytest.raises(ValueError, match=r"states \[N, 6\] expected"):
        model.embed_texts(tokens)
    model.text_encoder = torch.nn.Identity()
    with pytest.raises(ValueError, match="tokens expected"):
        model.embed_texts(texts)
