"""Processes that end with the one that started them, however that ends."""

from __future__ import annotations

import ctypes
import signal
import sys

PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG"""
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, even when it hangs in a C library. Only Linux can.

    It outlasts `exec`, and as a `preexec_fn` it takes no lock that another thread could have held at the fork: the
    function is looked up before.
    """
    if _prctl is not None:
        _prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
