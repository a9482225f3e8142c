"""Searches one after another in the event loop's own thread. What comes in meanwhile is answered together, next.

So a lone search starts at once, batches form under load alone, as large as it makes them, and nobody waits for one to
fill. A thread of its own for searches took 10 to 20% of the throughput away: it and the loop wait for one another.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, final

from mmse.serving.failures import late, overloaded
from mmse.serving.observability import metrics

R = TypeVar("R")

_LATELY = 0.1
"""How much the last batch counts in the pace."""

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
    result: asyncio.Future[R]

    @property
    def left_s(self) -> float:
        """Seconds until it is too late."""
        return self.since + self.timeout_ms / 1000 - time.perf_counter()


@final
class Lane:
    """A bounded queue of one event loop: `waiting` searches at most, up to `together` of them at once.

    Nor does it take more than it can begin within `wait_ms`, at the pace that it had lately: what cannot be in time is
    better refused at once.
    """

    def __init__(self, *, waiting: int, together: int, wait_ms: float = math.inf) -> None:
        self.most, self.together, self.wait_s = waiting, together, wait_ms / 1000
        self._jobs: deque[Job[Any]] = deque()
        self._size = 0
        self._pace_s = 0.0
        self._since: float | None = None

    @property
    def full(self) -> bool:
        """Whether it takes nothing more at present."""
        return self._size >= self.most or self._size * self._pace_s > self.wait_s

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
        if self._size and (self.full or self._size + size > self.most):
            metrics.refused.labels("overloaded").inc()
            raise overloaded()
        loop = asyncio.get_running_loop()
        began = time.perf_counter() if since is None else since
        job: Job[R] = Job(kind, work, ask, timeout_ms, size, began, loop.create_future())
        if not self._jobs:
            loop.call_soon(self._go_on, loop)
        self._jobs.append(job)
        self._size += size
        try:
            async with asyncio.timeout(max(job.left_s, 0)):
                return await job.result
        except TimeoutError:
            metrics.refused.labels("deadline").inc()
            raise late(timeout_ms) from None

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answers the first that waits and those of its kind behind it; then the loop has a turn."""
        jobs = [self._jobs.popleft()]
        size = jobs[0].size
        while self._jobs and self._jobs[0].kind == jobs[0].kind and size + self._jobs[0].size <= self.together:
            jobs.append(self._jobs.popleft())
            size += jobs[-1].size
        self._size -= size
        metrics.waiting.set(self._size)
        began = time.perf_counter() if self._since is None else self._since
        _answer([job for job in jobs if not job.result.done() and job.left_s > 0])
        now = time.perf_counter()
        self._pace_s += _LATELY * ((now - began) / size - self._pace_s)
        self._since = now if self._jobs else None  # the loop's turn between two batches counts
        if self._jobs:
            loop.call_soon(self._go_on, loop)


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
        if isinstance(result, BaseException):
            job.result.set_exception(result)
        else:
            job.result.set_result(result)
