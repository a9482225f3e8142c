"""Values made ahead: the same, in the same order, at most one early, and errors in their turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from mmse.core.read_ahead import read_ahead


def test_values_come_in_order_and_at_most_one_early() -> None:
    made: list[int] = []
    threads: set[int] = set()

    def make() -> Iterator[int]:
        for n in range(20):
            made.append(n)
            threads.add(threading.get_ident())
            yield n

    for n, value in enumerate(read_ahead(make())):
        assert value == n
        assert len(made) <= n + 2
    assert made == list(range(20))
    assert threading.get_ident() not in threads


def test_an_error_comes_after_the_values_before_it() -> None:
    def make() -> Iterator[int]:
        yield 1
        raise ValueError("no second value")

    values = read_ahead(make())
    assert next(values) == 1
    with pytest.raises(ValueError, match="no second value"):
        next(values)
