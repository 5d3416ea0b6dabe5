"""Reading other people's pickles without running what is in them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from vtr.errors import InputError

_ALLOWED = {
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("collections", "OrderedDict"),
    *((module, name) for module in ("builtins", "__builtin__") for name in ("set", "frozenset", "bytearray")),
}


def _latin1(text: str, encoding: str) -> bytes:
    """Stand in for `_codecs.encode`, by which Python 3 writes bytes for protocols 0 to 2."""
    if encoding != "latin1":
        raise InputError(f"it wants to encode text as {encoding}; only latin1 is admitted.")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stand in for `bytes`, by which Python 3 writes an empty one for protocols 0 to 2."""
    return b""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _latin1
        if (module, name) in (("__builtin__", "bytes"), ("builtins", "bytes")):
            return _no_bytes
        if (module, name) not in _ALLOWED:
            raise InputError(
                f"it wants to run {module}.{name}; only numpy arrays and plain containers are admitted. "
                "Do not open it with anything else unless you trust its author."
            )
        return super().find_class(module, name)


def load_pickle(path: Path) -> Any:
    """Return the content of a pickle that holds only numpy arrays and plain containers.

    Raises:
        InputError: the file is missing or damaged, or it wants to run code (the message names what).
    """
    try:
        with path.open("rb") as stream:
            return _Unpickler(stream, encoding="latin1").load()
    except InputError as error:
        raise InputError(f"{path} is refused: {error}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from error
    except Exception as error:  # a damaged pickle raises almost anything
        raise InputError(f"{path} is not a whole pickle ({error}). Fetch it again.") from error
