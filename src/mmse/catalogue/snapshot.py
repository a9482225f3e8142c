"""A live catalogue at one moment, over both channels: what a search sees from its first step to its last."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float32, Int64

from mmse.catalogue.base import Base
from mmse.catalogue.delta import Part
from mmse.index.base import Found, nothing_found
from mmse.index.columns import Columns
from mmse.index.filtered_search import search_filtered
from mmse.index.lexical import LexicalIndex
from mmse.schema.filters import Filter, Kind, comparable, path_of

FEW_SHUT = 0.1
"""Up to this share of the base out of date, a search takes a few more rows and drops those; past it they are masked."""
_QUERIES = 256


@final
@dataclass(frozen=True, eq=False)
class Snapshot:
    """The catalogue after `version` calls of `apply`; rows are `0..n_rows-1`, some of which may have no item.

    `base_open` are the base's rows that stand as they were, `added` the rows of the ids that the base lacks.
    """

    version: int
    n_rows: int
    base: Base
    base_open: Bool[np.ndarray, " n"]
    parts: tuple[Part, ...]
    added: Mapping[str, int]
    lexical: LexicalIndex

    def __len__(self) -> int:
        """How many items there are."""
        return self._n_items

    @property
    def kinds(self) -> dict[str, Kind]:
        """What can be filtered by."""
        return self.base.kinds

    @property
    def changed(self) -> int:
        """How many rows are not as the base has them."""
        return sum(int(part.current.sum()) for part in self.parts)

    def mask(self, filter: Filter | None = None) -> Bool[np.ndarray, " n_rows"] | None:
        """Which rows have an item that `filter` lets through; None where every row does."""
        if filter is None and len(self) == self.n_rows:
            return None
        mask = np.zeros(self.n_rows, bool)
        mask[: len(self.base)] = self.base_open if filter is None else self._base_mask(filter)
        for part in self.parts:
            mask[part.rows[part.open if filter is None else part.open & part.columns.mask(filter)]] = True
        return mask

    def search_vectors(self, queries: Float32[np.ndarray, "q width"], k: int, filter: Filter | None = None) -> Found:
        """The `k` best items of each query among those that `filter` lets through, by exact inner products.

        Never fewer than there are, up to `k`.
        """
        found = self._in_base(queries, k, filter)
        for part in self.parts:
            allowed = part.open if filter is None else part.open & part.columns.mask(filter)
            if allowed.any():
                found = _merged(found, _in_part(part, queries, k, allowed), k)
        return found

    def rows(self, item_ids: Sequence[str]) -> Int64[np.ndarray, " m"]:
        """The row of each item, -1 where there is no such item."""
        slots = self.slots(item_ids)
        known = slots >= 0
        known[known] = self.alive(slots[known])
        return np.where(known, slots, -1)

    def slots(self, item_ids: Sequence[str]) -> Int64[np.ndarray, " m"]:
        """`rows`, and the rows of deleted items as well."""
        slots = self.base.ids.rows(item_ids)
        for place in np.flatnonzero(slots < 0).tolist():
            slots[place] = self.added.get(item_ids[place], -1)
        return slots

    def alive(self, rows: Int64[np.ndarray, " m"]) -> Bool[np.ndarray, " m"]:
        """Which of `rows` have an item."""
        alive = np.zeros(len(rows), bool)
        within = rows < len(self.base)
        alive[within] = self.base_open[rows[within]]
        for part in self.parts:
            at = part.places(rows)
            alive[at >= 0] = part.alive[at[at >= 0]]
        return alive

    def items(self, rows: Int64[np.ndarray, " m"]) -> list[dict[str, Any]]:
        """The items at `rows`, every column of each; a deleted item as it last was."""
        items: list[dict[str, Any]] = self.table(rows).to_pylist()
        return items

    def shown(self, rows: Int64[np.ndarray, " m"]) -> list[dict[str, Any]]:
        """The items at `rows`, without the columns that an item has no value in."""
        if not self.parts:
            return self.base.shelf.items(rows)
        owner, place = self._owners(rows)
        items: list[dict[str, Any]] = [{}] * len(rows)
        for number in np.unique(owner).tolist():
            here = np.flatnonzero(owner == number)
            if number < 0:
                held = self.base.shelf.items(place[here])
            else:
                changed = self.parts[number].items.take(pa.array(place[here])).to_pylist()
                held = [{name: value for name, value in item.items() if value is not None} for item in changed]
            for at, item in zip(here.tolist(), held, strict=True):
                items[at] = item
        return items

    def values(self, column: str, rows: Int64[np.ndarray, " m"]) -> list[Any]:
        """What the items at `rows` hold in `column`."""
        values: list[Any] = self._gathered(rows, [column])[column].to_pylist()
        return values

    def table(self, rows: Int64[np.ndarray, " m"]) -> pa.Table:
        """The items at `rows` as a table."""
        return self._gathered(rows, self.base.schema.names)

    def vectors(self, rows: Int64[np.ndarray, " m"]) -> Float32[np.ndarray, "m width"]:
        """The vectors of the items at `rows`; of a deleted item it means nothing."""
        if not self.parts:
            return np.asarray(self.base.vectors).take(rows, axis=0)
        vectors = np.zeros((len(rows), self.base.vectors.shape[1]), np.float32)
        within = rows < len(self.base)
        vectors[within] = self.base.vectors[rows[within]]
        for part in self.parts:
            at = part.places(rows)
            vectors[at >= 0] = part.vectors[at[at >= 0]]
        return vectors

    def holds(self, filter: Filter, rows: Int64[np.ndarray, " m"]) -> Bool[np.ndarray, " m"]:
        """Which of `rows` have an item that `filter` lets through."""
        mask = Columns.of(self._gathered(rows, list(self.kinds)), self.kinds).mask(filter)
        mask &= self.alive(rows)
        return mask

    def counts(self, column: str, mask: Bool[np.ndarray, " n_rows"] | None = None) -> dict[str, int]:
        """`Columns.counts` of the items in `mask` (None: all)."""
        form = path_of if self.kinds.get(column) is Kind.PATH else comparable
        n = len(self.base)
        every = np.ones(self.n_rows, bool) if mask is None else mask
        held = [(self.base.columns, self.base_open & every[:n])]
        held += [(part.columns, part.open & every[part.rows]) for part in self.parts]
        counted: dict[str, int] = {}
        spelled: dict[str, str] = {}
        for columns, some in held:
            for shown, rows in columns.counts(column, some).items():
                value = form(shown)
                counted[value] = counted.get(value, 0) + rows
                spelled.setdefault(value, shown)
        return {spelled[value]: rows for value, rows in sorted(counted.items(), key=lambda one: (-one[1], one[0]))}

    def _base_mask(self, filter: Filter) -> Bool[np.ndarray, " n"]:
        mask = self.base.columns.mask(filter)
        mask &= self.base_open
        return mask

    @cached_property
    def _n_items(self) -> int:
        return int(self.base_open.sum()) + sum(int(part.open.sum()) for part in self.parts)

    @cached_property
    def _shut(self) -> int:
        """How many rows the base's index has that are out of date."""
        return len(self.base.index) - int(self.base_open.sum())

    def _in_base(self, queries: Float32[np.ndarray, "q width"], k: int, filter: Filter | None) -> Found:
        index, vectors = self.base.index, self.base.vectors
        if filter is not None:
            return search_filtered(index, vectors, queries, k, self._base_mask(filter))
        if self._shut == 0:
            return search_filtered(index, vectors, queries, k)
        share = self._shut / len(index)
        if share <= FEW_SHUT:
            more = k + min(self._shut, 16 + math.ceil(2 * k * share))
            found = _kept(search_filtered(index, vectors, queries, more), self.base_open, k)
            short = (found.ids >= 0).sum(axis=1) < min(k, len(index) - self._shut)
            if not short.any():
                return found
            rest = search_filtered(index, vectors, queries[short], k, self.base_open)
            every = nothing_found(len(queries), k)
            every.ids[:, : found.ids.shape[1]], every.scores[:, : found.ids.shape[1]] = found.ids, found.scores
            every.ids[short], every.scores[short] = rest.ids, rest.scores
            return every
        return search_filtered(index, vectors, queries, k, self.base_open)

    def _owners(self, rows: Int64[np.ndarray, " m"]) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
        """Which part has the newest entry of each of `rows` (-1: the base), and at which place."""
        owner, place = np.full(len(rows), -1), rows.copy()
        for number, part in enumerate(self.parts):
            at = part.places(rows)
            owner[at >= 0], place[at >= 0] = number, at[at >= 0]
        return owner, place

    def _base_items(self, columns: list[str]) -> pa.Table:
        return self.base.items if columns == self.base.schema.names else self.base.items.select(columns)

    def _gathered(self, rows: Int64[np.ndarray, " m"], columns: list[str]) -> pa.Table:
        """The `columns` of the items at `rows`, each from the base or from the part that has its newest entry."""
        if not self.parts:
            return self._base_items(columns).take(pa.array(rows))
        owner, place = self._owners(rows)
        pieces, order = [], []
        for number in np.unique(owner).tolist():
            here = np.flatnonzero(owner == number)
            items = self._base_items(columns) if number < 0 else self.parts[number].items.select(columns)
            pieces.append(items.take(pa.array(place[here])))
            order.append(here)
        if len(pieces) < 2:
            return pieces[0] if pieces else self.base.items.select(columns).slice(0, 0)
        return pa.concat_tables(pieces).combine_chunks().take(pa.array(np.argsort(np.concatenate(order))))


