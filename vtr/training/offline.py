"""Hard negatives mined offline: found by a first model over the whole training part, stored, and drawn in training.

As in the adaptive offline quintuplet loss (AOQ; Chen et al. 2020, arXiv 2003.03669, Sec. 3.1), an anchor's list holds
its most similar items that do not match it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from vtr.data.positives import KnownPositives
from vtr.data.sampling import Pair
from vtr.errors import WorkspaceError
from vtr.files import atomic_file
from vtr.similarity import flat_scores, flat_texts, flat_videos
from vtr.training.data import TrainingData
from vtr.types import TextEmbeddings, VideoEmbeddings
from vtr.workspace import Run, check_made_from, read_manifest

TEXTS, VIDEOS = "texts.parquet", "videos.parquet"
TOP = 300
"""Negatives kept of each item, as in AOQ."""

BLOCK = 512
"""Texts that are scored at once."""


def hardest_negatives(
    texts: TextEmbeddings,
    videos: VideoEmbeddings,
    positives: KnownPositives,
    top: int = TOP,
    advance: Callable[[int], None] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the most similar videos of every text and texts of every video that do not match, hardest first.

    Equally similar ones (all are, to a video without experts) keep the order of their rows, hence the stable sorts.

    Args:
        texts, videos: T texts and V videos, embedded.
        positives: made of the T texts and the rows of their videos.
        top: how many to keep.
        advance: is told of every block of texts how many it held.

    Returns:
        [T, min(top, V)] rows of videos and [V, min(top, T)] rows of texts; -1 where there are fewer negatives.
    """
    count, gallery = len(texts.ids), len(videos.ids)
    of_texts = np.full((count, min(top, gallery)), -1, np.int32)
    flat, present = flat_videos(videos), videos.present
    best_scores = torch.full((gallery, 0), -torch.inf)
    best_texts = torch.zeros((gallery, 0), dtype=torch.int64)
    for at in range(0, count, BLOCK):
        rows = slice(at, min(at + BLOCK, count))
        some = TextEmbeddings(texts.ids[rows], texts.vectors[rows], texts.weights[rows])
        scores = flat_scores(flat_texts(some), flat, some.weights, present)
        scores.masked_fill_(positives.described(range(rows.start, rows.stop), gallery), -torch.inf)
        of_texts[rows] = _top_rows(scores, of_texts.shape[1])
        numbers = torch.arange(rows.start, rows.stop).expand(gallery, -1)
        best_scores, order = torch.cat((best_scores, scores.T), dim=1).sort(dim=1, descending=True, stable=True)
        best_texts = torch.cat((best_texts, numbers), dim=1).gather(1, order)[:, :top]
        best_scores = best_scores[:, :top]
        if advance is not None:
            advance(rows.stop - rows.start)
    best_texts[best_scores == -torch.inf] = -1
    return of_texts, best_texts.numpy().astype(np.int32)


def _top_rows(scores: Tensor, top: int) -> NDArray[np.int32]:
    """Return the columns [T, top] of the largest finite scores, -1 where there are fewer."""
    values, columns = scores.sort(dim=1, descending=True, stable=True)
    found: NDArray[np.int32] = columns[:, :top].masked_fill(values[:, :top] == -torch.inf, -1).numpy().astype(np.int32)
    return found


def write_negatives(
    folder: Path,
    text_ids: Sequence[str],
    video_ids: Sequence[str],
    of_texts: NDArray[np.int32],
    of_videos: NDArray[np.int32],
) -> None:
    """Write the lists: of each text, rows of the table of videos, and the other way round. Each file whole or not."""
    for name, ids, lists in ((TEXTS, text_ids, of_texts), (VIDEOS, video_ids, of_videos)):
        values = pa.FixedSizeListArray.from_arrays(pa.array(lists.ravel(), pa.int32()), lists.shape[1])
        with atomic_file(folder / name) as temporary:
            pq.write_table(pa.table({"id": pa.array(ids, pa.string()), "negatives": values}), temporary)


def mined(first_run: str) -> str:
    """Return the fingerprint of what `vtr mine` found with a first run.

    Raises:
        WorkspaceError: there is no such run, it has not been mined, or has been trained again since.
    """
    run = Run.open(Path(first_run))
    command = f"vtr mine {run.root}"
    manifest = read_manifest(run.offline_negatives, command)
    trained = read_manifest(run.root, f"vtr train WS --out {run.root}")
    check_made_from(run.offline_negatives, "train", manifest["inputs"], str(trained["output"]), command)
    return str(manifest["output"])


class OfflineNegatives:
    """Mined negatives as rows of the training data.

    Args:
        videos_of: caption row -> rows of videos that are hard for it.
        captions_of: video row -> rows of captions that are hard for it.
    """

    def __init__(self, videos_of: dict[int, NDArray[np.int32]], captions_of: dict[int, NDArray[np.int32]]) -> None:
        self._videos_of, self._captions_of = videos_of, captions_of

    @classmethod
    def load(cls, first_run: str, data: TrainingData) -> OfflineNegatives:
        """Read what `vtr mine` found with a first run.

        Raises:
            WorkspaceError: it has not been mined, or not for these captions and videos.
        """
        mined(first_run)
        run = Run.open(Path(first_run))
        folder = run.offline_negatives
        texts, videos = pq.read_table(folder / TEXTS), pq.read_table(folder / VIDEOS)
        caption_rows = {caption.id: row for row, caption in enumerate(data.captions.captions)}
        video_rows = {video_id: row for row, video_id in enumerate(data.table.video_ids)}
        text_here = np.array([caption_rows.get(i, -1) for i in texts["id"].to_pylist()], np.int32)
        video_here = np.array([video_rows.get(i, -1) for i in videos["id"].to_pylist()], np.int32)
        found = cls(_lists(texts, text_here, video_here), _lists(videos, video_here, text_here))
        lacking = [video for video in data.train if video not in found._captions_of]
        lacking += [c for captions in data.train.values() for c in captions if c not in found._videos_of]
        if lacking:
            raise WorkspaceError(
                f"{folder} has no negatives for {len(lacking)} of the videos and captions of this training part. "
                f"Train the first run on the same split and workspace, and run `vtr mine {run.root}` again."
            )
        return found

    def draw(self, pairs: Sequence[Pair], generator: np.random.Generator) -> list[Pair]:
        """Return for each pair a video drawn from its caption's list, and a caption drawn from its video's."""
        return [
            (int(generator.choice(self._videos_of[caption])), int(generator.choice(self._captions_of[video])))
            for video, caption in pairs
        ]


def _lists(table: pa.Table, own: NDArray[np.int32], others: NDArray[np.int32]) -> dict[int, NDArray[np.int32]]:
    """Return row -> rows of its negatives, of the items that are here; those without any are left out."""
    stored = table["negatives"].combine_chunks().flatten().to_numpy().reshape(len(own), -1)
    lists = {}
    for row, negatives in zip(own.tolist(), stored, strict=True):
        here = others[negatives[negatives >= 0]]
        here = here[here >= 0]
        if row >= 0 and len(here):
            lists[row] = here
    return lists
