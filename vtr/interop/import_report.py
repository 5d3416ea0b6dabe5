"""What an import tells its user: counts, coverage of every expert in every part, what was skipped, what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vtr.annotations.prepare import PartCounts, PrepareReport
from vtr.interop.features import Gathered, Skipped
from vtr.types import PARTS, Split
from vtr.workspace import Workspace

SHOWN = 5
"""Skipped videos that are named before it says how many more there are."""


@dataclass(frozen=True, slots=True)
class ExpertCoverage:
    """How much an expert (or a text encoder) has.

    Attributes:
        name, dim: the expert, and the length of its feature vectors.
        present, total: items (videos or captions) with features, of all.
        num_features: feature vectors in all.
        by_part: "full train" -> items of that part with features, of all; in the order of the splits.
    """

    name: str
    dim: int
    present: int
    total: int
    num_features: int
    by_part: Mapping[str, tuple[int, int]]


def coverage(name: str, gathered: Gathered, total: int, parts: Mapping[str, Sequence[str]]) -> ExpertCoverage:
    """Return the coverage of an expert; `parts` names the ids of each split's parts."""
    spec, shards, _ = gathered
    counts = {item: count for facts in shards.values() for item, count in facts.counts.items()}
    by_part = {part: (sum(item in counts for item in ids), len(ids)) for part, ids in parts.items()}
    return ExpertCoverage(name, spec.dim, len(counts), total, sum(counts.values()), by_part)


def part_ids(splits: Sequence[Split]) -> dict[str, tuple[str, ...]]:
    """Return "full train" -> its videos, for all parts that have any."""
    return {f"{split.name} {part}": split.part(part) for split in splits for part in PARTS if split.part(part)}


@dataclass(frozen=True)
class ImportReport:
    """What an import made.

    Attributes:
        workspace: where it was written.
        release: "MMT" or "CE".
        num_videos, num_captions: in all.
        parts: videos and queries of each split's parts.
        experts: coverage of each expert, in videos.
        text_features: coverage of each text encoder's token states, in captions.
        skipped: what was passed over with --skip-bad.
        notes: what else a reader should know.
        changed: False when the workspace held the finished import already.
        next_lines: the commands that go on from here.
    """

    workspace: Workspace
    release: str
    num_videos: int
    num_captions: int
    parts: tuple[PartCounts, ...]
    experts: tuple[ExpertCoverage, ...]
    text_features: tuple[ExpertCoverage, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    changed: bool
    next_lines: tuple[str, ...]

    def __str__(self) -> str:
        root = self.workspace.root
        what = f"{self.num_videos} videos and {self.num_captions} captions of {self.release}'s release"
        lines = [f"{what} are in {root}" if self.changed else f"{what} were in {root} already; nothing to do"]
        rows = [("split and part", "videos", "queries")]
        rows += [
            (f"{p.split} {p.part}", str(p.videos), "" if p.queries is None else str(p.queries)) for p in self.parts
        ]
        lines += _table(rows)
        lines += [_line(expert, "videos", "features") for expert in self.experts]
        lines += [f"text features {_line(text, 'captions', 'token states')}" for text in self.text_features]
        lines.append("videos with features, by split and part:")
        parts = list(self.experts[0].by_part) if self.experts else []
        covered = [["", *(e.name for e in self.experts)]]
        covered += [[part, *("{} of {}".format(*e.by_part[part]) for e in self.experts)] for part in parts]
        lines += _table(covered)
        lines += self.notes
        if self.skipped:
            lines.append(f"{len(self.skipped)} skipped, see {self.workspace.ledger}:")
            lines += [f"  {entry.video_id} ({entry.stage}): {entry.reason}" for entry in self.skipped[:SHOWN]]
            if len(self.skipped) > SHOWN:
                lines.append(f"  and {len(self.skipped) - SHOWN} more")
        return "\n".join([*lines, *(f"next: {line}" for line in self.next_lines)])


TEXT_MODELS = {"MMT": "bert-base-cased", "CE": "openai-gpt"}
"""Release -> the text model its checkpoints were trained with."""


def make_report(
    prepared: PrepareReport,
    splits: Sequence[Split],
    experts: Mapping[str, Gathered],
    texts: Mapping[str, Gathered],
    skipped: Sequence[Skipped],
    *,
    release: str,
    notes: Sequence[str],
    changed: bool,
) -> ImportReport:
    """Put the report of an import together; see `ImportReport`."""
    parts = part_ids(splits)
    rows = tuple(coverage(name, theirs, prepared.num_videos, parts) for name, theirs in experts.items())
    with_any = {v for _, shards, _ in experts.values() for facts in shards.values() for v in facts.counts}
    partial = " --available-only" if len(with_any) < prepared.num_videos else ""
    ws = shlex.quote(str(prepared.workspace.root))
    kind = release.lower()
    made = {split.name for split in splits}
    config = next((path.format(kind) for name, path in TRAIN_CONFIGS.items() if name in made), "CONFIG")
    return ImportReport(
        workspace=prepared.workspace,
        release=release,
        num_videos=prepared.num_videos,
        num_captions=prepared.num_captions,
        parts=prepared.parts,
        experts=rows,
        text_features=tuple(coverage(name, theirs, prepared.num_captions, {}) for name, theirs in texts.items()),
        skipped=tuple(skipped),
        notes=tuple(notes),
        changed=changed,
        next_lines=(
            f"vtr train {ws} --config {config} --out RUN{partial}",
            f"vtr import {kind}-checkpoint FILE --text-model {TEXT_MODELS[release]} --workspace {ws} --out RUN",
        ),
    )


TRAIN_CONFIGS = {"full": "{}_full_released", "1k-A": "{}_1ka_released"}
"""Split -> the name of the settings that train the release's model on it."""


def _line(covered: ExpertCoverage, items: str, features: str) -> str:
    return (
        f"{covered.name} {covered.present} of {covered.total} {items}, {covered.num_features} {features}, "
        f"dim {covered.dim}"
    )


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]).rstrip()
        for row in rows
    ]
