"""Batching: each answer as if alone, together where possible, off the event loop; limits and what becomes of errors."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from loops_apart import run_alone

from vtr.retrieval import Filters, Hit
from vtr.serving.batching import Batcher, BusyError, SlowError
from vtr.serving.limits import Limits

ANY = Filters()


def ignore(size: int) -> None:
    """Observe nothing."""
    del size


class Model:
    """Answers each query with one hit that says what was asked; waits while its gate is shut."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.batches: list[list[str]] = []
        self.threads: set[int] = set()

    def __call__(self, queries: Sequence[str], k: int, filters: Filters) -> list[list[Hit]]:
        """Answer a batch."""
        self.batches.append(list(queries))
        self.threads.add(threading.get_ident())
        self.entered.set()
        self.gate.wait(60)
        if any(query.startswith("bad") for query in queries):
            raise ValueError("a bad query")
        return [[Hit(k, 0.5, query, None, filters.category)] for query in queries]


def run(test: Callable[[Batcher, Model], Awaitable[None]], **limits: Any) -> Model:
    """Run a test in an event loop of its own."""
    model = Model()

    async def main() -> None:
        batcher = Batcher(model, Limits(**{"stop_seconds": 5, **limits}), ignore)
        try:
            await asyncio.wait_for(test(batcher, model), 60)
        finally:
            model.gate.set()
            await batcher.close()

    run_alone(main())
    return model


async def start(batcher: Batcher, model: Model, queries: Sequence[str], k: int = 3) -> list[asyncio.Task[list[Hit]]]:
    """Hold the model up with a first query, and have others wait behind it."""
    model.gate.clear()
    first = asyncio.create_task(batcher.search("first", k, ANY))
    await asyncio.to_thread(model.entered.wait, 60)
    waiting = [asyncio.create_task(batcher.search(query, k, ANY)) for query in queries]
    while batcher.waiting < len(queries):
        await asyncio.sleep(0)
    return [first, *waiting]


def test_what_waits_is_asked_together_and_each_gets_its_own_answer() -> None:
    async def test(batcher: Batcher, model: Model) -> None:
        queries = [f"q{number}" for number in range(100)]
        tasks = await start(batcher, model, queries)
        model.gate.set()
        answers = await asyncio.gather(*tasks)
        assert [hits[0].video_id for hits in answers] == ["first", *queries]

    model = run(test)
    assert [len(batch) for batch in model.batches] == [1, 64, 36]
    assert len(model.threads) == 1
    assert threading.get_ident() not in model.threads


def test_queries_of_other_k_or_filters_are_asked_apart() -> None:
    async def test(batcher: Batcher, model: Model) -> None:
        tasks = await start(batcher, model, [])
        asked = [("a", 3, ANY), ("b", 5, ANY), ("c", 3, Filters("music")), ("d", 3, ANY), ("e", 5, ANY)]
        tasks += [asyncio.create_task(batcher.search(*one)) for one in asked]
        while batcher.waiting < len(asked):
            await asyncio.sleep(0)
        model.gate.set()
        answers = await asyncio.gather(*tasks)
        found = [(hits[0].video_id, hits[0].rank, hits[0].caption) for hits in answers[1:]]
        assert found == [(query, k, filters.category) for query, k, filters in asked]

    assert run(test).batches[1:] == [["a", "d"], ["b", "e"], ["c"]]


def test_a_bad_query_fails_alone() -> None:
    async def test(batcher: Batcher, model: Model) -> None:
        tasks = await start(batcher, model, ["a", "bad", "b"])
        model.gate.set()
        first, a, bad, b = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(bad, ValueError)
        for answer, query in ((first, "first"), (a, "a"), (b, "b")):
            assert isinstance(answer, list)
            assert answer[0].video_id == query

    run(test)


def test_more_than_may_wait_is_refused_and_those_that_wait_are_answered() -> None:
    async def test(batcher: Batcher, model: Model) -> None:
        tasks = await start(batcher, model, ["a", "b"])
        with pytest.raises(BusyError, match="2 searches are waiting"):
            await batcher.search("c", 3, ANY)
        with pytest.raises(BusyError):
            await batcher.call(lambda: 1)
        model.gate.set()
        assert len(await asyncio.gather(*tasks)) == 3
        assert (await batcher.search("c", 3, ANY))[0].video_id == "c"

    run(test, most_waiting=2)


def test_a_slow_search_is_given_up_and_never_begun() -> None:
    async def test(batcher: Batcher, model: Model) -> None:
        tasks = await start(batcher, model, ["late"])
        for task in tasks:
            with pytest.raises(SlowError, match=r"longer than 0\.2 seconds"):
                await task
        assert batcher.waiting == 0
        model.gate.set()
        assert (await batcher.search("next", 3, ANY))[0].video_id == "next"

    assert run(test, timeout_seconds=0.2).batches == [["first"], ["next"]]


def test_one_that_went_away_is_not_searched_for() -> None:
    async def test(batcher: Batcher, model: Model) -> None:
        first, gone, stays = await start(batcher, model, ["gone", "stays"])
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        model.gate.set()
        await asyncio.gather(first, stays)

    assert run(test).batches == [["first"], ["stays"]]


def test_calls_take_their_turn_in_the_same_thread() -> None:
    threads: list[int] = []

    async def test(batcher: Batcher, model: Model) -> None:
        tasks = await start(batcher, model, ["a"])
        call = asyncio.create_task(batcher.call(lambda: threads.append(threading.get_ident()) or "done"))
        later = asyncio.create_task(batcher.search("b", 3, ANY))
        failing = asyncio.create_task(batcher.call(lambda: 1 // 0))
        while batcher.waiting < 4:
            await asyncio.sleep(0)
        model.gate.set()
        assert await call == "done"
        with pytest.raises(ZeroDivisionError):
            await failing
        await asyncio.gather(*tasks, later)

    model = run(test)
    assert set(threads) == model.threads


def test_what_hangs_does_not_keep_the_server_from_ending() -> None:
    model = Model()

    async def main() -> None:
        batcher = Batcher(model, Limits(stop_seconds=0.1), ignore)
        tasks = await start(batcher, model, ["waits"])
        await batcher.close()
        tasks[0].cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in ended)

    run_alone(main())
    model.gate.set()
