"""Reading the checkpoints that MMT's authors released (Gabeur et al. 2020, github.com/gabeur/mmt)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vtr.errors import InputError, VtrError
from vtr.interop.checkpoint import Checkpoint, read_checkpoint
from vtr.model_config import MMTConfig
from vtr.models.encoder import encoder_from_config
from vtr.models.mmt import MMT

EXPERT_IDS = {"s3d": 1, "vggish": 2, "face": 3, "rgb": 5, "speech": 6, "ocr": 7, "scene": 9}
"""The rows of the expert embedding in the released models."""

_READ = ("video_dim_reduce.", "vid_bert.", "txt_bert.", "text_GU.", "moe_fc_txt.")
"""What a checkpoint of the released variant of the model holds; other names mean another variant."""


MAX_WORDS, MAX_FEATURES = "max_text_words", "max_expert_tokens"
"""What the release's configurations call the words of a caption (and its word pieces), and an expert's features."""

_BUILT = {
    "txt_inp": "bertftn",
    "txt_agg": "bertftn",
    "txt_wgh": "emb",
    "txt_pro": "gbn",
    "vid_inp": "both",
    "vid_cont": "bert",
    "vid_wgh": "none",
    "pos_enc": "tint",
    "out_tok": "mxp",
    "l2renorm": False,
}
"""The variant that is read, as the release's configurations name it."""


def load_mmt_checkpoint(
    path: Path,
    text_encoder: Mapping[str, Any],
    *,
    heads: int | None = None,
    keep_missing: bool | None = None,
    expert_ids: Mapping[str, int] = EXPERT_IDS,
) -> MMT:
    """Return the model of a released checkpoint, in evaluation mode. All sizes but the heads are read off its weights.

    What is not given is taken from the configuration in the file, and is as released where the file holds none: 4
    heads, missing experts count.

    Args:
        path: a `.pth` file. It is read with `weights_only=True`: it cannot run code.
        text_encoder: the `transformers` configuration of its BERT.
        heads: attention heads of the video transformer.
        keep_missing: whether experts that a video lacks count in the score (the released models' setting).
        expert_ids: expert -> row of the expert embedding.

    Raises:
        InputError: the file is missing, damaged, wants to run code, or is no MMT checkpoint.
    """
    return mmt_model(path, read_checkpoint(path), text_encoder, heads, keep_missing, expert_ids)


def mmt_model(
    path: Path,
    found: Checkpoint,
    text_encoder: Mapping[str, Any],
    heads: int | None = None,
    keep_missing: bool | None = None,
    expert_ids: Mapping[str, int] = EXPERT_IDS,
) -> MMT:
    """Return what `load_mmt_checkpoint` does, of a checkpoint that has been read; `path` is for messages.

    Raises:
        InputError: it is no MMT checkpoint, or one of another variant.
    """
    weights = found.weights
    for name, expected in _BUILT.items():
        value = found.setting("arch", "args", name)
        if value not in (None, expected):
            raise InputError(f"{path} is another variant of MMT: its {name} is {value!r}, {expected!r} was expected.")
    if heads is None:
        heads = int(found.setting("arch", "args", "vid_bert_params", "num_attention_heads") or 4)
    if keep_missing is None:
        keep_missing = found.setting("arch", "args", "keep_missing_modalities") is not False
    if foreign := sorted(name for name in weights if not name.startswith(_READ)):
        raise InputError(
            f"{path} is not a checkpoint of MMT as released: it also holds {', '.join(foreign[:3])} "
            f"({len(foreign)} such tensors), which belong to another variant of the model."
        )
    try:
        return _build(weights, text_encoder, heads, keep_missing, expert_ids)
    except VtrError as error:
        raise InputError(f"{path} does not fit what was given with it: {error}") from error
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(f"{path} is not a checkpoint of MMT as released: {error}") from error


def released_limits(found: Checkpoint) -> dict[str, int]:
    """Return how many words and features a released checkpoint reads: 30 where its file does not say."""
    mixed = ("train_sets", 0, "args", "mix", 0)
    return {name: int(found.setting(*mixed, name) or 30) for name in (MAX_WORDS, MAX_FEATURES)}


