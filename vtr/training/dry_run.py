"""What a training run would be: sizes, parameters, memory and steps, without training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from vtr.config import TextConfig, TrainConfig
from vtr.data.corpus import Corpus
from vtr.data.features import FeatureChoice, FeatureTable
from vtr.data.sampling import batches_per_epoch, cut_batches, epoch_batches, visits_per_pass
from vtr.errors import UnavailableError
from vtr.model_config import CEConfig
from vtr.models import RetrievalModel, assemble
from vtr.models.encoder import encoder_config, encoder_from_config
from vtr.models.text import TextInput
from vtr.store.reader import FeatureStore
from vtr.training.fitting import will_hold
from vtr.training.schedule import rate_factor
from vtr.training.train import load_training_corpus, training_captions
from vtr.types import Batch, Caption, TextBatch
from vtr.workspace import Workspace

MEBIBYTE = 1 << 20
STATES_OF = {"adam": 2, "adamw": 2, "sgd": 1, "ranger": 3}
"""Tensors of a parameter's size that each optimiser keeps."""

KNOWN_MODELS: dict[str, dict[str, Any]] = {
    "bert-base-cased": {"model_type": "bert", "vocab_size": 28996},
    "openai-gpt": {"model_type": "openai-gpt"},
}
"""Sizes of the models that the recipes name, where they cannot be loaded."""


@dataclass(frozen=True)
class Texts:
    """One batch's captions, and what is known of the text model.

    Attributes:
        batch: the captions; stand-ins of full length where the text model cannot be loaded.
        dim: H.
        encoder: one with random weights, where it is trained with the rest.
        problem: why the text model cannot be loaded, "" where it can.
    """

    batch: TextBatch
    dim: int
    encoder: nn.Module | None
    problem: str = ""


def dry_run(workspace: Workspace, config: TrainConfig, *, available_only: bool = False) -> str:
    """Return in words what `train` would do. One batch goes forward through a model with random weights, on the CPU.

    Raises:
        ConfigError, InputError, WorkspaceError: as `train` would.
    """
    corpus = load_training_corpus(workspace, config, available_only=available_only)
    captions = training_captions(corpus)
    videos = corpus.video_ids("train")
    row_of = {video_id: row for row, video_id in enumerate(videos)}
    captions_of: dict[int, list[int]] = {}
    for place, caption in enumerate(captions):
        captions_of.setdefault(row_of[caption.video_id], []).append(place)
    (pairs,) = islice(epoch_batches(captions_of, config.data, seed=config.seed, epoch=0), 1)
    ids = list(dict.fromkeys(videos[video] for video, _ in pairs))
    table = FeatureTable.load(corpus.store, ids, corpus.experts, FeatureChoice.of(config))
    texts = _texts(workspace, config.text, [captions[caption] for _, caption in pairs])
    batch = Batch(table.batch([ids.index(videos[video]) for video, _ in pairs], np.random.default_rng(0)), texts.batch)
    torch.manual_seed(config.seed)
    fitted = will_hold(config.model, len(captions_of), len(captions))
    model = assemble(config.model, table.dims, texts.dim, texts.encoder, fitted=fitted)
    visits = visits_per_pass(captions_of, config.data.sampling)
    steps, cut = batches_per_epoch(visits, config.data), cut_batches(visits, config.data)
    lines = [
        *_sizes(corpus, captions),
        *_parameters(model, config),
        _batch(batch),
        *([cut] if cut else []),
        _steps(config, steps),
        *_memory(model, config, batch, corpus),
    ]
    if texts.problem:
        lines.append(f"training would stop at this: {texts.problem}")
    return "\n".join(lines)


def _texts(workspace: Workspace, config: TextConfig, captions: Sequence[Caption]) -> Texts:
    ids = tuple(caption.id for caption in captions)
    if config.features is not None:
        held = FeatureStore(workspace.text_features)
        found = held.read(config.features, ids)
        states = [torch.from_numpy(np.array(found[i].values[: config.max_tokens], np.float32)) for i in ids]
        return Texts(_token_batch(ids, states), held.spec(config.features).dim, None)
    try:
        source = TextInput(config)
        batch, problem = source.batch(ids, [caption.text for caption in captions]), ""
        sizes = encoder_config(config.model)
        dim = source.dim
    except UnavailableError as error:
        if config.model not in KNOWN_MODELS:
            raise
        sizes, problem = KNOWN_MODELS[config.model], str(error)
        dim = int(encoder_from_config(sizes).config.hidden_size)  # type: ignore[arg-type, union-attr]
        batch = _stand_ins(ids, config, dim)
    return Texts(batch, dim, encoder_from_config(sizes) if config.mode == "fine_tuned" else None, problem)


