"""Typed configuration and the one strict loader: an unknown key is an error that names the nearest valid one."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError

from vtr.config_base import Config
from vtr.errors import ConfigError, InputError, nearest
from vtr.experts import EXPERTS, taken
from vtr.extract_config import ExpertConfig, Precision
from vtr.loss_config import LossConfig, UnifiedLossConfig
from vtr.model_config import MMTConfig, ModelConfig
from vtr.optimiser_config import OptimiserConfig

Settings = TypeVar("Settings", bound=Config)

Sampling = Literal["each_video", "each_caption", "independent"]
Selection = Literal["spaced", "mmt", "first"]


class TextConfig(Config):
    """The text encoder."""

    model: str = "packaged:all-minilm-l6-v2"
    """"packaged:all-minilm-l6-v2", a local folder, or a hub name such as "bert-base-cased"."""

    lower_case: bool = True
    """Lower-case captions before tokenising (MMT does so with bert-base-cased)."""

    mode: Literal["fine_tuned", "frozen", "frozen_tokens"] = "frozen"
    """fine_tuned: the encoder trains with the rest, from tokens. frozen: its sentence states are computed once and
    cached, which makes training on a CPU a matter of minutes. frozen_tokens: the same with its token states, for CE."""

    features: str | None = None
    """For frozen_tokens: imported token states of the workspace's captions (`vtr import ce-features` brings "openai"),
    used instead of the model's; the model is then needed for other texts only. Captions without any are left out."""

    max_words: int = Field(default=30, ge=1)
    """Captions are cut to this many words."""

    max_tokens: int = Field(default=30, ge=3)
    """Then to this many word pieces, [CLS] and [SEP] included."""


class DataConfig(Config):
    """What a batch is made of."""

    batch_size: int = Field(default=32, ge=2)
    sampling: Sampling = "each_video"
    """each_video: a pass visits every training video once, with a caption drawn at random, and no batch holds a video
    twice. each_caption: a pass visits every caption, so a batch may hold a video twice; best with
    `mask_known_positives`. independent: every pair is drawn for itself, as MMT was released; 5.4 % of the batches of 32
    on 1k-A then hold a video twice, which makes a positive pair a negative."""
    passes: int = Field(default=1, ge=1)
    """How many passes are an epoch."""
    steps_per_epoch: int | None = Field(default=None, ge=1)
    """An epoch is so many batches instead, all whole; passes go on from one epoch to the next."""
    mask_known_positives: bool = False
    """Keep known positives out of the negatives: other captions of a video, and captions whose words were also written
    for it (13.7 % of MSR-VTT's captions occur for more than one video)."""
    max_features: int = Field(default=30, ge=1)
    """Temporal features kept per expert and video."""
    selection: Selection = "spaced"
    """Which are kept of more: at random in training and evenly spaced in evaluation; at random in both, always the same
    in evaluation, as MMT was released ("mmt"); or the first ones, as CE was ("first")."""


class NoisyCorrespondenceConfig(Config):
    """Training on pairs of which some do not match (NCR, Huang et al. 2021). Needs loss `adaptive_margin_unified`."""

    warmup_epochs: int = Field(default=1, ge=1)
    """Epochs on all pairs, before the losses tell clean pairs from noisy ones."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """A pair is clean where the peer gives it more than this probability of being so."""
    noisy_from: float = Field(default=0.5, ge=0, le=1)
    """After this share of the epochs, noisy pairs are learnt from too, with softer margins."""


class TrainConfig(Config):
    """`vtr train`: one run, complete."""

    split: str = "full"
    """The split whose train part is learnt from and whose validation part chooses the best checkpoint."""

    experts: tuple[str, ...] | None = Field(default=None, strict=False)
    """The experts to use; None means all in the feature store of which some training video has features."""

    seed: int = 0
    epochs: int = Field(default=20, ge=1)
    precision: Precision = "float32"
    """bfloat16 and float16 run the model under autocast; scores and loss are always float32."""

    accumulate: int = Field(default=1, ge=1)
    """Batches whose gradients are averaged for one step. Negatives come from within each batch only."""

    ema: float | None = Field(default=None, gt=0, lt=1)
    """Validate and keep an exponential moving average of the weights with this decay, for example 0.999."""

    validate_every: Annotated[int, Field(ge=1)] | Literal["epoch"] = "epoch"
    """Validate after every so many steps, or after each "epoch"; after the last step in any case."""

    patience: int | None = Field(default=None, ge=1)
    """Stop at the end of an epoch when so many validations in a row have brought no better RSUM; None never does."""

    select: Literal["best", "last"] = "best"
    """Which model the run keeps: of the best validation, or of the last step (as MMT and CE were released)."""

    checkpoint_every: Annotated[int, Field(ge=1)] | Literal["epoch", "minute"] = "epoch"
    """Write a checkpoint to go on from after every so many steps, after each epoch, or once a minute at the end of an
    epoch; after the last step in any case. It changes nothing else: a resumed run ends in the same bits."""

    keep_checkpoints: int = Field(default=2, ge=1)
    """How many of the newest checkpoints are kept, beside the best model."""

    compile: bool = False
    """Compile the transformers with torch.compile: slow to start, faster on a GPU."""

    deterministic: bool = True
    """On a GPU, use only kernels that give the same bits each time, where torch has them."""

    model: ModelConfig = MMTConfig()
    text: TextConfig = TextConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = UnifiedLossConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    noisy_correspondence: NoisyCorrespondenceConfig | None = None
    """Train two peers that tell each other which pairs match; None trains one model on all pairs."""
    tracking: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = Field(default=("tensorboard",), strict=False)
    """Where a run's figures go beside its log.jsonl; wandb and mlflow must be installed, and read their own environment
    variables (WANDB_MODE=offline, WANDB_PROJECT, MLFLOW_TRACKING_URI, ...)."""


def load(
    kind: type[Settings], path: Path | None = None, overrides: Sequence[str] = (), base: Settings | None = None
) -> Settings:
    """Read a YAML file into `kind` and apply `a.b=c` overrides (values are YAML).

    Args:
        kind: the settings' class.
        path: the file; None to start from `base`, or from the class's defaults.
        overrides: "a.b=c", each. One of a name (`loss.name`) takes effect first: a section that gets another name
            starts from the defaults of what is named.
        base: settings whose sections an override changes a value of, where there is no file.

    Raises:
        InputError: the file is missing or not YAML.
        ConfigError: an unknown key (with the nearest valid one) or a wrong type, with the key's full name.
    """
    values = _read_yaml(path) if path else base.model_dump(mode="json") if base else {}
    for override in sorted(overrides, key=lambda text: not text.partition("=")[0].endswith(".name")):
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(
                f"--set {override}: KEY=VALUE was expected, for example --set optimiser.learning_rate=1e-4."
            )
        try:
            value = _parse_yaml(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {override}: the value is not YAML ({_one_line(error)}).") from error
        _set(values, key.split("."), value, override)
    return build(kind, values, source=str(path) if path else "the settings")


def build(kind: type[Settings], values: dict[str, Any], source: str) -> Settings:
    """Validate `values` as a `kind`; `source` names where they came from in errors.

    Raises:
        ConfigError: see `load`.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_explain(kind, problem) for problem in error.errors())
        raise ConfigError(f"{source}: {problems}") from error


