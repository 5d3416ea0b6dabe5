"""A gallery: one part of a run's videos and captions, embedded and indexed; what is missing or stale is made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from vtr.embeddings import EmbeddedPart, PartFiles, load_part
from vtr.index.build import asked_settings, build_index, is_current, is_early
from vtr.index.search import RetrievalIndex
from vtr.progress import say
from vtr.training.embed import embed
from vtr.types import PARTS, Part
from vtr.workspace import MANIFEST, Run, read_manifest


@dataclass(frozen=True)
class Indexed:
    """One part, embedded and indexed.

    Attributes:
        split, part: what it is a part of.
        folder: where the index is.
        embeddings: where its embeddings are.
        index: answers queries.
        output: the index's fingerprint.
        fresh: False when it was there and current.
    """

    split: str
    part: Part
    folder: Path
    embeddings: Path
    index: RetrievalIndex
    output: str
    fresh: bool

    @cached_property
    def embedded(self) -> EmbeddedPart:
        """The embeddings, read into memory when they are first asked for; searching needs the index alone."""
        return load_part(self.embeddings)

    def __str__(self) -> str:
        counts = f"{self.index.num_videos} videos and {self.index.num_captions} captions"
        state = "" if self.fresh else " (current, nothing to do)"
        kind = "" if self.index.exact else f" (approximate: {self.index.kind})"
        return f"{self.index.coverage}; {counts} indexed in {self.folder}{kind}{state}"


def embed_and_index(
    run: Run, split: str | None, part: Part | None, *, device: str = "auto", available_only: bool = False
) -> Indexed:
    """Return one part embedded and indexed; only what is missing or stale is made.

    Args:
        run: a trained run.
        split, part: see `vtr.data.corpus.resolve_part`.
        device: where the model embeds.
        available_only: go on although some of the part's videos have no features.

    Raises:
        WorkspaceError: see `vtr.training.embed.embed`.
    """
    embedded = embed(run, split, part, device=device, available_only=available_only)
    return index_part(run, embedded.split, embedded.part)


def index_part(
    run: Run,
    split: str,
    part: Part,
    factory: str | None = None,
    parameters: str = "",
    *,
    target_recall: float | None = None,
    memory_limit: int | None = None,
    device: str = "cpu",
) -> Indexed:
    """Return one embedded part indexed; see `vtr.stages.index.index`."""
    name = f"{split}-{part}"
    files, folder = PartFiles.open(run.embeddings / name), run.index / name
    asked = asked_settings(folder, factory, parameters, target_recall, memory_limit)
    train_output = files.made_by or None
    fresh = not is_current(folder, files.output, asked, train_output)
    if fresh:
        if is_early(folder):
            say(f"{folder} holds an index of an earlier layout; it is made anew")
        build_index(folder, files, embed_output=files.output, train_output=train_output, **asdict(asked))
    opened = RetrievalIndex.open(folder, embed_output=files.output, train_output=train_output, device=device)
    return Indexed(split, part, folder, files.folder, opened, opened.generation, fresh)


def largest_gallery(
    run: Run, split: str | None = None, part: Part | None = None, *, captions: bool = False
) -> tuple[str, Part] | None:
    """Return split and part of the run's indexed gallery with the most videos, None when none is indexed.

    Of several as large it is the one with the most captions.

    Args:
        run: the run.
        split, part: only galleries of this split and this part; None for any.
        captions: only galleries that have captions.
    """
    sizes: dict[tuple[str, Part], tuple[int, int]] = {}
    for path in sorted(run.index.glob(f"*/{MANIFEST}")):
        name, _, part_name = path.parent.name.rpartition("-")
        counts = read_manifest(path.parent, "vtr index RUN")["counts"]
        for known in PARTS:
            if (
                part_name == known
                and split in (None, name)
                and part in (None, known)
                and counts["captions"] >= captions
            ):
                sizes[name, known] = counts["videos"], counts["captions"]
    return max(sizes, key=sizes.__getitem__, default=None)