def _build(
    theirs: Mapping[str, Tensor],
    text_encoder: Mapping[str, Any],
    heads: int,
    keep_missing: bool,
    expert_ids: Mapping[str, int],
) -> MMT:
    prefix, suffix = "video_dim_reduce.", ".fc.weight"
    experts = sorted(
        name[len(prefix) : -len(suffix)] for name in theirs if name.startswith(prefix) and name.endswith(suffix)
    )
    if not experts or not set(experts) <= set(expert_ids):
        raise KeyError(f"its experts are {experts}, those with a known embedding row are {sorted(expert_ids)}")
    layers = len({name.split(".")[3] for name in theirs if name.startswith("vid_bert.encoder.layer.")})
    config = MMTConfig(
        dim=len(theirs[f"{prefix}{experts[0]}.fc.bias"]),
        layers=layers,
        heads=heads,
        feed_forward=len(theirs["vid_bert.encoder.layer.0.intermediate.dense.bias"]),
        max_position=len(theirs["vid_bert.embeddings.position_embeddings.weight"]) - 1,
        keep_missing=keep_missing,
    )
    dims = {name: theirs[f"{prefix}{name}{suffix}"].shape[1] for name in experts}
    encoder = encoder_from_config({"model_type": "bert", **text_encoder})
    text_dim = int(encoder.config.hidden_size)  # type: ignore[union-attr, arg-type]
    model = MMT(config, dims, text_dim, encoder, {name: expert_ids[name] for name in experts})
    ours = dict(_translate(theirs, experts, layers))
    ours["expert_embedding.weight"] = ours["expert_embedding.weight"][: model.expert_embedding.num_embeddings]
    model.load_state_dict(ours)
    return model.eval()


def _translate(theirs: Mapping[str, Tensor], experts: list[str], layers: int) -> Iterator[tuple[str, Tensor]]:
    """Yield (our name, weights) for every parameter of our model."""
    for kind in ("weight", "bias"):
        for name in experts:
            yield f"reduce.{name}.{kind}", theirs[f"video_dim_reduce.{name}.fc.{kind}"]
        yield f"input_norm.{kind}", theirs[f"vid_bert.embeddings.layer_norm.{kind}"]
        yield f"text_units.project.{kind}", torch.cat([theirs[f"text_GU.{name}.fc.{kind}"] for name in experts])
        yield f"text_units.gate_{kind}", torch.stack([theirs[f"text_GU.{name}.cg.fc.{kind}"] for name in experts])
        yield f"mixture.linear.{kind}", torch.cat([theirs[f"moe_fc_txt.{name}.{kind}"] for name in experts])
        for layer in range(layers):
            yield from _translate_block(theirs, layer, kind)
    for kind in ("weight", "bias", "running_mean", "running_var"):
        yield f"text_units.gate_norm.{kind}", torch.cat([theirs[f"text_GU.{n}.cg.batch_norm.{kind}"] for n in experts])
    yield "text_units.gate_norm.num_batches_tracked", theirs[f"text_GU.{experts[0]}.cg.batch_norm.num_batches_tracked"]
    yield "position_embedding.weight", theirs["vid_bert.embeddings.position_embeddings.weight"]
    yield "expert_embedding.weight", theirs["vid_bert.embeddings.token_type_embeddings.weight"]
    for name, value in theirs.items():
        if name.startswith("txt_bert.") and not name.endswith(".position_ids"):  # 0, 1, ...: no parameter
            yield name.replace("txt_bert.", "text_encoder.", 1), value


def _translate_block(theirs: Mapping[str, Tensor], layer: int, kind: str) -> Iterator[tuple[str, Tensor]]:
    source, target = f"vid_bert.encoder.layer.{layer}", f"blocks.{layer}"
    parts = [theirs[f"{source}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
    yield f"{target}.qkv.{kind}", torch.cat(parts)
    for our_name, their_name in (
        ("attention_out", "attention.output.dense"),
        ("attention_norm", "attention.output.layer_norm"),
        ("widen", "intermediate.dense"),
        ("narrow", "output.dense"),
        ("output_norm", "output.layer_norm"),
    ):
        yield f"{target}.{our_name}.{kind}", theirs[f"{source}.{their_name}.{kind}"]
