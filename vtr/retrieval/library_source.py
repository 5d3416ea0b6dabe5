"""A run's library as what is searched, so that a retriever follows it while videos are put in."""

from __future__ import annotations

from dataclasses import dataclass

from vtr.annotations.tables import load_annotations
from vtr.errors import WorkspaceError
from vtr.retrieval.galleries import largest_gallery
from vtr.retrieval.gallery import Gallery
from vtr.retrieval.library import SPLIT, LibraryFolder
from vtr.retrieval.query_bank import query_banks
from vtr.store.reader import FeatureStore
from vtr.types import Part
from vtr.workspace import Run, read_manifest


def library_source(run: Run, trained: str, *, captions: bool = False, qb_norm: bool = False) -> LibrarySource | None:
    """Return a run's library, None where the run has none, or was opened on another workspace than its own.

    Args:
        run: the run.
        trained: fingerprint of the model that is searched with.
        captions: a library without captions is passed over where another gallery of the run has some.
        qb_norm: answer words in the order of QB-Norm.

    Raises:
        WorkspaceError: there is nothing else to search, as the run was made without training, and the library is empty.
    """
    library = searched_library(run)
    if library is None:
        return None
    mute = captions and not run.untrained and not library.counts()["captions"]
    if mute and largest_gallery(run, captions=True) is not None:
        return None
    return LibrarySource(run, library, trained, qb_norm)


def searched_library(run: Run, split: str | None = None, part: Part | None = None) -> LibraryFolder | None:
    """Return the run's library where it is what is meant: `split` names it, or nothing is named and it holds videos.

    Raises:
        WorkspaceError: it is meant, and it is empty.
    """
    if run.gallery is not None or (split != SPLIT and (split or part)):
        return None
    library = LibraryFolder(run.library)
    if library.counts()["videos"]:
        return library
    if split == SPLIT or run.untrained:
        raise WorkspaceError(
            f"{run.root} holds no video in which anything was found. Run `vtr ingest {run.root} FOLDER`."
        )
    return None


@dataclass(frozen=True)
class LibrarySource:
    """See `vtr.retrieval.source.Source`.

    Attributes:
        run: the run.
        library: its library.
        trained: fingerprint of the model that it is searched with.
        qb_norm: whether words are answered in the order of QB-Norm.
    """

    run: Run
    library: LibraryFolder
    trained: str
    qb_norm: bool = False

    def generation(self) -> str:
        """Return the fingerprint of the index."""
        return str(read_manifest(self.library.index, f"vtr ingest {self.run.root}")["output"])

    def open(self) -> Gallery:
        """Return the library as it is now."""
        opened = self.library.open(self.trained)
        bank = query_banks(self.run, opened.indexed, captions=False).texts if self.qb_norm else None
        workspace = opened.workspace
        return Gallery(
            opened.indexed.index,
            load_annotations(workspace),
            bank,
            items=opened.items or None,
            store=FeatureStore(workspace.store, workspace.cache),
            generation=opened.indexed.output,
        )