def dump(config: Config) -> str:
    """Return a configuration, complete with its defaults, as YAML."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 as PyYAML reads it, save that 1e-4 is a number and a key that occurs twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' occurs twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _parse_yaml(text: str) -> Any:
    return yaml.load(text, _Loader)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = _parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{path} does not exist. Give the path of a YAML configuration; `vtr configs` lists those that come along."
        ) from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a directory, a YAML file was expected.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}. A YAML file was expected.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {_one_line(error)}") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{path} holds {type(values).__name__} {str(values)[:60]!r}, keys and values were expected.")
    return values


def _set(values: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    for key in keys[:-1]:
        if values.get(key) is None:  # absent, or a section that is off
            values[key] = {}
        values = values[key]
        if not isinstance(values, dict):
            raise ConfigError(f"--set {override}: {key} is a value, not a section.")
    if keys[-1] == "name" and values.get("name", value) != value:
        values.clear()  # the other keys belong to what the section named before
    values[keys[-1]] = value


def _explain(kind: type[Config], problem: Any) -> str:
    """Return one pydantic error as a sentence with the key's full name and, if unknown, the nearest valid key."""
    sections: list[type[Config]] = [kind]
    path: list[str] = []
    named_freely = False  # the keys of a mapping are the user's own
    for step in problem["loc"]:
        inner = [section for section in sections if str(step) in section.model_fields]
        if re.fullmatch(r"constrained-\w+|literal\[.*\]", str(step)):
            continue  # pydantic's name of one of several types
        if named_freely:
            named_freely = False
        elif inner:
            annotations = [section.model_fields[str(step)].annotation for section in inner]
            named_freely = any(typing.get_origin(annotation) is dict for annotation in annotations)
            sections = [section for annotation in annotations for section in _sections(annotation)]
        elif any(_tag(section) == step for section in sections):
            sections = [section for section in sections if _tag(section) == step]
            continue
        elif problem["type"] == "extra_forbidden":
            return _unknown(kind, path, str(step), sections)
        path.append(str(step))
    if problem["type"] == "union_tag_invalid":
        valid = re.findall(r"'([^']*)'", problem["ctx"]["expected_tags"])
        name, section = problem["ctx"]["tag"], ".".join(path)
        if not isinstance(problem["input"], dict):
            return f"{section} is {problem['input']}: a section was expected, its name one of {', '.join(valid)}"
        return f"{section}.name is '{name}'.{nearest(name, valid)} Valid here: {', '.join(valid)}"
    if problem["type"] == "missing":
        return f"{'.'.join(path)} is missing; a value was expected"
    return f"{'.'.join(path) or 'the file'} is {problem['input']!r}: {problem['msg']}"


def _unknown(kind: type[Config], path: Sequence[str], step: str, sections: Sequence[type[Config]]) -> str:
    """Return the sentence for an unknown key, with the nearest valid one and all that are valid in its place."""
    valid = sorted({name for section in sections for name in section.model_fields})
    line = EXPERTS.get(path[-1]) if ExpertConfig in sections else None
    here = f"Valid here: {', '.join(valid)}" if line is None else taken(line)
    if line is not None:
        valid = list(line.takes)
        if step in kind.model_fields:
            here += f" {step} is for all experts: set it outside settings.{line.name}."
    return f"unknown key '{'.'.join([*path, step])}'.{nearest(step, valid)} {here}"


def _tag(section: type[Config]) -> str | None:
    name = section.model_fields.get("name")
    choices = typing.get_args(name.annotation) if name else ()
    return str(choices[0]) if choices else None


def _sections(annotation: Any) -> list[type[Config]]:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, Annotated, dict):
        return [section for part in typing.get_args(annotation) for section in _sections(part)]
    return []
