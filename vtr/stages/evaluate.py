"""The evaluate stage: both directions through the index and from exact scores, with chance and every expert's part."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtr.annotations.tables import load_split, split_names
from vtr.embeddings import EmbeddedPart
from vtr.errors import WorkspaceError
from vtr.evaluation import ranks
from vtr.evaluation.ablation import ablations, num_ablations
from vtr.evaluation.metrics import BothWays, Direction, chance, metrics
from vtr.evaluation.protocols import describe, selection_notes
from vtr.evaluation.ranks import Ranks
from vtr.evaluation.results import TOP_OF_EXAMPLE, Evaluation, Example, choose_examples, summarise_ranks
from vtr.evaluation.table import as_text
from vtr.files import write_json
from vtr.index.search import Found, RetrievalIndex, Rows, text_rows
from vtr.progress import progress
from vtr.similarity import exact_scores
from vtr.stages.index import Indexed, embed_and_index
from vtr.types import Part
from vtr.workspace import FORMAT, Run, fingerprint, read_manifest, versions

DIRECTIONS: tuple[Direction, Direction] = ("text_to_video", "video_to_text")


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
    with progress("evaluate", 3 + num_ablations(part), "score matrices") as advance:
        scores = exact_scores(part.texts, part.videos).numpy()
        exact = dict(
            zip(DIRECTIONS, (ranks.text_to_video(scores, owners), ranks.video_to_text(scores, owners)), strict=True)
        )
        del scores
        advance(1, "exact scores")
        through = {}
        for direction in DIRECTIONS:
            through[direction] = index_ranks(part, index, direction)
            advance(1, f"index, {direction}")
        ablated = []
        for some in ablations(part):
            ablated.append(some)
            advance(1, some.label)
    protocol = describe(owners, num_videos)
    words = {"text_to_video": protocol.text_to_video, "video_to_text": protocol.video_to_text}
    sizes = {"text_to_video": num_videos, "video_to_text": len(owners)}
    found = (metrics(through[d], direction=d, num_items=sizes[d], protocol=words[d]) for d in DIRECTIONS)
    present = (part.videos.present > 0).float().mean(dim=0).tolist()
    return Evaluation(
        coverage=part.coverage,
        protocol=protocol,
        experts=dict(zip(part.experts, present, strict=True)),
        metrics=BothWays(*found),
        chance=chance(owners, num_videos),
        notes=notes,
        differences=tuple(line for d in DIRECTIONS for line in _differences(part, d, through[d], exact[d])),
        ranks={direction: summarise_ranks(through[direction]) for direction in DIRECTIONS},
        ablation=tuple(ablated),
        examples=tuple(_examples(part, index, through["text_to_video"])),
    )


def index_ranks(part: EmbeddedPart, index: RetrievalIndex, direction: Direction) -> Ranks:
    """Return the ranks that follow from the index's answers to every query; an item it does not list comes last."""
    shape = len(part.texts.ids), len(part.videos.ids)
    if direction == "text_to_video":
        listed = _scatter(index.videos_for(part.texts, shape[1]), shape)
        return ranks.text_to_video(listed, part.video_of_text)
    listed = _scatter(index.captions_for(part.videos, shape[0]), shape[::-1])
    return ranks.video_to_text(listed.T, part.video_of_text)


def _scatter(found: Found, shape: tuple[int, int]) -> NDArray[np.float32]:
    scores = np.full(shape, -np.inf, np.float32)
    np.put_along_axis(scores, found.rows, found.scores, axis=1)
    return scores


def _differences(part: EmbeddedPart, direction: Direction, through: Ranks, exact: Ranks) -> list[str]:
    asked_by_video = [part.videos.ids[row] for row in np.unique(part.video_of_text)]
    ids = part.texts.ids if direction == "text_to_video" else asked_by_video
    return [
        f"{direction} {ids[row]}: rank {through[row]:g} through the index, {exact[row]:g} from exact scores"
        for row in np.flatnonzero(through != exact)
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
