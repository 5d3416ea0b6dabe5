"""Weights in Hugging Face layout: a local folder, or a folder of the hub's cache that is downloaded on first use."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from feature_extraction.damage import first_sentence, read_object, weights_damage
from vtr.errors import ConfigError, UnavailableError
from vtr.experts import find_expert
from vtr.extract_config import ExtractConfig
from vtr.files import sha256_file
from vtr.packaged import resolve_text_model

TIMEOUT_SECONDS = 10.0
"""How long the hub may take to answer a question before it counts as out of reach."""
SAFE, PICKLED = "*.safetensors", "pytorch_model*.bin"
"""Weight files, the preferred first. `transformers` opens the second kind so that it cannot run code."""
SMALL_FILES = ("*.json", "*.txt", "*.model")
CONFIG = "config.json"
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
"""Which file each tensor is in, where the weights are in several."""
OBJECTS = (CONFIG, "preprocessor_config.json", "generation_config.json", *INDEXES)
"""Files that hold a JSON object, where they are there at all."""


def model_of(config: ExtractConfig, name: str) -> str:
    """Return the model an expert is to use: what is set for it, or its default.

    Raises:
        UnavailableError: nothing is set, and it has no default.
    """
    model = config.of(name).model or find_expert(name, config.settings).model
    if model is None:
        raise UnavailableError(
            f"expert {name}: settings.{name}.model is not set, and it has no default weights. Give a folder or a hub "
            f"name with --set settings.{name}.model=..."
        )
    return model


def expert_folder(config: ExtractConfig, name: str) -> Path:
    """Return the folder with an expert's model. See `model_folder`.

    Raises:
        ConfigError: the model is of a type that the expert does not read.
        UnavailableError: no model is set, or it is not here, not whole and not to be had.
    """
    model, types = model_of(config, name), find_expert(name, config.settings).model_types
    folder = model_folder(model, f"expert {name}", f"settings.{name}.model")
    found = read_object(folder / CONFIG)[0].get("model_type")
    if found not in types:
        raise ConfigError(
            f"expert {name}: {model} is a model of type '{found}' by its {CONFIG}, one of another type was expected "
            f"({', '.join(types)}). Set settings.{name}.model to such a model."
        )
    return folder


def sentence_folder(model: str) -> Path:
    """Return the folder of the model that embeds what is read and heard, `sentence_model`. See `model_folder`."""
    return model_folder(resolve_text_model(model), "the sentence model", "sentence_model")


@lru_cache(maxsize=64)
def model_folder(model: str, owner: str, setting: str) -> Path:
    """Return the folder that holds a model's config and weights; of a hub name, download what is missing.

    Args:
        model: a local folder, or a hub name such as "openai/clip-vit-base-patch32". What the hub's cache on this
            machine holds is used without asking the hub.
        owner: who needs it, for errors, such as "expert clip".
        setting: which setting names it, for errors.

    Raises:
        UnavailableError: the folder has no config or no weights, a file in it is damaged or missing, or the hub has no
            such model or cannot be reached.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / CONFIG).exists() or not weight_files(folder):
            raise UnavailableError(
                f"{owner}: {folder} is no model in Hugging Face layout: {CONFIG} and {SAFE} or {PICKLED} were expected "
                f"in it. Set {setting} to such a folder, or to a hub name."
            )
        return _whole(folder, owner, setting)
    if model.startswith(("/", ".", "~")) or model.count("/") > 1 or folder.exists():
        raise UnavailableError(
            f"{owner}: {setting} is {model}, which is no folder. A folder with {CONFIG} and weights, or a hub name "
            "such as openai/clip-vit-base-patch32, was expected."
        )
    return _whole(_cached(model) or _downloaded(model, owner, setting), owner, setting)


def _whole(folder: Path, owner: str, setting: str) -> Path:
    """Return the folder of a model, none of whose files shows damage.

    Raises:
        UnavailableError: one is damaged or missing.
    """
    damaged = [(folder / name, read_object(folder / name)[1]) for name in OBJECTS if (folder / name).exists()]
    damaged += [(folder / name, f"is missing, though {index} names it") for name, index in _missing_parts(folder)]
    damaged += [(path, weights_damage(path)) for path in weight_files(folder)]
    for path, wrong in damaged:
        if wrong:
            raise UnavailableError(
                f"{owner}: {path} {wrong}. A whole file of a model in Hugging Face layout was expected; download it "
                f"again (`hf download NAME --force-download`), or set {setting} to another model."
            )
    return folder


def _missing_parts(folder: Path) -> list[tuple[str, str]]:
    """Return the weight files that the index of a folder names and that are not there, each with the index.

    Where all weights are in one file too, nobody reads the index.
    """
    index = INDEXES[0] if any(folder.glob(SAFE)) else INDEXES[1]
    if (folder / index.removesuffix(".index.json")).exists():
        return []
    parts = read_object(folder / index)[0].get("weight_map", {})
    named = sorted({str(part) for part in parts.values()}) if isinstance(parts, dict) else []
    return [(part, index) for part in named if not (folder / part).exists()]


def weight_files(folder: Path) -> list[Path]:
    """Return a folder's weight files, of one kind, in alphabetical order."""
    return sorted(folder.glob(SAFE)) or sorted(folder.glob(PICKLED))


@lru_cache(maxsize=64)
def weights_sha256(folder: Path) -> str:
    """Return the hash of a folder's weights; where they are in several files, the hash of the files' hashes."""
    hashes = [sha256_file(path) for path in weight_files(folder)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _cached(model: str) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(model, local_files_only=True))
    except (OSError, ValueError):
        return None
    whole = (folder / CONFIG).exists() and weight_files(folder) and not _missing_parts(folder)
    return folder if whole else None


def _downloaded(model: str, owner: str, setting: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    try:
        files = [file.rfilename for file in HfApi().model_info(model, timeout=TIMEOUT_SECONDS).siblings or ()]
        weights = SAFE if any(file.endswith(".safetensors") for file in files) else PICKLED
        folder = snapshot_download(model, allow_patterns=[*SMALL_FILES, weights], etag_timeout=TIMEOUT_SECONDS)
    except Exception as error:  # the hub's library changes what it raises with the network library below it
        raise UnavailableError(
            f"{owner}: the model {model} is not on this machine and could not be downloaded ({first_sentence(error)}). "
            f"Where there is a network, run `hf download {model}` (`huggingface-cli download {model}` in older "
            f"versions); or copy its folder here and set {setting} to it."
        ) from error
    if not weight_files(Path(folder)):
        raise UnavailableError(
            f"{owner}: {model} has no weights that PyTorch reads ({SAFE} or {PICKLED} were expected). Set {setting} to "
            "another model."
        )
    return Path(folder)
