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
"""The weight of the last batch in the moving average of seconds for each search."""

log = logging.getLogger(__name__)


@final
@dataclass(eq=False, slots=True)
class Job(Generic[K, P, R]):
    """A `payload` that waits for its `result`; jobs of one `key` are worked on together.

    `size` counts against the bounds of the batcher; `timeout_ms` counts from `start_s` (`time.perf_counter`).
    """

    key: K
    payload: P
    timeout_ms: int
    size: int
    start_s: float
    result: asyncio.Future[R]

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline."""
        return self.start_s + self.timeout_ms / 1000 - time.perf_counter()


@final
class MicroBatcher(Generic[K, P, R]):
    """A bounded queue for one event loop: at most `queue_size` searches wait, up to `max_batch` are answered at once.

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
    ) -> None:
        self._work = work
        self._queue_size, self._max_batch, self._wait_s = queue_size, max_batch, wait_ms / 1000
        self._jobs: deque[Job[K, P, R]] = deque()
        self._size = 0
        self._pace_s = 0.0
        self._batch_start_s: float | None = None

    @property
    def is_full(self) -> bool:
        """Whether it refuses searches at present."""
        return self._size >= self._queue_size or self._size * self._pace_s > self._wait_s

    async def submit(self, key: K, payload: P, *, timeout_ms: int, size: int = 1, start_s: float | None = None) -> R:
        """The result of `payload`; the deadline counts from `start_s` (`time.perf_counter`), or else from this call.

        Raises `RequestError` where the queue is full or the deadline has passed.
        """
        if self._size and (self.is_full or self._size + size > self._queue_size):
            metrics.refusals.labels("overloaded").inc()
            raise overload_error()
        loop = asyncio.get_running_loop()
        start_s = time.perf_counter() if start_s is None else start_s
        job: Job[K, P, R] = Job(key, payload, timeout_ms, size, start_s, loop.create_future())
        if not self._jobs:
            loop.call_soon(self._run_next, loop)
        self._jobs.append(job)
        self._size += size
        try:
            async with asyncio.timeout(max(job.remaining_s, 0)):
                return await job.result
        except TimeoutError:
            metrics.refusals.labels("deadline").inc()
            raise deadline_error(timeout_ms) from None

    def _run_next(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answers the oldest job and those of its key right behind it; then the loop has a turn."""
        jobs = [self._jobs.popleft()]
        size = jobs[0].size
        while self._jobs and self._jobs[0].key == jobs[0].key and size + self._jobs[0].size <= self._max_batch:
            jobs.append(self._jobs.popleft())
            size += jobs[-1].size
        self._size -= size
        metrics.queue_length.set(self._size)
        start_s = time.perf_counter() if self._batch_start_s is None else self._batch_start_s
        self._answer([job for job in jobs if not job.result.done() and job.remaining_s > 0])
        end_s = time.perf_counter()
        self._pace_s += _PACE_WEIGHT * ((end_s - start_s) / size - self._pace_s)
        self._batch_start_s = end_s if self._jobs else None  # the loop's turn between two batches counts
        if self._jobs:
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
