"""The delta: what changed since the base, in parts that never change once a search can see them.

Every commit adds a part. Parts of similar size are merged, so that there are few of them and a row is seldom copied.
Only the newest entry of a row counts; older ones are out of date.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, final

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Int64

from mmse.index.columns import FilterColumns
from mmse.schema.filters import Kind

GROWTH = 2
"""A part is at least this many times as long as the next one."""


class ChangedRows(NamedTuple):
    """Changed rows, sorted, and what each holds; where not `alive`, the item that was deleted."""

    rows: Int64[np.ndarray, " m"]
    items: pa.Table
    alive: Bool[np.ndarray, " m"]


@final
@dataclass(frozen=True, eq=False)
class Part:
    """Entries by `rows`, which are sorted and distinct.

    `alive` marks the rows that have an item (the others were deleted, and keep what they held). `current` marks the
    entries that no later part has replaced.
    """

    rows: Int64[np.ndarray, " m"]
    items: pa.Table
    vectors: Float32[np.ndarray, "m width"]
    columns: FilterColumns
    alive: Bool[np.ndarray, " m"]
    current: Bool[np.ndarray, " m"]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def searchable(self) -> Bool[np.ndarray, " m"]:
        """The entries that a search may find."""
        return np.asarray(self.alive & self.current)

    @property
    def table(self) -> ChangedRows:
        """The current entries."""
        return ChangedRows(self.rows[self.current], self.items.filter(pa.array(self.current)), self.alive[self.current])

    def locate(self, rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """The index of the current entry of each of `rows`, -1 where this part has none."""
        if len(self.rows) == 0:
            return np.full(len(rows), -1, np.int64)
        indices = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        return np.where((self.rows[indices] == rows) & self.current[indices], indices, -1)


def new_part(changes: ChangedRows, vectors: Float32[np.ndarray, "m width"], kinds: dict[str, Kind]) -> Part:
    """A new part with all of `changes`."""
    rows, items, alive = changes
    return Part(rows, items, vectors, FilterColumns.from_table(items, kinds), alive, np.ones(len(rows), bool))


def extend_parts(parts: tuple[Part, ...], new: Part) -> tuple[Part, ...]:
    """`parts` with `new` at the end, whose entries replace those of the others."""
    result = [part for part in (_mark_replaced(part, new.rows) for part in parts) if part.current.any()]
    result.append(new)
    while len(result) > 1 and len(result[-2]) < GROWTH * len(result[-1]):
        newest = result.pop()
        result[-1] = _merge_parts(result[-1], newest)
    return tuple(result)


def _mark_replaced(part: Part, rows: Int64[np.ndarray, " n"]) -> Part:
    """`part`, in which the entries of `rows` are no longer current."""
    indices = part.locate(rows)
    indices = indices[indices >= 0]
    if len(indices) == 0:
        return part
    current = part.current.copy()
    current[indices] = False
    return replace(part, current=current)


def _merge_parts(older: Part, newer: Part) -> Part:
    """The current entries of two parts; no row has one in each."""
    tables = [older.table, newer.table]
    rows = np.concatenate([table.rows for table in tables])
    order = np.argsort(rows)
    items = pa.concat_tables([table.items for table in tables]).combine_chunks().take(pa.array(order))
    alive = np.concatenate([table.alive for table in tables])[order]
    vectors = np.concatenate([older.vectors[older.current], newer.vectors[newer.current]])[order]
    return new_part(ChangedRows(rows[order], items, alive), vectors, older.columns.kinds)
