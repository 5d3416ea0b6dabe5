"""Search without training: an expert's features are compared with a text encoder in whose space they lie.

CLIP's and SigLIP's features of frames lie in the space of their own text sides (Radford et al. 2021, arXiv 2103.00020;
Zhai et al. 2023, arXiv 2303.15343), the embeddings of what is spoken and shown in that of the sentence encoder that
made them. A video's vector of an expert is the mean of its features, each of length 1, and then of length 1 itself. The
score is the weighted mean of the cosines; an expert that a video lacks adds 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from vtr.config import TextConfig
from vtr.errors import ConfigError
from vtr.model_config import TextSideConfig, ZeroShotConfig
from vtr.models.base import RetrievalModel
from vtr.models.encoder import Pooling, identity, load_encoder, load_text_side, load_tokenizer, pool
from vtr.models.text import STATES_BATCH, TextInput
from vtr.types import TextBatch, TextEmbeddings, VideoBatch, VideoEmbeddings
from vtr.workspace import fingerprint

SENTENCE_TOKENS = 128
"""As `vtr extract` embeds what is spoken and shown."""

SHOWS = {"clip": "what pictures show", "siglip": "what pictures show"}
TELLS = {"speech": "what is spoken", "ocr": "words on screen"}


class ZeroShot(RetrievalModel):
    """See the module. Its only tensor is the experts' weights [E], which sum to 1.

    Args:
        config: experts, encoders and weights.
        expert_dims: expert -> length of its features.
        text_dim: H, the length of all encoders' vectors end to end; see `ZeroShotTexts`.

    Raises:
        ConfigError: an expert has no encoder or one of another length, or the weights are not positive numbers of
            experts there are.
    """

    weights: Tensor

    def __init__(self, config: ZeroShotConfig, expert_dims: Mapping[str, int], text_dim: int) -> None:
        super().__init__(config, expert_dims, text_dim)
        self._texts = config.texts
        for name, dim in self.expert_dims.items():
            if name not in config.texts or config.texts[name].dim != dim:
                raise ConfigError(
                    f"model.texts has no encoder of dim {dim} for {name}; it has "
                    f"{ {known: side.dim for known, side in config.texts.items()} }. Name one whose space its features "
                    "lie in."
                )
        self._places = _places(config.texts)
        self.register_buffer("weights", _weights(config.weights, self.experts))

    @property
    def finds(self) -> str:
        """What can be found, and what cannot."""
        told = [TELLS.get(name) or SHOWS.get(self._texts[name].kind) or name for name in self.experts]
        lacking = [words for name, words in TELLS.items() if name not in self.experts]
        if not any(self._texts[name].kind in SHOWS for name in self.experts):
            lacking = ["what pictures show or what happens in them", *lacking]
        cannot = f" Not {' or '.join(lacking)}." if lacking else ""
        return f"Finds {' and '.join(dict.fromkeys(told))}, by meaning, without having been trained.{cannot}"

    def embed_videos(self, videos: VideoBatch) -> VideoEmbeddings:
        """Return the embeddings of B videos. See `RetrievalModel.embed_videos`."""
        self._check_experts(videos)
        vectors = []
        for batch in videos.experts.values():
            units = normalize(batch.values, dim=-1) * batch.mask.unsqueeze(-1)
            mean = normalize(units.sum(1), dim=-1)  # of nothing: zeros
            vectors.append(pad(mean, (0, self.dim - mean.shape[1])))
        return VideoEmbeddings(videos.ids, torch.stack(vectors, 1), torch.ones_like(videos.present))

    def embed_texts(self, texts: TextBatch) -> TextEmbeddings:
        """Return the embeddings of N texts. See `RetrievalModel.embed_texts`."""
        states, vectors = self._sentence_states(texts), []
        for name in self.experts:
            unit = normalize(states[:, self._places[name]], dim=-1)
            vectors.append(pad(unit, (0, self.dim - unit.shape[1])))
        return TextEmbeddings(texts.ids, torch.stack(vectors, 1), self.weights.expand(len(texts.ids), -1).clone())


class ZeroShotTexts(TextInput):
    """Makes batches of the vectors of all text encoders of a model, end to end; experts may share one.

    Args:
        config: experts and encoders.

    Raises:
        UnavailableError: an encoder cannot be loaded.
        ConfigError: an encoder makes vectors of another length than the model expects.
    """

    def __init__(self, config: ZeroShotConfig) -> None:
        self.config = TextConfig(mode="frozen", model=next(iter(config.texts.values())).model)
        self._sides = _sides(config.texts)
        self._encoders = [_ENCODERS[side.kind](side) for side in self._sides]

    @property
    def dim(self) -> int:
        """H, the length of a state."""
        return sum(side.dim for side in self._sides)

    def key(self) -> str:
        """Return a hash of all that shapes the states. See `TextInput.key`."""
        return fingerprint([[side.model_dump(mode="json"), identity(side.model)] for side in self._sides])

    def says_nothing(self, texts: Sequence[str]) -> list[bool]:
        """Return of each of N texts whether it is empty."""
        return [not text.strip() for text in texts]

    @torch.inference_mode()
    def states(self, texts: Sequence[str], advance: Callable[[int], None] | None = None) -> Tensor:
        """Return the vectors [N, H] of N texts, unlike those of `TextInput` of the texts as they are."""
        parts = [torch.zeros((0, self.dim))]
        for at in range(0, len(texts), STATES_BATCH):
            some = list(texts[at : at + STATES_BATCH])
            parts.append(torch.cat([encoder(some).float() for encoder in self._encoders], dim=1))
            if advance is not None:
                advance(len(some))
        return torch.cat(parts)


@dataclass(frozen=True, slots=True)
class _PairedText:
    """How the text side of a model of images and texts is read: class, output, padding of texts, names of the input."""

    model_class: str
    output: str
    padding: str | bool
    taken: tuple[str, ...]


PAIRED = {
    "clip": _PairedText("CLIPTextModelWithProjection", "text_embeds", True, ("input_ids", "attention_mask")),
    "siglip": _PairedText(
        "SiglipTextModel", "pooler_output", "max_length", ("input_ids",)
    ),  # as it was trained: padding counts
}


def _paired(side: TextSideConfig) -> Callable[[list[str]], Tensor]:
    """Return what embeds texts with the text side of CLIP or SigLIP."""
    how = PAIRED[side.kind]
    tokenizer = load_tokenizer(side.model)
    model: Any = load_text_side(side.model, how.model_class).eval()
    most = int(model.config.max_position_embeddings)

    def encode(texts: list[str]) -> Tensor:
        tokens = tokenizer(texts, padding=how.padding, truncation=True, max_length=most, return_tensors="pt")
        taken = {name: tokens[name] for name in how.taken if name in tokens}
        return torch.as_tensor(getattr(model(**taken), how.output))

    return _checked(side, encode)


def _sentences(side: TextSideConfig) -> Callable[[list[str]], Tensor]:
    """Return what embeds texts as `vtr extract` embeds those that experts find."""
    tokenizer, model = load_tokenizer(side.model), load_encoder(side.model).eval()

    def encode(texts: list[str]) -> Tensor:
        tokens = tokenizer(texts, padding=True, truncation=True, max_length=SENTENCE_TOKENS, return_tensors="pt")
        hidden = model(**tokens).last_hidden_state
        return pool(hidden, tokens["attention_mask"], Pooling("mean", normalised=True))

    return _checked(side, encode)


_ENCODERS: Mapping[str, Callable[[TextSideConfig], Callable[[list[str]], Tensor]]] = {
    "clip": _paired,
    "siglip": _paired,
    "sentence": _sentences,
}


def _checked(side: TextSideConfig, encode: Callable[[list[str]], Tensor]) -> Callable[[list[str]], Tensor]:
    """Return an encoder that has been asked once.

    Raises:
        ConfigError: its vectors have another length than the model expects.
    """
    with torch.inference_mode():
        dim = encode(["a"]).shape[1]
    if dim != side.dim:
        raise ConfigError(f"the text side of {side.model} makes vectors of {dim}, {side.dim} were expected.")
    return encode


def _sides(texts: Mapping[str, TextSideConfig]) -> list[TextSideConfig]:
    """Return the encoders, each once, in the order of the experts' names."""
    found: list[TextSideConfig] = []
    for name in sorted(texts):
        found += [] if texts[name] in found else [texts[name]]
    return found


def _places(texts: Mapping[str, TextSideConfig]) -> dict[str, slice]:
    """Return expert -> where the vector of its encoder lies in a state."""
    sides, starts = _sides(texts), [0]
    for side in sides:
        starts.append(starts[-1] + side.dim)
    at = {name: sides.index(side) for name, side in texts.items()}
    return {name: slice(starts[place], starts[place + 1]) for name, place in at.items()}


def _weights(given: Mapping[str, float], experts: Sequence[str]) -> Tensor:
    for name, value in given.items():
        if name not in experts or not value > 0 or value == float("inf"):
            raise ConfigError(
                f"model.weights has {name}: {value}; positive numbers of {', '.join(experts)} were expected. Leave out "
                "an expert that should not count."
            )
    weights = torch.tensor([given.get(name, 1.0) for name in experts])
    return weights / weights.sum()
