"""What every text-video model is to the rest of vtr: batches in, embeddings and scores out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vtr.errors import ConfigError
from vtr.model_config import ModelConfig
from vtr.similarity import score_matrix
from vtr.types import Batch, TextBatch, TextEmbeddings, VideoBatch, VideoEmbeddings


class RetrievalModel(nn.Module, ABC):
    """Embeds videos and texts, expert by expert. The score of two embeddings is `vtr.similarity`'s.

    An expert's vector may be of several members, end to end, each of length 1 / sqrt(members): then the score is the
    mean of theirs, and each learns from its own.

    Args:
        config: sizes.
        expert_dims: expert name -> length of its features; E experts, kept in alphabetical order.
        text_dim: H, length of a text state.
        text_encoder: a `transformers` encoder trained with the rest; None when batches carry frozen states.

    Raises:
        ConfigError: there are no experts.
    """

    members = 1

    def __init__(
        self,
        config: ModelConfig,
        expert_dims: Mapping[str, int],
        text_dim: int,
        text_encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if not expert_dims:
            raise ConfigError("the model has no experts, at least one was expected. Name some under `experts`.")
        self.expert_dims = {name: expert_dims[name] for name in sorted(expert_dims)}
        self.experts = tuple(self.expert_dims)
        self.dim = config.dim
        self.keep_missing = config.keep_missing
        self.text_dim = text_dim
        self.text_encoder = text_encoder

    @property
    def scored(self) -> tuple[str, ...]:
        """What the score adds up, the order of axis 1 of embeddings: the experts, and what is made of them together."""
        return self.experts

    @property
    def finds(self) -> str | None:
        """What can be found with this model, in a sentence or two, where it differs from what its experts read."""
        return None

    @property
    def embedded_dim(self) -> int:
        """D, the length of an expert's vector in evaluation."""
        return self.dim

    @abstractmethod
    def embed_videos(self, videos: VideoBatch) -> VideoEmbeddings:
        """Return the embeddings of B videos.

        Raises:
            ValueError: the batch's experts are not the model's.
        """

    @abstractmethod
    def embed_texts(self, texts: TextBatch) -> TextEmbeddings:
        """Return the embeddings of N texts.

        Raises:
            ValueError: the batch does not carry what the model takes: tokens, states or token states.
        """

    def embed(self, batch: Batch) -> tuple[TextEmbeddings, VideoEmbeddings]:
        """Return the embeddings of a batch, in float32 at least, also under autocast."""
        texts, videos = self.embed_texts(batch.texts), self.embed_videos(batch.videos)
        with torch.autocast(texts.vectors.device.type, enabled=False):
            return (
                TextEmbeddings(texts.ids, _at_least_float32(texts.vectors), _at_least_float32(texts.weights)),
                VideoEmbeddings(videos.ids, _at_least_float32(videos.vectors), videos.present),
            )

    def forward(self, batch: Batch) -> Tensor:
        """Return scores [B, B] of a batch, texts in rows, in float32 at least."""
        texts, videos = self.embed(batch)
        with torch.autocast(texts.vectors.device.type, enabled=False):
            return score_matrix(texts, videos)

    def _sentence_states(self, texts: TextBatch) -> Tensor:
        """Return one state [N, H] of each text: the frozen one, or that of the encoder's first token.

        Raises:
            ValueError: the batch does not carry what it takes.
        """
        if self.text_encoder is None:
            if texts.states is None or texts.states.shape[1] != self.text_dim:
                raise ValueError(f"the text encoder is frozen: states [N, {self.text_dim}] expected in the batch")
            return texts.states
        if texts.input_ids is None:
            raise ValueError("the text encoder is trained with the model: tokens expected in the batch")
        encoded = self.text_encoder(input_ids=texts.input_ids, attention_mask=texts.attention_mask)
        state: Tensor = encoded.last_hidden_state[:, 0]
        return state

    def _check_experts(self, videos: VideoBatch) -> None:
        if tuple(videos.experts) != self.experts:
            raise ValueError(
                f"the batch has experts {', '.join(videos.experts)}; the model has {', '.join(self.experts)}"
            )

    def _counted(self, videos: VideoBatch) -> Tensor:
        """Return [B, E], which experts count in the score."""
        return torch.ones_like(videos.present) if self.keep_missing else videos.present


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
