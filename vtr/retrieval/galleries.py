"""A gallery: one part of a run's videos and captions, embedded and indexed; what is missing or stale is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vtr.embeddings import EmbeddedPart, load_part
from vtr.errors import ConfigError
from vtr.files import lock
from vtr.index.build import FLAT, MAKE, build_index, held_kind, is_current
from vtr.index.search import RetrievalIndex
from vtr.training.embed import embed
from vtr.types import PARTS, Part
from vtr.workspace import MANIFEST, Run, read_manifest


@dataclass(frozen=True)
class Indexed:
    """One part, embedded and indexed.

    Attributes:
        split, part: what it is a part of.
        folder: where the index is.
        embedded: the embeddings.
        index: answers queries.
        output: the index's fingerprint.
        fresh: False when it was there and current.
    """

    split: str
    part: Part
    folder: Path
    embedded: EmbeddedPart
    index: RetrievalIndex
    output: str
    fresh: bool

    def __str__(self) -> str:
        counts = f"{len(self.embedded.videos.ids)} videos and {len(self.embedded.texts.ids)} captions"
        state = "" if self.fresh else " (current, nothing to do)"
        kind = "" if self.index.exact else f" (approximate: {self.index.kind})"
        return f"{self.embedded.coverage}; {counts} indexed in {self.folder}{kind}{state}"


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


def index_part(run: Run, split: str, part: Part, factory: str | None = None, parameters: str = "") -> Indexed:
    """Return one embedded part indexed; see `vtr.stages.index.index`."""
    name = f"{split}-{part}"
    embeddings, folder = run.embeddings / name, run.index / name
    embed_output = str(read_manifest(embeddings, "vtr embed RUN")["output"])
    loaded = load_part(embeddings)
    held = held_kind(folder)
    if factory is None:
        if parameters and held is None:
            raise ConfigError(
                f"--parameters {parameters} belong to a kind of index, and {folder} has none. Add --factory."
            )
        factory, parameters = (held[0], parameters or held[1]) if held is not None else (FLAT, "")
    fresh = not is_current(folder, embed_output, factory, parameters)
    if fresh:
        with lock(folder / ".lock", f"index into {folder}"):
            build_index(folder, loaded, embed_output=embed_output, factory=factory, parameters=parameters)
    opened = RetrievalIndex.open(folder, loaded, embed_output=embed_output)
    return Indexed(split, part, folder, loaded, opened, str(read_manifest(folder, MAKE)["output"]), fresh)


def largest_gallery(
    run: Run, split: str | None = None, part: Part | None = None, *, captions: bool = False
) -> tuple[str, Part] | None:
    """Return split and part of the run's indexed gallery with the most videos, None when none is indexed.

    Args:
        run: the run.
        split, part: only galleries of this split and this part; None for any.
        captions: only galleries that have captions.
    """
    sizes: dict[tuple[str, Part], int] = {}
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
                sizes[name, known] = counts["videos"]
    return max(sizes, key=sizes.__getitem__, default=None)
