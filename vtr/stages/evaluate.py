"""The evaluate stage: both directions from exact scores and through the index, with the checks that keep it honest."""

from __future__ import annotations

import datetime
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vtr.annotations.tables import annotations_fingerprint, load_annotations, load_split, split_names
from vtr.embeddings import EmbeddedPart
from vtr.errors import WorkspaceError
from vtr.evaluation.ablation import ablations, num_ablations
from vtr.evaluation.export import Outputs, save_scores, write_trec
from vtr.evaluation.judge import NUM_PASSES, Judged, judge
from vtr.evaluation.postprocess import QB_NORM, apply
from vtr.evaluation.protocols import Rules
from vtr.evaluation.query_table import write_queries
from vtr.evaluation.ranks import VIDEO_TO_TEXT, count_videos
from vtr.evaluation.results import Evaluation
from vtr.evaluation.scores import MatrixScores, ScoreSource, score_embeddings
from vtr.evaluation.subject import Subject
from vtr.evaluation.table import as_text
from vtr.files import write_json
from vtr.index.search import RetrievalIndex
from vtr.models.moee import REGRESSION
from vtr.progress import progress
from vtr.retrieval.galleries import Indexed, embed_and_index
from vtr.retrieval.query_bank import Banks, query_banks
from vtr.stages.index_check import check_index
from vtr.store.reader import FeatureStore
from vtr.types import Part, Split
from vtr.workspace import FORMAT, Run, fingerprint, read_manifest, versions


@dataclass(frozen=True)
class EvaluateSummary:
    """An evaluation and where it was written.

    Attributes:
        path: the JSON.
        queries: the table of every query's ranks.
        also: what else was written.
    """

    evaluation: Evaluation
    path: Path
    queries: Path
    run: Run
    also: tuple[Path, ...] = ()

    @property
    def written(self) -> str:
        """Where it was written, in words."""
        lines = [f"written to {self.path}, the ranks of every query to {self.queries}"]
        lines += [f"written to {path}" for path in self.also]
        return "\n".join([*lines, f"as a page: vtr report {self.run.root}"])

    def __str__(self) -> str:
        return f"{as_text(self.evaluation)}\n\n{self.written}"


def evaluate(
    run: Run,
    split: str | None,
    part: Part | None,
    *,
    rules: Rules | None = None,
    outputs: Outputs | None = None,
    device: str = "auto",
    available_only: bool = False,
) -> EvaluateSummary:
    """Evaluate one part of a split; embeds and indexes it first where that is missing or stale.

    Args:
        run: a trained run.
        split, part: see `vtr.data.corpus.resolve_part`.
        rules: tie rule, protocol and post-processing; None for the default ones.
        outputs: what else to write.
        device: where the model embeds.
        available_only: go on although some of the part's videos have no features.

    Raises:
        InputError: the outputs do not go together with the rules.
        WorkspaceError: the part has no captions, the index does not hold the embeddings, or see `embed_and_index`.
    """
    rules, outputs = rules or Rules(), outputs or Outputs()
    outputs.check(rules)
    indexed = embed_and_index(run, split, part, device=device, available_only=available_only)
    embedded = indexed.embedded
    if not embedded.texts.ids:
        raise WorkspaceError(
            f"{indexed.split} {indexed.part} has no query captions, evaluation needs them. Searching works without: "
            f'vtr search {run.root} "what to look for". To evaluate, choose another --split or --part, or prepare the '
            "videos with --captions."
        )
    banks = query_banks(run, indexed, beta=rules.scale, device=device) if rules.post == QB_NORM.name else None
    subject = describe_subject(run, embedded)
    scores = score_embeddings(embedded.texts, embedded.videos, subject.right_by_text)
    judged, t2v, v2t = _judge(subject, embedded, indexed.index, scores, rules, banks)
    name = f"{indexed.split}-{indexed.part}{rules.suffix}"
    path, queries = run.evaluation / f"{name}.json", run.evaluation / f"{name}.ranks.parquet"
    write_queries(queries, subject, judged.t2v, judged.v2t, rules, judged.evaluation.protocol)
    write_json(path, _content(run, indexed, judged.evaluation, rules))
    also = write_outputs(outputs, subject, scores, t2v, v2t)
    return EvaluateSummary(judged.evaluation, path, queries, run, also)


def describe_subject(run: Run, part: EmbeddedPart) -> Subject:
    """Return what a run's embedded part is: captions, videos, and how these were used before.

    Another workspace's videos were not used before, as far as ids can tell.
    """
    annotations, store = load_annotations(run.workspace), FeatureStore(run.workspace.store)
    split, notes = _training_split(run)
    queries = load_split(run.workspace, part.coverage.split).queries(part.coverage.part, annotations)
    gallery = frozenset(part.videos.ids)
    return Subject.of(
        annotations,
        part.coverage,
        part.texts.ids,
        part.videos.ids,
        train=() if split is None else split.train,
        selected_by=() if split is None else split.validation,
        present={expert: store.video_ids(expert) for expert in part.experts if expert != REGRESSION},
        notes=notes,
        left_out=sum(caption.video_id in gallery for caption in queries) - len(part.texts.ids),
    )


