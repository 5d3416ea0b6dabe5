"""The evaluate stage: both directions through the index and from exact scores, with chance and every expert's part."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtr.annotations.tables import load_split, split_names
from vtr.embeddings import EmbeddedPart
from vtr.errors import WorkspaceError
from vtr.evaluation import ranks
from vtr.evaluation.ablation import ablations, num_ablations
from vtr.evaluation.metrics import RECALL_AT, BothWays, chance, metrics
from vtr.evaluation.protocols import describe, selection_notes
from vtr.evaluation.ranks import Ranks
from vtr.evaluation.results import TOP_OF_EXAMPLE, Evaluation, Example, choose_examples, summarise_ranks
from vtr.evaluation.table import as_text
from vtr.files import write_json
from vtr.index.search import RetrievalIndex, Rows, text_rows, video_rows
from vtr.progress import progress
from vtr.similarity import exact_scores
from vtr.stages.index import Indexed, embed_and_index
from vtr.types import Part
from vtr.workspace import FORMAT, Run, fingerprint, read_manifest, versions

LISTED = max(RECALL_AT)
"""How many results the index is asked for: enough for every R@K."""


@dataclass(frozen=True)
class EvaluateSummary:
    """An evaluation and where it was written."""

    evaluation: Evaluation
    path: Path
    run: Run

    def __str__(self) -> str:
        return f"{as_text(self.evaluation)}\n\nwritten to {self.path}; as a page: vtr report {self.run.root}"


def evaluate(
    run: Run, split: str | None, part: Part | None, *, device: str = "auto", available_only: bool = False
) -> EvaluateSummary:
    """Evaluate one part of a split; embeds and indexes it first where that is missing or stale.

    Args:
        run: a trained run.
        split, part: see `vtr.data.corpus.resolve_part`.
        device: where the model embeds.
        available_only: go on although some of the part's videos have no features.

    Raises:
        WorkspaceError: the part has no captions, the index does not hold the embeddings, or see `embed_and_index`.
    """
    indexed = embed_and_index(run, split, part, device=device, available_only=available_only)
    embedded = indexed.embedded
    if not embedded.texts.ids:
        raise WorkspaceError(
            f"{indexed.split} {indexed.part} has no query captions, evaluation needs them. Searching works without: "
            f'vtr search {run.root} "what to look for". To evaluate, choose another --split or --part, or prepare the '
            "videos with --captions."
        )
    evaluation = evaluate_part(embedded, indexed.index, _notes(run, embedded))
    path = run.evaluation / f"{indexed.split}-{indexed.part}.json"
    write_json(path, _content(run, indexed, evaluation))
    return EvaluateSummary(evaluation, path, run)


def evaluate_part(part: EmbeddedPart, index: RetrievalIndex, notes: tuple[str, ...]) -> Evaluation:
    """Return the evaluation of an embedded part that has captions.

    Raises:
        WorkspaceError: the index does not hold the embeddings.
    """
    owners, num_videos = part.video_of_text, len(part.videos.ids)
    index.check()
    with progress("evaluate", 3 + num_ablations(part), "passes") as advance:
        scores = exact_scores(part.texts, part.videos).numpy()
        t2v, v2t = ranks.text_to_video(scores, owners), ranks.video_to_text(scores, owners)
        advance(1, "exact scores")
        differences = text_differences(part, index, scores, t2v)
        advance(1, "text to video through the index")
        differences += video_differences(part, index, scores, v2t)
        advance(1, "video to text through the index")
        del scores
        ablated = []
        for some in ablations(part):
            ablated.append(some)
            advance(1, some.label)
    protocol = describe(owners, num_videos)
    present = (part.videos.present > 0).float().mean(dim=0).tolist()
    return Evaluation(
        coverage=part.coverage,
        protocol=protocol,
        experts=dict(zip(part.experts, present, strict=True)),
        metrics=BothWays(
            metrics(t2v, direction="text_to_video", num_items=num_videos, protocol=protocol.text_to_video),
            metrics(v2t, direction="video_to_text", num_items=len(owners), protocol=protocol.video_to_text),
        ),
        chance=chance(owners, num_videos),
        notes=notes,
        differences=tuple(differences),
        ranks={"text_to_video": summarise_ranks(t2v), "video_to_text": summarise_ranks(v2t)},
        ablation=tuple(ablated),
        examples=tuple(_examples(part, index, t2v)),
    )


def text_differences(part: EmbeddedPart, index: RetrievalIndex, scores: NDArray[np.float32], exact: Ranks) -> list[str]:
    """Return the captions whose own video the index lists at another rank than the exact one, in words.

    Args:
        scores: [T, V] exact scores.
        exact: [T] the ranks that follow from them.
    """
    found = index.videos_for(part.texts, LISTED)
    owners = part.video_of_text
    best = scores[np.arange(len(owners)), owners]
    through = listed_ranks(found.scores, found.rows == owners[:, None], best, len(part.videos.ids))
    return _differences("text to video", part.texts.ids, through, exact)


def video_differences(
    part: EmbeddedPart, index: RetrievalIndex, scores: NDArray[np.float32], exact: Ranks
) -> list[str]:
    """Return the videos whose best own caption the index lists at another rank than the exact one, in words.

    Args:
        scores: [T, V] exact scores.
        exact: [Q] the ranks that follow from them, of the videos that have captions.
    """
    owners = part.video_of_text
    queries = np.unique(owners)
    found = index.captions_for(video_rows(part.videos, queries), LISTED)
    best = np.full(len(part.videos.ids), -np.inf, np.float32)
    np.maximum.at(best, owners, scores[np.arange(len(owners)), owners])
    own = owners[found.rows] == queries[:, None]
    through = listed_ranks(found.scores, own, best[queries], len(owners))
    return _differences("video to text", [part.videos.ids[query] for query in queries], through, exact)


def listed_ranks(listed: NDArray[np.float32], own: NDArray[np.bool_], best: NDArray[np.float32], total: int) -> Ranks:
    """Return each query's rank by the list alone.

    Args:
        listed: [Q, K] scores of the listed items, falling.
        own: [Q, K] which of them are right answers.
        best: [Q] the exact score of the best right answer.
        total: how many items there are.

    Returns:
        [Q] ranks; infinity where the right answer is not listed and should be, NaN where the list cannot tell, because
        the right answer scores no higher than its end.
    """
    there = own.any(axis=1)
    first = np.where(there, np.take_along_axis(listed, own.argmax(axis=1)[:, None], axis=1)[:, 0], -np.inf)
    higher, same = (listed > first[:, None]).sum(axis=1), (listed == first[:, None]).sum(axis=1)
    through = np.where(there, 1 + higher + (same - 1) / 2, np.inf)
    cannot_tell = (np.maximum(first, best) <= listed[:, -1]) & (listed.shape[1] < total)
    return np.asarray(np.where(cannot_tell, np.nan, through))


def _differences(direction: str, ids: Sequence[str], through: Ranks, exact: Ranks) -> list[str]:
    return [
        f"{direction}, {ids[int(row)]}: rank {through[row]:g} through the index, {exact[row]:g} from exact scores"
        for row in np.flatnonzero(~np.isnan(through) & (through != exact))
    ]


def _examples(part: EmbeddedPart, index: RetrievalIndex, found_at: Ranks) -> list[Example]:
    rows: Rows = np.asarray(choose_examples(found_at, part.video_of_text), np.int64)
    found = index.videos_for(text_rows(part.texts, rows), TOP_OF_EXAMPLE)
    return [
        Example(
            part.texts.ids[row],
            part.texts_plain[row],
            part.videos.ids[part.video_of_text[row]],
            float(found_at[row]),
            tuple(part.videos.ids[item] for item in items),
            tuple(scores.tolist()),
        )
        for row, items, scores in zip(rows, found.rows, found.scores, strict=True)
    ]


def _notes(run: Run, embedded: EmbeddedPart) -> tuple[str, ...]:
    """Return the notes on earlier use; another workspace's videos were not used, as far as ids can tell."""
    trained_on = read_manifest(run.root, "vtr train")["config"]["split"]
    if run.gallery is not None or trained_on not in split_names(run.workspace):
        return ()
    split = load_split(run.workspace, trained_on)
    return selection_notes(embedded.videos.ids, split.train, split.validation)


def _content(run: Run, indexed: Indexed, evaluation: Evaluation) -> dict[str, object]:
    values = evaluation.as_json()
    trained = read_manifest(run.root, "vtr train")
    return {
        "format": FORMAT,
        "stage": "evaluate",
        "split": indexed.split,
        "part": indexed.part,
        "output": fingerprint(values),
        "inputs": {"index": indexed.output},
        "made_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "checkpoint": {name: trained[name] for name in ("output", "best_epoch", "selection")},
        **values,
    }
