"""Released checkpoints become runs: they evaluate, index and search like those trained here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vtr.annotations.tables import load_split, split_names
from vtr.config import DataConfig, TextConfig, TrainConfig, dump
from vtr.errors import ConfigError, InputError, WorkspaceError
from vtr.files import atomic_directory, lock, sha256_file, write_text
from vtr.interop.ce_checkpoint import LENGTHS, load_ce_checkpoint
from vtr.interop.checkpoint import read_checkpoint
from vtr.interop.mmt_checkpoint import MAX_FEATURES, MAX_WORDS, mmt_model, released_limits
from vtr.loss_config import MaxMarginRankingLossConfig
from vtr.models import RetrievalModel
from vtr.models.encoder import encoder_config, state_dim
from vtr.models.saved import save_model
from vtr.optimiser_config import OptimiserConfig
from vtr.store.reader import FeatureStore
from vtr.training.checkpoint import weights_hash
from vtr.workspace import MANIFEST, Run, Workspace, read_manifest, write_manifest

BY_ITS_AUTHORS = "elsewhere, by its authors"


@dataclass(frozen=True)
class CheckpointSummary:
    """A checkpoint that has become a run.

    Attributes:
        model: its kind, and its size in words.
        fresh: False when it had been imported before.
    """

    run: Run
    source: Path
    model: str
    experts: tuple[str, ...]
    split: str
    fresh: bool

    def __str__(self) -> str:
        state = "" if self.fresh else " (imported before, nothing to do)"
        return "\n".join(
            (
                f"{self.source}: {self.model}; experts {', '.join(self.experts)}; in {self.run.root}{state}",
                f"next: vtr evaluate {self.run.root} --split {self.split}",
            )
        )


def import_mmt_checkpoint(
    source: Path,
    text_model: str,
    workspace: Workspace,
    out: Path,
    *,
    split: str | None = None,
    heads: int | None = None,
    keep_missing: bool | None = None,
) -> CheckpointSummary:
    """Make a run of a checkpoint that MMT's authors released.

    Args:
        source: the `.pth` file.
        text_model: its BERT's tokeniser and sizes: a folder in Hugging Face layout or a hub name.
        workspace: holds the features it reads.
        out: the run's folder.
        split: the split it was trained on; by default 1k-A where the workspace has it.
        heads, keep_missing: see `load_mmt_checkpoint`.

    Raises:
        InputError: the file is missing, damaged, wants to run code, or does not fit the workspace's features.
        UnavailableError: the text model cannot be loaded.
        WorkspaceError: the workspace lacks the split or an expert, or `out` holds something else.
    """
    found = read_checkpoint(source)
    model = mmt_model(source, found, encoder_config(text_model), heads, keep_missing)
    held = FeatureStore(workspace.features)
    for name, dim in model.expert_dims.items():
        if held.spec(name).dim != dim:
            raise InputError(
                f"{source} takes {name} features of dim {dim}; {workspace.features} has {held.spec(name).dim}. Use a "
                "workspace made of the features the model was trained on: vtr import mmt-features DIR --out WS."
            )
    limits = released_limits(found)
    config = TrainConfig(
        split=_split(workspace, split),
        experts=model.experts,
        model=model.config,
        text=TextConfig(
            model=_lasting(text_model), mode="fine_tuned", max_words=limits[MAX_WORDS], max_tokens=limits[MAX_WORDS]
        ),
        data=DataConfig(batch_size=32, max_features=limits[MAX_FEATURES], selection="mmt"),
        loss=MaxMarginRankingLossConfig(name="max_margin", margin=0.05),
    )
    return _save(source, model, config, workspace, out)


def import_ce_checkpoint(
    source: Path,
    text_model: str,
    workspace: Workspace,
    out: Path,
    *,
    split: str | None = None,
    experts: Sequence[str] | None = None,
    lengths: Mapping[str, int] | None = None,
    keep_missing: bool | None = None,
) -> CheckpointSummary:
    """Make a run of a checkpoint that CE's authors released.

    Args:
        source: the `.pth` file.
        text_model: the encoder whose token states it reads, for words that are searched with; captions whose states
            were imported with the features need it not.
        workspace: holds the features it reads.
        out: the run's folder.
        split: the split it was trained on; by default full where the workspace has it.
        experts: the experts it reads; by default all of the workspace's.
        lengths, keep_missing: see `load_ce_checkpoint`.

    Raises:
        InputError: the file is missing, damaged, wants to run code, or does not fit the workspace's features.
        UnavailableError: the text model is needed and cannot be loaded.
        WorkspaceError: the workspace lacks the split or an expert, or `out` holds something else.
    """
    held = FeatureStore(workspace.features)
    dims = {name: held.spec(name).dim for name in experts or held.experts}
    if not dims:
        raise WorkspaceError(f"{workspace.root} has no features yet. Run `vtr import ce-features DIR --out WS` first.")
    model = load_ce_checkpoint(source, dims, lengths=lengths, keep_missing=keep_missing)
    texts = FeatureStore(workspace.text_features)
    features = texts.experts[0] if texts.experts else None
    dim = state_dim(text_model) if features is None else texts.spec(features).dim
    if dim != model.text_dim:
        whose = f"the text model {text_model}" if features is None else f"{workspace.text_features / features}"
        raise InputError(f"{source} reads token states of length {model.text_dim}; those of {whose} have {dim}.")
    words = model.text_vlad.length or LENGTHS["text"]
    config = TrainConfig(
        split=_split(workspace, split, "full"),
        experts=model.experts,
        model=model.config,
        text=TextConfig(
            model=_lasting(text_model), mode="frozen_tokens", features=features, max_words=words, max_tokens=words
        ),
        data=DataConfig(batch_size=64, max_features=1, selection="first"),
        loss=MaxMarginRankingLossConfig(name="max_margin", margin=0.09381161988446174),
        optimiser=OptimiserConfig(name="ranger", learning_rate=0.1, weight_decay=1e-3, decay_steps="epoch"),
    )
    return _save(source, model, config, workspace, out)


def _split(workspace: Workspace, asked: str | None, usual: str = "1k-A") -> str:
    names = split_names(workspace)
    return load_split(workspace, asked or (usual if usual in names else names[0])).name


def _lasting(text_model: str) -> str:
    """Return a text model's name, a folder's as one that holds from everywhere."""
    return str(Path(text_model).resolve()) if Path(text_model).is_dir() else text_model


def _save(
    source: Path, model: RetrievalModel, config: TrainConfig, workspace: Workspace, out: Path
) -> CheckpointSummary:
    run = Run.create(out, workspace)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    described = f"{config.model.name.upper()}, {parameters / 1e6:.1f} M parameters"
    with lock(run.root / ".lock", f"import into {out}"):
        settings, imported = config.model_dump(mode="json"), sha256_file(source)
        fresh = not _is_there(run, imported, settings)
        if fresh:
            write_text(run.config, dump(config))
            with atomic_directory(run.checkpoints / "best") as temporary:
                save_model(temporary, model, config)
            write_manifest(
                run.root,
                "train",
                output=weights_hash(run.checkpoints / "best"),
                inputs={},
                config=settings,
                experts=list(model.experts),
                coverage=[BY_ITS_AUTHORS],
                selection=f"the checkpoint of {source.name}, chosen {BY_ITS_AUTHORS}",
                best_epoch=None,
                best_validation_rsum=None,
                imported={"file": str(source.resolve()), "sha256": imported},
            )
    return CheckpointSummary(run, source, described, model.experts, config.split, fresh)


def _is_there(run: Run, imported: str, settings: Mapping[str, Any]) -> bool:
    """Return whether a run holds a checkpoint already.

    Raises:
        ConfigError: it holds another model, or the same with other settings.
    """
    if not (run.root / MANIFEST).exists():
        if (run.checkpoints / "last").exists():
            raise ConfigError(f"{run.root} holds a run that is being trained. Choose another --out.")
        return False
    manifest = read_manifest(run.root, "vtr import")
    found = manifest.get("imported") or {}
    if found.get("sha256") != imported or manifest["config"] != settings:
        what = f"the checkpoint {found['file']}" if found else "a model trained here"
        raise ConfigError(f"{run.root} holds {what}, or the same with other settings. Choose another --out.")
    return True
