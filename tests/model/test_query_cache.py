"""The cache of query vectors: bounded, oldest out first, counted, safe among threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mmse.model.query_cache import Lookups, QueryKey, Remembered


def key(query: str, user: str | None = None, history: tuple[str, ...] = ()) -> QueryKey:
    return QueryKey(query, user, history)


def vector(number: int) -> np.ndarray:
    return np.full(3, number, np.float32)


def test_what_was_asked_longest_ago_is_forgotten() -> None:
    held = Remembered(2)
    held.keep(key("a"), vector(1))
    held.keep(key("b"), vector(2))
    assert held.find(key("a")) is not None
    held.keep(key("c"), vector(3))
    assert len(held) == 2
    assert held.find(key("b")) is None
    np.testing.assert_array_equal(held.find(key("a")), vector(1))
    assert held.lookups == Lookups(hits=2, misses=1)


def test_shopper_and_history_are_part_of_the_question() -> None:
    held = Remembered(9)
    held.keep(key("a"), vector(1))
    for other in (key("a", "u1"), key("a", None, ("i1",)), key("b")):
        assert held.find(other) is None


def test_what_is_remembered_cannot_be_changed() -> None:
    held, made = Remembered(1), vector(1)
    held.keep(key("a"), made)
    made[0] = 9
    found = held.find(key("a"))
    np.testing.assert_array_equal(found, vector(1))
    assert found is not None
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 9


def test_nothing_is_remembered_and_counted_by_an_empty_one() -> None:
    held = Remembered(0)
    held.keep(key("a"), vector(1))
    assert held.find(key("a")) is None
    assert (len(held), held.lookups) == (0, Lookups(0, 0))


def test_threads_share_it() -> None:
    held = Remembered(5)

    def ask(seed: int) -> int:
        wrong = 0
        for number in np.random.default_rng(seed).integers(0, 9, 400).tolist():
            found = held.find(key(str(number)))
            wrong += found is not None and found[0] != number
            held.keep(key(str(number)), vector(number))
        return wrong

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(ask, range(4))) == 0
    assert len(held) == 5
    assert held.lookups.hits + held.lookups.misses == 1_600
