"""Embeddings to an index: segments of vectors and ids, and what FAISS makes of them; exact unless asked otherwise."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import faiss

from vtr.embeddings import CAPTIONS, VIDEOS, EmbeddedPart, HeldPart, PartSource
from vtr.errors import ConfigError
from vtr.files import atomic_directory, lock
from vtr.index.kinds import AUTO, FLAT, choose, fill, lists_of
from vtr.index.layout import (
    LAYOUT,
    MAKE,
    SegmentEntry,
    State,
    commit,
    segment_files,
    sweep_unnamed,
)
from vtr.index.segment import Items, Written, open_segment, write_segment
from vtr.index.tuning import describe, draw_curve, tune
from vtr.progress import say
from vtr.workspace import MANIFEST, read_manifest

TARGET_RECALL = 0.99
"""The recall of the best ten that approximate indexes are tuned to."""


@dataclass(frozen=True)
class Settings:
    """What is asked of an index; see `build_index`."""

    factory: str = FLAT
    parameters: str = ""
    target_recall: float = TARGET_RECALL
    memory_limit: int | None = None


def default_memory_limit() -> int:
    """Return half of the machine's memory, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def build_index(
    folder: Path,
    part: EmbeddedPart | PartSource,
    *,
    embed_output: str,
    factory: str = FLAT,
    parameters: str = "",
    target_recall: float = TARGET_RECALL,
    memory_limit: int | None = None,
    train_output: str | None = None,
) -> None:
    """Write an index of some embeddings into `folder`, and remove the one that was there.

    Who searches meanwhile sees the old index or the new one. The embeddings are read a batch at a time and need not fit
    into memory. A part without captions gets no index of captions.

    Args:
        folder: where to.
        part: the embeddings.
        embed_output: their fingerprint, the `output` of their manifest.
        factory: FAISS's name of the kind of index, for example "IVF64,Flat" or "HNSW32"; "Flat" is exact; "auto"
            chooses by the number of vectors and the memory limit, see `vtr.index.kinds.choose`.
        parameters: FAISS's search parameters, for example "nprobe=8"; chosen to reach the target where there are none.
        target_recall: the recall of the best ten that an approximate index is tuned to, between 0 and 1.
        memory_limit: bytes that building may hold beyond the files it maps; None for half of the machine's memory.
        train_output: the fingerprint of the model that made the embeddings.

    Raises:
        ConfigError: FAISS does not know the factory or the parameters, or cannot train the index on these vectors.
        WorkspaceError: the folder cannot be written, or another process writes into it.
    """
    if not 0 < target_recall <= 1:
        raise ConfigError(f"the target recall is {target_recall}, a number above 0 and up to 1 was expected.")
    source = HeldPart(part) if isinstance(part, EmbeddedPart) else part
    config = asdict(Settings(factory, parameters, target_recall, memory_limit))
    inputs = {"embed": embed_output} | ({} if train_output is None else {"train": train_output})
    with lock(folder / ".lock", f"index into {folder}"):
        sweep_unnamed(folder)
        before = _generation(folder)
        commit(folder, make_main(folder, source, before, config, inputs))


def make_main(
    folder: Path, source: PartSource, generation: int, config: Mapping[str, Any], inputs: Mapping[str, str]
) -> State:
    """Write a main segment, and return the state of an index that has no other. The folder's lock must be held.

    Args:
        folder: the index.
        source: all it is to hold.
        generation: of the index that is there, 0 for none.
        config, inputs: see `State`.

    Raises:
        ConfigError: see `build_index`.
    """
    state = State(
        generation,
        source.experts,
        source.dim,
        source.coverage,
        dict(inputs),
        dict(config),
        kinds={},
        segments=(),
        files={},
    )
    name = state.next_name()
    with atomic_directory(folder / name) as temporary:
        written = write_segment(temporary, source)
        kinds = {kind: _index_side(temporary, source, written, kind, config) for kind in (VIDEOS, CAPTIONS)}
    entry = SegmentEntry(name, written.videos, written.captions, written.patterns)
    return replace(state, kinds=kinds, segments=(entry,), files=segment_files(folder, name))


def add_segment(folder: Path, state: State, source: PartSource) -> State:
    """Write a further segment, which is searched exactly, and return the state with it. The lock must be held."""
    name = state.next_name()
    with atomic_directory(folder / name) as temporary:
        written = write_segment(temporary, source)
    entry = SegmentEntry(name, written.videos, written.captions, written.patterns)
    files = dict(state.files) | segment_files(folder, name)
    return replace(state, segments=(*state.segments, entry), files=files)


