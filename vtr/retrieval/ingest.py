"""The ingest stage: videos of folders are extracted, embedded and added to a run's library, a live index.

Everything is written down as it is done, in such an order that the same command goes on wherever it was cut off.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vtr.annotations.folder import VIDEO_SUFFIXES, read_captions
from vtr.annotations.locators import parse
from vtr.annotations.tables import load_annotations
from vtr.embeddings import EmbeddedPart, load_part
from vtr.errors import counted, some
from vtr.progress import say
from vtr.retrieval.embedder import Embedder
from vtr.retrieval.folders import FoundVideo, find_in, is_empty
from vtr.retrieval.galleries import embed_and_index, largest_gallery
from vtr.retrieval.library import LibraryFolder
from vtr.retrieval.reconcile import reconcile
from vtr.retrieval.shelf import Record, Records, annotations_of, put, take_out
from vtr.retrieval.taken import copy_features
from vtr.store.ledger import ALL_EXPERTS, read_ledger
from vtr.store.reader import FeatureStore
from vtr.types import Annotations, Caption
from vtr.workspace import MANIFEST, Run, Workspace, read_manifest

Extract = Callable[[Workspace, Sequence[str], bool], None]
"""(the library's workspace, videos to be read once more, whether to try again what failed): extracts the others too."""

BATCH = 256
"""Videos that are read at once: they are searched before the next are read."""


@dataclass(frozen=True)
class Request:
    """What is to be put in.

    Attributes:
        folders: where to look; none for the videos of the run's own workspace, and for the folders of before.
        captions: a CSV of captions of the library's videos.
        prune: take out videos whose files are gone.
        only_these: begin the library without the gallery that was searched so far.
        window_seconds: how long stretches of long videos are; None for what the library has.
        frame_rate: images a second of folders of frames.
        retry_failed: try again what could not be read.
        accept: which files may be read now, by their locators; None for all.
    """

    folders: Sequence[Path] = ()
    captions: Path | None = None
    prune: bool = False
    only_these: bool = False
    window_seconds: float | None = None
    frame_rate: float | None = None
    retry_failed: bool = False
    accept: Callable[[str], bool] | None = None


@dataclass
class IngestSummary:
    """What an ingest did.

    Attributes:
        run: the run's folder.
        new, changed, unchanged: videos put in, put in anew as their file or what is known of it changed, and left.
        taken: videos taken over from what the run was trained on, without reading their files.
        removed: videos taken out.
        gone: videos whose files are gone and that are still in.
        failed: what could not be read, "VIDEO: reason", of this time and earlier ones.
        empty: folders in which there is no video.
        silent: videos in which no expert found anything: they cannot be found.
        cut: long videos that are searched in windows.
        videos, captions, rows: what the library holds.
        window_seconds: the length of a window.
    """

    run: Path
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    taken: set[str] = field(default_factory=set)
    removed: int = 0
    gone: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    cut: int = 0
    videos: int = 0
    captions: int = 0
    rows: int = 0
    window_seconds: float = 30.0

    def __str__(self) -> str:
        counts = [f"{self.new} new", f"{self.changed} changed", f"{self.unchanged} unchanged"]
        counts += [f"{len(self.taken)} taken over"] if self.taken else []
        counts += [f"{self.removed} removed"] if self.removed else []
        counts += [f"{len(self.failed)} failed"] if self.failed else []
        held = f"{counted(self.videos, 'video')} and {counted(self.captions, 'caption')}"
        lines = [f"{', '.join(counts)}; the library of {self.run} holds {held}"]
        if self.cut:
            lines.append(
                f"{counted(self.cut, 'long video')} in windows of {self.window_seconds:g} s ({self.rows} rows in all): "
                "models are trained on clips of half a minute or less"
            )
        if self.gone:
            gone = f"{counted(len(self.gone), 'video')} whose file is gone"
            lines.append(f"{gone}, still in: {some(self.gone)}; --prune takes out such videos")
        if self.empty:
            lines.append(f"no video in {some(self.empty)}: videos end in {', '.join(sorted(VIDEO_SUFFIXES))}")
        if self.silent:
            lines.append(f"nothing to find in {counted(len(self.silent), 'video')}: {some(self.silent)}")
        if self.failed:
            lines += ["not, or not wholly, read (--retry-failed tries again):", *(f"  {line}" for line in self.failed)]
        if self.videos:
            root = shlex.quote(str(self.run))
            lines.append(f'next: vtr search {root} "a man is cooking", or vtr serve {root}')
        return "\n".join(lines)


class Ingestion:
    """Puts videos into the library of a run, once or again and again.

    Args:
        run: a trained run, or one made without training, on its own workspace.
        extract: extracts the features of the library's workspace as those of the run's were.
        device: where the model embeds.

    Raises:
        WorkspaceError: the run has no model.
    """

    def __init__(self, run: Run, extract: Extract, *, device: str = "auto") -> None:
        self.run = run
        self.library = LibraryFolder(run.library)
        self._extract = extract
        self._device = device
        self._embedder = Embedder(run, device)
        self._trained = run.workspace.root.resolve() != self.library.workspace.root.resolve()

    def ingest(self, request: Request) -> IngestSummary:
        """Put in what is asked for and is not in yet.

        Raises:
            InputError: a folder or the captions hold a mistake.
            WorkspaceError: another process is at it, or something is damaged or cannot be written.
            UnavailableError: the experts cannot run here.
        """
        with self.library.locked():
            self.library.mend()
            records = Records.load(self.library.root)
            records.window_seconds = request.window_seconds or records.window_seconds
            before = frozenset(item.video_id for item in self.library.items(self.library.state()).values())
            summary = IngestSummary(self.run.root, window_seconds=records.window_seconds)
            ready = self._begin(records, request, summary)
            found = self._find(records, request, summary)
            captions = _captions(request, found, annotations_of(self.library.workspace))
            due = reconcile(self.library, self._embedder, records, ready)
            pending = _pending(found, records, request)
            for at in range(0, len(pending), BATCH):
                self._read(pending[at : at + BATCH], captions, records, request)
                due |= reconcile(self.library, self._embedder, records)
            if request.retry_failed and not pending and records.files:
                self._extract(self.library.workspace, (), True)
            put(self.library.workspace, (), captions)
            self._prune(records, found, request, summary)
            due |= reconcile(self.library, self._embedder, records)
            self._take_out(records)
            return self._sum_up(summary, before, due)

    def _begin(self, records: Records, request: Request, summary: IngestSummary) -> EmbeddedPart | None:
        """Take over, the first time, what was searched so far. Return its embeddings while they hold."""
        Workspace.create(self.library.workspace.root)
        if records.took is None:
            records.took = ""
            if self._trained and not request.only_these:
                split, part = largest_gallery(self.run) or (None, None)
                gallery = embed_and_index(self.run, split, part, device=self._device, available_only=True)
                told: dict[str, list[str]] = {}
                for caption_id, row in zip(gallery.embedded.texts.ids, gallery.embedded.video_of_text, strict=True):
                    told.setdefault(gallery.embedded.videos.ids[row], []).append(caption_id)
                self._take(gallery.embedded.videos.ids, told, summary)
                records.took = f"{gallery.split}-{gallery.part}"
            records.save(self.library.root)
        folder = self.run.embeddings / records.took
        if not records.took or not (folder / MANIFEST).exists():
            return None
        current = read_manifest(folder, "vtr embed")["inputs"].get("train") == self._embedder.output
        return load_part(folder) if current else None

    def _take(self, ids: Sequence[str], captions: Mapping[str, Sequence[str]], summary: IngestSummary) -> None:
        """Take videos over from the run's workspace, with what is known of them and their features.

        Args:
            ids: those that the library holds already are passed over.
            captions: video id -> ids of its captions that are taken along.
        """
        if not ids:
            return
        known, held = load_annotations(self.run.workspace), annotations_of(self.library.workspace).video_by_id
        chosen = [known.video_by_id[video_id] for video_id in ids if video_id not in held]
        texts = {v.id: [known.caption_by_id[i] for i in captions.get(v.id, ())] for v in chosen}
        copy_features(self.run.workspace, self.library.workspace, ids)
        put(self.library.workspace, chosen, texts)
        summary.taken |= {video.id for video in chosen}

    def _find(self, records: Records, request: Request, summary: IngestSummary) -> dict[str, FoundVideo]:
        """Return the videos of the folders, by id; those of the run's own workspace are taken over."""
        own = self._own() if self._trained else Annotations((), ())
        folders = [Path(folder) for folder in request.folders]
        if not folders:
            self._take([video.id for video in own.videos], _first_captions(own), summary)
            folders = [folder for folder in map(Path, records.prefixes) if _is_there(folder)]
        paths, reserved = {video.path: video.id for video in own.videos}, set(own.video_by_id)
        if self._trained:
            reserved |= load_annotations(self.run.workspace).video_by_id.keys()
        found: dict[str, FoundVideo] = {}
        for folder in folders:
            library = annotations_of(self.library.workspace)
            inside = find_in(folder, records, library, reserved, request.frame_rate)
            if not inside and is_empty(folder):
                summary.empty.append(str(folder))
            taken = [paths[one.video.path] for one in inside if one.video.path in paths]
            self._take(taken, _first_captions(own), summary)
            inside = [one for one in inside if one.video.path not in paths]
            there = {one.video.path for one in found.values()}
            found |= {one.video.id: one for one in inside if one.video.path not in there}
        records.save(self.library.root)
        return found

    def _own(self) -> Annotations:
        """Return the videos of the workspace the run was trained on that have features of the model's experts."""
        store = FeatureStore(self.run.workspace.store)
        with_features = store.with_features(set(store.experts).intersection(self._embedder.experts))
        known = load_annotations(self.run.workspace)
        videos = tuple(video for video in known.videos if video.id in with_features)
        return Annotations(videos, tuple(c for c in known.captions if c.video_id in with_features))

    def _read(
        self,
        batch: Sequence[FoundVideo],
        captions: Mapping[str, Sequence[Caption]],
        records: Records,
        request: Request,
    ) -> None:
        """Extract the features of some videos."""
        for one in batch:
            held = records.files.get(one.video.id)
            stale = held is not None and (held.state == "redo" or held.signature != one.signature)
            records.files[one.video.id] = Record(one.folder, one.signature, "redo" if stale else "new")
        records.save(self.library.root)
        put(self.library.workspace, [one.video for one in batch], captions)
        redo = [one.video.id for one in batch if records.files[one.video.id].state == "redo"]
        self._extract(self.library.workspace, redo, request.retry_failed)
        records.mark([one.video.id for one in batch], "read")
        records.save(self.library.root)

    def _prune(
        self, records: Records, found: Mapping[str, FoundVideo], request: Request, summary: IngestSummary
    ) -> None:
        """Mark for taking out the videos whose files are gone, or only tell of them."""
        looked = {str(Path(folder).resolve()) for folder in request.folders or map(Path, records.prefixes)}
        gone = [
            video_id
            for video_id, record in records.files.items()
            if record.folder in looked and video_id not in found and _is_there(Path(record.folder), quiet=True)
        ]
        if request.prune:
            records.mark(gone, "gone")
            records.save(self.library.root)
            summary.removed = len(gone)
        else:
            summary.gone = [video_id for video_id in gone if records.files[video_id].state != "gone"]

    def _take_out(self, records: Records) -> None:
        """Forget the videos that are marked, after their rows have gone."""
        gone = {video_id for video_id, record in records.files.items() if record.state == "gone"}
        if not gone:
            return
        by_id = annotations_of(self.library.workspace).video_by_id
        records.former |= {video_id: by_id[video_id].path or "" for video_id in gone if video_id in by_id}
        records.save(self.library.root)
        take_out(self.library.workspace, gone)
        for video_id in gone:
            del records.files[video_id]
        records.save(self.library.root)

    def _sum_up(self, summary: IngestSummary, before: frozenset[str], due: frozenset[str]) -> IngestSummary:
        annotations = annotations_of(self.library.workspace)
        items = self.library.items(self.library.state())
        videos = {item.video_id for item in items.values()}
        entries = [e for e in read_ledger(self.library.workspace.ledger) if e.video_id in annotations.video_by_id]
        failed = [entry for entry in entries if entry.status == "failed"]
        summary.failed = [
            f"{e.video_id}{'' if e.expert == ALL_EXPERTS else f', {e.expert}'}: {e.message}" for e in failed
        ]
        lost = {entry.video_id for entry in failed}
        summary.silent = [v.id for v in annotations.videos if v.id not in videos and v.id not in lost]
        summary.new = len(videos - before - summary.taken)
        summary.changed = len(videos & before & due)
        summary.unchanged = len((videos & before) - due)
        summary.cut = len({item.video_id for item in items.values() if item.start_seconds is not None})
        summary.videos, summary.rows = len(videos), len(items)
        summary.captions = sum(caption.video_id in videos for caption in annotations.captions)
        return summary


def _captions(
    request: Request, found: Mapping[str, FoundVideo], library: Annotations
) -> dict[str, tuple[Caption, ...]]:
    """Return video id -> captions: of the CSV, else those that lie beside videos.

    Raises:
        InputError: see `read_captions`.
    """
    if request.captions is None:
        beside = {video_id: one.captions for video_id, one in found.items() if one.captions}
        return {i: tuple(Caption(f"{i}#{n}", i, text) for n, text in enumerate(texts)) for i, texts in beside.items()}
    videos = {**library.video_by_id, **{video_id: one.video for video_id, one in found.items()}}
    names = {video.id: Path(parse(video.path).name) for video in videos.values() if video.path is not None}
    told: dict[str, tuple[Caption, ...]] = {}
    for caption in read_captions(request.captions, names):
        told[caption.video_id] = (*told.get(caption.video_id, ()), caption)
    return told


def _pending(found: Mapping[str, FoundVideo], records: Records, request: Request) -> list[FoundVideo]:
    """Return the videos that are new, have another file than they were read from, or were not read to the end."""
    accept = request.accept or (lambda _: True)
    return [
        one
        for video_id, one in found.items()
        if accept(str(one.video.path))
        and ((held := records.files.get(video_id)) is None or held.state != "read" or held.signature != one.signature)
    ]


def _first_captions(annotations: Annotations) -> dict[str, list[str]]:
    """Return video id -> the id of its first caption, by which it is known; none where it has none."""
    return {video_id: [c.id for c in captions[:1]] for video_id, captions in annotations.captions_by_video.items()}


def _is_there(folder: Path, *, quiet: bool = False) -> bool:
    """Return whether a folder of before is there; its videos are not gone where it is not mounted."""
    if not folder.is_dir() and not quiet:
        say(f"{folder} is not there: its videos stay as they are")
    return folder.is_dir()
