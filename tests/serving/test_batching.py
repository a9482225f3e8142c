"""The lane answers a lone search at once, gathers what waits, and says no in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from mmse.serving.batching import Lane
from mmse.serving.failures import Refused


class Work:
    """Doubles what it is given, each batch in `seconds`; keeps what came together. Odd numbers fail."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.batches: list[list[int]] = []
        self._seconds = seconds

    def __call__(self, asks: Sequence[int]) -> Sequence[int | BaseException]:
        self.batches.append(list(asks))
        until = time.perf_counter() + self._seconds
        while time.perf_counter() < until:
            pass
        return [ValueError("odd") if ask % 2 else ask * 2 for ask in asks]


def asked(lane: Lane, work: Work, *asks: int, kinds: str = "", timeout_ms: int = 5_000) -> list[int | BaseException]:
    """What becomes of `asks` that come in at once; `kinds` has a letter for each."""

    async def together() -> list[int | BaseException]:
        jobs = [lane.do(kinds[place : place + 1], work, ask, timeout_ms=timeout_ms) for place, ask in enumerate(asks)]
        return await asyncio.gather(*jobs, return_exceptions=True)

    return asyncio.run(together())


def test_a_lone_one_is_answered_alone() -> None:
    work = Work()
    assert asked(Lane(waiting=8, together=4), work, 4) == [8]
    assert work.batches == [[4]]


def test_what_comes_in_meanwhile_is_answered_together_in_its_order() -> None:
    work = Work()
    assert asked(Lane(waiting=8, together=4), work, 0, 2, 4, 6, 8, 10) == [0, 4, 8, 12, 16, 20]
    assert work.batches == [[0, 2, 4, 6], [8, 10]]


def test_kinds_are_not_mixed() -> None:
    work = Work()
    assert asked(Lane(waiting=8, together=4), work, 0, 2, 4, 6, kinds="aabb") == [0, 4, 8, 12]
    assert work.batches == [[0, 2], [4, 6]]


def test_one_that_fails_does_not_spoil_the_others() -> None:
    first, wrong, third = asked(Lane(waiting=8, together=4), Work(), 0, 1, 2)
    assert (first, third) == (0, 4)
    assert isinstance(wrong, ValueError)


def test_work_that_breaks_is_told_to_all_and_the_lane_goes_on() -> None:
    lane = Lane(waiting=8, together=4)

    def breaks(_: Sequence[int]) -> Sequence[int | BaseException]:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        asyncio.run(lane.do("k", breaks, 1, timeout_ms=5_000))
    assert asked(lane, Work(), 4) == [8]


def test_past_its_bound_it_refuses_at_once_and_takes_more_when_there_is_room() -> None:
    lane, work = Lane(waiting=8, together=4), Work()
    answers = asked(lane, work, *range(0, 20, 2))
    assert answers[:8] == [ask * 2 for ask in range(0, 16, 2)]
    assert [type(one) for one in answers[8:]] == [Refused, Refused]
    assert {one.code for one in answers[8:] if isinstance(one, Refused)} == {"overloaded"}
    assert not lane.full
    assert asked(lane, work, 2) == [4]


def test_a_batch_larger_than_the_bound_is_taken_when_nothing_waits() -> None:
    assert asyncio.run(Lane(waiting=8, together=4).do("k", Work(), 2, timeout_ms=5_000, size=64)) == 4


def test_a_deadline_is_kept_and_what_is_late_is_not_worked_on() -> None:
    lane, work = Lane(waiting=8, together=1), Work(seconds=0.05)
    first, *rest = asked(lane, work, 0, 2, 4, timeout_ms=30)
    assert first == 0 or isinstance(first, Refused)  # it was begun in time, and ended too late
    assert [one.code for one in rest if isinstance(one, Refused)] == ["deadline_exceeded"] * 2
    assert work.batches == [[0]]
    assert asked(lane, Work(), 6) == [12]


def test_more_than_can_be_begun_in_time_is_refused_at_once() -> None:
    lane = Lane(waiting=1_000, together=1, wait_ms=100.0)
    assert asked(lane, Work(seconds=0.02), *[0] * 20) == [0] * 20  # its pace is not known yet
    answers = asked(lane, Work(seconds=0.02), *[0] * 20)
    refused = [one for one in answers if isinstance(one, Refused)]
    assert 8 <= len(refused) <= 17, "about five can be begun within a tenth of a second"
    assert {one.code for one in refused} == {"overloaded"}
    assert not lane.full
