"""Dynamic batching: queries that are there at the same time are embedded and searched together, in one thread.

The model works in a thread of its own, so that the event loop always answers; whoever asks waits for a future. While
the model is busy queries pile up, and the next batch takes those that may go together: as many results wanted, under
the same filters, so that each answer is what it would be alone. A lone client never waits for company.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeVar

from vtr.retrieval import Filters, Hit
from vtr.serving.limits import Limits

T = TypeVar("T")
Search = Callable[[Sequence[str], int, Filters], list[list[Hit]]]
"""(queries, results wanted, filters) -> the results of each query."""

Key = tuple[int, Filters]


class BusyError(Exception):
    """More is asked than the server takes on; it may be asked again a little later."""


class SlowError(Exception):
    """A request took longer than it may."""


class ModelThread:
    """One thread that does what it is given, in order. Its end is not waited for for ever: a job may hang."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    async def run(self, job: Callable[[], T]) -> T:
        """Return what the job returns, or raise what it raises."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            if done.done():
                return
            if error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)  # type: ignore[arg-type]

        def work() -> None:
            result: T | None = None
            error: BaseException | None = None
            try:
                result = job()
            except BaseException as raised:
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop has ended; nobody waits any more
                loop.call_soon_threadsafe(settle, result, error)

        self._jobs.put(work)
        return await done

    def close(self, seconds: float) -> None:
        """End the thread after the job under way, if that ends in time."""
        self._jobs.put(None)
        self._thread.join(seconds)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


@dataclass(eq=False, slots=True)
class _Job:
    """Something for the model: a query that may share a batch (it has a key), or a call of its own."""

    answer: asyncio.Future[Any]
    key: Key | None = None
    query: str = ""
    call: Callable[[], Any] = field(default=list)


class Batcher:
    """Feeds the model thread. To be made and used in one event loop.

    Args:
        search: answers a batch of queries; called in the model thread, as is every `call`.
        limits: see there.
        observe: told the size of each batch.
    """

    def __init__(self, search: Search, limits: Limits, observe: Callable[[int], None]) -> None:
        self._search = search
        self._limits = limits
        self._observe = observe
        self._waiting: deque[_Job] = deque()
        self._arrived = asyncio.Event()
        self._model = ModelThread()
        self._last_batch = 1
        self._feeder = asyncio.create_task(self._feed(), name="batches")

    @property
    def waiting(self) -> int:
        """How many searches wait for the model."""
        return len(self._waiting)

    async def search(self, query: str, k: int, filters: Filters) -> list[Hit]:
        """Return the best `k` videos for a query.

        Raises:
            BusyError: too many are waiting.
            SlowError: it took too long.
        """
        job = _Job(asyncio.get_running_loop().create_future(), (k, filters), query)
        hits: list[Hit] = await self._answer(job)
        return hits

    async def call(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, called in the model thread when its turn comes.

        Raises:
            BusyError: too many are waiting.
            SlowError: it took too long.
        """
        result: T = await self._answer(_Job(asyncio.get_running_loop().create_future(), call=work))
        return result

    async def close(self) -> None:
        """End the thread; what still waits is cancelled."""
        self._feeder.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._feeder
        for job in self._waiting:
            job.answer.cancel()
        await asyncio.to_thread(self._model.close, self._limits.stop_seconds)

    async def _answer(self, job: _Job) -> Any:
        if len(self._waiting) >= self._limits.most_waiting:
            raise BusyError(f"{len(self._waiting)} searches are waiting already. Try again in a moment.")
        self._waiting.append(job)
        self._arrived.set()
        try:
            async with asyncio.timeout(self._limits.timeout_seconds):
                return await job.answer
        except TimeoutError as error:
            raise SlowError(
                f"the search took longer than {self._limits.timeout_seconds:g} seconds. Try again in a moment."
            ) from error
        finally:
            if job in self._waiting:  # its error would spell out the job, with all that was found
                self._waiting.remove(job)

    async def _feed(self) -> None:
        while True:
            await self._arrived.wait()
            await self._gather()
            batch = self._take()
            if not batch:
                self._arrived.clear()
            elif batch[0].key is None:
                await self._run_alone(batch[0])
            else:
                await self._run_batch(batch, batch[0].key)

    async def _gather(self) -> None:
        """Wait a little for as many queries as came together last time: their clients are likely to ask again."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._limits.gather_seconds
        while len(self._waiting) < self._last_batch and (left := end - loop.time()) > 0:
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._arrived.wait()
        self._last_batch = 1

    def _take(self) -> list[_Job]:
        """Take the oldest job, and the queries that may go with it."""
        batch: list[_Job] = []
        kept: deque[_Job] = deque()
        for job in self._waiting:
            together = not batch or (job.key is not None and job.key == batch[0].key)
            (batch if together and len(batch) < self._limits.most_batched else kept).append(job)
        self._waiting = kept
        return batch

    async def _run_batch(self, batch: list[_Job], key: Key) -> None:
        self._last_batch = len(batch)
        self._observe(len(batch))
        try:
            queries = [job.query for job in batch]
            found = await self._model.run(lambda: self._search(queries, *key))
        except Exception as error:
            if len(batch) == 1:
                _fail(batch[0], error)
                return
            for job in batch:  # one query must not fail the others
                await self._run_batch([job], key)
            return
        for job, hits in zip(batch, found, strict=True):
            if not job.answer.done():
                job.answer.set_result(hits)

    async def _run_alone(self, job: _Job) -> None:
        try:
            result = await self._model.run(job.call)
        except Exception as error:
            _fail(job, error)
            return
        if not job.answer.done():
            job.answer.set_result(result)


def _fail(job: _Job, error: Exception) -> None:
    if not job.answer.done():
        job.answer.set_exception(error)
