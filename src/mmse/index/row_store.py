"""Items by row, laid out so that the hundred that a page shows are read in a few steps a column.

Taking a hundred rows out of a table of a million and turning them into Python's own values costs more than finding
them. A text that many items share (a brand, a category) is one Python string here, and a row holds its number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

SHARED = 50_000
"""A column of at most so many different texts is held as numbers of texts."""
_LOOKED_AT = 10_000
"""Values of a column that tell whether it has few different ones."""

Reader = Callable[[Int64[np.ndarray, " m"]], list[Any]]
"""Gives what the items at some rows hold in one column."""


@final
class Shelf:
    """The columns of an items table; those that are empty are left out."""

    def __init__(self, items: pa.Table) -> None:
        self._columns: list[tuple[str, Reader]] = []
        self._gaps = set[str]()
        for name, column in zip(items.column_names, items.columns, strict=True):
            if column.null_count < len(items):
                self._columns.append((name, _reader(column)))
                if column.null_count:
                    self._gaps.add(name)
        self._empty: dict[str, Any] = dict.fromkeys(name for name, _ in self._columns)

    def items(self, rows: Int64[np.ndarray, " m"]) -> list[dict[str, Any]]:
        """What each of the items at `rows` holds, without the columns that it has no value in."""
        # A copy of a dictionary has room for all keys at once; one that grows key by key takes three times as long.
        items = [self._empty.copy() for _ in rows]
        for name, read in self._columns:
            if name in self._gaps:
                for item, value in zip(items, read(rows), strict=True):
                    if value is None:
                        del item[name]
                    else:
                        item[name] = value
            else:
                for item, value in zip(items, read(rows), strict=True):
                    item[name] = value
        return items


def _reader(column: pa.ChunkedArray) -> Reader:
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _texts(column)
    if pa.types.is_timestamp(kind) and kind.tz is None and kind.unit != "ns":
        moments = column.to_numpy()
        return lambda rows: _listed(moments.take(rows))  # NumPy gives `datetime`, and `None` where there is none
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _plain(column)
    return _taken(column)


def _texts(column: pa.ChunkedArray) -> Reader:
    some = column.slice(0, _LOOKED_AT)
    if pc.count_distinct(some).as_py() > 0.9 * len(some):
        return _taken(column)
    encoded = pc.dictionary_encode(column).unify_dictionaries().combine_chunks()
    if len(encoded.dictionary) > SHARED:
        return _taken(column)
    texts = [*encoded.dictionary.to_pylist(), None]  # the last is what -1 looks up
    numbers = pc.fill_null(encoded.indices, -1).to_numpy()
    return lambda rows: [texts[number] for number in numbers.take(rows).tolist()]


def _plain(column: pa.ChunkedArray) -> Reader:
    """Numbers and flags, which NumPy turns into Python's own."""
    if column.null_count == 0:
        values = column.to_numpy()
        return lambda rows: _listed(values.take(rows))
    filled = pc.fill_null(column, pa.scalar(0, pa.int8()).cast(column.type)).to_numpy()
    missing = column.is_null().to_numpy()

    def read(rows: Int64[np.ndarray, " m"]) -> list[Any]:
        held = _listed(filled.take(rows))
        for place in np.flatnonzero(missing.take(rows)).tolist():
            held[place] = None
        return held

    return read


def _taken(column: pa.ChunkedArray) -> Reader:
    whole = column.combine_chunks()
    chunk = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole

    def read(rows: Int64[np.ndarray, " m"]) -> list[Any]:
        values: list[Any] = chunk.take(pa.array(rows)).to_pylist()
        return values

    return read


def _listed(values: np.ndarray) -> list[Any]:
    listed: list[Any] = values.tolist()
    return listed
