"""One more thread: it searches the words while another searches the vectors. Both leave Python's lock alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, final

T = TypeVar("T")


@final
class Beside:
    """A thread for who finds it free, which starts with the first work; many threads may give it work."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="mmse-words")
        self._free = threading.Lock()

    def start(self, work: Callable[[], T]) -> Callable[[], T]:
        """Starts `work`, and gives what waits for its result or raises what it raised.

        Where the thread is taken, `work` is left to whoever wants its result: waiting for its turn would take longer.
        """
        if not self._free.acquire(blocking=False):
            return work
        return self._pool.submit(self._freed, work).result

    def _freed(self, work: Callable[[], T]) -> T:
        try:
            return work()
        finally:
            self._free.release()