def _training_split(run: Run) -> tuple[Split | None, tuple[str, ...]]:
    """Return the split a run was trained on, None where that is not known, and what is to be said of it."""
    trained = read_manifest(run.root, "vtr train")
    name = trained["config"]["split"]
    if run.gallery is not None:
        return None, ()
    if name not in split_names(run.workspace):
        gone = f"The split '{name}' that the model was trained on is gone: which videos it learnt from is not known."
        return None, () if "imported" in trained else (gone,)
    before = trained["inputs"].get("prepare")
    if before not in (None, annotations_fingerprint(run.workspace, name)):
        return load_split(run.workspace, name), (
            f"The annotations or the split '{name}' have changed since the model was trained: what is said of training "
            "videos is said of the present ones.",
        )
    return load_split(run.workspace, name), ()


def write_outputs(
    outputs: Outputs, subject: Subject, scores: ScoreSource, t2v: ScoreSource, v2t: ScoreSource
) -> tuple[Path, ...]:
    """Write what was asked for beside the evaluation, and return the paths.

    Args:
        outputs: what.
        subject: the texts and videos.
        scores: as they are.
        t2v, v2t: after post-processing.
    """
    written: list[Path] = []
    if outputs.trec is not None:
        written += write_trec(outputs.trec, subject, t2v, v2t, outputs.trec_depth)
    if outputs.save_scores is not None:
        written += save_scores(outputs.save_scores, subject, scores)
    return tuple(written)


def post_process(scores: ScoreSource, rules: Rules, banks: Banks | None = None) -> tuple[ScoreSource, ScoreSource]:
    """Return scores to rank videos by, and to rank texts by; the same object where nothing is done to them.

    Args:
        scores: as they are.
        rules: what to do to them.
        banks: for QB-Norm.
    """
    if rules.post is None:
        return scores, scores
    if banks is None:
        t2v, v2t = apply(rules.post, scores.matrix(), scale=rules.scale)
    else:
        t2v, v2t = apply(rules.post, scores.matrix(), text_bank=banks.texts, video_bank=banks.videos)
    return MatrixScores(t2v), MatrixScores(v2t)


def _judge(
    subject: Subject,
    part: EmbeddedPart,
    index: RetrievalIndex,
    scores: ScoreSource,
    rules: Rules,
    banks: Banks | None,
) -> tuple[Judged, ScoreSource, ScoreSource]:
    """Return the evaluation of an embedded part, and the scores of both directions that it ranks by.

    What the index answers and what single experts would get is said of the scores as they are, not after
    post-processing.
    """
    experts = dict(zip(part.experts, (part.videos.present > 0).float().mean(dim=0).tolist(), strict=True))
    passes = NUM_PASSES if rules.post else NUM_PASSES + 1 + num_ablations(part)
    with progress("evaluate", passes, "passes") as advance:
        t2v, v2t = post_process(scores, rules, banks)
        judged = judge(subject, t2v, v2t, rules, experts=experts, advance=advance)
        if rules.post:
            return judged, t2v, v2t
        by_caption = judged.v2t
        if rules.video_to_text != VIDEO_TO_TEXT[0]:
            by_caption = count_videos(scores, subject.right)
        checked = check_index(part, index, scores, judged.t2v, by_caption, rules.ties)
        advance(1, "through the index")
        ablated = []
        for some in ablations(part, rules):
            ablated.append(some)
            advance(1, some.label)
    evaluation = replace(judged.evaluation, index=checked, ablation=tuple(ablated))
    return replace(judged, evaluation=evaluation), t2v, v2t


def evaluation_inputs(run: Run, indexed: Indexed) -> dict[str, str]:
    """Return what an evaluation is made from: stage -> fingerprint of its output, and that of the split trained on."""
    trained = read_manifest(run.root, "vtr train")["config"]["split"]
    return {
        "index": indexed.output,
        "prepare": annotations_fingerprint(run.workspace, indexed.split),
        "split trained on": annotations_fingerprint(run.workspace, trained),
    }


def _content(run: Run, indexed: Indexed, evaluation: Evaluation, rules: Rules) -> dict[str, object]:
    values = evaluation.as_json()
    trained = read_manifest(run.root, "vtr train")
    return {
        "format": FORMAT,
        "stage": "evaluate",
        "split": indexed.split,
        "part": indexed.part,
        "rules": asdict(rules),
        "output": fingerprint(values),
        "inputs": evaluation_inputs(run, indexed),
        "made_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "checkpoint": {name: trained[name] for name in ("output", "best_epoch", "selection")},
        **values,
    }
