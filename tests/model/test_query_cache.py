"""The cache of query vectors: bounded, oldest out first, counted, safe among threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mmse.model.query_cache import Lookups, QueryCache, QueryKey


def key(query: str, user: str | None = None, history: tuple[str, ...] = ()) -> QueryKey:
    return query, user, history


def vector(number: int) -> np.ndarray:
    return np.full(3, number, np.float32)


def test_what_was_asked_longest_ago_is_forgotten() -> None:
    cache = QueryCache(2)
    cache.put(key("a"), vector(1))
    cache.put(key("b"), vector(2))
    assert cache.get(key("a")) is not None
    cache.put(key("c"), vector(3))
    assert len(cache) == 2
    assert cache.get(key("b")) is None
    np.testing.assert_array_equal(cache.get(key("a")), vector(1))
    assert cache.lookups == Lookups(hits=2, misses=1)


def test_shopper_and_history_are_part_of_the_question() -> None:
    cache = QueryCache(9)
    cache.put(key("a"), vector(1))
    for other_key in (key("a", "u1"), key("a", None, ("i1",)), key("b")):
        assert cache.get(other_key) is None


def test_what_is_remembered_cannot_be_changed() -> None:
    cache, original = QueryCache(1), vector(1)
    cache.put(key("a"), original)
    original[0] = 9
    cached_vector = cache.get(key("a"))
    np.testing.assert_array_equal(cached_vector, vector(1))
    assert cached_vector is not None
    with pytest.raises(ValueError, match="read-only"):
        cached_vector[0] = 9


def test_nothing_is_remembered_and_counted_by_an_empty_one() -> None:
    cache = QueryCache(0)
    cache.put(key("a"), vector(1))
    assert cache.get(key("a")) is None
    assert (len(cache), cache.lookups) == (0, Lookups(0, 0))


def test_threads_share_it() -> None:
    cache = QueryCache(5)

    def ask(seed: int) -> int:
        wrong = 0
        for number in np.random.default_rng(seed).integers(0, 9, 400).tolist():
            cached_vector = cache.get(key(str(number)))
            wrong += cached_vector is not None and cached_vector[0] != number
            cache.put(key(str(number)), vector(number))
        return wrong

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(ask, range(4))) == 0
    assert len(cache) == 5
    assert cache.lookups.hits + cache.lookups.misses == 1_600
