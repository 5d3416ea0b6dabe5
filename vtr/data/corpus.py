"""What a stage works on: annotations, one split, the feature store, and which of the split's videos have features."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from vtr.annotations.splits import VALIDATION_NAMES
from vtr.annotations.tables import annotations_fingerprint, load_annotations, load_split, split_names
from vtr.coverage import Coverage
from vtr.errors import ConfigError, WorkspaceError, nearest
from vtr.store.reader import FeatureStore
from vtr.types import Annotations, Caption, Part, Split
from vtr.workspace import Workspace


@dataclass(frozen=True)
class Corpus:
    """A split's captions and videos with the experts' features.

    Attributes:
        experts: the experts in use, in alphabetical order.
        with_text: the ids of the captions whose token states were imported, the only ones used; None for all captions.
    """

    annotations: Annotations
    split: Split
    store: FeatureStore
    experts: tuple[str, ...]
    with_text: frozenset[str] | None = None

    @cached_property
    def with_features(self) -> frozenset[str]:
        """The ids of the videos that have a feature of some expert."""
        return self.store.with_features(self.experts)

    def video_ids(self, part: Part) -> tuple[str, ...]:
        """Return the part's videos that have features, in the split's order."""
        return tuple(video_id for video_id in self.split.part(part) if video_id in self.with_features)

    def queries(self, part: Part) -> tuple[Caption, ...]:
        """Return the part's query captions whose video has features."""
        return self._usable(self.split.queries(part, self.annotations))

    def captions(self, part: Part) -> tuple[Caption, ...]:
        """Return all captions of the part's videos that have features."""
        by_video = self.annotations.captions_by_video
        return self._usable(caption for video_id in self.video_ids(part) for caption in by_video.get(video_id, ()))

    def _usable(self, captions: Iterable[Caption]) -> tuple[Caption, ...]:
        used, texts = self.with_features, self.with_text
        return tuple(c for c in captions if c.video_id in used and (texts is None or c.id in texts))

    def fingerprints(self, workspace: Workspace) -> dict[str, str]:
        """Return the `inputs` of a stage made from this: stage name -> fingerprint of its output."""
        prepared = annotations_fingerprint(workspace, self.split.name)
        return {"prepare": prepared, "extract": self.store.fingerprint(self.experts)}

    def coverage(self, part: Part) -> Coverage:
        """Return how many of the part's videos have features."""
        return Coverage(self.split.name, part, len(self.video_ids(part)), len(self.split.part(part)))


def load_corpus(
    workspace: Workspace,
    split_name: str,
    experts: Sequence[str] | None = None,
    *,
    parts: Sequence[Part],
    available_only: bool,
    text_features: str | None = None,
) -> Corpus:
    """Return a corpus whose `parts` are whole, or cut down knowingly.

    Args:
        workspace: the workspace.
        split_name: a split it has.
        experts: the experts to use; None for all in the store.
        parts: the parts the stage will use.
        available_only: go on although some of their videos have no features.
        text_features: imported token states of the captions; only captions that have some are used.

    Raises:
        WorkspaceError: the split does not exist, there are no features, a part would silently shrink, or the captions'
            states were not imported.
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
    corpus = Corpus(annotations, split, store, tuple(sorted(experts or held)), with_text)
    for part in parts:
        _check_whole(workspace, corpus.coverage(part), available_only)
    return corpus


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
    missing = coverage.total - coverage.available
    if not missing:
        return
    what = f"{missing} of {coverage.total} videos of {coverage.split} {coverage.part} have no features"
    if not coverage.available:
        raise WorkspaceError(f"{what}: nothing is left. Run `{workspace.features_command}`, or choose another --split.")
    if not available_only:
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
