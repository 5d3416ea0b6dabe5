"""The work whose growth `benchmarks/run.py` measures: what there is more of, from how much on, and what is expected."""

from __future__ import annotations

import growth_models as models
import growth_stages as stages
from growth import BOUNDED, CONSTANT, LINEAR, SQUARE, Case

CASES = (
    Case("losses", "unified loss from embeddings and its gradient", "pairs", 512, SQUARE, LINEAR,
         models.loss_of_embeddings),
    Case("losses", "unified loss from scores and its gradient", "pairs", 256, SQUARE, SQUARE, models.loss_of_scores),
    Case("metrics", "all metrics of scores, 20 texts a video", "videos", 187, SQUARE, LINEAR,
         models.metrics_of_scores),
    Case("metrics", "all metrics of embeddings, 20 texts a video", "videos", 187, SQUARE, LINEAR,
         models.metrics_of_embeddings),
    Case("models", "scores of texts and 1,000 videos, with the result", "texts", 2_000, LINEAR, LINEAR,
         models.scores_of_texts),
    Case("models", "embedding videos with MMT", "videos", 64, LINEAR, LINEAR, models.embedding_videos),
    Case("models", "MMT's text side, 32 captions", "word pieces each", 8, LINEAR, LINEAR,
         models.embedding_word_pieces),
    Case("training", "a step of MMT, float32", "pairs", 8, LINEAR, LINEAR, models.training_step),
    Case("training", "a batch of features out of memory", "videos", 32, LINEAR, LINEAR, models.loading_batches),
    Case("index", "building the exact index, vectors of 128", "vectors", 25_000, LINEAR, LINEAR,
         models.building_index),
    Case("index", "a query to the exact index, vectors of 128", "vectors", 25_000, LINEAR, BOUNDED,
         models.searching_index),
    Case("extraction", "vtr extract, motion; memory of a worker, whole", "clips", 4, LINEAR, CONSTANT,
         stages.extracting),
    Case("planning", "planning an extraction", "videos", 62_500, LINEAR, LINEAR, stages.planning_extraction),
    Case("prepare", "preparing videos of 20 captions", "videos", 500, LINEAR, LINEAR, stages.preparing),
    Case("store", "reading the feature store, shards of 64 videos", "shards", 4, LINEAR, BOUNDED,
         stages.reading_store),
    Case("ingest", "ingesting videos whose features are there", "videos", 128, LINEAR, LINEAR, stages.ingesting),
    Case("serving", "the server, 40 queries a client; its memory, whole", "clients", 1, LINEAR, CONSTANT,
         stages.serving_clients),
)  # fmt: skip
