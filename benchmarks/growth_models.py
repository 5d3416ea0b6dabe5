"""Work on scores, models and indexes whose growth benchmarks/growth_cases.py lists.

What a function needs is imported in it: it runs in a process of its own, whose memory is measured.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from growth import Cost, cost
from page import GIB

if TYPE_CHECKING:
    from index_worker import Job

VECTOR_DIM, QUERIES = 128, 16


def loss_of_embeddings(pairs: int, _: Path) -> Cost:
    """The unified loss and its gradient from embeddings [pairs, 512]."""
    from losses_worker import EMBEDDINGS, WARM_UP, embeddings, make, run_once

    step, leaves = make(EMBEDDINGS), embeddings(pairs, "cpu")
    run_once(step, embeddings(WARM_UP, "cpu"))
    return cost(lambda: run_once(step, leaves))


def loss_of_scores(pairs: int, _: Path) -> Cost:
    """The unified loss and its gradient from scores [pairs, pairs]."""
    from losses_worker import WARM_UP, embeddings, ours, run_once

    def scores(size: int) -> Any:
        text, video = (side.detach() for side in embeddings(size, "cpu"))
        return ((text @ video.T).requires_grad_(),)

    leaves = scores(pairs)
    run_once(ours, scores(WARM_UP))
    return cost(lambda: run_once(ours, leaves))


def metrics_of_scores(videos: int, _: Path) -> Cost:
    """`evaluate_scores` of scores [20 * videos, videos]."""
    import metrics

    return _cost_of(metrics.measure_matrix(videos))


def metrics_of_embeddings(videos: int, _: Path) -> Cost:
    """`evaluate_scores` of the embeddings of 20 * videos texts and of the videos."""
    import metrics

    return _cost_of(metrics.measure_streamed(videos))


def _cost_of(measured: tuple[int, float]) -> Cost:
    memory, seconds = measured
    return Cost(seconds, memory)


def scores_of_texts(texts: int, _: Path) -> Cost:
    """`score_matrix` of texts and 1,000 videos with masked experts, the result included."""
    from dataclasses import replace

    from models_worker import SIZES, first, random_embeddings

    from vtr.similarity import score_matrix

    asked, videos = random_embeddings(replace(SIZES["full"], texts=texts, videos=1_000))
    score_matrix(first(asked, 8), videos)
    return cost(lambda: score_matrix(asked, videos))


def embedding_videos(videos: int, folder: Path) -> Cost:
    """`embed_videos` of MMT at full size."""
    import torch
    from models_worker import SIZES, random_model, random_table

    from vtr.training.embedding import embed_videos

    table, model, cpu = random_table(videos, SIZES["full"]), random_model(SIZES["full"], folder), torch.device("cpu")
    embed_videos(model, table, range(8), cpu)
    return cost(lambda: embed_videos(model, table, range(videos), cpu))


def embedding_word_pieces(pieces: int, folder: Path) -> Cost:
    """The text side of MMT at full size on 32 captions of so many word pieces."""
    import numpy as np
    import torch
    from models_worker import SIZES, random_model
    from plain_cases import as_texts, random_captions

    vocabulary = int(SIZES["full"].text_bert["vocab_size"])
    model = random_model(SIZES["full"], folder).eval()

    def run(length: int) -> None:
        with torch.inference_mode():
            model.embed_texts(as_texts(*random_captions([length] * 32, np.random.default_rng(0), vocabulary, length)))

    run(4)
    return cost(lambda: run(pieces))


def training_step(pairs: int, folder: Path) -> Cost:
    """A training step of MMT at full size on a batch."""
    from models_worker import SIZES, RandomCaptions, our_step, random_model, random_table

    from vtr.types import Batch

    sizes = SIZES["full"]
    table, captions = random_table(pairs, sizes), RandomCaptions(pairs, int(sizes.text_bert["vocab_size"]))
    step = our_step(random_model(sizes, folder), "cpu", reduced=False)

    def batch(size: int) -> Batch:
        rows = list(range(size))
        return Batch(table.batch(rows), captions.batch(rows))

    step(batch(2))  # gives the optimiser its state, which is there from the first step on
    whole = batch(pairs)
    return cost(lambda: step(whole))


def loading_batches(pairs: int, _: Path) -> Cost:
    """`FeatureTable.batch` of a batch out of memory."""
    from models_worker import SIZES, random_table

    table = random_table(pairs, SIZES["full"])
    table.batch(range(2))
    return cost(lambda: table.batch(range(pairs)))


def building_index(vectors: int, folder: Path) -> Cost:
    """`build_index` of the exact kind; files that are mapped are not counted as memory."""
    import index_worker

    job = _index_job(vectors, folder)
    index_worker.embed(job)
    index_worker.build(_index_job(1_000, folder / "warm", embedded=True))
    built = index_worker.build(job)
    return Cost(built["seconds"], built["peak"])


def searching_index(vectors: int, folder: Path) -> Cost:
    """Single queries to the exact kind of index; files that are mapped are not counted as memory."""
    import index_worker

    from vtr.index.search import RetrievalIndex

    job = _index_job(vectors, folder)
    index_worker.embed(job)
    index_worker.build(job)
    index = RetrievalIndex.open(folder / "Flat")
    asked = index_worker.vectors(job, QUERIES, 4242)
    queries = [index_worker.texts(asked[row : row + 1], "q") for row in range(QUERIES)]
    index.videos_for(queries[0], 10)
    with index_worker.watched() as peak:
        started = time.perf_counter()
        for query in queries:
            index.videos_for(query, 10)
        seconds = time.perf_counter() - started
    return Cost(seconds / QUERIES, peak())


def _index_job(vectors: int, folder: Path, *, embedded: bool = False) -> Job:
    import index_worker

    job = index_worker.Job("", str(folder), vectors, VECTOR_DIM, 4 * GIB)
    if embedded:
        folder.mkdir()
        index_worker.embed(job)
    return job
