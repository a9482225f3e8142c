"""A helper thread: it searches the words while the caller searches the vectors. Both release Python's lock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, final

T = TypeVar("T")


@final
class HelperThread:
    """One thread, started with the first task; many threads may share it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="mmse-words")
        self._lock = threading.Lock()

    def start(self, work: Callable[[], T]) -> Callable[[], T]:
        """Starts `work` and returns a function that waits for its result or raises its exception.

        If the thread is busy, the returned function does the work itself: waiting for the thread would take longer.
        """
        if not self._lock.acquire(blocking=False):
            return work
        return self._pool.submit(self._run_and_release, work).result

    def _run_and_release(self, work: Callable[[], T]) -> T:
        try:
            return work()
        finally:
            self._lock.release()
