"""The sounds of the small world, synthesised: speech by eSpeak NG, the rest from sines and noise."""

from __future__ import annotations

import ctypes
import functools

import numpy as np
from numpy.typing import NDArray

from vtr.demo.world import Scene
from vtr.packaged import has_module

RATE = 22_050
"""Samples per second of what is synthesised; eSpeak NG's own."""
LOUDNESS = 0.3

Samples = NDArray[np.float32]


def has_speech() -> bool:
    """Return whether a speech synthesiser is installed (the wheel espeakng-loader, of the [experts] extra)."""
    return has_module("espeakng_loader")


def track(scene: Scene) -> Samples | None:
    """Return the clip's sound [S] at RATE, None where the clip has no sound track."""
    length = round(scene.seconds * RATE)
    if scene.hearing == "none":
        return None
    if scene.hearing == "silence":
        return np.zeros(length, np.float32)
    if scene.phrase is not None:
        spoken = speak(scene.phrase)[:length]
        return np.pad(spoken, (0, length - len(spoken)))
    assert scene.sound is not None
    seconds = np.arange(length) / RATE
    return (SOUNDS[scene.sound](seconds, np.random.default_rng(scene.seed)) * LOUDNESS).astype(np.float32)


def _siren(seconds: NDArray[np.float64], draw: np.random.Generator) -> NDArray[np.float64]:
    pitch = 700 + 300 * np.sin(2 * np.pi * (0.8 * seconds + draw.random()))
    return np.sin(2 * np.pi * np.cumsum(pitch) / RATE)


def _drum(seconds: NDArray[np.float64], draw: np.random.Generator) -> NDArray[np.float64]:
    since = (seconds + draw.random()) % 0.45
    return np.sin(2 * np.pi * 75 * since) * np.exp(-since * 14) * 1.6


def _rain(seconds: NDArray[np.float64], draw: np.random.Generator) -> NDArray[np.float64]:
    return draw.standard_normal(len(seconds)) * 0.35


def _bell(seconds: NDArray[np.float64], draw: np.random.Generator) -> NDArray[np.float64]:
    since = (seconds + draw.random()) % 1.1
    partials = sum(np.sin(2 * np.pi * 620 * k * since) / k for k in (1, 2.76, 5.4))
    return np.asarray(partials * np.exp(-since * 3.5))


def _birds(seconds: NDArray[np.float64], draw: np.random.Generator) -> NDArray[np.float64]:
    since = (seconds + draw.random()) % 0.35
    pitch = 2600 + 5200 * since
    return np.sin(2 * np.pi * pitch * since) * (since < 0.16) * np.sin(np.pi * np.clip(since / 0.16, 0, 1))


def _hum(seconds: NDArray[np.float64], draw: np.random.Generator) -> NDArray[np.float64]:
    pitch = draw.uniform(85, 100)
    return np.sin(2 * np.pi * pitch * seconds) + 0.4 * np.sin(4 * np.pi * pitch * seconds)


SOUNDS = {"siren": _siren, "drum": _drum, "rain": _rain, "bell": _bell, "birds": _birds, "hum": _hum}

_RETRIEVAL, _UTF8 = 1, 1
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


@functools.cache
def _espeak() -> ctypes.CDLL:
    """Load and initialise eSpeak NG, once in a process: its state is global."""
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(_RETRIEVAL, 0, espeakng_loader.get_data_path().encode(), 0)
    if rate != RATE:
        raise RuntimeError(f"eSpeak NG answers with rate {rate}, {RATE} was expected")
    library.espeak_SetVoiceByName(b"en-us")
    speed = 1
    library.espeak_SetParameter(speed, 150, 0)
    return library


@functools.lru_cache(maxsize=256)
def speak(phrase: str) -> Samples:
    """Return a phrase spoken by eSpeak NG, [S] at RATE."""
    library = _espeak()
    pieces: list[NDArray[np.int16]] = []

    def take(samples: ctypes._Pointer[ctypes.c_short], count: int, events: int) -> int:
        del events
        if samples and count > 0:
            pieces.append(np.ctypeslib.as_array(samples, (count,)).astype(np.int16))
        return 0

    callback = _CALLBACK(take)
    library.espeak_SetSynthCallback(callback)
    text = phrase.encode()
    library.espeak_Synth(text, len(text) + 1, 0, 0, 0, _UTF8, None, None)
    library.espeak_Synchronize()
    spoken = np.concatenate(pieces).astype(np.float32) / 32768
    return (spoken / max(float(np.abs(spoken).max()), 1e-6) * 0.8).astype(np.float32)
