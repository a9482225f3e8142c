"""What shoppers themselves corrected: a query that took nothing, and the next one, spelt nearly so, that did.

What two such queries differ in is a correction: `red bacpack`, then `red backpack`, say that `bacpack` is `backpack`.
It is kept where enough different shoppers made it, so that nobody's query leaks, and where it was not taken back: the
other way round fewer did it, and the misspelling took something less often than it was corrected.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from rapidfuzz.distance import OSA

from mmse.dataset.contract import select_rows
from mmse.dataset.folder import CORRECTIONS_SCHEMA, DatasetFolder
from mmse.mining.split import Slices
from mmse.schema.stages import Stage
from mmse.sources.duckdb_session import Session
from mmse.text.normalise import words
from mmse.text.terms import fold

MIN_SIMILARITY = 0.6
"""Texts are near in spelling if at least this share of the letters of the longer one stays as it is."""
_MIN_LETTERS = 4
_SEARCH_SIMILARITY = 0.75
"""Pairs of queries below this similarity (Jaro and Winkler's) are not looked at."""
_DIGIT = re.compile(r"\d")


class Correction(NamedTuple):
    """A misspelling and the spelling that was meant, both as folded words, and how many shoppers corrected it so."""

    misspelling: str
    spelling: str
    shoppers: int


def write_corrections(
    session: Session, dataset: DatasetFolder, slices: Slices, minutes: float, min_shoppers: int
) -> int:
    """Writes the corrections of the training window of `dataset`; gives how many there are.

    The next query comes from the same shopper at most `minutes` later; each correction has `min_shoppers` shoppers.
    """
    rows = select_rows(dataset.path, slices.periods)
    session.run(f"""
        CREATE OR REPLACE TEMP TABLE query_request AS
        SELECT request_id, any_value(query) AS query, any_value(user_id) AS user_id,
               any_value(timestamp) AS timestamp, max(stage) >= {Stage.CLICKED:d} AS takes
          FROM ({rows}) WHERE slice < {slices.periods} GROUP BY slice, request_id""")
    pairs = session.arrow(f"""
        WITH succession AS (
            SELECT user_id, query, takes, timestamp, lead(query) OVER later AS next_query,
                   lead(takes) OVER later AS next_takes, lead(timestamp) OVER later AS next_timestamp
              FROM query_request WHERE user_id IS NOT NULL
            WINDOW later AS (PARTITION BY user_id ORDER BY timestamp, request_id))
        SELECT DISTINCT query, next_query, user_id FROM succession
         WHERE NOT takes AND next_takes AND next_query <> query
           AND epoch_us(next_timestamp) - epoch_us(timestamp) <= {round(minutes * 60e6)}
           AND jaro_winkler_similarity(replace(query, ' ', ''), replace(next_query, ' ', ''))
               >= {_SEARCH_SIMILARITY}""")
    columns = (pairs[name].to_pylist() for name in ("query", "next_query", "user_id"))
    corrections = count_corrections(zip(*columns, strict=True), min_shoppers)
    n_takes = _count_takes(session, corrections)
    kept = [c for c in corrections if n_takes[c.misspelling] < c.shoppers]
    session.run("DROP TABLE query_request")
    names = CORRECTIONS_SCHEMA.names
    pq.write_table(
        pa.table({name: [getattr(c, name) for c in kept] for name in names}, schema=CORRECTIONS_SCHEMA),
        dataset.corrections,
    )
    return len(kept)


def count_corrections(pairs: Iterable[tuple[str, str, str]], min_shoppers: int) -> list[Correction]:
    """The corrections in `pairs` of query, next query and shopper that at least `min_shoppers` shoppers made.

    Of several for the same words the commonest is kept, and of two that are the reverse of each other the commoner.
    """
    shoppers = defaultdict[tuple[str, str], set[str]](set)
    for query, next_query, user_id in pairs:
        difference = find_difference(query, next_query)
        if difference is not None:
            shoppers[difference].add(user_id)
    counts = {pair: len(users) for pair, users in shoppers.items() if len(users) >= min_shoppers}
    best: dict[str, Correction] = {}
    for (misspelling, spelling), n in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])):
        if n > len(shoppers.get((spelling, misspelling), ())):
            best.setdefault(misspelling, Correction(misspelling, spelling, n))
    return sorted(best.values())


def find_difference(query: str, next_query: str) -> tuple[str, str] | None:
    """The folded words in which two queries differ, if these are near in spelling and without a digit.

    `red bacpack` and `red backpack` differ in `bacpack` and `backpack`, `sun glases` and `sunglasses` in all words.
    None where nothing differs but blanks and forms that fold alike.
    """
    misspelling, spelling = words(fold(query)), words(fold(next_query))
    while misspelling and spelling and misspelling[0] == spelling[0]:
        misspelling, spelling = misspelling[1:], spelling[1:]
    while misspelling and spelling and misspelling[-1] == spelling[-1]:
        misspelling, spelling = misspelling[:-1], spelling[:-1]
    letters = "".join(misspelling), "".join(spelling)
    if min(map(len, letters)) < _MIN_LETTERS or any(map(_DIGIT.search, letters)) or letters[0] == letters[1]:
        return None
    if OSA.normalized_similarity(*letters) < MIN_SIMILARITY:
        return None
    return " ".join(misspelling), " ".join(spelling)


def _count_takes(session: Session, corrections: Iterable[Correction]) -> Counter[str]:
    """How many requests with the misspelling of each correction took something."""
    by_first_word = defaultdict[str, list[str]](list)
    for correction in corrections:
        by_first_word[correction.misspelling.split()[0]].append(correction.misspelling)
    n_takes = Counter[str]()
    if not by_first_word:
        return n_takes
    rows = session.arrow("SELECT query, count(*) AS requests FROM query_request WHERE takes GROUP BY query")
    for query, n in zip(rows["query"].to_pylist(), rows["requests"].to_pylist(), strict=True):
        text = words(fold(query))
        phrase = f" {' '.join(text)} "
        for word in set(text) & by_first_word.keys():
            n_takes.update({w: n for w in by_first_word[word] if f" {w} " in phrase})
    return n_takes
