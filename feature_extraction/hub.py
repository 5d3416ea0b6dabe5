"""Weights in Hugging Face layout: a local folder, or a folder of the hub's cache that is downloaded on first use."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from vtr.errors import UnavailableError
from vtr.files import sha256_file

TIMEOUT_SECONDS = 10.0
"""How long the hub may take to answer a question before it counts as out of reach."""
SAFE, PICKLED = "*.safetensors", "pytorch_model*.bin"
"""Weight files, the preferred first. `transformers` opens the second kind so that it cannot run code."""
SMALL_FILES = ("*.json", "*.txt", "*.model")


@lru_cache(maxsize=64)
def model_folder(model: str, expert: str) -> Path:
    """Return the folder that holds a model's config and weights; of a hub name, download what is missing.

    Args:
        model: a local folder, or a hub name such as "openai/clip-vit-base-patch32". What the hub's cache on this
            machine holds is used without asking the hub.
        expert: the expert that needs it, for errors.

    Raises:
        UnavailableError: the folder has no config or no weights, or the hub has no such model or cannot be reached.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").exists() or not weight_files(folder):
            raise UnavailableError(
                f"expert {expert}: {folder} is no model in Hugging Face layout: config.json and {SAFE} or {PICKLED} "
                f"were expected in it. Set settings.{expert}.model to such a folder, or to a hub name."
            )
        return folder
    if model.startswith(("/", ".", "~")) or model.count("/") > 1 or folder.exists():
        raise UnavailableError(
            f"expert {expert}: settings.{expert}.model is {model}, which is no folder. A folder with config.json and "
            "weights, or a hub name such as openai/clip-vit-base-patch32, was expected."
        )
    return _cached(model) or _downloaded(model, expert)


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
    return folder if (folder / "config.json").exists() and weight_files(folder) else None


def _downloaded(model: str, expert: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    try:
        files = [file.rfilename for file in HfApi().model_info(model, timeout=TIMEOUT_SECONDS).siblings or ()]
        weights = SAFE if any(file.endswith(".safetensors") for file in files) else PICKLED
        folder = snapshot_download(model, allow_patterns=[*SMALL_FILES, weights], etag_timeout=TIMEOUT_SECONDS)
    except Exception as error:  # the hub's library changes what it raises with the network library below it
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise UnavailableError(
            f"expert {expert}: the model {model} is not on this machine and could not be downloaded ({why}). Where "
            f"there is a network, run `hf download {model}` (`huggingface-cli download {model}` in older versions); or "
            f"copy its folder here and set settings.{expert}.model to it."
        ) from error
    if not weight_files(Path(folder)):
        raise UnavailableError(
            f"expert {expert}: {model} has no weights that PyTorch reads ({SAFE} or {PICKLED} were expected). "
            f"Set settings.{expert}.model to another model."
        )
    return Path(folder)
