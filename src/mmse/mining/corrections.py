"""What shoppers themselves corrected: a query that took nothing, and the next one, spelt nearly so, that did.

What two such queries differ in is a correction: `red bacpack`, then `red backpack`, say that `bacpack` is `backpack`.
It is kept where enough different shoppers made it, so that nobody's query leaks, and where it was not taken back: the
other way round fewer did it, and the misspelling took something less often than it was corrected.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from rapidfuzz.distance import OSA

from mmse.dataset.folder import CORRECTIONS_SCHEMA, DatasetFolder
from mmse.mining.log_sql import LogSql, rows_of
from mmse.mining.split import Slices
from mmse.schema.stages import Stage
from mmse.text.normalise import words
from mmse.text.terms import fold

MIN_SIMILARITY = 0.6
"""Texts are near in spelling if at least this share of the letters of the longer one stays as it is."""
_MIN_LETTERS = 4
_SEARCH_SIMILARITY = 0.75
"""Pairs of queries below this similarity (Jaro and Winkler's) are not looked at."""
_DIGIT = re.compile(r"\d")
_DIFFERENCES = pa.schema([(name, pa.string()) for name in ("misspelling", "spelling", "user_id")])
_MISSPELLING_QUERIES = pa.schema([("misspelling", pa.string()), ("requests", pa.int64())])


class Correction(NamedTuple):
    """A misspelling and the spelling that was meant, both as folded words, and how many shoppers corrected it so."""

    misspelling: str
    spelling: str
    shoppers: int


def write_corrections(sql: LogSql, dataset: DatasetFolder, slices: Slices, minutes: float, min_shoppers: int) -> int:
    """Writes the corrections of the training window of `dataset`; gives how many there are.

    The next query comes from the same shopper at most `minutes` later; each correction has `min_shoppers` shoppers.
    """
    sql.define(
        "query_request",
        f"""
        SELECT request_id, any_value(query) AS query, any_value(user_id) AS user_id,
               any_value(timestamp) AS timestamp, max(stage) >= {Stage.CLICKED:d} AS takes
          FROM dataset_row WHERE slice < {slices.periods} GROUP BY slice, request_id""",
    )
    pairs = f"""
        WITH succession AS (
            SELECT user_id, query, takes, timestamp, lead(query) OVER later AS next_query,
                   lead(takes) OVER later AS next_takes, lead(timestamp) OVER later AS next_timestamp
              FROM query_request WHERE user_id IS NOT NULL
            WINDOW later AS (PARTITION BY user_id ORDER BY timestamp, request_id))
        SELECT DISTINCT query, next_query, user_id FROM succession
         WHERE NOT takes AND next_takes AND next_query <> query
           AND epoch_us(next_timestamp) - epoch_us(timestamp) <= {round(minutes * 60e6)}
           AND jaro_winkler_similarity(replace(query, ' ', ''), replace(next_query, ' ', ''))
               >= {_SEARCH_SIMILARITY}"""
    corrections = count_corrections(sql, pairs, min_shoppers)
    n_takes = _count_takes(sql, corrections)
    kept = [c for c in corrections if n_takes[c.misspelling] < c.shoppers]
    sql.drop("query_request")
    names = CORRECTIONS_SCHEMA.names
    pq.write_table(
        pa.table({name: [getattr(c, name) for c in kept] for name in names}, schema=CORRECTIONS_SCHEMA),
        dataset.corrections,
    )
    return len(kept)


def count_corrections(sql: LogSql, pairs: str, min_shoppers: int) -> list[Correction]:
    """The corrections in `pairs`, SQL, of query, next query and shopper that at least `min_shoppers` shoppers made.

    Of several for the same words the commonest is kept, and of two that are the reverse of each other the commoner.
    """
    sql.map("difference", pairs, _find_differences, _DIFFERENCES)
    sql.define(
        "difference_count",
        "SELECT misspelling, spelling, count(DISTINCT user_id) AS shoppers FROM difference "
        "GROUP BY misspelling, spelling",
    )
    counts = rows_of(
        sql,
        f"""
        SELECT made.misspelling AS misspelling, made.spelling AS spelling, made.shoppers AS shoppers
          FROM difference_count AS made LEFT JOIN difference_count AS reverse
            ON reverse.misspelling = made.spelling AND reverse.spelling = made.misspelling
         WHERE made.shoppers >= {min_shoppers} AND made.shoppers > coalesce(reverse.shoppers, 0)""",
    )
    sql.drop("difference")
    sql.drop("difference_count")
    best: dict[str, Correction] = {}
    for misspelling, spelling, n in sorted(counts, key=lambda row: (-row[2], row[:2])):
        best.setdefault(misspelling, Correction(misspelling, spelling, n))
    return sorted(best.values())


def _find_differences(pairs: pa.Table) -> pa.Table:
    """The words in which the queries of each of `pairs` differ, with the shopper; what differs in none is left out."""
    columns = (pairs[name].to_pylist() for name in ("query", "next_query", "user_id"))
    differences = [
        (*difference, user_id)
        for query, next_query, user_id in zip(*columns, strict=True)
        if (difference := find_difference(query, next_query)) is not None
    ]
    return pa.table(
        dict(zip(_DIFFERENCES.names, zip(*differences, strict=True) if differences else ((), (), ()), strict=True)),
        schema=_DIFFERENCES,
    )


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


def _count_takes(sql: LogSql, corrections: Iterable[Correction]) -> Counter[str]:
    """How many requests with the misspelling of each correction took something."""
    by_first_word = defaultdict[str, list[str]](list)
    for correction in corrections:
        by_first_word[correction.misspelling.split()[0]].append(correction.misspelling)
    if not by_first_word:
        return Counter[str]()
    rows = "SELECT query, count(*) AS requests FROM query_request WHERE takes GROUP BY query"
    sql.map("misspelling_query", rows, partial(_find_misspellings, dict(by_first_word)), _MISSPELLING_QUERIES)
    totals = rows_of(sql, "SELECT misspelling, sum(requests) AS requests FROM misspelling_query GROUP BY misspelling")
    sql.drop("misspelling_query")
    return Counter({misspelling: int(n) for misspelling, n in totals})


def _find_misspellings(by_first_word: Mapping[str, Sequence[str]], queries: pa.Table) -> pa.Table:
    """The misspellings in each query, with the number of its requests."""
    misspellings, requests = list[str](), list[int]()
    for query, n in zip(queries["query"].to_pylist(), queries["requests"].to_pylist(), strict=True):
        text = words(fold(query))
        phrase = f" {' '.join(text)} "
        for word in set(text) & by_first_word.keys():
            matches = [misspelling for misspelling in by_first_word[word] if f" {misspelling} " in phrase]
            misspellings += matches
            requests += [n] * len(matches)
    return pa.table({"misspelling": misspellings, "requests": requests}, schema=_MISSPELLING_QUERIES)
