"""Items by row, stored so that the hundred items of a page are read in a few steps per column.

Reading a hundred rows of a million-row table as Python values takes longer than searching for them. Here a text that
many items share (a brand, a category) is one Python string, and a row stores its number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

MAX_SHARED_TEXTS = 50_000
"""A column with at most this many distinct texts is stored as numbers of texts."""
_SAMPLE_ROWS = 10_000
"""How many values of a column are sampled to see whether it has few distinct ones."""

Reader = Callable[[Int64[np.ndarray, " m"]], list[Any]]
"""Returns the values of one column at some rows."""


@final
class RowStore:
    """The columns of an items table that are shown, without empty ones."""

    def __init__(self, items: pa.Table) -> None:
        self._columns: list[tuple[str, Reader]] = []
        self._gaps = set[str]()
        for name in display_columns(items.schema):
            column = items[name]
            if column.null_count < len(items):
                self._columns.append((name, _make_reader(column)))
                if column.null_count:
                    self._gaps.add(name)
        self._empty: dict[str, Any] = dict.fromkeys(name for name, _ in self._columns)

    def read_rows(self, rows: Int64[np.ndarray, " m"]) -> list[dict[str, Any]]:
        """The items at `rows`, each without the columns that it has no value in."""
        # Copying a dictionary allocates room for all keys at once; growing one key by key takes three times as long.
        items = [self._empty.copy() for _ in rows]
        for name, read_column in self._columns:
            if name in self._gaps:
                for item, value in zip(items, read_column(rows), strict=True):
                    if value is None:
                        del item[name]
                    else:
                        item[name] = value
            else:
                for item, value in zip(items, read_column(rows), strict=True):
                    item[name] = value
        return items


def display_columns(items: pa.Schema) -> list[str]:
    """The columns of an item that are shown: all but vectors."""
    return [field.name for field in items if not _is_vector(field.type)]


def _is_vector(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) and pa.types.is_floating(kind.value_type))


def _make_reader(column: pa.ChunkedArray) -> Reader:
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _make_text_reader(column)
    if pa.types.is_timestamp(kind) and kind.tz is None and kind.unit != "ns":
        moments = column.to_numpy()
        return lambda rows: _to_list(moments.take(rows))  # NumPy returns `datetime`, or `None` for no value
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return _make_number_reader(column)
    return _make_arrow_reader(column)


def _make_text_reader(column: pa.ChunkedArray) -> Reader:
    sample = column.slice(0, _SAMPLE_ROWS)
    if pc.count_distinct(sample).as_py() > 0.9 * len(sample):
        return _make_arrow_reader(column)
    dictionary_array = pc.dictionary_encode(column).unify_dictionaries().combine_chunks()
    if len(dictionary_array.dictionary) > MAX_SHARED_TEXTS:
        return _make_arrow_reader(column)
    texts = [*dictionary_array.dictionary.to_pylist(), None]  # the last entry is for -1
    numbers = pc.fill_null(dictionary_array.indices, -1).to_numpy()
    return lambda rows: [texts[number] for number in numbers.take(rows).tolist()]


def _make_number_reader(column: pa.ChunkedArray) -> Reader:
    """A reader of numbers and flags, which NumPy converts to Python values."""
    if column.null_count == 0:
        values = column.to_numpy()
        return lambda rows: _to_list(values.take(rows))
    numbers = pc.fill_null(column, pa.scalar(0, pa.int8()).cast(column.type)).to_numpy()
    is_null = column.is_null().to_numpy()

    def read(rows: Int64[np.ndarray, " m"]) -> list[Any]:
        values = _to_list(numbers.take(rows))
        for i in np.flatnonzero(is_null.take(rows)).tolist():
            values[i] = None
        return values

    return read


def _make_arrow_reader(column: pa.ChunkedArray) -> Reader:
    whole = column.combine_chunks()
    chunk = whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole

    def read(rows: Int64[np.ndarray, " m"]) -> list[Any]:
        values: list[Any] = chunk.take(pa.array(rows)).to_pylist()
        return values

    return read


def _to_list(values: np.ndarray) -> list[Any]:
    items: list[Any] = values.tolist()
    return items
