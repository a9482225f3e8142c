"""Which rows have their words held row by row, and the numbers of Tantivy's BM25, which it does not tell.

They are solved from scores that it gives, so that a score is the same whichever way it comes, through edits, deletes
and merges.
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

from mmse.index.forward_index import K1, B, Forward, hashed, length_of

FIELDS = ("title", "brand", "category", "attributes")
_TRIED = 64
"""Words of a field that are tried to find a row to ask for."""


@dataclass(frozen=True, eq=False)
class Rows:
    """Words by row; not of the rows that have `changed`. A writer marks in `touched` what has changed since.

    `documents` counts deleted ones too, until they are merged away; `mean_lengths` are of the fields.
    """

    forward: Forward
    touched: Bool[np.ndarray, " n"]
    changed: Bool[np.ndarray, " n"]
    documents: int = 0
    mean_lengths: Float64[np.ndarray, " fields"] = field(default_factory=lambda: np.ones(len(FIELDS)))

    @classmethod
    def open(cls, folder: Path) -> Rows | None:
        """The words in an index's `folder`, none of them changed; None where it has none."""
        forward = Forward.open(folder)
        if forward is None:
            return None
        none = np.zeros(len(forward), bool)
        return cls(forward, touched=none, changed=none.copy())

    @property
    def whole(self) -> bool:
        """Whether no row has changed since the index was made."""
        return not self.touched.any()

    def held(self, rows: Int64[np.ndarray, " m"]) -> Bool[np.ndarray, " m"]:
        """Of which rows the words are held."""
        if len(rows) == 0 or len(self.changed) == 0:
            return np.zeros(len(rows), bool)
        held = ~self.changed.take(rows, mode="clip")
        return held if int(rows.max()) < len(self.changed) else held & (rows < len(self.changed))

    def touch(self, rows: Int64[np.ndarray, " m"]) -> None:
        """Marks what is about to change."""
        self.touched[rows[rows < len(self.touched)]] = True

    def counted(self, schema: tantivy.Schema, searcher: tantivy.Searcher) -> Rows | None:
        """The words as they are for `searcher`, with the numbers that it counts with; None where they do not show."""
        now = replace(self, changed=self.touched.copy())
        any_row = searcher.search(Query.all_query(), 1, count=False).hits
        if not any_row:
            return None
        row = int(_rows_of(searcher, any_row)[0])
        documents = _documents(schema, searcher, row)
        lengths = [now._mean_length(schema, searcher, place, documents) for place in range(len(FIELDS))]
        known = [length for length in lengths if length is not None]
        return replace(now, documents=documents, mean_lengths=np.array(known)) if len(known) == len(FIELDS) else None

    def _mean_length(
        self, schema: tantivy.Schema, searcher: tantivy.Searcher, place: int, documents: int
    ) -> float | None:
        """The mean length of a field; None where all words that were tried stand in rows that are not held."""
        stems = searcher.terms_with_prefix(FIELDS[place], "", limit=_TRIED)
        for stem, frequency in stems:
            hits = searcher.search(Query.term_query(schema, FIELDS[place], stem, "freq"), 1, count=False).hits
            rows = _rows_of(searcher, hits)
            if self.held(rows).any():
                times = self.forward.times(hashed(FIELDS[place], stem), int(rows[0]))
                length = length_of(int(self.forward.lengths[rows[0], place]))
                most = (K1 + 1) * rarity(documents, frequency)
                return K1 * B * length / (most * times / float(hits[0][0]) - times - K1 * (1 - B))
        return None if stems else 1.0


def rarity(documents: int, frequency: int) -> float:
    """BM25's weight of a word that so many documents hold, rounded as Tantivy rounds: to 1e-7 for a common word."""
    odds = np.float32(documents - frequency + 0.5) / np.float32(frequency + 0.5)
    return math.log(np.float32(1.0) + odds)


def _rows_of(searcher: tantivy.Searcher, hits: Sequence[tuple[Any, tantivy.DocAddress]]) -> Int64[np.ndarray, " m"]:
    return np.array(searcher.fast_field_values("row", [address for _, address in hits]), np.int64)


def _documents(schema: tantivy.Schema, searcher: tantivy.Searcher, row: int) -> int:
    """How many documents the rarity of `row`'s number speaks of: that field has no lengths, so nothing else does."""
    frequency = searcher.doc_freq("row", row)
    score = searcher.search(Query.term_query(schema, "row", row, "freq"), 1, count=False).hits[0][0]
    return round((math.exp(score) - 1) * (frequency + 0.5) + frequency - 0.5)
