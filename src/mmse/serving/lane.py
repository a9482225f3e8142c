"""One thread that answers searches. A lone one starts at once; what comes in meanwhile is answered together, next.

So batches form under load alone, as large as it makes them, and nobody waits for one to fill.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, final

from mmse.serving import metrics
from mmse.serving.failures import late, overloaded

R = TypeVar("R")

log = logging.getLogger(__name__)


@final
@dataclass(eq=False)
class Job(Generic[R]):
    """Work for the lane: jobs of one `kind` are given to `work` together; `size` counts against the lane's bounds.

    `timeout_ms` counts from `since` (`time.perf_counter`).
    """

    kind: object
    work: Callable[[Sequence[Any]], Sequence[R | BaseException]]
    ask: Any
    timeout_ms: int
    size: int
    since: float
    loop: asyncio.AbstractEventLoop
    result: asyncio.Future[R]

    @property
    def left_s(self) -> float:
        """Seconds until it is too late."""
        return self.since + self.timeout_ms / 1000 - time.perf_counter()


@final
class Lane:
    """A bounded queue and the thread behind it."""

    def __init__(self, *, waiting: int, together: int) -> None:
        self.most, self.together = waiting, together
        self._jobs: deque[Job[Any]] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="mmse-lane", daemon=True)
        self._thread.start()

    @property
    def full(self) -> bool:
        """Whether it takes nothing more at present."""
        return self._size >= self.most

    async def do(
        self,
        kind: object,
        work: Callable[[Sequence[Any]], Sequence[R | BaseException]],
        ask: Any,  # noqa: ANN401 - what `work` takes
        *,
        timeout_ms: int,
        size: int = 1,
        since: float | None = None,
    ) -> R:
        """What `work` makes of `ask`; it may be given others of its kind with it, and answers each or gives its error.

        Raises `Refused` where the queue is full or `timeout_ms` is over.
        """
        loop = asyncio.get_running_loop()
        began = time.perf_counter() if since is None else since
        job: Job[R] = Job(kind, work, ask, timeout_ms, size, began, loop, loop.create_future())
        self._take(job)
        try:
            async with asyncio.timeout(max(job.left_s, 0)):
                return await job.result
        except TimeoutError:
            metrics.refused.labels("deadline").inc()
            raise late(timeout_ms) from None

    def close(self) -> None:
        """Answers what waits and ends the thread."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()

    def _take(self, job: Job[Any]) -> None:
        with self._changed:
            if self._size and self._size + job.size > self.most:
                metrics.refused.labels("overloaded").inc()
                raise overloaded()
            self._jobs.append(job)
            self._size += job.size
            self._changed.notify()

    def _run(self) -> None:
        while jobs := self._next():
            metrics.waiting.set(self._size)
            _answer([job for job in jobs if not job.result.done() and job.left_s > 0])

    def _next(self) -> list[Job[Any]]:
        """The first that waits and those of its kind behind it; nothing when the lane ends."""
        with self._changed:
            while not self._jobs:
                if self._ended:
                    return []
                self._changed.wait()
            jobs = [self._jobs.popleft()]
            size = jobs[0].size
            while self._jobs and self._jobs[0].kind == jobs[0].kind and size + self._jobs[0].size <= self.together:
                jobs.append(self._jobs.popleft())
                size += jobs[-1].size
            self._size -= sum(job.size for job in jobs)
            return jobs


def _answer(jobs: Sequence[Job[Any]]) -> None:
    if not jobs:
        return
    now = time.perf_counter()
    for job in jobs:
        metrics.stages["queue"].observe(now - job.since)
    metrics.batch_searches.observe(sum(job.size for job in jobs))
    try:
        results = jobs[0].work([job.ask for job in jobs])
    except Exception as error:  # whoever asked is told; the lane goes on
        log.debug("work failed", exc_info=error)
        results = [error] * len(jobs)
    for job, result in zip(jobs, results, strict=True):
        job.loop.call_soon_threadsafe(_end, job.result, result)


def _end(future: asyncio.Future[Any], result: object) -> None:
    if future.done():  # too late, or its client has gone
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)
