"""What a shopper may be about to type: popular queries, brands and categories that begin so, or nearly so."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, final

import numpy as np
from jaxtyping import Int64
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
_MAX_COMPARED, _MAX_FURTHER = 1_000, 400
"""With a slip so many ends are compared that begin with the same two letters; then with either of these, and of all."""
_ENDS_PER_TEXT = 8
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
        texts: dict[str, tuple[int, int, str, Source]] = {}
        for number, (source, counts) in enumerate(sources):
            for text, n in counts.items():
                if key := fold(normalise(text)):
                    texts.setdefault(key, (-number, n, text, source))
        keys = sorted(texts, key=lambda key: texts[key])
        self._suggestions = [Suggestion(*texts[key][2:]) for key in keys]
        entries = sorted(
            (end, rank if number else rank + len(keys))
            for rank, key in enumerate(keys)
            for number, end in enumerate(_ends(key))
        )
        self._ends = [end for end, _ in entries]
        self._priorities = np.array([priority for _, priority in entries], np.int64)
        self._suggest = lru_cache(_CACHE_SIZE)(self._complete)

    def suggest(self, typed: str, k: int) -> list[Suggestion]:
        """At most `k` texts that begin with `typed`, or have a word that does; one with a slip where none does."""
        key = fold(normalise(typed)) + (" " if typed[-1:].isspace() else "")
        if not key.strip() or len(key) > MAX_TYPED:
            return []
        return list(self._suggest(key)[: min(k, MAX_SUGGESTIONS)])

    def _complete(self, key: str) -> tuple[Suggestion, ...]:
        rows = self._first(key, _ENDS_PER_TEXT * MAX_SUGGESTIONS)
        priorities = self._priorities[rows if len(rows) else self._near(key)]
        best = dict.fromkeys(self._suggestions[n % len(self._suggestions)] for n in np.sort(priorities)[::-1].tolist())
        return tuple(best)[:MAX_SUGGESTIONS]

    def _first(self, beginning: str, most: int) -> Int64[np.ndarray, " n"]:
        """The rows of the ends that begin so, at most so many: those of the highest priority."""
        start = bisect_left(self._ends, beginning)
        stop = bisect_left(self._ends, beginning + chr(0x10FFFF))
        if stop - start <= most:
            return np.arange(start, stop)
        return start + np.argpartition(self._priorities[start:stop], -most)[-most:]

    def _near(self, key: str) -> Sequence[int]:
        """The rows of the ends that begin nearly so; of those with the same two first letters, if one has one fault."""
        if len(key) < _SHORTEST_FUZZY:
            return []
        n_faults, rows = self._compare(key, self._first(key[:2], _MAX_COMPARED))
        if n_faults != 1:
            other_rows = [self._first(beginning, _MAX_FURTHER) for beginning in (key[0], key[1], "")]
            n_faults, rows = min((n_faults, rows), self._compare(key, np.unique(np.concatenate(other_rows))))
        return rows

    def _compare(self, key: str, rows: Int64[np.ndarray, " n"]) -> tuple[float, list[int]]:
        """The fewest faults of an end among `rows`, and the rows of those with so many; none has too many."""
        most = 2 if len(key) >= _LONG_FUZZY else 1
        ends, matches = [self._ends[row] for row in rows.tolist()], list[tuple[float, int]]()
        for length in (len(key), len(key) + 1):
            starts = [end[:length] for end in ends]
            hits = process.extract(key, starts, scorer=OSA.distance, score_cutoff=most, limit=4 * MAX_SUGGESTIONS)
            matches += [(n, int(rows[index])) for _, n, index in hits]
        fewest = min(matches, default=(math.inf, 0))[0]
        return float(fewest), [row for n, row in matches if n == fewest]


def _ends(key: str) -> Iterator[str]:
    """`key` from each of its words on."""
    words = key.split()
    for start in range(len(words)):
        yield " ".join(words[start:])