def _index_side(
    folder: Path, source: PartSource, written: Written, kind: str, config: Mapping[str, Any]
) -> dict[str, Any]:
    """Write what FAISS makes of the videos or of the captions of a segment, and return what the manifest says of it."""
    experts, dim = len(source.experts), source.dim
    segment = open_segment(folder, written.videos, written.captions, experts, dim)
    items: Items = getattr(segment, kind)
    limit = config["memory_limit"] or default_memory_limit()
    factory = config["factory"]
    if factory == AUTO:
        factory = choose(len(items), experts * dim, limit)
    if factory == FLAT and config["parameters"]:
        raise ConfigError(
            f"FAISS cannot make an index '{FLAT}' with parameters '{config['parameters']}' of {len(items)} vectors of "
            f"{experts * dim}: the exact kind has none. Leave out --parameters, or choose another --factory."
        )
    if factory == FLAT or not len(items):
        return {"factory": FLAT, "parameters": ""}
    if len(items) < (lists := lists_of(factory, experts * dim)) <= max(written.videos, written.captions):
        say(f"{kind}: {len(items)} are too few for the {lists} lists of {factory}; {FLAT} is taken instead")
        return {"factory": FLAT, "parameters": ""}
    index = fill(items, factory, config["parameters"], limit, folder)
    target = config["target_recall"]
    tuned = tune(segment, kind, replace(items, approximate=index), factory, config["parameters"], target)
    say(describe(tuned, kind, target))
    if config["factory"] == AUTO and not tuned.reached:
        say(f"{kind}: {FLAT} is taken instead")
        return {"factory": FLAT, "parameters": ""}
    draw_curve(folder / f"{kind}.curve.svg", tuned, kind, target)
    _write(folder / f"{kind}.faiss", index)
    return tuned.facts()


def _write(path: Path, index: faiss.Index) -> None:
    lists = path.parent / "lists.ivfdata"
    if lists.exists():  # FAISS keeps the file's name: it must be the one it will have
        own = lists.rename(path.with_suffix(".ivfdata"))
        inverted: Any = faiss.extract_index_ivf(index).invlists
        on_disk: Any = faiss.downcast_InvertedLists(inverted)
        on_disk.filename = str(own)
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:  # how FAISS reports a full disk
        raise OSError(str(error).strip().splitlines()[-1]) from error


def _generation(folder: Path) -> int:
    return int(read_manifest(folder, MAKE).get("generation", 0)) if (folder / MANIFEST).exists() else 0


def held_settings(folder: Path) -> Settings | None:
    """Return what was asked of the index in `folder`, of any layout, current or stale; None where there is none."""
    if not (folder / MANIFEST).exists():
        return None
    config = read_manifest(folder, MAKE)["config"]
    known = {field.name for field in fields(Settings)}
    return Settings(**{name: value for name, value in config.items() if name in known})  # early ones say less: all flat


def asked_settings(
    folder: Path,
    factory: str | None = None,
    parameters: str = "",
    target_recall: float | None = None,
    memory_limit: int | None = None,
) -> Settings:
    """Return what is asked of an index: what is given, and for the rest what was asked of the one in `folder`.

    Parameters stay only with their kind.

    Raises:
        ConfigError: there are parameters, and no kind of index that they belong to.
    """
    held = held_settings(folder)
    if factory is None and parameters and held is None:
        raise ConfigError(f"--parameters {parameters} belong to a kind of index, and {folder} has none. Add --factory.")
    kept = held or Settings()
    return Settings(
        factory or kept.factory,
        parameters or (kept.parameters if factory is None else ""),
        kept.target_recall if target_recall is None else target_recall,
        kept.memory_limit if memory_limit is None else memory_limit,
    )


def is_current(folder: Path, embed_output: str, settings: Settings, train_output: str | None = None) -> bool:
    """Return whether `folder` holds a finished index of these embeddings and of this kind, in the layout of today."""
    held = held_settings(folder)
    if held is None or (held.factory, held.parameters) != (settings.factory, settings.parameters):
        return False
    manifest = read_manifest(folder, MAKE)
    made_from = manifest["inputs"]
    return (
        manifest.get("layout") == LAYOUT
        and (settings.factory == FLAT or held.target_recall == settings.target_recall)
        and (settings.factory != AUTO or held.memory_limit == settings.memory_limit)  # it chooses by that
        and made_from.get("embed") == embed_output
        and train_output in (None, made_from.get("train"))
    )


def is_early(folder: Path) -> bool:
    """Return whether `folder` holds an index of a layout that is read no more."""
    return (folder / MANIFEST).exists() and read_manifest(folder, MAKE).get("layout") != LAYOUT
