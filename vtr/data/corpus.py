"""What a stage works on: annotations, one split, the feature store, and which of the split's videos have features."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from vtr.annotations.splits import VALIDATION_NAMES
from vtr.annotations.tables import annotations_fingerprint, load_annotations, load_split, split_names
from vtr.coverage import Coverage
from vtr.errors import ConfigError, WorkspaceError, counted, nearest, some
from vtr.progress import say
from vtr.store.reader import FeatureStore
from vtr.types import PARTS, Annotations, Caption, Part, Split
from vtr.workspace import Workspace


@dataclass(frozen=True)
class Corpus:
    """A split's captions and videos with the experts' features.

    Attributes:
        experts: the experts in use, in alphabetical order.
        with_text: the ids of the captions whose token states were imported, the only ones used; None for all captions.
        keep_missing_videos: use training videos that have no feature of any expert too, as all-missing.
    """

    annotations: Annotations
    split: Split
    store: FeatureStore
    experts: tuple[str, ...]
    with_text: frozenset[str] | None = None
    keep_missing_videos: bool = False

    @cached_property
    def with_features(self) -> frozenset[str]:
        """The ids of the videos that have a feature of some expert."""
        return self.store.with_features(self.experts)

    def video_ids(self, part: Part) -> tuple[str, ...]:
        """Return the part's videos that are used, in the split's order: those that have features, see the class."""
        listed = self.split.part(part)
        if part == "train" and self.keep_missing_videos:
            return listed
        return tuple(video_id for video_id in listed if video_id in self.with_features)

    def featureless(self, part: Part) -> tuple[str, ...]:
        """Return the part's videos that are used and have no feature of any expert."""
        return tuple(video_id for video_id in self.video_ids(part) if video_id not in self.with_features)

    def queries(self, part: Part) -> tuple[Caption, ...]:
        """Return the query captions of the part's videos that are used."""
        used = frozenset(self.video_ids(part))
        return self._usable(c for c in self.split.queries(part, self.annotations) if c.video_id in used)

    def captions(self, part: Part) -> tuple[Caption, ...]:
        """Return all captions of the part's videos that are used."""
        by_video = self.annotations.captions_by_video
        return self._usable(caption for video_id in self.video_ids(part) for caption in by_video.get(video_id, ()))

    def _usable(self, captions: Iterable[Caption]) -> tuple[Caption, ...]:
        return tuple(c for c in captions if self.with_text is None or c.id in self.with_text)

    def fingerprints(self, workspace: Workspace) -> dict[str, str]:
        """Return the `inputs` of a stage made from this: stage name -> fingerprint of its output."""
        prepared = annotations_fingerprint(workspace, self.split.name)
        return {"prepare": prepared, "extract": self.store.fingerprint(self.experts)}

    def coverage(self, part: Part) -> Coverage:
        """Return how many of the part's videos are used, and how many of these have no features."""
        used, listed, kept = self.video_ids(part), self.split.part(part), self.featureless(part)
        return Coverage(self.split.name, part, len(used), len(listed), len(kept))


def load_corpus(
    workspace: Workspace,
    split_name: str,
    experts: Sequence[str] | None = None,
    *,
    parts: Sequence[Part],
    available_only: bool,
    text_features: str | None = None,
    keep_missing_videos: bool = False,
) -> Corpus:
    """Return a corpus whose `parts` are whole, or cut down knowingly.

    Args:
        workspace: the workspace.
        split_name: a split it has.
        experts: the experts to use; None for all in the store.
        parts: the parts the stage will use.
        available_only: go on although some of their videos have no features.
        text_features: imported token states of the captions; only captions that have some are used.
        keep_missing_videos: use training videos that have no feature of any expert as all-missing, and name some.

    Raises:
        WorkspaceError: the split does not exist, lists no training videos or none at all in `parts`, there are no
            features, a part would silently shrink, or the captions' states were not imported.
        ConfigError: an expert is not in the store.
    """
    annotations, split = load_annotations(workspace), load_split(workspace, split_name)
    store = FeatureStore(workspace.store, workspace.cache)
    held = store.experts
    if not held:
        raise WorkspaceError(f"{workspace.root} has no features yet. Run `{workspace.features_command}` first.")
    for name in experts or ():
        if name not in held:
            raise ConfigError(
                f"{store.root} has no expert '{name}'.{nearest(name, list(held))} It has: {', '.join(held)}."
            )
    with_text = None if text_features is None else _imported(workspace, text_features)
    corpus = Corpus(annotations, split, store, tuple(sorted(experts or held)), with_text, keep_missing_videos)
    _check_listed(split, parts)
    for part in parts:
        _check_whole(workspace, corpus.coverage(part), available_only)
        if kept := corpus.featureless(part):
            say(f"{counted(len(kept), 'video')} of {split.name} {part} kept without any features: {some(kept)}")
    return corpus