def _stand_ins(ids: tuple[str, ...], config: TextConfig, dim: int) -> TextBatch:
    shape = (len(ids), config.max_tokens)
    if config.mode == "frozen":
        return TextBatch(ids, states=torch.randn(len(ids), dim))
    if config.mode == "frozen_tokens":
        return _token_batch(ids, list(torch.randn(*shape, dim)))
    return TextBatch(ids, torch.ones(shape, dtype=torch.long), torch.ones(shape, dtype=torch.long))


def _token_batch(ids: tuple[str, ...], states: list[Tensor]) -> TextBatch:
    mask = pad_sequence([torch.ones(len(of_one), dtype=torch.long) for of_one in states], batch_first=True)
    return TextBatch(ids, attention_mask=mask, token_states=pad_sequence(states, batch_first=True))


def _sizes(corpus: Corpus, captions: Sequence[Caption]) -> list[str]:
    train = frozenset(corpus.video_ids("train"))
    lines = [f"{corpus.coverage('train')} videos, {len(captions):,} captions"]
    if corpus.split.validation:
        lines.append(f"{corpus.coverage('validation')} videos, {len(corpus.queries('validation')):,} queries")
    else:
        lines.append(f"{corpus.split.name} has no validation part: the last epoch is used")
    for expert in corpus.experts:
        held = sum(video_id in train for video_id in corpus.store.video_ids(expert))
        lines.append(f"  {expert}: {held:,} of {len(train):,} training videos, dim {corpus.store.spec(expert).dim}")
    return lines


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _parameters(model: RetrievalModel, config: TrainConfig) -> list[str]:
    encoder = 0 if model.text_encoder is None else _count(model.text_encoder)
    total = _count(model)
    split = f": text encoder {encoder / 1e6:.2f} M, the rest {(total - encoder) / 1e6:.2f} M" if encoder else ""
    ungated = isinstance(config.model, CEConfig) and config.model.gating == "none"
    name = "MoEE" if ungated or config.model.name == "moee" else config.model.name.upper()
    return [f"{name}: {total / 1e6:.2f} M parameters{split}; loss {config.loss.name}, {config.precision}"]


def _batch(batch: Batch) -> str:
    features = sum(int(expert.mask.sum()) for expert in batch.videos.experts.values())
    words = batch.texts.attention_mask
    tokens = "" if words is None else f", captions of up to {words.shape[1]} tokens"
    return f"a batch: {len(batch.videos.ids)} pairs, for example {features:,} features{tokens}"


def _steps(config: TrainConfig, per_epoch: int) -> str:
    total = config.epochs * per_epoch
    rate = config.optimiser
    last = rate.learning_rate * rate_factor(rate, total - 1, config.epochs - 1, total)
    return (
        f"steps: {per_epoch:,} an epoch, {config.epochs} epochs, {total:,} in all; {rate.name}, learning rate "
        f"{rate.learning_rate:g} at first and {last:.3g} at last"
    )


def _memory(model: RetrievalModel, config: TrainConfig, batch: Batch, corpus: Corpus) -> list[str]:
    peers = 1 if config.noisy_correspondence is None else 2
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values()) * peers
    gradients = 4 * _count(model) * peers
    states = gradients * STATES_OF[config.optimiser.name]
    activations = _activations(model, config, batch)
    parts = {"weights": weights, "gradients": gradients, "optimiser": states, "activations of a batch": activations}
    listed = ", ".join(f"{name} {size / MEBIBYTE:,.0f}" for name, size in parts.items())
    stored = sum(path.stat().st_size for expert in corpus.experts for path in corpus.store.shards(expert))
    return [
        f"memory of the device, MiB: {listed}; {sum(parts.values()) / MEBIBYTE:,.0f} in all",
        f"features on disk: {stored / MEBIBYTE:,.0f} MiB; a GPU holds those of the two parts as far as they fit",
    ]


def _activations(model: RetrievalModel, config: TrainConfig, batch: Batch) -> int:
    """Return the bytes that one batch keeps for its backward pass, measured."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # storages whose memory must not be used again while we count

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(value)
        return value

    model.train()
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value),
        torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16"),
    ):
        model(batch)
    return sum(kept.values())
