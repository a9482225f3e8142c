"""The columns of an items table as views read them: texts in lower case, numbers, levels of a category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64, Int32

CATEGORY_LEVELS = 4

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
        """The column `name` in lower case; None for blank text."""
        return strings(self.table, name)

    def numbers(self, name: str) -> Float64[np.ndarray, " n"]:
        """The column `name`; NaN where there is no value."""
        return floats(self.table, name)

    def category_levels(self) -> list[list[str | None]]:
        """For each of the top levels, the path down to it: `a`, `a > b`, … and `None` below the leaf."""
        split = [[part.strip() for part in p.split(">")] if p else [] for p in self.texts("category")]
        return [[" > ".join(s[: d + 1]) if len(s) > d else None for s in split] for d in range(CATEGORY_LEVELS)]

    def relative_price(self) -> Float64[np.ndarray, " n"]:
        """Log price minus the median log price of the item's category; NaN where there is no price."""
        medians = self.price_medians
        price = np.log1p(np.maximum(self.numbers("price"), 0))
        usual = np.array([medians.get(c or "", medians[""]) for c in self.texts("category")], np.float64)
        relative: Float64[np.ndarray, " n"] = price - usual
        return relative


def strings(items: pa.Table, name: str) -> list[str | None]:
    """The column `name` of `items` in lower case; None for blank text and where there is no such column."""
    if name not in items.column_names:
        return [None] * len(items)
    values: list[str | None] = pc.cast(items[name], pa.string()).to_pylist()
    return [v.strip().lower() or None if v is not None else None for v in values]


def floats(items: pa.Table, name: str) -> Float64[np.ndarray, " n"]:
    """The column `name` of `items`; NaN where there is no value, and where there is no such column."""
    if name not in items.column_names:
        return np.full(len(items), np.nan)
    values: Float64[np.ndarray, " n"] = pc.cast(items[name], pa.float64()).to_numpy(zero_copy_only=False)
    return values


def number_values(values: Texts, first_id: int = 1) -> dict[str, int]:
    """An id for each distinct value, from `first_id` on in the order of their first occurrence."""
    return {value: first_id + i for i, value in enumerate(dict.fromkeys(v for v in values if v is not None))}


def number_columns(table: str, columns: Mapping[str, Texts]) -> dict[str, dict[str, int]]:
    """Ids for the values of all `columns`, which share the embedding table `table`: by `TABLE:COLUMN`, from 1 on."""
    ids: dict[str, dict[str, int]] = {}
    next_id = 1
    for name, values in columns.items():
        ids[f"{table}:{name}"] = number_values(values, next_id)
        next_id += len(ids[f"{table}:{name}"])
    return ids


def count_ids(table: str, vocabulary: Mapping[str, Mapping[str, int]]) -> int:
    """The rows of the embedding table `table`, with row 0 for "none"."""
    return 1 + sum(len(ids) for name, ids in vocabulary.items() if name.startswith(f"{table}:"))


def look_up_columns(
    table: str, vocabulary: Mapping[str, Mapping[str, int]], columns: Mapping[str, Texts]
) -> Int32[np.ndarray, "n columns"]:
    """The ids of the values of `columns` in the embedding table `table`; 0 for values that have none."""
    return np.stack([look_up_ids(vocabulary[f"{table}:{n}"], v) for n, v in columns.items()], axis=1)


def look_up_ids(ids: Mapping[str, int], values: Texts) -> Int32[np.ndarray, " n"]:
    """The id of each value; 0 for one that has none."""
    return np.fromiter((ids.get(v, 0) if v is not None else 0 for v in values), np.int32, len(values))
