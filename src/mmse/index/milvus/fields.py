"""The columns to filter by as fields of a Milvus collection, and a filter as Milvus' expression over them.

Every server version evaluates these, also those without null values: a text without a value is empty, a list has no
entry, a number is the lowest there is, and a flag is -1. A path is the list of itself and all paths above it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from jaxtyping import Int64

from mmse.core.errors import UsageError
from mmse.index.columns import FilterColumns
from mmse.index.value_codes import RowSets, ValueCodes
from mmse.schema.filters import MAX_TEXT, And, Between, Filter, Kind, Not, OneOf, path_prefixes

ROW, VECTOR = "row", "vector"
MAX_VALUES = 4_096
"""Milvus' limit for the values of an item in a list."""
MAX_BYTES = 65_535
"""Milvus' limit for a text."""
KEPT_CHARACTERS = 3 * MAX_TEXT + 1
"""A longer text is cut to this: no filter can name it, since letters become three at most where case is folded."""
LOWEST = -sys.float_info.max
"""Stands for no number; every number that an item has is above it."""

_NAME = re.compile(r"(?!column_)[a-z][a-z0-9_]{0,200}", re.ASCII)
_WORDS = {ROW, VECTOR, "and", "or", "not", "in", "like", "is", "null", "exists", "true", "false", "empty"}
_WORDS |= {"text_match", "phrase_match", "random_sample"}
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})


@dataclass(frozen=True)
class Field:
    """A column to filter by as Milvus has it; `has_lists` where an item may have several values, as with every path."""

    name: str
    kind: Kind
    has_lists: bool


def choose_fields(kinds: Mapping[str, Kind], sources: Sequence[FilterColumns]) -> dict[str, Field]:
    """The field of each column: under its own name where Milvus takes it, else as `column_1` and so on."""
    fields = {}
    for number, (column, kind) in enumerate(kinds.items()):
        is_name = _NAME.fullmatch(column) and column not in _WORDS and not column.startswith(("json_", "array_", "st_"))
        has_sets = kind is Kind.NAME and any(_has_sets(source, column) for source in sources)
        name = column if is_name else f"column_{number}"
        fields[column] = Field(name, kind, kind is Kind.PATH or has_sets)
    return fields


def write_expression(filter: Filter, fields: Mapping[str, Field]) -> str:
    """`filter` as an expression over `fields`, true for the same items."""
    if isinstance(filter, Between):
        return _write_range(filter, fields[filter.column].name)
    if isinstance(filter, OneOf):
        return _write_values(filter, fields[filter.column])
    if isinstance(filter, Not):
        return f"(not {write_expression(filter.part, fields)})"
    parts = [write_expression(part, fields) for part in filter.parts]
    if not parts:
        return f"({ROW} >= 0)" if isinstance(filter, And) else f"({ROW} < 0)"
    return f"({(' and ' if isinstance(filter, And) else ' or ').join(parts)})"


@final
class FieldReader:
    """The values of a column in the form of its field, any rows at a time."""

    def __init__(self, columns: FilterColumns, column: str, field: Field) -> None:
        self._column, self._field = column, field
        content = columns.column(column)
        self._numbers = None
        if not isinstance(content, ValueCodes):
            self._numbers = content
            return
        self._lists = content.cells.by_row()
        self._values: list[Any] = [_cut(value) for value in content.values]
        if field.kind is Kind.PATH:
            self._values = [[_cut(prefix) for prefix in path_prefixes(value)] for value in content.values]

    def read(self, rows: Int64[np.ndarray, " m"]) -> list[Any]:
        """The values of `rows`; raises `UsageError` where an item has more of them than Milvus takes."""
        if self._numbers is not None:
            highest = sys.float_info.max
            numbers = np.clip(self._numbers[rows], np.nextafter(LOWEST, 0), highest)
            return [float(number) for number in np.where(np.isnan(numbers), LOWEST, numbers)]
        starts, codes = self._lists.starts, self._lists.codes
        lists = [codes[starts[row] : starts[row + 1]].tolist() for row in rows.tolist()]
        if self._field.kind is Kind.FLAG:
            return [entry[0] if entry else -1 for entry in lists]
        if not self._field.has_lists:
            return [self._values[entry[0]] if entry else "" for entry in lists]
        if self._field.kind is Kind.PATH:
            sets = [list(dict.fromkeys(path for code in entry for path in self._values[code])) for entry in lists]
        else:
            sets = [[self._values[code] for code in entry] for entry in lists]
        for row, entry in zip(rows.tolist(), sets, strict=True):
            if len(entry) > MAX_VALUES:
                raise UsageError(
                    f"The item in row {row} of the items table has {len(entry):,} values in '{self._column}', "
                    f"Milvus takes {MAX_VALUES:,}.",
                    "Take the column out of [items.columns], or give the item fewer values.",
                )
        return sets


def _has_sets(columns: FilterColumns, column: str) -> bool:
    content = columns.column(column)
    return isinstance(content, ValueCodes) and isinstance(content.cells, RowSets)


def _write_range(filter: Between, name: str) -> str:
    low = LOWEST if filter.low is None else max(filter.low, float(np.nextafter(LOWEST, 0)))
    condition = f"{name} {'>' if filter.low is None else '>='} {low!r}"
    return f"({condition})" if filter.high is None else f"({condition} and {name} <= {float(filter.high)!r})"


def _write_values(filter: OneOf, field: Field) -> str:
    if field.kind is Kind.FLAG:
        return f"({field.name} in [{', '.join(str(int(value)) for value in filter.values)}])"
    texts = [value for value in filter.values if value]
    if not texts:
        return f"({ROW} < 0)"
    listing = ", ".join(_quote(texts))
    return f"array_contains_any({field.name}, [{listing}])" if field.has_lists else f"({field.name} in [{listing}])"


def _quote(texts: Iterable[object]) -> list[str]:
    return [f'"{str(text).translate(_ESCAPES)}"' for text in texts]


def _cut(text: str) -> str:
    return text[:KEPT_CHARACTERS]
