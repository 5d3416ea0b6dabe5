"""A run's model at work on rows of a library: features of stretches of videos become a part of embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import torch

from vtr.config import TrainConfig
from vtr.data.features import FeatureChoice, FeatureTable
from vtr.embeddings import EmbeddedPart
from vtr.errors import WorkspaceError
from vtr.models import RetrievalModel, text_input
from vtr.models.saved import load_model
from vtr.models.text import TextInput
from vtr.retrieval.library import coverage
from vtr.retrieval.windows import Row
from vtr.store.reader import FeatureStore
from vtr.training.device import choose_device
from vtr.training.embedding import TEXT_BATCH, embed_videos
from vtr.types import Caption, ExpertFeatures, TextEmbeddings
from vtr.workspace import Run, read_manifest


class Embedder:
    """Embeds with a run's best checkpoint, which is loaded when it is first needed.

    Args:
        run: a trained run, or one that was made without training.
        device: "auto", "cpu" or "cuda".

    Raises:
        WorkspaceError: the run has no model.
    """

    def __init__(self, run: Run, device: str = "auto") -> None:
        self._run = run
        self._device = device
        described = read_manifest(run.root, f"vtr train WS --config CONFIG --out {run.root}")
        self.output = str(described["output"])
        self.experts: tuple[str, ...] = tuple(described["experts"])

    @cached_property
    def _loaded(self) -> tuple[RetrievalModel, TrainConfig]:
        return load_model(self._run.checkpoints / "best", choose_device(self._device))

    @cached_property
    def _texts(self) -> TextInput:
        return text_input(self._loaded[1])

    def features(self, store: FeatureStore, video_ids: Sequence[str]) -> dict[str, dict[str, ExpertFeatures]]:
        """Return video id -> expert -> features, of the model's experts; a video without any has no entry.

        Raises:
            WorkspaceError: features are of other dims than those the model takes.
        """
        dims = self._loaded[0].expert_dims
        found: dict[str, dict[str, ExpertFeatures]] = {}
        for expert in sorted(set(self.experts).intersection(store.experts)):
            if (dim := store.spec(expert).dim) != dims[expert]:
                raise WorkspaceError(
                    f"{store.root} holds {expert} features of dim {dim}, the model of {self._run.root} takes "
                    f"{dims[expert]}. Extract with the expert the model was trained on."
                )
            for video_id, features in store.read(expert, video_ids).items():
                found.setdefault(video_id, {})[expert] = features
        return found

    def embed(self, rows: Sequence[Row], captions: Mapping[str, Sequence[Caption]]) -> EmbeddedPart:
        """Return rows and captions embedded.

        Args:
            rows: at least one.
            captions: row id -> captions that the row answers for.
        """
        model, config = self._loaded
        ids = [row.row_id for row in rows]
        by_expert = {
            name: {row.row_id: row.features[name] for row in rows if name in row.features} for name in model.expert_dims
        }
        table = FeatureTable(ids, by_expert, model.expert_dims, FeatureChoice.of(config))
        videos = embed_videos(model, table, range(len(ids)), choose_device(self._device))
        told = [(at, caption) for at, row_id in enumerate(ids) for caption in captions.get(row_id, ())]
        texts = self._embed_texts([caption for _, caption in told])
        plain = tuple(caption.text for _, caption in told)
        video_of_text = np.array([at for at, _ in told], np.int64)
        return EmbeddedPart(model.scored, videos, texts, plain, video_of_text, coverage(len(ids)))

    @torch.inference_mode()
    def _embed_texts(self, captions: Sequence[Caption]) -> TextEmbeddings:
        model = self._loaded[0]
        if not captions:
            experts, dim = len(model.scored), model.embedded_dim
            return TextEmbeddings((), torch.zeros((0, experts, dim)), torch.zeros((0, experts)))
        device, parts = choose_device(self._device), []
        for at in range(0, len(captions), TEXT_BATCH):
            some = captions[at : at + TEXT_BATCH]
            batch = self._texts.batch([caption.id for caption in some], [caption.text for caption in some])
            parts.append(model.embed_texts(batch.to(device)))
        return TextEmbeddings(
            tuple(caption.id for caption in captions),
            torch.cat([part.vectors.float().cpu() for part in parts]),
            torch.cat([part.weights.float().cpu() for part in parts]),
        )
