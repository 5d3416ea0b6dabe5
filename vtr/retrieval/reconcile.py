"""Bringing a library's index in line with what is known of its videos: rows are embedded, replaced or taken out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from vtr.embeddings import EmbeddedPart
from vtr.progress import progress
from vtr.retrieval.embedder import Embedder
from vtr.retrieval.library import Item, LibraryFolder
from vtr.retrieval.shelf import Records, annotations_of
from vtr.retrieval.taken import chosen_rows
from vtr.retrieval.windows import cut_into_rows
from vtr.store.reader import FeatureStore
from vtr.types import Annotations, Caption
from vtr.workspace import fingerprint

BATCH = 256
"""Videos that are embedded and added at once."""


@dataclass(frozen=True)
class _Known:
    """What is known of a library's videos, and what its index holds.

    Attributes:
        made_from: video id -> what its rows are to be made from, of the videos that have features and can be embedded.
        resting: videos whose files are still to be read: their rows stay as they are.
        rows: video id -> its rows in the index.
    """

    annotations: Annotations
    made_from: Mapping[str, str]
    resting: frozenset[str]
    rows: Mapping[str, Sequence[Item]]

    def due(self) -> list[str]:
        """Return the videos whose rows are not there, or were made from something else."""
        return [
            video_id
            for video_id, made_from in self.made_from.items()
            if {item.made_from for item in self.rows.get(video_id, ())} != {made_from}
        ]

    def left_over(self) -> list[str]:
        """Return the rows of videos that are taken out, or of which nothing is left to embed."""
        out = self.rows.keys() - self.made_from.keys() - self.resting
        return [item.row_id for video_id in sorted(out) for item in self.rows[video_id]]


def reconcile(
    library: LibraryFolder, embedder: Embedder, records: Records, ready: EmbeddedPart | None = None
) -> frozenset[str]:
    """Embed what is not embedded, or was from something else, and take out what is gone. Return what was embedded.

    Each batch is searched as soon as it is done; a kill loses one at most.

    Args:
        library: the library, locked.
        embedder: embeds.
        records: the state of its files.
        ready: embeddings of whole videos by the same model, which are taken where they are what is wanted.

    Raises:
        WorkspaceError: features are damaged or of other dims than the model's, or something cannot be written.
    """
    store = FeatureStore(library.workspace.store)
    known = _known(library, embedder, records, store)
    due = known.due()
    copied = _copies(known, due, ready)
    if ready is not None and copied:
        part = chosen_rows(ready, copied)
        items = [Item(i, i, None, None, known.made_from[i]) for i in part.videos.ids]
        library.add(part, items, embedder.output)
    rest = [video_id for video_id in due if video_id not in copied]
    with progress("embed", len(rest), "videos", quiet=not rest) as advance:
        for at in range(0, len(rest), BATCH):
            some = rest[at : at + BATCH]
            _embed(library, embedder, known, store, some, records.window_seconds)
            advance(len(some), "")
    library.drop(known.left_over())
    return frozenset(due)


def _known(library: LibraryFolder, embedder: Embedder, records: Records, store: FeatureStore) -> _Known:
    annotations, state = annotations_of(library.workspace), library.state()
    experts = sorted(set(store.experts).intersection(embedder.experts))
    with_features = store.with_features(experts) if experts else frozenset()
    examined = {expert: store.examined(expert) for expert in experts}
    resting, made_from = set(), {}
    for video in annotations.videos:
        record = records.files.get(video.id)
        if record is not None and record.state in ("new", "redo"):
            resting.add(video.id)
        elif video.id in with_features and (record is None or record.state == "read"):
            read_by = [expert for expert in experts if video.id in examined[expert]]
            told = [asdict(caption) for caption in annotations.captions_by_video[video.id]]
            signature = "" if record is None else record.signature
            made_from[video.id] = fingerprint([signature, read_by, told, records.window_seconds])
    rows: dict[str, list[Item]] = {}
    if state is not None and state.train == embedder.output:  # of another model, all is embedded anew
        for item in library.items(state).values():
            rows.setdefault(item.video_id, []).append(item)
    return _Known(annotations, made_from, frozenset(resting), rows)


def _copies(known: _Known, due: Sequence[str], ready: EmbeddedPart | None) -> frozenset[str]:
    """Return the videos whose rows and captions are ready as they are wanted, and were not embedded before."""
    if ready is None:
        return frozenset()
    told: dict[str, list[tuple[str, str]]] = {video_id: [] for video_id in ready.videos.ids}
    for caption_id, text, row in zip(ready.texts.ids, ready.texts_plain, ready.video_of_text, strict=True):
        told[ready.videos.ids[row]].append((caption_id, text))
    captions = known.annotations.captions_by_video
    return frozenset(
        video_id
        for video_id in due
        if video_id not in known.rows and told.get(video_id) == [(c.id, c.text) for c in captions[video_id]]
    )


def _embed(
    library: LibraryFolder,
    embedder: Embedder,
    known: _Known,
    store: FeatureStore,
    video_ids: Sequence[str],
    window_seconds: float,
) -> None:
    """Embed some videos, add their rows, and take out rows of theirs that are no more."""
    features = embedder.features(store, video_ids)
    cut = {video_id: cut_into_rows(video_id, features.get(video_id, {}), window_seconds) for video_id in video_ids}
    rows = [row for of_video in cut.values() for row in of_video]
    captions: dict[str, Sequence[Caption]] = {
        of_video[0].row_id: known.annotations.captions_by_video[video_id]
        for video_id, of_video in cut.items()
        if of_video
    }
    items = [
        Item(row.row_id, video_id, row.start_seconds, row.end_seconds, known.made_from[video_id])
        for video_id, of_video in cut.items()
        for row in of_video
    ]
    if rows:
        library.add(embedder.embed(rows, captions), items, embedder.output)
    new = {row.row_id for row in rows}
    library.drop([i.row_id for video_id in video_ids for i in known.rows.get(video_id, ()) if i.row_id not in new])
