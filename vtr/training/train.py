"""The train stage: a workspace and a config become a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from vtr.config import TrainConfig, build, dump
from vtr.coverage import Coverage
from vtr.data.corpus import Corpus, check_learnable, learnable, load_corpus
from vtr.data.features import FeatureChoice
from vtr.data.sampling import cut_batches, visits_per_pass
from vtr.data.texts import CaptionTable
from vtr.errors import ConfigError, InputError, UnavailableError, WorkspaceError
from vtr.files import lock, read_json, remove_temporaries, write_json, write_text
from vtr.loss_config import OfflineQuintupletLossConfig
from vtr.models import build_model, check_text_mode
from vtr.models.text import TextInput
from vtr.progress import say
from vtr.training.checkpoint import BEST, LAST, STATE, weights_hash
from vtr.training.data import make_data
from vtr.training.device import choose_device, set_determinism
from vtr.training.distributed import World, check_shareable, joined
from vtr.training.divergence import DIVERGED
from vtr.training.fitting import fit
from vtr.training.loop import Trainer
from vtr.training.noisy import PEER_SEED, NoisyTrainer
from vtr.training.offline import mined
from vtr.training.state import Progress
from vtr.training.tracking import check_tracking
from vtr.types import Caption, Part
from vtr.workspace import MANIFEST, Run, Workspace, fingerprint, read_manifest, write_manifest

if TYPE_CHECKING:
    import torch

PARTS_OF_TRAINING: tuple[Part, ...] = ("train", "validation")
SELECTION_BY_VALIDATION = "best epoch by RSUM on the validation part"
OF_TWO_PEERS = "best epoch, and better of two peers, by RSUM on the validation part"
ALSO_TAUGHT = "best epoch by RSUM on the validation part, which also taught the loss's weights"
LAST_STEP = "the last step's model, as the config asks"
NO_SELECTION = "none: the split has no validation part, the last epoch is used"


@dataclass(frozen=True)
class TrainSummary:
    """What a run has come to.

    Attributes:
        coverage: how much of the training and validation parts was used.
        fresh: False when the run was finished before.
    """

    run: Run
    progress: Progress
    config: TrainConfig
    coverage: tuple[Coverage, ...]
    fresh: bool

    def __str__(self) -> str:
        lines = [] if self.fresh else ["this run is finished; nothing to do"]
        lines.append("; ".join(str(coverage) for coverage in self.coverage))
        epoch, rsum = self.progress.kept(self.config)
        if rsum is not None:
            which = "last" if self.config.select == "last" else "best"
            early = "" if self.progress.epoch >= self.config.epochs else f" (of {self.config.epochs}: it got no better)"
            lines.append(f"{which} epoch {epoch} of {self.progress.epoch}{early}: validation RSUM {rsum:.1f}")
        else:
            lines.append(f"{self.progress.epoch} epochs; {NO_SELECTION}")
        lines.append(f"next: vtr evaluate {self.run.root}")
        return "\n".join(lines)


def train(
    workspace: Workspace,
    config: TrainConfig,
    out: Path,
    *,
    device: str = "auto",
    available_only: bool = False,
    keep_missing_videos: bool = False,
    allow_changed_code: bool = False,
) -> TrainSummary:
    """Train a run, or go on with one that was interrupted: it ends as if it had not been.

    Under `torchrun`, its processes train it together.

    Args:
        workspace: captions, split and features.
        config: the run's configuration.
        out: the run's folder.
        device: "auto", "cpu" or "cuda".
        available_only: train and validate on the videos that have features, though others are missing.
        keep_missing_videos: learn from training videos without any features too, as videos that lack every expert.
        allow_changed_code: go on with a run that other code or versions began.

    Raises:
        ConfigError: an expert is not in the store, settings exclude each other, or the run was begun with another
            config.
        InputError: the split's training part has no captions.
        UnavailableError: the device, its memory, the text model or a tracker is not here.
        VtrError: the loss is not finite.
        WorkspaceError: the split does not exist, features or mined negatives are missing or have changed, or `out`
            cannot be written.
    """
    if (out / MANIFEST).exists() and "imported" in read_manifest(out, "vtr train"):  # which refuses a newer format
        raise ConfigError(f"{out} holds an imported checkpoint, which is not trained on. Choose another --out.")
    corpus = load_training_corpus(
        workspace, config, available_only=available_only, keep_missing_videos=keep_missing_videos
    )
    check_tracking(config)
    inputs = _inputs(workspace, config, corpus)
    covered = tuple(corpus.coverage(part) for part in PARTS_OF_TRAINING if corpus.split.part(part))
    with joined(device) as world, contextlib.ExitStack() as held:
        place = choose_device(device)
        check_shareable(config, world)
        done = None
        if world.first:
            run = Run.create(out, workspace)
            held.enter_context(lock(run.root / ".lock", f"train {out}"))
            done = _begun(run, config, inputs)
        done = world.tell(done)
        run = Run.open(out)
        if done is not None:
            return TrainSummary(run, done, config, covered, fresh=False)
        with _memory_named(config):
            progress = _train(run, corpus, config, place, world, allow_changed_code=allow_changed_code)
        summary = TrainSummary(run, progress, config, covered, fresh=True)
        if world.first:
            _record(summary, inputs, experts=list(corpus.experts), device=str(place), processes=world.size)
    return summary


def _record(summary: TrainSummary, inputs: dict[str, str], **facts: object) -> None:
    """Write the manifest of a run that is finished."""
    run, config = summary.run, summary.config
    epoch, rsum = summary.progress.kept(config)
    write_manifest(
        run.root,
        "train",
        output=weights_hash(run.checkpoints / BEST),
        inputs=inputs,
        config=config.model_dump(mode="json"),
        coverage=[str(coverage) for coverage in summary.coverage],
        selection=_selection(config, summary.progress),
        best_epoch=epoch,
        best_validation_rsum=rsum,
        **facts,
    )


def _inputs(workspace: Workspace, config: TrainConfig, corpus: Corpus) -> dict[str, str]:
    """Return fingerprints of what a run is trained on; with other ones it is another run."""
    inputs = corpus.fingerprints(workspace)
    inputs["videos"] = fingerprint([corpus.video_ids(part) for part in PARTS_OF_TRAINING])
    if isinstance(config.loss, OfflineQuintupletLossConfig):
        inputs["mine"] = mined(config.loss.negatives)
    return inputs


def _begun(run: Run, config: TrainConfig, inputs: dict[str, str]) -> Progress | None:
    """Make a run's folder ready to train, or to go on; return its progress where it is finished.

    Raises:
        ConfigError, WorkspaceError: it was begun with another config, or on other inputs.
    """
    _check_same(run, config, inputs)
    if (done := _finished(run, config)) is not None:
        return done
    (run.root / MANIFEST).unlink(missing_ok=True)
    (run.root / DIVERGED).unlink(missing_ok=True)
    write_text(run.config, dump(config))
    write_json(run.root / "inputs.json", inputs)
    if run.checkpoints.exists():
        remove_temporaries(run.checkpoints)
    return None


@contextlib.contextmanager
def _memory_named(config: TrainConfig) -> Iterator[None]:
    """Turn running out of memory into an error that says which settings need less."""
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise UnavailableError(
            f"out of memory ({str(error).splitlines()[0] if str(error) else type(error).__name__}). What needs less: "
            f"--set data.batch_size={max(2, config.data.batch_size // 2)} (with accumulate=2, a step sees as many "
            f"pairs), --set precision=bfloat16, --set data.max_features={max(1, config.data.max_features // 2)}, "
            "--set text.mode=frozen; each needs another --out."
        ) from error


def load_training_corpus(
    workspace: Workspace, config: TrainConfig, *, available_only: bool, keep_missing_videos: bool = False
) -> Corpus:
    """Return what a run learns from and is validated on.

    Raises:
        ConfigError, WorkspaceError: see `train`.
    """
    check_text_mode(config)
    load = partial(
        load_corpus,
        workspace,
        config.split,
        parts=PARTS_OF_TRAINING,
        available_only=available_only,
        keep_missing_videos=keep_missing_videos,
        text_features=config.text.features,
    )
    corpus = load(config.experts)
    if config.experts is None and (kept := learnable(corpus.store, corpus.split)) != corpus.experts:
        say(f"left out, as no training video has any: {', '.join(sorted({*corpus.experts} - {*kept}))}")
        corpus = load(kept)
    check_learnable(corpus)
    return corpus


def _train(
    run: Run, corpus: Corpus, config: TrainConfig, device: torch.device, world: World, *, allow_changed_code: bool
) -> Progress:
    set_determinism(config.deterministic, device)
    captions = training_captions(corpus)
    with world.first_alone():  # which fills the caches
        table = CaptionTable([*captions, *corpus.queries("validation")], TextInput(config.text), run.workspace)
        data = make_data(corpus, table, FeatureChoice.of(config))
    model = build_model(config, data.table.dims, table.dim).to(device)
    data = data.to(device)  # after the model, which then has its room
    source_of = {video.id: video.source_id or video.id for video in corpus.annotations.videos}
    fit(model, data, source_of, quiet=not world.first)
    parameters = sum(p.numel() for p in model.parameters())
    if world.first:
        together = "" if world.size == 1 else f", {world.size} processes"
        say(
            f"training on {len(data.train)} videos, {len(captions)} captions; experts {', '.join(corpus.experts)}; "
            f"{parameters / 1e6:.1f} M parameters on {device}{together}"
        )
        if cut := cut_batches(visits_per_pass(data.train, config.data.sampling), config.data):
            say(cut)
    if config.noisy_correspondence is None:
        trainer = Trainer(config, model, data, run.root, device, world)
    else:
        other = config.model_copy(update={"seed": config.seed + PEER_SEED})
        peer = build_model(other, data.table.dims, table.dim).to(device)
        fit(peer, data, source_of, quiet=True)
        trainer = NoisyTrainer(config, model, peer, data, run.root, device)
    return trainer.train(allow_changed_code=allow_changed_code)


def training_captions(corpus: Corpus) -> tuple[Caption, ...]:
    """Return the captions that are learnt from.

    Raises:
        InputError: there are none, or of one video only.
    """
    captions = corpus.captions("train")
    if not captions:
        raise InputError(
            f"the training part of split {corpus.split.name} has no captions: there is nothing to learn from."
        )
    if len({caption.video_id for caption in captions}) < 2:
        raise InputError(
            f"the training part of split {corpus.split.name} has captions of one video only, {captions[0].video_id}: "
            "there is nothing to tell it from. Add captioned videos."
        )
    return captions


def _selection(config: TrainConfig, progress: Progress) -> str:
    """Return in words how the run's model was chosen."""
    if progress.best_rsum is None:
        return NO_SELECTION
    if config.select == "last":
        return LAST_STEP
    if config.noisy_correspondence is not None:
        return OF_TWO_PEERS
    return ALSO_TAUGHT if config.loss.name == "meta_weighted" else SELECTION_BY_VALIDATION


