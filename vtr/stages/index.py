"""The index stage: embeddings to FAISS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vtr.annotations.tables import annotations_fingerprint
from vtr.data.corpus import resolve_part
from vtr.embeddings import EmbeddedPart, load_part
from vtr.errors import ConfigError
from vtr.files import lock
from vtr.index.build import FLAT, MAKE, build_index, held_kind, is_current
from vtr.index.search import RetrievalIndex
from vtr.store.reader import FeatureStore
from vtr.training.embed import embed
from vtr.types import Part
from vtr.workspace import Run, check_made_from, read_manifest


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


def index(
    run: Run, split: str | None, part: Part | None, *, factory: str | None = None, parameters: str = ""
) -> Indexed:
    """Build the indexes of one embedded part. An index that is there and current stays.

    Args:
        run: a trained run.
        split, part: see `vtr.data.corpus.resolve_part`.
        factory, parameters: see `vtr.index.build.build_index`. Without a factory an index that is there keeps its kind,
            also where it is made anew; where there is none, it is the exact one.

    Raises:
        ConfigError: FAISS cannot make such an index, or there are parameters and no factory that they belong to.
        WorkspaceError: the part is not embedded, or its embeddings are stale.
    """
    trained = read_manifest(run.root, f"vtr train WS --config CONFIG --out {run.root}")
    name, chosen = resolve_part(run.workspace, trained["config"]["split"], split, part)
    embeddings = run.embeddings / f"{name}-{chosen}"
    make = f"vtr embed {run.root} --split {name} --part {chosen}"
    inputs = read_manifest(embeddings, make)["inputs"]
    current = {
        "train": str(trained["output"]),
        "prepare": annotations_fingerprint(run.workspace, name),
        "extract": FeatureStore(run.workspace.store).fingerprint(trained["experts"]),
    }
    for stage, output in current.items():
        check_made_from(embeddings, stage, inputs, output, make)
    return _indexed(run, name, chosen, factory, parameters)


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
    return _indexed(run, embedded.split, embedded.part)


def _indexed(run: Run, split: str, part: Part, factory: str | None = None, parameters: str = "") -> Indexed:
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
