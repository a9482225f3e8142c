"""Sets of values: a column of names or of paths of which an item may have several, stored as lists of texts."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def is_set(kind: pa.DataType) -> bool:
    """Whether a column of this type holds several texts for each item."""
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return bool(is_list and (pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type)))


def values_of(cell: object) -> list[str]:
    """The texts of one item in a column: those of a list, the one of a column without lists, none for no value."""
    if cell is None:
        return []
    return [str(value) for value in cell if value is not None] if isinstance(cell, list) else [str(cell)]


def first_value(cell: object) -> str | None:
    """The first text of one item in a column, `None` for none."""
    return next(iter(values_of(cell)), None)


def join_values(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column of texts as it is, and of lists of texts as the values of each with blanks between them."""
    if not is_set(column.type):
        return pc.cast(column, pa.string())
    cells = (None if cell is None else " ".join(values_of(cell)) for cell in column.to_pylist())
    return pa.chunked_array([pa.array(cells, pa.string())])
