"""What a shopper may be about to type: popular queries, brands and categories that begin so, or nearly so."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, final

from rapidfuzz import process
from rapidfuzz.distance import OSA

from mmse.text.normalise import normalise
from mmse.text.terms import fold

Source = Literal["query", "brand", "category"]
MAX_SUGGESTIONS = 20
MAX_TYPED = 100
"""Characters of what is typed; nothing is suggested for more."""
_SHORTEST_FUZZY, _LONG_FUZZY = 4, 8
"""From so many letters on one fault is forgiven, and two."""
_CACHE_SIZE = 10_000


@dataclass(frozen=True)
class Suggestion:
    """A text to search for, and what it is."""

    text: str
    source: Source


@final
class Suggester:
    """Completions, those of queries by how often they were asked before those of names by how many items have them.

    The queries must be such as anybody may see (`mmse.dataset.serving_data.read_popular_queries`).
    """

    def __init__(self, queries: Mapping[str, int], brands: Mapping[str, int], categories: Mapping[str, int]) -> None:
        """`queries` with their requests, `brands` and `categories` (paths) with their items."""
        sources: tuple[tuple[Source, Mapping[str, int]], ...] = (
            ("query", queries),
            ("brand", brands),
            ("category", {path.rsplit(" > ", 1)[-1]: n for path, n in categories.items()}),
        )
        self._ranks: dict[Suggestion, tuple[int, int]] = {}
        keys: set[str] = set()
        for number, (source, counts) in enumerate(sources):
            for text, n in counts.items():
                if (key := fold(normalise(text))) and key not in keys:
                    keys.add(key)
                    self._ranks[Suggestion(text, source)] = (-number, n)
        ends = ((end, suggestion) for suggestion in self._ranks for end in _ends(suggestion.text))
        self._ends = sorted(ends, key=lambda entry: (entry[0], entry[1].text))
        self._keys = [end for end, _ in self._ends]
        self._suggest = lru_cache(_CACHE_SIZE)(self._complete)

    def suggest(self, typed: str, k: int) -> list[Suggestion]:
        """At most `k` texts that begin with `typed`, or have a word that does; one with a slip where none does."""
        key = fold(normalise(typed)) + (" " if typed[-1:].isspace() else "")
        if not key.strip() or len(key) > MAX_TYPED:
            return []
        return list(self._suggest(key)[: min(k, MAX_SUGGESTIONS)])

    def _complete(self, key: str) -> tuple[Suggestion, ...]:
        start, stop = bisect_left(self._keys, key), bisect_left(self._keys, key + chr(0x10FFFF))
        matches = [suggestion for _, suggestion in self._ends[start:stop]] or self._near(key)
        return tuple(heapq.nlargest(MAX_SUGGESTIONS, dict.fromkeys(matches), key=lambda match: self._rank(match, key)))

    def _rank(self, suggestion: Suggestion, key: str) -> tuple[bool, int, int, str]:
        return (fold(normalise(suggestion.text)).startswith(key), *self._ranks[suggestion], suggestion.text)

    def _near(self, key: str) -> list[Suggestion]:
        """The suggestions that begin nearly so."""
        if len(key) < _SHORTEST_FUZZY:
            return []
        most = 2 if len(key) >= _LONG_FUZZY else 1
        matches: list[tuple[float, int]] = []
        for length in (len(key), len(key) + 1):
            starts = [end[:length] for end in self._keys]
            hits = process.extract(key, starts, scorer=OSA.distance, score_cutoff=most, limit=4 * MAX_SUGGESTIONS)
            matches += [(n_faults, index) for _, n_faults, index in hits]
        fewest_faults = min(matches, default=(0, 0))[0]
        return [self._ends[index][1] for n_faults, index in matches if n_faults == fewest_faults]


def _ends(text: str) -> Iterator[str]:
    """`text` from each of its words on, folded."""
    words = fold(normalise(text)).split()
    for start in range(len(words)):
        yield " ".join(words[start:])
