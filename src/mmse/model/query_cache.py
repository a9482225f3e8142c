"""The vectors of queries that were asked lately, so that a query that comes again is not encoded again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Float32


class QueryKey(NamedTuple):
    """All that a query's vector depends on: its normal form, its shopper, and the history that was given with it."""

    query: str
    user_id: str | None
    history: tuple[str, ...]


@dataclass(frozen=True)
class Lookups:
    """How often a vector was there when it was wanted, and how often not."""

    hits: int
    misses: int


@final
class Remembered:
    """The vectors of at most `most` queries, those asked longest ago forgotten first; any number of threads may ask."""

    def __init__(self, most: int) -> None:
        self._most = most
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

    def find(self, key: QueryKey) -> Float32[np.ndarray, " width"] | None:
        """The vector of `key`, if it is remembered."""
        if self._most == 0:
            return None
        with self._lock:
            vector = self._vectors.get(key)
            if vector is None:
                self._misses += 1
            else:
                self._hits += 1
                self._vectors.move_to_end(key)
            return vector

    def keep(self, key: QueryKey, vector: Float32[np.ndarray, " width"]) -> None:
        """Remembers a vector, a copy of it."""
        if self._most == 0:
            return
        kept = vector.copy()
        kept.setflags(write=False)
        with self._lock:
            self._vectors[key] = kept
            self._vectors.move_to_end(key)
            if len(self._vectors) > self._most:
                self._vectors.popitem(last=False)
