"""Reading the checkpoints that CE's authors released (Liu et al. 2019, github.com/albanie/collaborative-experts)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vtr.errors import InputError, VtrError
from vtr.interop.checkpoint import Checkpoint, Taken, below, read_checkpoint
from vtr.model_config import CEConfig, VladConfig
from vtr.models.ce import CE

LENGTHS = {"audio": 29, "ocr": 49, "speech": 32, "text": 37}
"""How many features, and words, the released MSR-VTT models read (`configs/msrvtt/train-full-ce.json`)."""

_BUILT = {"use_ce": "pairwise", "use_mish": 1, "use_bn_reason": 1, "num_h_layers": 0, "l2renorm": False}
"""The variant that is read, as the release's configurations name it."""


def load_ce_checkpoint(
    path: Path,
    expert_dims: Mapping[str, int],
    *,
    lengths: Mapping[str, int] | None = None,
    keep_missing: bool | None = None,
    self_pairs: bool | None = None,
) -> CE:
    """Return the model of a released checkpoint with pairwise gating, in evaluation mode.

    Its weights do not name their experts: they are taken in alphabetical order, as the release does. What is not given
    is taken from the configuration in the file, and from the release's for MSR-VTT where the file holds none.

    Args:
        path: a `.pth` file. It is read with `weights_only=True`: it cannot run code.
        expert_dims: expert name -> length of its features.
        lengths: how many features of each pooled expert, and words ("text"), the model reads.
        keep_missing: whether experts that a video lacks count in the score.
        self_pairs: whether experts are also paired with themselves.

    Raises:
        InputError: the file is missing, damaged, wants to run code, or is no CE checkpoint of these experts.
    """
    found = read_checkpoint(path)
    _check_variant(path, found)
    known: Mapping[str, int] = found.setting("data_loader", "args", "max_tokens") or {}
    stored = (found.setting("arch", "args", "keep_missing_modalities"), found.setting("arch", "args", "include_self"))
    keep = bool(stored[0]) if keep_missing is None else keep_missing
    pairs = stored[1] != 0 if self_pairs is None else self_pairs
    experts = tuple(sorted(expert_dims))
    try:
        config = _config(found.weights, experts, LENGTHS | dict(known) | dict(lengths or {}), keep, pairs)
        _check_sizes(found.weights, expert_dims, config)
        text_dim = found.weights["text_pooling.clusters"].shape[0]
        model = CE(config, expert_dims, text_dim)
        taken = Taken(found.weights)
        model.load_state_dict(dict(_translate(taken, experts, config)))
    except VtrError as error:
        raise InputError(f"{path} does not fit what was given with it: {error}") from error
    except (KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not a checkpoint of CE with the experts {', '.join(experts)}: {reason}") from error
    if foreign := taken.left():
        raise InputError(
            f"{path} is not a checkpoint of CE as released: it also holds {', '.join(foreign[:3])} "
            f"({len(foreign)} such tensors), which belong to another variant of the model."
        )
    return model.eval()


def _check_variant(path: Path, found: Checkpoint) -> None:
    for name, expected in _BUILT.items():
        value = found.setting("arch", "args", name)
        if value is not None and value != expected:
            raise InputError(f"{path} is another variant of CE: its {name} is {value!r}, {expected!r} was expected.")


def _check_sizes(theirs: Mapping[str, Tensor], expert_dims: Mapping[str, int], config: CEConfig) -> None:
    """Check that the checkpoint's experts can be those given."""
    taken = {int(n.split(".")[0]): v.shape[1] for n, v in below(theirs, "ce.video_dim_reduce.") if n.endswith("weight")}
    given = {
        name: dim * (config.vlad[name].clusters if name in config.vlad else 1)
        for name, dim in sorted(expert_dims.items())
    }
    if list(given.values()) != [taken[at] for at in sorted(taken)]:
        raise ValueError(
            f"its {len(taken)} experts have the sizes {', '.join(str(taken[at]) for at in sorted(taken))}, those given "
            f"{', '.join(f'{name} {size}' for name, size in given.items())} (features times clusters). Name those it "
            "was trained with."
        )


def _config(
    theirs: Mapping[str, Tensor],
    experts: Sequence[str],
    lengths: Mapping[str, int],
    keep_missing: bool,
    self_pairs: bool,
) -> CEConfig:
    pooled = sorted({name.rsplit(".clusters", 1)[0] for name, _ in below(theirs, "pooling.") if ".clusters" in name})
    if unknown := sorted(set(pooled) - set(experts)):
        raise KeyError(f"it pools {', '.join(unknown)}, which is not among the experts given")
    linears = [name for name, _ in below(theirs, "ce.g_reason_shared.") if name.endswith(".weight")]
    return CEConfig(
        name="ce",
        dim=len(theirs["ce.g_reason_1.bias"]),
        layers=1 + len([name for name in linears if theirs[f"ce.g_reason_shared.{name}"].ndim == 2]),
        self_pairs=self_pairs,
        keep_missing=keep_missing,
        vlad={name: _vlad(theirs, f"pooling.{name}", lengths[name]) for name in pooled},
        text_vlad=_vlad(theirs, "text_pooling", lengths["text"]),
    )


def _vlad(theirs: Mapping[str, Tensor], name: str, length: int) -> VladConfig:
    clusters = theirs[f"{name}.clusters2"].shape[2]
    return VladConfig(clusters=clusters, ghosts=theirs[f"{name}.clusters"].shape[1] - clusters, length=length)


def _translate(theirs: Mapping[str, Tensor], experts: Sequence[str], config: CEConfig) -> Iterator[tuple[str, Tensor]]:
    """Yield (our name, weights) for everything our model holds."""
    pooled = [name for name in experts if name in config.vlad]
    for ours, name in [
        *((f"vlads.{at}", f"pooling.{name}") for at, name in enumerate(pooled)),
        ("text_vlad", "text_pooling"),
    ]:
        yield f"{ours}.assign", theirs[f"{name}.clusters"]
        yield f"{ours}.centres", theirs[f"{name}.clusters2"][0]
        yield from ((f"{ours}.norm.{rest}", value) for rest, value in below(theirs, f"{name}.batch_norm."))
    for layer in range(config.layers - 1):
        yield from ((f"gates.norms.{layer}.{r}", v) for r, v in below(theirs, f"ce.g_reason_shared.{3 * layer}."))
        yield from ((f"gates.layers.{layer}.{r}", v) for r, v in below(theirs, f"ce.g_reason_shared.{3 * layer + 2}."))
    for rest, value in below(theirs, "ce.g_reason_1."):
        yield f"gates.pair.{rest}", value
    for at in range(len(experts)):
        gate = f"ce.video_GU.{at}.cg"
        yield from ((f"reduce.{at}.{rest}", value) for rest, value in below(theirs, f"ce.video_dim_reduce.{at}.fc."))
        yield from ((f"gates.own.{at}.{rest}", value) for rest, value in below(theirs, f"{gate}.fc."))
        yield from ((f"gates.pair_norms.{at}.{rest}", value) for rest, value in below(theirs, f"{gate}.batch_norm."))
        yield from ((f"gates.own_norms.{at}.{rest}", value) for rest, value in below(theirs, f"{gate}.batch_norm2."))
    yield from _translate_texts(theirs, len(experts))


def _translate_texts(theirs: Mapping[str, Tensor], count: int) -> Iterator[tuple[str, Tensor]]:
    units = [f"ce.text_GU.{at}" for at in range(count)]
    for kind in ("weight", "bias"):
        yield f"mixture.linear.{kind}", theirs[f"ce.moe_fc.{kind}"]
        yield f"text_units.project.{kind}", torch.cat([theirs[f"{unit}.fc.{kind}"] for unit in units])
        yield f"text_units.gate_{kind}", torch.stack([theirs[f"{unit}.cg.fc.{kind}"] for unit in units])
    for kind in ("weight", "bias", "running_mean", "running_var"):
        yield f"text_units.gate_norm.{kind}", torch.cat([theirs[f"{unit}.cg.batch_norm.{kind}"] for unit in units])
    tracked = [theirs[f"{unit}.cg.batch_norm.num_batches_tracked"] for unit in units]
    yield "text_units.gate_norm.num_batches_tracked", tracked[0]  # all are the same
