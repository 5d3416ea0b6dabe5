"""One process a device that holds the models: it answers the workers' items, those of several videos in one batch."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_extraction.experts import load_model_of, make_extractors
from feature_extraction.extractor import ModelExpert
from vtr.errors import UnavailableError, VtrError
from vtr.extract_config import ExtractConfig
from vtr.parent import die_with_parent

DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Where Linux has a GPU's driver (CUDA, ROCm, WSL). Without one torch, which takes seconds to load, is not asked."""


DEVICE_LOST = 70
"""Exit status of a server whose GPU answers nothing any more; the pool starts another, and finds who is to blame."""


class ServerLost(VtrError):
    """The process that holds the models has died."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model made of some items: features [n, D], or why there are none."""

    values: NDArray[np.float32] | None = None
    error: str = ""
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True)
class Serving:
    """A model server has loaded its models.

    Attributes:
        experts: those whose models it holds.
        unavailable: expert -> why its model could not be loaded.
    """

    experts: tuple[str, ...]
    unavailable: Mapping[str, str]


@dataclass(slots=True)
class Request:
    """Items of one video for one expert, and where the answer goes."""

    client: Connection
    expert: str
    items: NDArray[Any]

    @property
    def kind(self) -> tuple[object, ...]:
        """Requests of one kind can share a batch."""
        return (self.expert, self.items.shape[1:], self.items.dtype)


class RemoteModel:
    """A worker's line to a model server: items in, features out, for all of its experts.

    Args:
        address: of the server's socket.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._connection: Connection | None = None

    def embed(self, expert: str, items: NDArray[Any]) -> NDArray[np.float32]:
        """Return the features [n, D] of items [n, ...].

        Raises:
            ServerLost: the server has died.
            MemoryError: the device's memory does not hold even one item.
            RuntimeError: the model failed; the message is its own.
        """
        try:
            if self._connection is None:
                self._connection = Client(self._address, "AF_UNIX")
            self._connection.send((expert, items))
            answer: Answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise ServerLost("the process that holds the models has died") from error
        if answer.values is not None:
            return answer.values
        raise MemoryError(answer.error) if answer.out_of_memory else RuntimeError(answer.error)


class ModelServer:
    """Batches requests across clients and answers them.

    Args:
        models: expert -> expert with its model loaded.
    """

    def __init__(self, models: Mapping[str, ModelExpert]) -> None:
        self._models = models
        self._arrived: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._waiting: list[Request] = []

    def listen(self, listener: Listener) -> None:
        """Accept clients for ever; each has a thread that reads its requests while the models compute."""
        while True:
            client = listener.accept()
            threading.Thread(target=self._receive, args=(client,), daemon=True).start()

    def _receive(self, client: Connection) -> None:
        with contextlib.suppress(EOFError, OSError):  # the worker has gone
            while True:
                expert, items = client.recv()
                self._arrived.put(Request(client, expert, items))

    def serve(self) -> None:
        """Answer requests for ever."""
        while True:
            self.answer(self.next_batch())

    def next_batch(self) -> list[Request]:
        """Wait for a request; return it with all others of its kind that fit into one batch, the oldest first."""
        if not self._waiting:
            self._waiting.append(self._arrived.get())
        with contextlib.suppress(queue.Empty):
            while True:
                self._waiting.append(self._arrived.get_nowait())
        kind, room = self._waiting[0].kind, self._models[self._waiting[0].expert].batch
        chosen: list[Request] = []
        for request in self._waiting:
            if request.kind == kind and (not chosen or len(request.items) <= room):
                chosen.append(request)
                room -= len(request.items)
        self._waiting = [request for request in self._waiting if not any(request is other for other in chosen)]
        return chosen

    def answer(self, requests: Sequence[Request]) -> None:
        """Answer requests of one kind; where they fail together, each is tried alone, so that one costs no other."""
        answer = self._compute(requests[0].expert, np.concatenate([request.items for request in requests]))
        if answer.values is None and len(requests) > 1:
            for request in requests:
                self.answer([request])
            return
        at = 0
        for request in requests:
            values = None if answer.values is None else answer.values[at : at + len(request.items)]
            at += len(request.items)
            with contextlib.suppress(OSError):  # the worker has gone
                request.client.send(Answer(values, answer.error, answer.out_of_memory))

    def _compute(self, expert: str, items: NDArray[Any]) -> Answer:
        """Run a model; where the device's memory runs out, with half the batch from now on."""
        model = self._models[expert]
        while True:
            try:
                return Answer(model.embed_all(items))
            except Exception as error:
                out_of_memory = ran_out_of_memory(error)
                if not out_of_memory and _device_is_lost():
                    os._exit(DEVICE_LOST)
                if not out_of_memory or model.batch == 1:
                    return Answer(error=f"{type(error).__name__}: {error}", out_of_memory=out_of_memory)
            model.batch = max(1, model.batch // 2)
            _free_device_memory()


def run_model_server(
    connection: Connection,
    address: str,
    config: ExtractConfig,
    experts: Sequence[str],
    extractors: Mapping[str, str],
    device: str,
) -> None:
    """Load the models of those experts that have one, tell the parent (`Serving`), and answer workers until killed."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    models: dict[str, ModelExpert] = {}
    try:
        made, unavailable = make_extractors(experts, config, extractors, models_only=True)
        for name, expert in made.items():
            if not isinstance(expert, ModelExpert):
                continue
            if lost := load_model_of(name, expert, device):
                unavailable[name] = lost
            else:
                models[name] = expert
        with Listener(address, "AF_UNIX", backlog=64) as listener:
            server = ModelServer(models)
            threading.Thread(target=server.listen, args=(listener,), daemon=True).start()
            connection.send(Serving(tuple(models), unavailable))
            server.serve()
    except VtrError as error:
        connection.send(error)
    except Exception:
        connection.send(VtrError(f"the models could not be loaded on {device}:\n{traceback.format_exc()}"))


def ran_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that the host's or a device's memory ran out."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def _device_is_lost() -> bool:
    """Return whether a GPU answers nothing any more: after some errors only another process can use it again."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def _free_device_memory() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def devices(config: ExtractConfig) -> tuple[str, ...]:
    """Return the devices that get a model server: those set, or all GPUs.

    Raises:
        UnavailableError: a GPU is asked for, and there is none.
    """
    if config.devices == ("auto",):
        if not any(Path(driver).exists() for driver in DRIVERS):
            return ()
        import torch

        return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
    import torch

    gpus = [device for device in config.devices if device.startswith("cuda")]
    if gpus and not torch.cuda.is_available():
        raise UnavailableError(
            f"devices asks for {', '.join(gpus)}; torch finds no GPU here. Use --devices cpu or auto."
        )
    return config.devices
