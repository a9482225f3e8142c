"""The contract of the two tables that a shop brings: every column, once, for all that read or write them.

`docs/tables.md` shows the same columns to users; a test holds the two to each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import final

from mmse.schema.filters import Kind


class ColumnType(Enum):
    """What a column holds; the value is the word that the docs use."""

    TEXT = "text"
    NUMBER = "number"
    WHOLE = "whole number"
    FLAG = "true or false"
    TIME = "time"
    TEXTS = "map of text to text"


class Reader(Enum):
    """Who reads a column of the tables."""

    MINING = "mining"
    EXPERIMENTS = "experiments"


@dataclass(frozen=True)
class Column:
    """One column: its name, what it holds, what it is for, and who reads it.

    Mining rejects a row without a value in a required column. Rows of items that were retrieved only, and rows that
    tell of a click, a cart or an order alone, need fewer (`mmse.sources.column_rules`). `filter` says how a search
    filters by the column, `None` if it cannot.
    """

    name: str
    type: ColumnType
    description: str
    readers: tuple[Reader, ...]
    is_required: bool = False
    filter: Kind | None = None


@final
class TableColumns:
    """The columns of one table, in their order; `names` has the required ones first."""

    def __init__(self, *columns: Column) -> None:
        self._columns = {column.name: column for column in columns}
        self.required_names = tuple(column.name for column in columns if column.is_required)
        self.names = (*self.required_names, *(column.name for column in columns if not column.is_required))

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[Column]:
        return iter(self._columns.values())

    def get(self, name: str) -> Column | None:
        """The column `name`, `None` where the contract has none of that name."""
        return self._columns.get(name)

    def read_by(self, reader: Reader) -> tuple[Column, ...]:
        """The columns that `reader` reads."""
        return tuple(column for column in self if reader in column.readers)


_MINING, _EXPERIMENTS = (Reader.MINING,), (Reader.EXPERIMENTS,)
_ALL = _MINING + _EXPERIMENTS

ITEM_COLUMNS = TableColumns(
    Column("item_id", ColumnType.TEXT, "the item, unique in the table", _MINING, is_required=True),
    Column("title", ColumnType.TEXT, "what the item is called", _MINING, is_required=True),
    Column("category", ColumnType.TEXT, "a path: `shoes > women > boots`", _MINING, filter=Kind.PATH),
    Column("brand", ColumnType.TEXT, "who makes it", _MINING, filter=Kind.NAME),
    Column("seller", ColumnType.TEXT, "who sells it", _MINING, filter=Kind.NAME),
    Column("price", ColumnType.NUMBER, "what it costs", _MINING, filter=Kind.NUMBER),
    Column("available", ColumnType.FLAG, "whether it can be bought", _MINING, filter=Kind.FLAG),
    Column("rating", ColumnType.NUMBER, "how shoppers rate it", _MINING, filter=Kind.NUMBER),
    Column("item_group", ColumnType.TEXT, "the product that it is a variant of", _MINING),
)
"""The `items` table: one row for each item."""

EVENT_COLUMNS = TableColumns(
    Column("request_id", ColumnType.TEXT, "one search, one page of it or all its pages", _ALL, is_required=True),
    Column("timestamp", ColumnType.TIME, "when it happened; rows may come in any order", _ALL, is_required=True),
    Column("query", ColumnType.TEXT, "what was typed", _ALL, is_required=True),
    Column("item_id", ColumnType.TEXT, "one of the items", _ALL, is_required=True),
    Column("position", ColumnType.WHOLE, "where the item stood, from 1", _ALL, is_required=True),
    Column("clicked", ColumnType.FLAG, "whether the item was clicked", _ALL, is_required=True),
    Column("carted", ColumnType.FLAG, "whether the item was put into the cart", _ALL),
    Column("ordered", ColumnType.FLAG, "whether the item was ordered", _ALL, is_required=True),
    Column("retrieved_only", ColumnType.FLAG, "the engine found the item and did not show it", _ALL),
    Column("price", ColumnType.NUMBER, "what was paid", _EXPERIMENTS),
    Column("user_id", ColumnType.TEXT, "the shopper", _ALL),
    Column("session_id", ColumnType.TEXT, "the visit", _EXPERIMENTS),
    Column("explored", ColumnType.FLAG, "whether the slot was filled at random", _ALL),
    Column("propensity", ColumnType.NUMBER, "the chance that the item had to stand there, above 0", _EXPERIMENTS),
    Column("version", ColumnType.TEXT, "the version that served the request", _EXPERIMENTS),
    Column("arm", ColumnType.TEXT, "the arm that the request was in", _EXPERIMENTS),
    Column("assignments", ColumnType.TEXTS, "the arm that the request was in, by experiment", _EXPERIMENTS),
    Column("team", ColumnType.TEXT, "`a` or `b`: which of two interleaved rankings brought the item", _EXPERIMENTS),
    Column("rank_a", ColumnType.WHOLE, "the item's rank in ranking `a`", _EXPERIMENTS),
    Column("rank_b", ColumnType.WHOLE, "the item's rank in ranking `b`", _EXPERIMENTS),
)
"""The `events` table: one row for each item that a request showed, or only retrieved."""

ITEM_GROUP = "item_group"
"""The column of the items that tells variants of one product."""

MADE_BY_MINING = ("item_row", "first_seen")
"""Columns that mining adds to the items; a shop's own may not have these names."""
