"""Where a gallery comes from, so that it can be opened anew when it has changed on disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from vtr.annotations.tables import load_annotations
from vtr.errors import WorkspaceError
from vtr.index.layout import MAKE
from vtr.retrieval.galleries import Indexed, index_part
from vtr.retrieval.gallery import Gallery
from vtr.retrieval.query_bank import query_banks
from vtr.store.reader import FeatureStore
from vtr.types import Part
from vtr.workspace import Run, read_manifest


class Source(Protocol):
    """What a gallery is opened from."""

    def generation(self) -> str:
        """Return which generation of the gallery is on disk now; that takes no longer than reading a small file.

        Raises:
            WorkspaceError: there is none.
        """

    def open(self) -> Gallery:
        """Return the gallery that is on disk now.

        Raises:
            WorkspaceError: it is damaged, just being replaced, or of another model.
        """


@dataclass(frozen=True)
class PartSource:
    """One part of a run's videos, embedded and indexed.

    Attributes:
        run: a trained run.
        split, part: what it is a part of.
        qb_norm: whether words are answered in the order of QB-Norm.
        trained: fingerprint of the model that the gallery is searched with.
    """

    run: Run
    split: str
    part: Part
    qb_norm: bool
    trained: str

    def generation(self) -> str:
        """Return the fingerprint of the index."""
        return str(read_manifest(self.run.index / f"{self.split}-{self.part}", MAKE)["output"])

    def open(self) -> Gallery:
        """Return the gallery; see `Source`.

        Raises:
            WorkspaceError: the run was trained anew since.
        """
        embeddings = read_manifest(self.run.embeddings / f"{self.split}-{self.part}", "vtr embed RUN")
        if (made_by := embeddings["inputs"]["train"]) != self.trained:
            raise WorkspaceError(
                f"{self.run.root} was trained anew: its gallery is of model {made_by}, and {self.trained} is loaded. "
                "Start again to search with the new model."
            )
        return self.gallery(index_part(self.run, self.split, self.part))

    def gallery(self, indexed: Indexed) -> Gallery:
        """Return the gallery of an index of this part."""
        bank = query_banks(self.run, indexed, captions=False).texts if self.qb_norm else None
        store = FeatureStore(self.run.workspace.store, self.run.workspace.cache)
        annotations = load_annotations(self.run.workspace)
        return Gallery(indexed.index, annotations, bank, store=store, generation=indexed.output)
