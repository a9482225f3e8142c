"""The words near a mistyped one, by the number of faults between them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from rapidfuzz import process
from rapidfuzz.distance import OSA

MIN_LENGTH = 3
"""Shorter words are not corrected."""
LONG = 5
"""Words from this length on may have two faults, or another first letter; shorter ones only beside a word that goes
with the right one."""
MIN_COUNT = 2
"""A word that is seen less often corrects no other."""
MIN_RARE_LENGTH = 6
"""A word that is seen once corrects one with a single fault if it has at least so many letters."""
SMALL = 30_000
"""Of more words, those with another first or second letter are near only if the first letter is the one fault."""
_MAX_CANDIDATES = 50
_CACHE_SIZE = 20_000


Finder = Callable[[str, int], list[tuple[str, int]]]
"""Gives the words within so many faults of another one, each with the number of faults."""


def make_finder(counts: Mapping[str, int]) -> Finder:
    """Finds words of `counts`: at most so many faults away, and one where a word is short; the last ones are kept."""
    by_start: dict[tuple[int, str], list[str]] = {}
    for word, count in counts.items():
        if count >= (1 if len(word) >= MIN_RARE_LENGTH else MIN_COUNT) and len(word) >= MIN_LENGTH and word.isalpha():
            by_start.setdefault((len(word), word[0]), []).append(word)
    letters = sorted({letter for _, letter in by_start})
    is_small = len(counts) <= SMALL

    def near(word: str, most: int) -> list[tuple[str, int]]:
        most = min(most, 2 if len(word) >= LONG - 1 else 1)
        lengths = range(len(word) - most, len(word) + most + 1)
        starts = letters if is_small else sorted({word[0], word[1]})
        choices = [c for length in lengths for letter in starts for c in by_start.get((length, letter), ())]
        if not is_small:
            other_starts = [letter + tail for letter in letters for tail in (word, word[1:])]
            choices += [c for c in other_starts if c[0] not in starts and counts.get(c, 0) >= MIN_COUNT]
        matches = process.extract(word, choices, scorer=OSA.distance, score_cutoff=most, limit=_MAX_CANDIDATES)
        return [(candidate, int(n_faults)) for candidate, n_faults, _ in matches if n_faults]

    return functools.lru_cache(_CACHE_SIZE)(near)
