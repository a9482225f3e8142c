"""What changed since the base, in parts that never change once they are seen by a search.

Every commit adds a part; parts of like size are put together, so that there are few of them and a row is copied
only now and then. A row's newest entry is the one that counts, the older ones are out of date.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, final

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Int64

from mmse.index.columns import Columns
from mmse.schema.filters import Kind

GROWTH = 2
"""A part is at least so many times as long as the one after it."""


class Table(NamedTuple):
    """Changed rows, sorted, and what each holds; where not `alive`, what it last held."""

    rows: Int64[np.ndarray, " m"]
    items: pa.Table
    alive: Bool[np.ndarray, " m"]


@final
@dataclass(frozen=True, eq=False)
class Part:
    """Entries by `rows`, which are sorted and distinct.

    `alive` says which rows have an item (the others were deleted, and keep what they held), `current` which entries
    no later part has replaced.
    """

    rows: Int64[np.ndarray, " m"]
    items: pa.Table
    vectors: Float32[np.ndarray, "m width"]
    columns: Columns
    alive: Bool[np.ndarray, " m"]
    current: Bool[np.ndarray, " m"]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def open(self) -> Bool[np.ndarray, " m"]:
        """The entries that a search may find."""
        return np.asarray(self.alive & self.current)

    @property
    def table(self) -> Table:
        """The current entries."""
        return Table(self.rows[self.current], self.items.filter(pa.array(self.current)), self.alive[self.current])

    def places(self, rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Where the current entry of each of `rows` stands, -1 where this part has none."""
        if len(self.rows) == 0:
            return np.full(len(rows), -1, np.int64)
        at = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return np.where((self.rows[at] == rows) & self.current[at], at, -1)


def part_of(changed: Table, vectors: Float32[np.ndarray, "m width"], kinds: dict[str, Kind]) -> Part:
    """A new part with all of `changed`."""
    rows, items, alive = changed
    return Part(rows, items, vectors, Columns.of(items, kinds), alive, np.ones(len(rows), bool))


def extended(parts: tuple[Part, ...], new: Part) -> tuple[Part, ...]:
    """`parts` with the entries of `new` in place of theirs."""
    kept = [without for part in parts if (without := _without(part, new.rows)).current.any()]
    kept.append(new)
    while len(kept) > 1 and len(kept[-2]) < GROWTH * len(kept[-1]):
        last = kept.pop()
        kept[-1] = _together(kept[-1], last)
    return tuple(kept)


def _without(part: Part, rows: Int64[np.ndarray, " n"]) -> Part:
    replaced = part.places(rows)
    replaced = replaced[replaced >= 0]
    if len(replaced) == 0:
        return part
    current = part.current.copy()
    current[replaced] = False
    return replace(part, current=current)


def _together(first: Part, second: Part) -> Part:
    """The current entries of both, which no row has in both."""
    tables = [first.table, second.table]
    rows = np.concatenate([table.rows for table in tables])
    order = np.argsort(rows)
    items = pa.concat_tables([table.items for table in tables]).combine_chunks().take(pa.array(order))
    alive = np.concatenate([table.alive for table in tables])[order]
    vectors = np.concatenate([first.vectors[first.current], second.vectors[second.current]])[order]
    return part_of(Table(rows[order], items, alive), vectors, first.columns.kinds)
