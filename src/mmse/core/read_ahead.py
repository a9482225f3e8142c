"""Reading ahead: the next value is made in a helper thread while the caller works on the one before."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def read_ahead(values: Iterator[T]) -> Iterator[T]:
    """The same values in the same order, each made before it is asked for, in another thread; at most one waits.

    What `values` raises is raised here, in its turn. It is worth a thread where both sides release Python's lock.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="mmse-ahead") as thread:
        end = object()
        future = thread.submit(next, values, end)
        while (value := future.result()) is not end:
            future = thread.submit(next, values, end)
            yield value  # type: ignore[misc]