def _finished(run: Run, config: TrainConfig) -> Progress | None:
    """Return the progress of a run that is finished, or None."""
    state = run.checkpoints / LAST / STATE
    if not (run.root / MANIFEST).exists() or not state.exists():
        return None
    progress = Progress.read(read_json(state)["progress"])
    return progress if progress.finished(config) else None


def may_change(config: TrainConfig) -> frozenset[str]:
    """Return the settings that a run may go on with changed: how far, if nothing depends on it, and what it writes."""
    of_the_end = config.optimiser.schedule == "cosine" or config.noisy_correspondence is not None
    written = frozenset({"checkpoint_every", "keep_checkpoints", "tracking"})
    return written if of_the_end else written | {"epochs"}


def _check_same(run: Run, config: TrainConfig, inputs: dict[str, str]) -> None:
    """Check that a run goes on with the config and the inputs it was begun with, but for what may change."""
    if not run.config.exists():
        return
    begun = build(TrainConfig, yaml.safe_load(run.config.read_text(encoding="utf-8")), str(run.config))
    before, now = begun.model_dump(mode="json"), config.model_dump(mode="json")  # with the defaults of newer settings
    free = may_change(config)
    differing = [key for key in _keys(now) if _value(before, key) != _value(now, key) and key not in free]
    if differing:
        changes = ", ".join(f"{key}: {_value(before, key)} -> {_value(now, key)}" for key in differing)
        raise ConfigError(f"{run.root} was begun with another config ({changes}). Choose another --out, or delete it.")
    recorded = read_json(run.root / "inputs.json") if (run.root / "inputs.json").exists() else inputs
    for stage, value in inputs.items():
        if stage == "videos" and recorded.get(stage, value) != value:
            raise ConfigError(
                f"{run.root} was begun on other videos than these. Give --available-only and --keep-missing-videos as "
                "before, or choose another --out."
            )
        if stage != "videos" and recorded.get(stage) != value:
            raise WorkspaceError(
                f"{run.root} was begun on {stage} {recorded.get(stage)}, the workspace now has {stage} {value}. "
                "Choose another --out, or delete the run to train it again."
            )


def _keys(values: dict[str, object], prefix: str = "") -> list[str]:
    keys = []
    for name, value in values.items():
        keys += _keys(value, f"{prefix}{name}.") if isinstance(value, dict) else [f"{prefix}{name}"]
    return keys


def _value(values: object, key: str) -> object:
    for name in key.split("."):
        values = values.get(name) if isinstance(values, dict) else None
    return values
