"""The rows whose words are in the forward index, and the statistics of Tantivy's BM25, which it does not expose.

The statistics are computed from scores that Tantivy returns, so that both ways of scoring agree, also after edits,
deletes and merges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import tantivy
from jaxtyping import Bool, Float64, Int64
from tantivy import Query

from mmse.index.forward_index import K1, B, ForwardIndex, decode_length, hash_word

FIELDS = ("title", "brand", "category", "attributes")
_MAX_WORDS = 64
"""How many words of a field are tried to find a row with words in the forward index."""


@dataclass(frozen=True, eq=False)
class RowWords:
    """Words by row, except for `stale_rows`. A writer marks in `dirty_rows` the rows that have changed since.

    `documents` includes deleted documents until Tantivy merges them away; `mean_lengths` are those of the fields.
    """

    forward: ForwardIndex
    dirty_rows: Bool[np.ndarray, " n"]
    stale_rows: Bool[np.ndarray, " n"]
    documents: int = 0
    mean_lengths: Float64[np.ndarray, " fields"] = field(default_factory=lambda: np.ones(len(FIELDS)))

    @classmethod
    def open(cls, folder: Path) -> RowWords | None:
        """The words in an index's `folder`, without stale rows; None where there are none."""
        forward = ForwardIndex.open(folder)
        if forward is None:
            return None
        no_rows = np.zeros(len(forward), bool)
        return cls(forward, dirty_rows=no_rows, stale_rows=no_rows.copy())

    @property
    def is_complete(self) -> bool:
        """Whether no row has changed since the index was made."""
        return not self.dirty_rows.any()

    def covers(self, rows: Int64[np.ndarray, " m"]) -> Bool[np.ndarray, " m"]:
        """Which of `rows` have their current words here."""
        if len(rows) == 0 or len(self.stale_rows) == 0:
            return np.zeros(len(rows), bool)
        has_words = ~self.stale_rows.take(rows, mode="clip")
        return has_words if int(rows.max()) < len(self.stale_rows) else has_words & (rows < len(self.stale_rows))

    def mark_dirty(self, rows: Int64[np.ndarray, " m"]) -> None:
        """Marks rows that are about to change."""
        self.dirty_rows[rows[rows < len(self.dirty_rows)]] = True

    def read_statistics(self, schema: tantivy.Schema, searcher: tantivy.Searcher) -> RowWords | None:
        """The words in the state of `searcher`, with its statistics; None where these cannot be computed."""
        current = replace(self, stale_rows=self.dirty_rows.copy())
        any_row = searcher.search(Query.all_query(), 1, count=False).hits
        if not any_row:
            return None
        row = int(_read_row_numbers(searcher, any_row)[0])
        documents = _count_documents(schema, searcher, row)
        lengths = [
            current._mean_length(schema, searcher, field_number, documents) for field_number in range(len(FIELDS))
        ]
        mean_lengths = [length for length in lengths if length is not None]
        return (
            replace(current, documents=documents, mean_lengths=np.array(mean_lengths))
            if len(mean_lengths) == len(FIELDS)
            else None
        )

    def _mean_length(
        self, schema: tantivy.Schema, searcher: tantivy.Searcher, field_number: int, documents: int
    ) -> float | None:
        """The mean length of a field; None where every word that was tried occurs in stale rows only."""
        stems = searcher.terms_with_prefix(FIELDS[field_number], "", limit=_MAX_WORDS)
        for stem, frequency in stems:
            hits = searcher.search(Query.term_query(schema, FIELDS[field_number], stem, "freq"), 1, count=False).hits
            rows = _read_row_numbers(searcher, hits)
            if self.covers(rows).any():
                count = self.forward.count(hash_word(FIELDS[field_number], stem), int(rows[0]))
                length = decode_length(int(self.forward.lengths[rows[0], field_number]))
                max_score = (K1 + 1) * rarity(documents, frequency)
                return K1 * B * length / (max_score * count / float(hits[0][0]) - count - K1 * (1 - B))
        return None if stems else 1.0


def rarity(documents: int, frequency: int) -> float:
    """BM25's weight of a word that `frequency` documents contain, rounded as in Tantivy: to 1e-7 for a common word."""
    odds = np.float32(documents - frequency + 0.5) / np.float32(frequency + 0.5)
    return math.log(np.float32(1.0) + odds)


def _read_row_numbers(
    searcher: tantivy.Searcher, hits: Sequence[tuple[Any, tantivy.DocAddress]]
) -> Int64[np.ndarray, " m"]:
    return np.array(searcher.fast_field_values("row", [address for _, address in hits]), np.int64)


def _count_documents(schema: tantivy.Schema, searcher: tantivy.Searcher, row: int) -> int:
    """The number of documents, from the score of `row`'s own number: its field has no length, so only rarity counts."""
    frequency = searcher.doc_freq("row", row)
    score = searcher.search(Query.term_query(schema, "row", row, "freq"), 1, count=False).hits[0][0]
    return round((math.exp(score) - 1) * (frequency + 0.5) + frequency - 0.5)
