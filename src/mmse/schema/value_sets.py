"""Sets of values: a column of names or of paths of which an item may have several, stored as lists of texts."""

from __future__ import annotations

import numpy as np
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
    lists = column.combine_chunks()
    owner, values = pc.list_parent_indices(lists), pc.cast(pc.list_flatten(lists), pa.string())
    if values.null_count:
        owner, values = owner.filter(values.is_valid()), values.drop_null()
    n_values = np.bincount(owner.to_numpy(), minlength=len(lists))
    offsets = pa.array(np.append(0, np.cumsum(n_values)).astype(np.int32))
    return pa.chunked_array([pc.binary_join(pa.ListArray.from_arrays(offsets, values, mask=lists.is_null()), " ")])
