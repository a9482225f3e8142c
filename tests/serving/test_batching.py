"""The batcher answers a lone search at once, batches what waits, and refuses in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from mmse.serving.batching import MicroBatcher
from mmse.serving.failures import RequestError

Batcher = MicroBatcher[str, int, int]


class Doubling:
    """Doubles the numbers of a batch in `seconds`, and keeps the batches. An odd number fails; 99 breaks the batch."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.batches: list[list[int]] = []
        self.seconds = seconds

    def __call__(self, key: str, numbers: Sequence[int]) -> Sequence[int | BaseException]:
        if 99 in numbers:
            raise RuntimeError("broken")
        self.batches.append(list(numbers))
        end_s = time.perf_counter() + self.seconds
        while time.perf_counter() < end_s:
            pass
        return [ValueError("odd") if number % 2 else number * 2 for number in numbers]


def submit(batcher: Batcher, *numbers: int, keys: str = "", timeout_ms: int = 5_000) -> list[int | BaseException]:
    """The results of `numbers` that come in at the same time; `keys` has a letter for each."""

    async def submit_all() -> list[int | BaseException]:
        jobs = [
            batcher.submit(keys[index : index + 1], number, timeout_ms=timeout_ms)
            for index, number in enumerate(numbers)
        ]
        return await asyncio.gather(*jobs, return_exceptions=True)

    return asyncio.run(submit_all())


def test_a_lone_search_is_answered_alone() -> None:
    work = Doubling()
    assert submit(Batcher(work, queue_size=8, max_batch=4), 4) == [8]
    assert work.batches == [[4]]


def test_what_comes_in_meanwhile_is_answered_in_one_batch_in_its_order() -> None:
    work = Doubling()
    batcher = Batcher(work, queue_size=8, max_batch=4)
    assert submit(batcher, 0, 2, 4, 6, 8, 10) == [0, 4, 8, 12, 16, 20]
    assert work.batches == [[0, 2, 4, 6], [8, 10]]


def test_keys_are_not_mixed() -> None:
    work = Doubling()
    assert submit(Batcher(work, queue_size=8, max_batch=4), 0, 2, 4, 6, keys="aabb") == [0, 4, 8, 12]
    assert work.batches == [[0, 2], [4, 6]]


def test_one_that_fails_does_not_spoil_the_others() -> None:
    results = submit(Batcher(Doubling(), queue_size=8, max_batch=4), 0, 1, 2)
    assert (results[0], results[2]) == (0, 4)
    assert isinstance(results[1], ValueError)


def test_all_callers_get_the_error_of_work_that_breaks_and_the_queue_goes_on() -> None:
    batcher = Batcher(Doubling(), queue_size=8, max_batch=4)
    errors = submit(batcher, 99, 2)
    assert [(type(error), str(error)) for error in errors] == [(RuntimeError, "broken")] * 2
    assert submit(batcher, 4) == [8]


def test_past_its_bound_it_refuses_at_once_and_takes_more_when_there_is_room() -> None:
    batcher = Batcher(Doubling(), queue_size=8, max_batch=4)
    results = submit(batcher, *range(0, 20, 2))
    assert results[:8] == [number * 2 for number in range(0, 16, 2)]
    assert [type(result) for result in results[8:]] == [RequestError, RequestError]
    assert {result.code for result in results[8:] if isinstance(result, RequestError)} == {"overloaded"}
    assert not batcher.is_full
    assert submit(batcher, 2) == [4]


def test_a_batch_larger_than_the_bound_is_taken_when_nothing_waits() -> None:
    batcher = Batcher(Doubling(), queue_size=8, max_batch=4)
    assert asyncio.run(batcher.submit("k", 2, timeout_ms=5_000, size=64)) == 4


def test_a_deadline_is_kept_and_a_late_search_is_not_worked_on() -> None:
    work = Doubling(seconds=0.05)
    batcher = Batcher(work, queue_size=8, max_batch=1)
    results = submit(batcher, 0, 2, 4, timeout_ms=30)
    assert results[0] == 0 or isinstance(results[0], RequestError)  # it began in time, and ended too late
    codes = [result.code for result in results[1:] if isinstance(result, RequestError)]
    assert codes == ["deadline_exceeded"] * 2
    assert work.batches == [[0]]
    assert submit(batcher, 6) == [12]


def test_more_than_can_begin_in_time_is_refused_at_once() -> None:
    batcher = Batcher(Doubling(seconds=0.02), queue_size=1_000, max_batch=1, wait_ms=100.0)
    assert submit(batcher, *[0] * 20) == [0] * 20  # its pace is not known yet
    refusals = [result for result in submit(batcher, *[0] * 20) if isinstance(result, RequestError)]
    assert 8 <= len(refusals) <= 17, "about five can begin within a tenth of a second"
    assert {refusal.code for refusal in refusals} == {"overloaded"}
    assert not batcher.is_full


def test_a_heavy_lane_and_the_others_take_turns() -> None:
    work = Doubling()
    batcher = Batcher(work, queue_size=8, max_batch=1)

    async def submit_both() -> None:
        heavy = [batcher.submit("", number, timeout_ms=5_000, is_heavy=True) for number in (0, 2, 4)]
        light = [batcher.submit("", number, timeout_ms=5_000) for number in (10, 12)]
        await asyncio.gather(*heavy, *light)

    asyncio.run(submit_both())
    assert work.batches == [[0], [10], [2], [12], [4]]


def test_heavy_jobs_that_wait_do_not_fill_the_queue_of_others() -> None:
    batcher = Batcher(Doubling(), queue_size=2, max_batch=4)

    async def submit_both() -> list[int | BaseException]:
        heavy = [batcher.submit("", number, timeout_ms=5_000, is_heavy=True) for number in (0, 2, 4)]
        late_part = batcher.submit("", 6, timeout_ms=5_000, is_heavy=True, is_admitted=True)
        light = batcher.submit("", 8, timeout_ms=5_000)
        return await asyncio.gather(*heavy, late_part, light, return_exceptions=True)

    *first, third, late_part, light = asyncio.run(submit_both())
    assert (first, late_part, light) == ([0, 4], 12, 16)
    assert isinstance(third, RequestError)


def test_a_batch_is_bounded_by_cost_as_well() -> None:
    work = Doubling()
    batcher = Batcher(work, queue_size=8, max_batch=8, max_cost=4.0)

    async def submit_costly() -> None:
        await asyncio.gather(
            *(
                batcher.submit("", number, timeout_ms=5_000, cost=cost)
                for number, cost in ((0, 3.0), (2, 1.0), (4, 9.0))
            )
        )

    asyncio.run(submit_costly())
    assert work.batches == [[0, 2], [4]]