def check_learnable(corpus: Corpus) -> None:
    """Check that every expert has features of some training video.

    Raises:
        ConfigError: one has not, so nothing of it can be learnt.
    """
    rest = [name for name in corpus.experts if _is_learnable(name, corpus.store, corpus.split)]
    if bare := [name for name in corpus.experts if name not in rest]:
        left = f": --set experts=[{','.join(rest)}]" if rest else ", and extract others"
        raise ConfigError(
            f"{' and '.join(bare)}: no features of any of the {len(corpus.split.train)} videos of {corpus.split.name} "
            f"train, so nothing can be learnt. Leave out of `experts` what no training video has{left}."
        )


def learnable(store: FeatureStore, split: Split) -> tuple[str, ...]:
    """Return what is trained on where no expert is named: those of which some training video has features.

    In alphabetical order; all where there is none.
    """
    return tuple(sorted(name for name in store.experts if _is_learnable(name, store, split)) or sorted(store.experts))


def _is_learnable(expert: str, store: FeatureStore, split: Split) -> bool:
    return not frozenset(split.train).isdisjoint(store.video_ids(expert))


def _check_listed(split: Split, parts: Sequence[Part]) -> None:
    """Check that a split lists videos; beside a training part, the validation part may be empty."""
    empty = [part for part in parts if not split.part(part)]
    if "train" in empty or len(empty) == len(parts):
        there = [f"{len(split.part(part))} {part}" for part in PARTS if split.part(part)]
        raise WorkspaceError(
            f"split {split.name} lists no {empty[0]} videos; it has {', '.join(there) or 'no videos at all'}. Choose "
            "another split, or another part."
        )


def _imported(workspace: Workspace, name: str) -> frozenset[str]:
    """Return the ids of the captions whose token states were imported under a name."""
    store = FeatureStore(workspace.text_features)
    if name not in store.experts:
        held = f"it has {', '.join(store.experts)}" if store.experts else "it has none"
        raise WorkspaceError(
            f"{workspace.root} has no imported text features '{name}': {held}. Run `vtr import ce-features DIR --out "
            f"{workspace.root}`, or set text.features to null, which computes the states with text.model."
        )
    return frozenset(store.video_ids(name))


def _check_whole(workspace: Workspace, coverage: Coverage, available_only: bool) -> None:
    dropped = coverage.total - coverage.available
    lacking = dropped + coverage.kept
    if not lacking:
        return
    what = f"{lacking} of {coverage.total} videos of {coverage.split} {coverage.part} have no features"
    if coverage.available == coverage.kept:
        raise WorkspaceError(f"{what}: nothing is left. Run `{workspace.features_command}`, or choose another --split.")
    if dropped and not available_only:
        raise WorkspaceError(
            f"{what}. Make them (`{workspace.features_command}`), or pass --available-only to go on with the "
            f"{coverage.available} that do; every result then says so."
        )


def resolve_part(
    workspace: Workspace, run_split: str, split_option: str | None, part_option: Part | None
) -> tuple[str, Part]:
    """Return the split and part a command means.

    Args:
        workspace: where the splits are.
        run_split: the split the run was trained on.
        split_option: what `--split` says: a split, "val" for the validation part of the run's split, or None.
        part_option: what `--part` says, or None: test, or validation where no test video has features.

    Raises:
        WorkspaceError: the split does not exist.
        ConfigError: `--split val` together with another `--part`.
    """
    if split_option in VALIDATION_NAMES:
        if part_option not in (None, "validation"):
            raise ConfigError(f"--split {split_option} means the validation part, --part {part_option} contradicts it.")
        return run_split, "validation"
    name = split_option or (run_split if run_split in split_names(workspace) else split_names(workspace)[0])
    split = load_split(workspace, name)
    if part_option is not None:
        return name, part_option
    with_features = FeatureStore(workspace.store).with_features()
    has_test = bool(with_features.intersection(split.test))
    return name, "test" if has_test or not with_features.intersection(split.validation) else "validation"
