"""The lane answers a lone search at once, gathers what waits, and says no in time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from mmse.serving.failures import Refused
from mmse.serving.lane import Lane


class Work:
    """Doubles what it is given, when `go` is set; keeps what came together."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.begun, self.go = threading.Event(), threading.Event()
        if not held:
            self.go.set()

    def __call__(self, asks: Sequence[int]) -> Sequence[int | BaseException]:
        self.batches.append(list(asks))
        self.begun.set()
        assert self.go.wait(10)
        return [ValueError("odd") if ask % 2 else ask * 2 for ask in asks]


@pytest.fixture
def lane() -> Iterator[Lane]:
    lane = Lane(waiting=8, together=4)
    yield lane
    lane.close()


async def held(lane: Lane, work: Work, *asks: int, timeout_ms: int = 5_000) -> list[asyncio.Task[int]]:
    """Tasks for `asks`, of which the first is in work and the others wait."""
    tasks = [asyncio.create_task(lane.do("k", work, asks[0], timeout_ms=timeout_ms))]
    await asyncio.sleep(0)
    await asyncio.to_thread(work.begun.wait, 10)
    tasks += [asyncio.create_task(lane.do("k", work, ask, timeout_ms=timeout_ms)) for ask in asks[1:]]
    await asyncio.sleep(0)
    return tasks


def test_a_lone_one_is_answered_alone(lane: Lane) -> None:
    work = Work()
    assert asyncio.run(lane.do("k", work, 4, timeout_ms=5_000)) == 8
    assert work.batches == [[4]]


def test_what_waits_is_answered_together_in_its_order(lane: Lane) -> None:
    async def ask() -> list[int]:
        work = Work(held=True)
        tasks = await held(lane, work, 0, 2, 4, 6, 8, 10)
        work.go.set()
        answers = await asyncio.gather(*tasks)
        assert work.batches == [[0], [2, 4, 6, 8], [10]]  # at most four together
        return answers

    assert asyncio.run(ask()) == [0, 4, 8, 12, 16, 20]


def test_kinds_are_not_mixed(lane: Lane) -> None:
    async def ask() -> None:
        work = Work(held=True)
        first = await held(lane, work, 0)
        others = [asyncio.create_task(lane.do(kind, work, n, timeout_ms=5_000)) for n, kind in ((2, "a"), (4, "b"))]
        await asyncio.sleep(0)
        work.go.set()
        await asyncio.gather(*first, *others)
        assert work.batches == [[0], [2], [4]]

    asyncio.run(ask())


def test_one_that_fails_does_not_spoil_the_others(lane: Lane) -> None:
    async def ask() -> None:
        work = Work(held=True)
        tasks = await held(lane, work, 0, 1, 2)
        work.go.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert answers[0] == 0
        assert answers[2] == 4
        assert isinstance(answers[1], ValueError)

    asyncio.run(ask())


def test_work_that_breaks_is_told_to_all_and_the_lane_goes_on(lane: Lane) -> None:
    def breaks(_: Sequence[int]) -> Sequence[int | BaseException]:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        asyncio.run(lane.do("k", breaks, 1, timeout_ms=5_000))
    assert asyncio.run(lane.do("k", Work(), 4, timeout_ms=5_000)) == 8


def test_past_its_bound_it_refuses_at_once(lane: Lane) -> None:
    async def ask() -> None:
        work = Work(held=True)
        tasks = await held(lane, work, *range(0, 18, 2))
        assert lane.full
        start = time.perf_counter()
        with pytest.raises(Refused) as refused:
            await lane.do("k", work, 99, timeout_ms=5_000)
        assert refused.value.code == "overloaded"
        assert time.perf_counter() - start < 1
        work.go.set()
        assert await asyncio.gather(*tasks) == [ask * 2 for ask in range(0, 18, 2)]
        assert not lane.full

    asyncio.run(ask())


def test_a_batch_larger_than_the_bound_is_taken_when_nothing_waits(lane: Lane) -> None:
    assert asyncio.run(lane.do("k", Work(), 2, timeout_ms=5_000, size=64)) == 4


def test_a_deadline_is_kept_and_what_is_late_is_not_worked_on(lane: Lane) -> None:
    async def ask() -> None:
        work = Work(held=True)
        (first,) = await held(lane, work, 0)
        start = time.perf_counter()
        with pytest.raises(Refused) as refused:
            await lane.do("k", work, 2, timeout_ms=30)
        assert refused.value.code == "deadline_exceeded"
        assert 0.02 < time.perf_counter() - start < 2
        work.go.set()
        assert await first == 0
        assert await lane.do("k", work, 4, timeout_ms=5_000) == 8
        assert work.batches == [[0], [4]]

    asyncio.run(ask())


def test_closing_answers_what_waits() -> None:
    async def ask() -> list[int]:
        lane, work = Lane(waiting=8, together=4), Work(held=True)
        tasks = await held(lane, work, 0, 2)
        closing = asyncio.create_task(asyncio.to_thread(lane.close))
        work.go.set()
        await closing
        return await asyncio.gather(*tasks)

    assert asyncio.run(ask()) == [0, 4]
