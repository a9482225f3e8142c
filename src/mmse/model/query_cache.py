"""A cache of query vectors, so that a repeated query is not encoded again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Float32

QueryKey = tuple[str, str | None, tuple[str, ...]]
"""All that a query's vector depends on: its normal form, its shopper, and the history sent with it."""


@dataclass(frozen=True)
class Lookups:
    """How many look-ups found a vector, and how many did not."""

    hits: int
    misses: int


@final
class QueryCache:
    """The vectors of at most `capacity` queries; the least recently used one goes first. Safe for many threads."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._vectors: OrderedDict[QueryKey, Float32[np.ndarray, " width"]] = OrderedDict()
        self._lock = threading.Lock()
        self._hits = self._misses = 0

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def lookups(self) -> Lookups:
        """The look-ups so far."""
        with self._lock:
            return Lookups(self._hits, self._misses)

    def get(self, key: QueryKey) -> Float32[np.ndarray, " width"] | None:
        """The vector of `key`, or None."""
        if self._capacity == 0:
            return None
        with self._lock:
            vector = self._vectors.get(key)
            if vector is None:
                self._misses += 1
            else:
                self._hits += 1
                self._vectors.move_to_end(key)
            return vector

    def put(self, key: QueryKey, vector: Float32[np.ndarray, " width"]) -> None:
        """Stores a copy of `vector`."""
        if self._capacity == 0:
            return
        copy = vector.copy()
        copy.setflags(write=False)
        with self._lock:
            self._vectors[key] = copy
            self._vectors.move_to_end(key)
            if len(self._vectors) > self._capacity:
                self._vectors.popitem(last=False)
