"""Text encoders of the Hugging Face kind: loading them, and how each turns a sentence into one state."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from vtr.errors import UnavailableError
from vtr.files import read_json, sha256_file
from vtr.packaged import resolve_text_model


class Pooling(NamedTuple):
    """How token states become one sentence state: which, and whether it is then scaled to unit length."""

    of: Literal["cls", "mean"]
    normalised: bool


_POOLINGS: Mapping[str, Literal["cls", "mean"]] = {
    "cls": "cls",
    "cls_token": "cls",
    "mean": "mean",
    "mean_tokens": "mean",
}

_SHAPING = {".json", ".txt", ".model", ".safetensors", ".bin"}
"""File types of a model folder that its states depend on."""


def load_encoder(model: str) -> nn.Module:
    """Return a pretrained encoder in float32.

    Raises:
        UnavailableError: it cannot be loaded, or its weights are incomplete.
    """
    source = resolve_text_model(model)
    return load_pretrained(source, "AutoModel", model)


def load_text_side(model: str, model_class: str) -> nn.Module:
    """Return the text side of a model of pictures and texts, such as CLIP, in float32.

    Raises:
        UnavailableError: it cannot be loaded, or its weights are incomplete.
    """
    described = _load(model, lambda auto: auto.AutoConfig.from_pretrained(model))
    config = described.text_config
    if hasattr(described, "projection_dim"):  # said of both sides together
        config.projection_dim = described.projection_dim
    return load_pretrained(model, model_class, config=config)


def load_pretrained(source: str, model_class: str, model: str | None = None, config: Any = None) -> nn.Module:
    """Return pretrained weights as a class of `transformers`, in float32.

    Args:
        source: a folder or a hub name.
        model_class: the class, "AutoModel".
        model: what the user calls it, by default `source`.
        config: its configuration, by default that of the source.

    Raises:
        UnavailableError: they cannot be loaded, or are incomplete.
    """
    model = model or source
    options = {"dtype": torch.float32, "output_loading_info": True} | ({} if config is None else {"config": config})
    encoder, info = _load(
        model,
        lambda auto: getattr(auto, model_class).from_pretrained(source, **options),
    )
    lacking = sorted(name for name in info["missing_keys"] if "pooler" not in name)  # no state depends on the pooler
    if lacking:
        raise UnavailableError(
            f"the text model '{model}' lacks {len(lacking)} of its weights ({', '.join(lacking[:3])}). Fetch it again."
        )
    assert isinstance(encoder, nn.Module)
    return encoder


def load_tokenizer(model: str, *, lower_case: bool = False) -> Any:
    """Return the tokeniser of a text model.

    Args:
        model: its name or folder.
        lower_case: have a BERT tokeniser lower-case, and drop accents, also where its model is a cased one.

    Raises:
        UnavailableError: it cannot be loaded.
    """
    source = resolve_text_model(model)
    options = {"do_lower_case": True} if lower_case else {}
    tokenizer = _load(model, lambda auto: auto.AutoTokenizer.from_pretrained(source, **options))
    if tokenizer.pad_token is None:  # GPT's has none; what padding holds is masked
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    return tokenizer


def state_dim(model: str) -> int:
    """Return H, the length of a text model's states, without loading its weights.

    Raises:
        UnavailableError: its configuration cannot be loaded.
    """
    source = resolve_text_model(model)
    return int(_load(model, lambda auto: auto.AutoConfig.from_pretrained(source)).hidden_size)


def identity(model: str) -> dict[str, str]:
    """Return what tells a text model's states from another's: hashes of a folder's files, or the commit on the hub.

    Raises:
        UnavailableError: its configuration cannot be loaded.
    """
    source = resolve_text_model(model)
    folder = Path(source)
    if folder.is_dir():
        files = [path for pattern in ("*", "*_Pooling/*") for path in sorted(folder.glob(pattern))]
        return {str(path.relative_to(folder)): sha256_file(path) for path in files if path.suffix in _SHAPING}
    config = _load(model, lambda auto: auto.AutoConfig.from_pretrained(source))
    return {"commit": str(getattr(config, "_commit_hash", None))}


def encoder_config(model: str) -> dict[str, Any]:
    """Return a text model's `transformers` configuration, as `encoder_from_config` takes it.

    Raises:
        UnavailableError: it cannot be loaded.
    """
    source = resolve_text_model(model)
    values: dict[str, Any] = _load(model, lambda auto: auto.AutoConfig.from_pretrained(source)).to_diff_dict()
    return values


def encoder_from_config(values: Mapping[str, Any]) -> nn.Module:
    """Return an encoder with random weights from a saved `transformers` configuration."""
    import transformers

    config = transformers.AutoConfig.for_model(**values)
    encoder: nn.Module = transformers.AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    return encoder


def find_pooling(model: str) -> Pooling:
    """Return how a text model's token states become one: sentence-transformers models say so, others use [CLS]'s.

    Raises:
        UnavailableError: it asks for something other than the mean or [CLS].
    """
    modules = _model_file(model, "modules.json")
    if modules is None:
        return Pooling("cls", normalised=False)
    folders = {str(module["type"]).rsplit(".", 1)[-1]: str(module["path"]) for module in read_json(modules)}
    stored = _model_file(model, f"{folders.get('Pooling')}/config.json")
    settings = read_json(stored) if stored is not None else {}
    prefix = "pooling_mode_"
    flags = [name.removeprefix(prefix) for name, on in settings.items() if name.startswith(prefix) and on]
    asked = settings.get("pooling_mode", "+".join(flags))  # one word in newer layouts, a flag for each in older ones
    further = sorted(set(folders) - {"Transformer", "Pooling", "Normalize"})
    if asked not in _POOLINGS or further:
        raise UnavailableError(
            f"the text model '{model}' makes sentence states by {', '.join([f'pooling {asked!r}', *further])}; the "
            "mean or [CLS] and nothing further was expected. Choose another text.model, or set text.mode to "
            "fine_tuned, which uses the state of [CLS]."
        )
    return Pooling(_POOLINGS[asked], normalised="Normalize" in folders)


def pool(hidden: Tensor, attention_mask: Tensor, pooling: Pooling) -> Tensor:
    """Return sentence states [N, H] of token states [N, L, H]; `attention_mask` [N, L] is 0 on padding."""
    if pooling.of == "cls":
        states = hidden[:, 0]
    else:
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        states = (hidden * mask).sum(1) / mask.sum(1)
    return normalize(states, dim=-1) if pooling.normalised else states


def _model_file(model: str, name: str) -> Path | None:
    """Return the path of one file of a model, a local folder's or the hub's; None where the model has no such file."""
    from transformers.utils.hub import cached_file

    source = resolve_text_model(model)
    found = _load(model, lambda _: cached_file(source, name, _raise_exceptions_for_missing_entries=False))
    return None if found is None else Path(found)


def _load(model: str, load: Callable[[Any], Any]) -> Any:
    import transformers

    try:
        with _quiet():
            return load(transformers)
    except Exception as error:  # what a missing or damaged model raises is the loaders' secret
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if model.startswith(("/", "./", "../", "~")) and not Path(model).is_dir():
            reason = "there is no such folder"
        raise UnavailableError(
            f"the text model '{model}' cannot be loaded ({reason}). Set text.model to a local folder in Hugging Face "
            "layout, a hub name this machine can reach, or packaged:all-minilm-l6-v2."
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the loaders' notes, retries and bars off the terminal while something loads."""
    from huggingface_hub.utils import logging as hub
    from transformers.utils import logging

    level, hub_level, bars = logging.get_verbosity(), hub.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    hub.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        hub.set_verbosity(hub_level)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
