"""Answers searches batch after batch in the event loop's own thread; what comes in meanwhile is the next batch.

So a lone search starts at once, batches form under load alone, as large as the load makes them, and no search waits
for a batch to fill. A separate thread for searches cost 10 to 20% of the throughput: it and the loop wait for one
another.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, final

from mmse.serving.failures import deadline_error, overload_error
from mmse.serving.observability import metrics

K = TypeVar("K")
P = TypeVar("P")
R = TypeVar("R")

_PACE_WEIGHT = 0.1
"""The weight of the last batch in the moving average of seconds for each search of ordinary cost."""

log = logging.getLogger(__name__)


@final
@dataclass(eq=False, slots=True)
class Job(Generic[K, P, R]):
    """A `payload` that waits for its `result`; jobs of one `key` are worked on together.

    `size` searches of `cost` together count against the bounds of the batcher; `timeout_ms` counts from `start_s`
    (`time.perf_counter`).
    """

    key: K
    payload: P
    timeout_ms: int
    size: int
    cost: float
    start_s: float
    result: asyncio.Future[R]

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline."""
        return self.start_s + self.timeout_ms / 1000 - time.perf_counter()


@final
class Lane(Generic[K, P, R]):
    """Jobs that wait in turn."""

    def __init__(self) -> None:
        self.jobs: deque[Job[K, P, R]] = deque()
        self.size = 0
        self.cost = 0.0

    def put(self, job: Job[K, P, R]) -> None:
        """Puts `job` at the end."""
        self.jobs.append(job)
        self.size += job.size
        self.cost += job.cost

    def take(self, max_size: int, max_cost: float) -> list[Job[K, P, R]]:
        """The oldest job and those of its key right behind it, within the bounds."""
        jobs = [self.jobs.popleft()]
        size, cost = jobs[0].size, jobs[0].cost
        while self.jobs and self.jobs[0].key == jobs[0].key:
            job = self.jobs[0]
            if size + job.size > max_size or cost + job.cost > max_cost:
                break
            jobs.append(self.jobs.popleft())
            size, cost = size + job.size, cost + job.cost
        self.size -= size
        self.cost = self.cost - cost if self.jobs else 0.0
        return jobs


@final
class MicroBatcher(Generic[K, P, R]):
    """A bounded queue for one event loop: at most `queue_size` searches wait, up to `max_batch` are answered at once.

    Heavy jobs wait in a lane of their own, and the lanes take turns, so that others wait for one of them at most. A
    batch costs no more than `max_cost`, unless one job does.

    `work` gives the result of each payload, or the error that the caller of `submit` gets; all are of the same key.
    A search is refused at once where, at the recent pace, it would wait longer than `wait_ms` for its turn.
    """

    def __init__(
        self,
        work: Callable[[K, Sequence[P]], Sequence[R | BaseException]],
        *,
        queue_size: int,
        max_batch: int,
        wait_ms: float = math.inf,
        max_cost: float = math.inf,
    ) -> None:
        self._work = work
        self._queue_size, self._max_batch, self._wait_s = queue_size, max_batch, wait_ms / 1000
        self._max_cost = max_cost
        self._light, self._heavy = Lane[K, P, R](), Lane[K, P, R]()
        self._lane = self._light
        self._pace_s = 0.0
        self._batch_start_s: float | None = None

    @property
    def is_full(self) -> bool:
        """Whether it refuses searches at present, heavy ones apart."""
        return self._is_full(self._light)

    def _is_full(self, lane: Lane[K, P, R]) -> bool:
        return lane.size >= self._queue_size or lane.cost * self._pace_s > self._wait_s

    async def submit(
        self,
        key: K,
        payload: P,
        *,
        timeout_ms: int,
        size: int = 1,
        cost: float | None = None,
        is_heavy: bool = False,
        is_admitted: bool = False,
        start_s: float | None = None,
    ) -> R:
        """The result of `payload`; the deadline counts from `start_s` (`time.perf_counter`), or else from this call.

        `cost` is `size` where it is not given. `is_admitted`: it is a later part of a request that was taken on. Raises
        `RequestError` where the queue is full or the deadline has passed.
        """
        lane = self._heavy if is_heavy else self._light
        if lane.size and not is_admitted and (self._is_full(lane) or lane.size + size > self._queue_size):
            metrics.refusals.labels("overloaded").inc()
            raise overload_error()
        loop = asyncio.get_running_loop()
        start_s = time.perf_counter() if start_s is None else start_s
        job: Job[K, P, R] = Job(
            key, payload, timeout_ms, size, float(size) if cost is None else cost, start_s, loop.create_future()
        )
        if not self._has_jobs:
            loop.call_soon(self._run_next, loop)
        lane.put(job)
        try:
            async with asyncio.timeout(max(job.remaining_s, 0)):
                return await job.result
        except TimeoutError:
            metrics.refusals.labels("deadline").inc()
            raise deadline_error(timeout_ms) from None

    @property
    def _has_jobs(self) -> bool:
        return bool(self._light.jobs or self._heavy.jobs)

    def _run_next(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answers jobs of the lane whose turn it is; then the loop has a turn."""
        other_lane = self._heavy if self._lane is self._light else self._light
        if other_lane.jobs:
            self._lane = other_lane
        jobs = self._lane.take(self._max_batch, self._max_cost)
        metrics.queue_length.set(self._light.size + self._heavy.size)
        start_s = time.perf_counter() if self._batch_start_s is None else self._batch_start_s
        self._answer([job for job in jobs if not job.result.done() and job.remaining_s > 0])
        end_s = time.perf_counter()
        cost = sum(job.cost for job in jobs)
        self._pace_s += _PACE_WEIGHT * ((end_s - start_s) / cost - self._pace_s)
        self._batch_start_s = end_s if self._has_jobs else None  # the loop's turn between two batches counts
        if self._has_jobs:
            loop.call_soon(self._run_next, loop)

    def _answer(self, jobs: Sequence[Job[K, P, R]]) -> None:
        if not jobs:
            return
        time_s = time.perf_counter()
        for job in jobs:
            metrics.spans["queue"].observe(time_s - job.start_s)
        metrics.batch_searches.observe(sum(job.size for job in jobs))
        results: Sequence[R | BaseException]
        try:
            results = self._work(jobs[0].key, [job.payload for job in jobs])
        except Exception as error:  # the callers get it; the queue goes on
            log.debug("work failed", exc_info=error)
            results = [error] * len(jobs)
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, BaseException):
                job.result.set_exception(result)
            else:
                job.result.set_result(result)