def _in_part(part: Part, queries: Float32[np.ndarray, "q width"], k: int, allowed: Bool[np.ndarray, " m"]) -> Found:
    wanted = min(k, int(allowed.sum()))
    ids, scores = np.empty((len(queries), wanted), np.int64), np.empty((len(queries), wanted), np.float32)
    for start in range(0, len(queries), _QUERIES):
        some = slice(start, start + _QUERIES)
        # One product a query: a query alone and in a batch gets the same score, bit by bit.
        all_scores = np.matmul(queries[some][:, None, :], part.vectors.T)[:, 0]
        all_scores[:, ~allowed] = -np.inf
        best = np.argpartition(-all_scores, wanted - 1, axis=1)[:, :wanted]
        ids[some], scores[some] = part.rows[best], np.take_along_axis(all_scores, best, axis=1)
    return Found(ids, scores)


def _kept(found: Found, open_rows: Bool[np.ndarray, " n"], k: int) -> Found:
    """`found` without the rows that are not open, at most `k` of each query."""
    shut = (found.ids >= 0) & ~open_rows[found.ids]
    return _best(np.where(shut, -1, found.ids), np.where(shut, -np.inf, found.scores).astype(np.float32), k)


def _merged(one: Found, other: Found, k: int) -> Found:
    return _best(np.concatenate([one.ids, other.ids], axis=1), np.concatenate([one.scores, other.scores], axis=1), k)


def _best(ids: Int64[np.ndarray, "q m"], scores: Float32[np.ndarray, "q m"], k: int) -> Found:
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return Found(np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1))
