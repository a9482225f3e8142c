"""The columns of an items table as views read them: texts in lower case, numbers, levels of a category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64, Int32

from mmse.schema.value_sets import is_set, values_of

CATEGORY_LEVELS = 4
MAX_VALUES = 16
"""How many values of an item in one column have an id; all of them are words of its text."""

Texts = Sequence[str | None]
"""A column of texts, None where an item has none."""


@dataclass(frozen=True)
class ItemColumns:
    """The items of `table`; a column that it lacks is empty.

    `shop_columns` has the columns that the shop declares, under `text`, `categorical` and `numeric`; `price_medians`
    has the median of log(1 + price) of each category, that of all items under the empty name.
    """

    table: pa.Table
    shop_columns: Mapping[str, Sequence[str]]
    price_medians: Mapping[str, float]

    def texts(self, name: str) -> list[str | None]:
        """The column `name` in lower case; None for blank text. Of several values the first."""
        return strings(self.table, name)

    def value_columns(self, name: str) -> list[Texts]:
        """The column `name` as columns of one text: the first values of its items, the second ones, and so on.

        One column where no item has several, and at most `MAX_VALUES`.
        """
        if name not in self.table.column_names or not is_set(self.table.schema.field(name).type):
            return [self.texts(name)]
        cells = [_clean(values_of(cell))[:MAX_VALUES] for cell in self.table[name].to_pylist()]
        width = max(map(len, cells), default=0)
        return [[cell[i] if i < len(cell) else None for cell in cells] for i in range(max(width, 1))]

    def numbers(self, name: str) -> Float64[np.ndarray, " n"]:
        """The column `name`; NaN where there is no value."""
        return floats(self.table, name)

    def category_levels(self) -> list[Texts]:
        """For each of the top levels, the path down to it: `a`, `a > b`, … and `None` below the leaf."""
        return _levels(self.texts("category"))

    def all_category_levels(self) -> list[list[Texts]]:
        """As `category_levels`, each level once for every path that an item may have."""
        return [list(level) for level in zip(*map(_levels, self.value_columns("category")), strict=True)]

    def relative_price(self) -> Float64[np.ndarray, " n"]:
        """Log price minus the median log price of the item's category; NaN where there is no price."""
        medians = self.price_medians
        price = np.log1p(np.maximum(self.numbers("price"), 0))
        usual = np.array([medians.get(c or "", medians[""]) for c in self.texts("category")], np.float64)
        relative: Float64[np.ndarray, " n"] = price - usual
        return relative


def strings(items: pa.Table, name: str) -> list[str | None]:
    """The column `name` of `items` in lower case; None for blank text and where there is no such column.

    Of several values the first.
    """
    if name not in items.column_names:
        return [None] * len(items)
    if is_set(items.schema.field(name).type):
        return [next(iter(_clean(values_of(cell))), None) for cell in items[name].to_pylist()]
    values: list[str | None] = pc.cast(items[name], pa.string()).to_pylist()
    return [v.strip().lower() or None if v is not None else None for v in values]


def _clean(values: Sequence[str]) -> list[str]:
    """The different values in lower case, without blank ones."""
    return [value for value in dict.fromkeys(value.strip().lower() for value in values) if value]


def _levels(paths: Texts) -> list[Texts]:
    split = [[part.strip() for part in path.split(">")] if path else [] for path in paths]
    return [[" > ".join(s[: d + 1]) if len(s) > d else None for s in split] for d in range(CATEGORY_LEVELS)]


def floats(items: pa.Table, name: str) -> Float64[np.ndarray, " n"]:
    """The column `name` of `items`; NaN where there is no value, and where there is no such column."""
    if name not in items.column_names:
        return np.full(len(items), np.nan)
    values: Float64[np.ndarray, " n"] = pc.cast(items[name], pa.float64()).to_numpy(zero_copy_only=False)
    return values


def number_values(values: Texts, first_id: int = 1) -> dict[str, int]:
    """An id for each distinct value, from `first_id` on in the order of their first occurrence."""
    return {value: first_id + i for i, value in enumerate(dict.fromkeys(v for v in values if v is not None))}


def number_columns(table: str, columns: Mapping[str, Sequence[Texts]]) -> dict[str, dict[str, int]]:
    """Ids for the values of all `columns`, which share the embedding table `table`: by `TABLE:COLUMN`, from 1 on.

    A column is one list of texts, or several where an item may have several values.
    """
    ids: dict[str, dict[str, int]] = {}
    next_id = 1
    for name, parts in columns.items():
        ids[f"{table}:{name}"] = number_values([value for values in parts for value in values], next_id)
        next_id += len(ids[f"{table}:{name}"])
    return ids


def count_ids(table: str, vocabulary: Mapping[str, Mapping[str, int]]) -> int:
    """The rows of the embedding table `table`, with row 0 for "none"."""
    return 1 + sum(len(ids) for name, ids in vocabulary.items() if name.startswith(f"{table}:"))


def look_up_columns(
    table: str, vocabulary: Mapping[str, Mapping[str, int]], columns: Mapping[str, Sequence[Texts]]
) -> Int32[np.ndarray, "n ids"]:
    """The ids of the values of `columns` in the embedding table `table`; 0 for values that have none."""
    ids = [look_up_ids(vocabulary[f"{table}:{name}"], values) for name, parts in columns.items() for values in parts]
    return np.stack(ids, axis=1)


def look_up_ids(ids: Mapping[str, int], values: Texts) -> Int32[np.ndarray, " n"]:
    """The id of each value; 0 for one that has none."""
    return np.fromiter((ids.get(v, 0) if v is not None else 0 for v in values), np.int32, len(values))
