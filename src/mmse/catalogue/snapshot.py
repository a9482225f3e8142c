"""A snapshot: the live catalogue at one moment, over both channels; one search uses one snapshot from start to end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Int64

from mmse.catalogue.base import CatalogueBase
from mmse.catalogue.delta import Part
from mmse.index.base import Neighbours
from mmse.index.columns import FilterColumns
from mmse.index.lexical import LexicalIndex
from mmse.index.row_store import display_columns
from mmse.index.store import NO_ROWS, best_of
from mmse.schema.columns import ITEM_GROUP
from mmse.schema.filters import Filter, Kind, comparison_form, named_values

_QUERIES = 256


@final
@dataclass(frozen=True, eq=False)
class Snapshot:
    """The catalogue after `version` calls of `apply`; rows are `0..n_rows-1`, some of which may have no item.

    `base_current` marks the base's rows that have not changed. `added_rows` has the rows of the ids that the base
    lacks.
    """

    version: int
    n_rows: int
    base: CatalogueBase
    base_current: Bool[np.ndarray, " n"]
    parts: tuple[Part, ...]
    added_rows: Mapping[str, int]
    lexical: LexicalIndex

    def __len__(self) -> int:
        """The number of items."""
        return self._n_items

    @property
    def kinds(self) -> dict[str, Kind]:
        """The columns that can be filtered by, each with its kind."""
        return self.base.kinds

    @property
    def n_changed(self) -> int:
        """The number of rows that differ from the base."""
        return sum(int(part.current.sum()) for part in self.parts)

    def mask(self, filter: Filter | None = None) -> Bool[np.ndarray, " n_rows"] | None:
        """The rows that have an item which `filter` lets through; None where every row does."""
        if filter is None and len(self) == self.n_rows:
            return None
        mask = np.zeros(self.n_rows, bool)
        mask[: len(self.base)] = self.base_current if filter is None else self._base_mask(filter)
        for part in self.parts:
            mask[part.rows[_part_mask(part, filter)]] = True
        return mask

    def search_vectors(
        self, queries: Float32[np.ndarray, "q width"], k: int, filter: Filter | None = None
    ) -> Neighbours:
        """The `k` best items of each query among those that `filter` lets through, by exact inner products.

        Fewer than `k` only where there are not so many items.
        """
        neighbours = self.base.store.search(queries, k, filter, self._stale_rows)
        for part in self.parts:
            mask = _part_mask(part, filter)
            if mask.any():
                neighbours = _merge(neighbours, _search_part(part, queries, k, mask), k)
        return neighbours

    def rows(self, item_ids: Sequence[str]) -> Int64[np.ndarray, " m"]:
        """The row of each item, -1 where there is no such item."""
        rows = self.rows_with_deleted(item_ids)
        has_item = rows >= 0
        has_item[has_item] = self.alive(rows[has_item])
        return np.where(has_item, rows, -1)

    def rows_with_deleted(self, item_ids: Sequence[str]) -> Int64[np.ndarray, " m"]:
        """As `rows`, but a deleted item has its row too."""
        rows = self.base.id_index.rows(item_ids)
        for index in np.flatnonzero(rows < 0).tolist():
            rows[index] = self.added_rows.get(item_ids[index], -1)
        return rows

    def alive(self, rows: Int64[np.ndarray, " m"]) -> Bool[np.ndarray, " m"]:
        """Which of `rows` have an item."""
        alive = np.zeros(len(rows), bool)
        in_base = rows < len(self.base)
        alive[in_base] = self.base_current[rows[in_base]]
        for part in self.parts:
            indices = part.locate(rows)
            alive[indices >= 0] = part.alive[indices[indices >= 0]]
        return alive

    def items(self, rows: Int64[np.ndarray, " m"]) -> list[dict[str, Any]]:
        """The items at `rows`, every column of each; a deleted item as it was before."""
        items: list[dict[str, Any]] = self.table(rows).to_pylist()
        return items

    def display_items(self, rows: Int64[np.ndarray, " m"]) -> list[dict[str, Any]]:
        """The items at `rows`, each without the columns in which it has no value."""
        if not self.parts:
            return self.base.row_store.read_rows(rows)
        owners, indices = self._locate(rows)
        items: list[dict[str, Any]] = [{}] * len(rows)
        for owner in np.unique(owners).tolist():
            own = np.flatnonzero(owners == owner)
            if owner < 0:
                own_items = self.base.row_store.read_rows(indices[own])
            else:
                columns = display_columns(self.base.schema)
                entries = self.parts[owner].items.select(columns).take(pa.array(indices[own])).to_pylist()
                own_items = [{name: value for name, value in entry.items() if value is not None} for entry in entries]
            for index, item in zip(own.tolist(), own_items, strict=True):
                items[index] = item
        return items

    def values(self, column: str, rows: Int64[np.ndarray, " m"]) -> list[Any]:
        """The values in `column` of the items at `rows`."""
        values: list[Any] = self._gather(rows, [column])[column].to_pylist()
        return values

    def item_groups(self, rows: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " m"] | None:
        """A number for the `item_group` of each of `rows`, its own for an item without; None where no item has any."""
        if not self._has_item_groups:
            return None
        numbers: dict[str, int] = {}
        names = self.values(ITEM_GROUP, rows)
        return np.array(
            [numbers.setdefault(name, len(numbers)) if name else -1 - index for index, name in enumerate(names)],
            np.int64,
        )

    def table(self, rows: Int64[np.ndarray, " m"], columns: Sequence[str] | None = None) -> pa.Table:
        """The items at `rows` as a table, of all columns or of those of `columns` that there are."""
        names = self.base.schema.names
        return self._gather(rows, names if columns is None else [name for name in names if name in columns])

    def vectors(self, rows: Int64[np.ndarray, " m"]) -> Float32[np.ndarray, "m width"]:
        """The vectors of the items at `rows`; that of a deleted item has no meaning."""
        if not self.parts:
            return np.asarray(self.base.vectors).take(rows, axis=0)
        vectors = np.zeros((len(rows), self.base.vectors.shape[1]), np.float32)
        in_base = rows < len(self.base)
        vectors[in_base] = self.base.vectors[rows[in_base]]
        for part in self.parts:
            indices = part.locate(rows)
            vectors[indices >= 0] = part.vectors[indices[indices >= 0]]
        return vectors

    def match_filter(self, filter: Filter, rows: Int64[np.ndarray, " m"]) -> Bool[np.ndarray, " m"]:
        """Which of `rows` have an item that `filter` lets through."""
        mask = FilterColumns.from_table(self._gather(rows, list(self.kinds)), self.kinds).mask(filter)
        mask &= self.alive(rows)
        return mask

    def unknown_values(self, filter: Filter) -> Iterator[tuple[str, str, str | None]]:
        """Each column and value in `filter` that no item has or had, and what may have been meant.

        Looks for that for the first one alone.
        """
        sources = [self.base.columns, *(part.columns for part in self.parts)]
        unknown = [
            (column, value)
            for column, value in named_values(filter)
            if not any(columns.has_value(column, value) for columns in sources)
        ]
        for index, (column, value) in enumerate(unknown):
            similar = (columns.similar_value(column, value) for columns in sources if index == 0)
            yield column, value, next((spelling for spelling in similar if spelling), None)

    def counts(self, column: str, mask: Bool[np.ndarray, " n_rows"] | None = None) -> dict[str, int]:
        """`FilterColumns.counts` of the items in `mask` (None: all)."""
        kind = self.kinds.get(column, Kind.NAME)
        row_mask = np.ones(self.n_rows, bool) if mask is None else mask
        sources = [(self.base.columns, self.base_current & row_mask[: len(self.base)])]
        sources += [(part.columns, part.searchable & row_mask[part.rows]) for part in self.parts]
        counts: dict[str, int] = {}
        spellings: dict[str, str] = {}
        for columns, source_mask in sources:
            for value, count in columns.count_values(column, source_mask).items():
                key = comparison_form(value, kind)
                counts[key] = counts.get(key, 0) + count
                spellings.setdefault(key, value)
        return {spellings[key]: count for key, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))}

    def _base_mask(self, filter: Filter) -> Bool[np.ndarray, " n"]:
        mask = self.base.columns.mask(filter)
        mask &= self.base_current
        return mask

    @cached_property
    def _has_item_groups(self) -> bool:
        """Whether any item says which product it is a variant of."""
        tables = [self.base.items, *(part.items for part in self.parts)]
        return ITEM_GROUP in self.base.schema.names and any(
            table[ITEM_GROUP].null_count < len(table) for table in tables
        )

    @cached_property
    def _n_items(self) -> int:
        return int(self.base_current.sum()) + sum(int(part.searchable.sum()) for part in self.parts)

    @cached_property
    def _stale_rows(self) -> Int64[np.ndarray, " s"]:
        """The base's rows of which its store has a vector that is out of date, sorted."""
        rows = np.concatenate([NO_ROWS, *(part.rows[part.current] for part in self.parts)])
        rows = rows[rows < len(self.base)]
        return np.sort(rows[~self.base.dead[rows]])

    def _locate(self, rows: Int64[np.ndarray, " m"]) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
        """The part with the newest entry of each of `rows` (-1: the base), and the index of the entry in it."""
        owners, indices = np.full(len(rows), -1), rows.copy()
        for number, part in enumerate(self.parts):
            part_indices = part.locate(rows)
            in_part = part_indices >= 0
            owners[in_part], indices[in_part] = number, part_indices[in_part]
        return owners, indices

    def _base_items(self, columns: list[str]) -> pa.Table:
        return self.base.items if columns == self.base.schema.names else self.base.items.select(columns)

    def _gather(self, rows: Int64[np.ndarray, " m"], columns: list[str]) -> pa.Table:
        """The `columns` of the items at `rows`, each from the base or from the part that has its newest entry."""
        if not self.parts:
            return self._base_items(columns).take(pa.array(rows))
        owners, indices = self._locate(rows)
        pieces, order = [], []
        for owner in np.unique(owners).tolist():
            own = np.flatnonzero(owners == owner)
            items = self._base_items(columns) if owner < 0 else self.parts[owner].items.select(columns)
            pieces.append(items.take(pa.array(indices[own])))
            order.append(own)
        if len(pieces) < 2:
            return pieces[0] if pieces else self.base.items.select(columns).slice(0, 0)
        return pa.concat_tables(pieces).combine_chunks().take(pa.array(np.argsort(np.concatenate(order))))


