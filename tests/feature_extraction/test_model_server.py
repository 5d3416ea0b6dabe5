"""The process that holds the models: batches across videos change no feature, and one video's trouble is its own."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_experts import MeanModel
from numpy.typing import NDArray

from feature_extraction.frames import Frames, VideoInfo
from feature_extraction.model_server import DRIVERS, Answer, ModelServer, RemoteModel, Request, ServerLost, devices
from vtr.extract_config import ExtractConfig


def pictures(number: int, seed: int = 0, height: int = 8) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (number, height, 16, 3), dtype=np.uint8)


class Recorder(MeanModel):
    """Remembers the sizes of its batches; memory runs out above `room` items, and black pictures are refused."""

    def __init__(self, batch: int, room: int = 1000) -> None:
        super().__init__(ExtractConfig(), "recorder")
        self.batch, self.room = batch, room
        self.sizes: list[int] = []
        self.load("cpu")

    def embed(self, items: NDArray[Any]) -> NDArray[np.float32]:
        if len(items) > self.room:
            raise torch.OutOfMemoryError(f"{len(items)} items do not fit")
        if (items.reshape(len(items), -1).max(axis=1) == 0).any():
            raise ValueError("black")
        self.sizes.append(len(items))
        return super().embed(items)


def ask(server: ModelServer, *items: NDArray[Any]) -> list[Connection]:
    """Put requests as if they had come in while the server computed, each from a client of its own."""
    ends = [Pipe() for _ in items]
    for (_, theirs), each in zip(ends, items, strict=True):
        server._arrived.put(Request(theirs, "recorder", each))
    return [ours for ours, _ in ends]


def answers(clients: list[Connection]) -> list[Answer]:
    return [client.recv() for client in clients]


def test_items_of_several_videos_share_a_batch_and_each_gets_its_own_features() -> None:
    model = Recorder(batch=8)
    server = ModelServer({"recorder": model})
    videos = [pictures(number, seed) for seed, number in enumerate((3, 4, 1))]
    clients = ask(server, *videos)
    server.answer(server.next_batch())
    assert model.sizes == [8]
    for answer, video in zip(answers(clients), videos, strict=True):
        np.testing.assert_allclose(answer.values, video.mean(axis=(1, 2)), rtol=1e-6)


def test_a_video_that_comes_piece_by_piece_is_embedded_in_whole_batches() -> None:
    model, seen = Recorder(batch=8), pictures(21)
    reading = model.begin(VideoInfo("a.mp4", 21.0, 4, 4, 1.0, False))
    for start, end in ((0, 3), (3, 6), (6, 9), (9, 10), (10, 20), (20, 21)):
        reading.add(Frames(seen[start:end], np.arange(start, end, dtype=np.float64)))
    found = reading.finish(None)
    assert model.sizes == [8, 8, 5]
    assert found is not None
    np.testing.assert_allclose(found.features.values, seen.mean(axis=(1, 2), dtype=np.float64), rtol=1e-6)
    assert found.features.start_seconds.tolist() == list(range(21))


def test_large_items_do_not_wait_for_a_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = Recorder(batch=8), pictures(6)
    monkeypatch.setattr("feature_extraction.extractor.WAITING_BYTES", 2 * seen[0].nbytes)
    reading = model.begin(VideoInfo("a.mp4", 6.0, 16, 8, 1.0, False))
    for at in range(6):
        reading.add(Frames(seen[at : at + 1], np.array([float(at)])))
    assert reading.finish(None) is not None
    assert model.sizes == [3, 3]


def test_what_does_not_fit_waits_and_a_video_larger_than_a_batch_is_cut() -> None:
    model = Recorder(batch=8)
    server = ModelServer({"recorder": model})
    videos = [pictures(6, 1), pictures(5, 2), pictures(2, 3), pictures(19, 4)]
    clients = ask(server, *videos)
    while server._waiting or not server._arrived.empty():
        server.answer(server.next_batch())
    assert model.sizes == [8, 5, 8, 8, 3]  # 6 + 2 together, then 5, then 19 in pieces
    for answer, video in zip(answers(clients), videos, strict=True):
        np.testing.assert_allclose(answer.values, video.mean(axis=(1, 2)), rtol=1e-6)


def test_pictures_of_another_size_are_another_batch() -> None:
    model = Recorder(batch=8)
    server = ModelServer({"recorder": model})
    clients = ask(server, pictures(2, 1), pictures(2, 2, height=12), pictures(2, 3))
    server.answer(server.next_batch())
    server.answer(server.next_batch())
    assert model.sizes == [4, 2]
    assert all(answer.values is not None for answer in answers(clients))


def test_a_video_that_fails_costs_the_others_of_its_batch_nothing() -> None:
    server = ModelServer({"recorder": Recorder(batch=8)})
    clients = ask(server, pictures(2, 1), np.zeros((2, 8, 16, 3), np.uint8), pictures(2, 3))
    server.answer(server.next_batch())
    first, black, third = answers(clients)
    assert black.values is None
    assert "ValueError: black" in black.error
    np.testing.assert_allclose(first.values, pictures(2, 1).mean(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_allclose(third.values, pictures(2, 3).mean(axis=(1, 2)), rtol=1e-6)


def test_batches_shrink_until_they_fit_the_device() -> None:
    model = Recorder(batch=16, room=5)
    server = ModelServer({"recorder": model})
    (client,) = ask(server, pictures(9))
    server.answer(server.next_batch())
    assert model.batch == 4
    np.testing.assert_allclose(client.recv().values, pictures(9).mean(axis=(1, 2)), rtol=1e-6)


def test_a_device_that_does_not_hold_one_item_says_so() -> None:
    server = ModelServer({"recorder": Recorder(batch=4, room=0)})
    (client,) = ask(server, pictures(3))
    server.answer(server.next_batch())
    answer = client.recv()
    assert answer.values is None
    assert answer.out_of_memory


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The socket of a server that runs in this process."""
    path = str(tmp_path / "socket")
    server = ModelServer({"recorder": Recorder(batch=8)})
    with Listener(path, "AF_UNIX") as listener:

        def listen() -> None:
            with contextlib.suppress(OSError):  # the listener is closed at the end of the test
                server.listen(listener)

        threading.Thread(target=listen, daemon=True).start()
        threading.Thread(target=server.serve, daemon=True).start()
        yield path


def test_workers_are_answered_side_by_side(address: str) -> None:
    found: dict[int, NDArray[np.float32]] = {}

    def work(number: int) -> None:
        remote = RemoteModel(address)
        for _ in range(5):
            found[number] = remote.embed("recorder", pictures(number + 1, number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(6):
        np.testing.assert_allclose(found[number], pictures(number + 1, number).mean(axis=(1, 2)), rtol=1e-6)


def test_errors_reach_the_worker_as_errors(address: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ValueError: black"):
        RemoteModel(address).embed("recorder", np.zeros((1, 8, 16, 3), np.uint8))
    with pytest.raises(ServerLost):
        RemoteModel(str(tmp_path / "nobody")).embed("recorder", pictures(1))


def test_every_gpu_gets_a_server_unless_devices_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert devices(ExtractConfig()) == () or any(Path(driver).exists() for driver in DRIVERS)
    monkeypatch.setattr("feature_extraction.model_server.DRIVERS", ("/",))
    assert devices(ExtractConfig()) == ("cuda:0", "cuda:1")
    assert devices(ExtractConfig(devices=("cpu",))) == ("cpu",)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert devices(ExtractConfig()) == ()
