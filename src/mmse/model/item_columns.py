"""The columns of an items table as views read them: texts in lower case, numbers, levels of a category."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64, Int32

from mmse.schema.value_sets import is_set

CATEGORY_LEVELS = 4
MAX_VALUES = 16
"""How many values of an item in one column have an id; all of them are words of its text."""


@dataclass(frozen=True)
class Texts:
    """A column of texts: item `i` has `values[codes[i]]`, `None` for no text. The values differ from one another.

    What is asked of a text is asked once for each value, and not once for each item.
    """

    values: Sequence[str | None]
    codes: Int32[np.ndarray, " n"]

    @classmethod
    def from_arrow(cls, column: pa.Array) -> Texts:
        """The texts of an Arrow column."""
        column = pc.dictionary_encode(column)
        values = [*column.dictionary.to_pylist(), None]
        codes = column.indices.fill_null(len(values) - 1).to_numpy(zero_copy_only=False)
        return cls(values, codes.astype(np.int32, copy=False))

    @classmethod
    def from_numbers(cls, numbers: Float64[np.ndarray, " n"]) -> Texts:
        """Whole numbers as texts; None for NaN."""
        return cls.from_arrow(pa.array(numbers, from_pandas=True).cast(pa.int64()).cast(pa.string()))

    def map(self, change: Callable[[str], str | None]) -> Texts:
        """The column with `change` of each text in its place."""
        values = [None if value is None else change(value) for value in self.values]
        codes = {value: code for code, value in enumerate(dict.fromkeys(values))}
        new_codes = np.fromiter((codes[value] for value in values), np.int32, len(values))
        return Texts(list(codes), new_codes[self.codes])

    def distinct(self) -> list[str]:
        """The different texts, in the order of their first occurrence."""
        codes, indices = np.unique(self.codes, return_index=True)
        values = [self.values[code] for code in codes[np.argsort(indices)]]
        return [value for value in values if value is not None]

    def to_list(self) -> list[str | None]:
        """The text of each item."""
        return [self.values[code] for code in self.codes]


@dataclass(frozen=True)
class ItemColumns:
    """The items of `table`; a column that it lacks is empty.

    `shop_columns` has the columns that the shop declares, under `text`, `categorical` and `numeric`; `price_medians`
    has the median of log(1 + price) of each category, that of all items under the empty name.
    """

    table: pa.Table
    shop_columns: Mapping[str, Sequence[str]]
    price_medians: Mapping[str, float]
    _texts: dict[str, list[Texts]] = field(default_factory=dict, init=False)

    def texts(self, name: str) -> Texts:
        """The column `name` in lower case; None for blank text. Of several values the first."""
        return self.value_columns(name)[0]

    def value_columns(self, name: str) -> list[Texts]:
        """The column `name` as columns of one text: the first values of its items, the second ones, and so on.

        One column where no item has several, and at most `MAX_VALUES`.
        """
        if name not in self._texts:
            self._texts[name] = read_texts(self.table, name)
        return self._texts[name]

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
        medians, category = self.price_medians, self.texts("category")
        usual = np.array([medians.get(value or "", medians[""]) for value in category.values], np.float64)
        relative: Float64[np.ndarray, " n"] = np.log1p(np.maximum(self.numbers("price"), 0)) - usual[category.codes]
        return relative


def read_texts(items: pa.Table, name: str) -> list[Texts]:
    """The column `name` of `items` in lower case; None for blank text and where there is no such column.

    The first values of its items, the second ones, and so on: at least one column, and at most `MAX_VALUES`.
    """
    if name not in items.column_names:
        return [Texts.from_arrow(pa.nulls(len(items), pa.string()))]
    column = items[name].combine_chunks()
    if not is_set(column.type):
        return [Texts.from_arrow(pc.cast(column, pa.string())).map(_clean)]
    texts = Texts.from_arrow(pc.list_flatten(column)).map(_clean)
    owner = pc.list_parent_indices(column).to_numpy().astype(np.int64)
    is_text = np.array([value is not None for value in texts.values], np.bool_)[texts.codes]
    _, indices = np.unique(owner * len(texts.values) + texts.codes, return_index=True)
    indices = np.sort(indices[is_text[indices]])  # each value of an item once, in the order in which it has them
    owner, codes = owner[indices], texts.codes[indices]
    slot = np.arange(len(indices)) - np.searchsorted(owner, owner)
    cells = np.full((min(int(slot.max(initial=0)) + 1, MAX_VALUES), len(items)), len(texts.values), np.int32)
    cells[slot[slot < MAX_VALUES], owner[slot < MAX_VALUES]] = codes[slot < MAX_VALUES]
    return [Texts([*texts.values, None], row) for row in cells]


def _clean(text: str) -> str | None:
    """The text in lower case, `None` for a blank one."""
    return text.strip().lower() or None


def _levels(paths: Texts) -> list[Texts]:
    def cut(path: str, depth: int) -> str | None:
        parts = [part.strip() for part in path.split(">")]
        return " > ".join(parts[:depth]) if len(parts) >= depth else None

    return [paths.map(partial(cut, depth=depth)) for depth in range(1, CATEGORY_LEVELS + 1)]


def floats(items: pa.Table, name: str) -> Float64[np.ndarray, " n"]:
    """The column `name` of `items`; NaN where there is no value, and where there is no such column."""
    if name not in items.column_names:
        return np.full(len(items), np.nan)
    values: Float64[np.ndarray, " n"] = pc.cast(items[name], pa.float64()).to_numpy(zero_copy_only=False)
    return values


def number_values(values: Iterable[str], first_id: int = 1) -> dict[str, int]:
    """An id for each distinct value, from `first_id` on in the order of their first occurrence."""
    return {value: first_id + i for i, value in enumerate(dict.fromkeys(values))}


def number_columns(table: str, columns: Mapping[str, Sequence[Texts]]) -> dict[str, dict[str, int]]:
    """Ids for the values of all `columns`, which share the embedding table `table`: by `TABLE:COLUMN`, from 1 on.

    A column is one column of texts, or several where an item may have several values.
    """
    ids: dict[str, dict[str, int]] = {}
    next_id = 1
    for name, parts in columns.items():
        ids[f"{table}:{name}"] = number_values([value for texts in parts for value in texts.distinct()], next_id)
        next_id += len(ids[f"{table}:{name}"])
    return ids


def count_ids(table: str, vocabulary: Mapping[str, Mapping[str, int]]) -> int:
    """The rows of the embedding table `table`, with row 0 for "none"."""
    return 1 + sum(len(ids) for name, ids in vocabulary.items() if name.startswith(f"{table}:"))


def look_up_columns(
    table: str, vocabulary: Mapping[str, Mapping[str, int]], columns: Mapping[str, Sequence[Texts]]
) -> Int32[np.ndarray, "n ids"]:
    """The ids of the values of `columns` in the embedding table `table`; 0 for values that have none."""
    ids = [
        look_up_ids(vocabulary[f"{table}:{name}"], texts.values)[texts.codes]
        for name, parts in columns.items()
        for texts in parts
    ]
    return np.stack(ids, axis=1)


def look_up_ids(ids: Mapping[str, int], values: Sequence[str | None]) -> Int32[np.ndarray, " n"]:
    """The id of each value; 0 for one that has none."""
    return np.fromiter((0 if value is None else ids.get(value, 0) for value in values), np.int32, len(values))