def _part_mask(part: Part, filter: Filter | None) -> Bool[np.ndarray, " m"]:
    return part.searchable if filter is None else part.searchable & part.columns.mask(filter)


def _search_part(
    part: Part, queries: Float32[np.ndarray, "q width"], k: int, mask: Bool[np.ndarray, " m"]
) -> Neighbours:
    n_hits = min(k, int(mask.sum()))
    ids, scores = np.empty((len(queries), n_hits), np.int64), np.empty((len(queries), n_hits), np.float32)
    for start in range(0, len(queries), _QUERIES):
        batch = slice(start, start + _QUERIES)
        # One product a query: a query alone and in a batch gets the same score, bit by bit.
        all_scores = np.matmul(queries[batch][:, None, :], part.vectors.T)[:, 0]
        all_scores[:, ~mask] = -np.inf
        best = np.argpartition(-all_scores, n_hits - 1, axis=1)[:, :n_hits]
        ids[batch], scores[batch] = part.rows[best], np.take_along_axis(all_scores, best, axis=1)
    return Neighbours(ids, scores)


def _merge(a: Neighbours, b: Neighbours, k: int) -> Neighbours:
    ids = np.concatenate([a.ids, b.ids], axis=1)
    return best_of(ids, np.concatenate([a.scores, b.scores], axis=1), k)
