"""The index stage: embeddings to FAISS."""

from __future__ import annotations

from dataclasses import replace

from vtr.annotations.tables import annotations_fingerprint
from vtr.data.corpus import resolve_part
from vtr.index.build import asked_settings
from vtr.index.layout import verify
from vtr.index.search import RetrievalIndex
from vtr.retrieval.galleries import Indexed, index_part
from vtr.retrieval.library_source import searched_library
from vtr.store.reader import FeatureStore
from vtr.types import Part
from vtr.workspace import Run, check_made_from, read_manifest


def index(
    run: Run,
    split: str | None,
    part: Part | None,
    *,
    factory: str | None = None,
    parameters: str = "",
    target_recall: float | None = None,
    memory_limit: int | None = None,
    device: str = "cpu",
) -> Indexed:
    """Build the index of one embedded part, or of the library. An index that is there and current stays.

    Args:
        run: a trained run, or one made without training.
        split, part: see `vtr.data.corpus.resolve_part`; the library where `split` is "library", and where neither is
            given and the run has one.
        factory, parameters: see `vtr.index.build.build_index`. Without a factory an index that is there keeps its kind,
            also where it is made anew; where there is none, it is the exact one.
        target_recall, memory_limit: see there; None for those of the index that is there.
        device: where FAISS searches.

    Raises:
        ConfigError: FAISS cannot make such an index, or there are parameters and no factory that they belong to.
        WorkspaceError: the part is not embedded, or its embeddings are stale.
    """
    trained = read_manifest(run.root, f"vtr train WS --config CONFIG --out {run.root}")
    if (library := searched_library(run, split, part)) is not None:
        library.open(str(trained["output"]))  # one that another model embedded is refused before anything is built
        with library.locked():
            asked = asked_settings(library.index, factory, parameters, target_recall, memory_limit)
            fresh = library.reindex(asked)
        return replace(library.open(str(trained["output"]), device).indexed, fresh=fresh)
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
    return index_part(
        run,
        name,
        chosen,
        factory,
        parameters,
        target_recall=target_recall,
        memory_limit=memory_limit,
        device=device,
    )


def verify_index(run: Run, split: str | None, part: Part | None) -> str:
    """Hold every file of an index against its checksum, and return what was found, in words.

    Raises:
        WorkspaceError: there is no index, or it is damaged, or of other embeddings than the run's.
    """
    trained = read_manifest(run.root, f"vtr train WS --config CONFIG --out {run.root}")
    train_output = str(trained["output"])
    if (library := searched_library(run, split, part)) is not None:
        folder, size = library.index, verify(library.index)
        opened = library.open(train_output).indexed.index
    else:
        name, chosen = resolve_part(run.workspace, trained["config"]["split"], split, part)
        folder, embeddings = run.index / f"{name}-{chosen}", run.embeddings / f"{name}-{chosen}"
        size = verify(folder)
        output = str(read_manifest(embeddings, f"vtr embed {run.root}")["output"])
        opened = RetrievalIndex.open(folder, embed_output=output, train_output=train_output)
    counts = f"{opened.num_videos} videos and {opened.num_captions} captions"
    return f"{folder}: {counts}, {size / 2**20:.1f} MiB, as they were written"
