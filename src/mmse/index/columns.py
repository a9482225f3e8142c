"""The filterable columns of a catalogue: a filter becomes a mask over a million rows in a millisecond.

Names, paths and flags are codes (`mmse.index.value_codes`). An item that has several names or paths in a column meets a
condition if one of them does. Numbers are float64, NaN for none; rounded to float32, a price would no longer equal the
value it is compared with.
"""

from __future__ import annotations

import difflib
import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64

from mmse.core.errors import ArtifactError, UsageError
from mmse.core.json_files import parse_json
from mmse.index.base import damage_error
from mmse.index.value_codes import SEPARATOR, RowCodes, RowSets, ValueCodes, encode_texts, mask_range, subtree_ranges
from mmse.schema.columns import ITEM_COLUMNS
from mmse.schema.filters import And, Between, Filter, Kind, Not, OneOf

METADATA = "columns.json"
FLAGS = ("false", "true")
MAX_SIMILAR = 100
"""An unknown value is compared with so many of its neighbours in the order of the alphabet."""

STANDARD_KINDS = {
    column.name: kind
    for kind in (Kind.PATH, Kind.NAME, Kind.NUMBER, Kind.FLAG)
    for column in ITEM_COLUMNS
    if column.filter is kind
}
"""The filterable columns of the contract, paths first and flags last."""


def filter_kinds(items_columns: Sequence[str], shop_columns: Mapping[str, Sequence[str]]) -> dict[str, Kind]:
    """The filterable columns of an items table, with their kinds: the standard ones, then those of `shop_columns`.

    `shop_columns` has the lists `categorical` and `numeric` of shop.toml. Only columns in `items_columns` are used, and
    a standard column keeps its kind.
    """
    kinds = dict(STANDARD_KINDS)
    for key, kind in (("categorical", Kind.NAME), ("numeric", Kind.NUMBER)):
        for name in shop_columns.get(key, ()):
            kinds.setdefault(name, kind)
    return {name: kind for name, kind in kinds.items() if name in items_columns}


@final
class FilterColumns:
    """`n` item rows by the columns in `kinds`, row for row."""

    def __init__(
        self, n: int, kinds: Mapping[str, Kind], columns: Mapping[str, ValueCodes | Float64[np.ndarray, " n"]]
    ) -> None:
        self.n = n
        self.kinds = dict(kinds)
        self._columns = columns

    @classmethod
    def from_table(cls, items: pa.Table, kinds: Mapping[str, Kind]) -> FilterColumns:
        """The columns of an items table, row for row; a column that the table lacks has no value in any row.

        A text that is empty once stripped, and a path without a part, are no values.
        """
        columns = {name: _read_column(items, name, kind) for name, kind in kinds.items()}
        return cls(items.num_rows, kinds, columns)

    def __len__(self) -> int:
        return self.n

    def mask(self, filter: Filter) -> Bool[np.ndarray, " n"]:
        """A new mask of the rows that pass `filter`, which was parsed with the kinds of these columns."""
        if isinstance(filter, OneOf):
            texts = [FLAGS[value] if isinstance(value, bool) else value for value in filter.values]
            return self._codes(filter.column).mask(texts)
        if isinstance(filter, Between):
            numbers = self._columns[filter.column]
            assert isinstance(numbers, np.ndarray), filter.column
            return mask_range(numbers, filter.low, filter.high)
        if isinstance(filter, Not):
            return ~self.mask(filter.part)
        join, start = (np.logical_and, True) if isinstance(filter, And) else (np.logical_or, False)
        mask = np.full(self.n, start)
        for part in filter.parts:
            join(mask, self.mask(part), out=mask)
        return mask

    def column(self, name: str) -> ValueCodes | Float64[np.ndarray, " n"]:
        """A column by row: codes of names, paths or flags, or numbers with NaN for none."""
        return self._columns[name]

    def count_values(self, column: str, mask: Bool[np.ndarray, " n"]) -> dict[str, int]:
        """How many rows of `mask` have each value of `column`, in the shop's spelling, most frequent first.

        A path also counts for every path above it; flags are `true` and `false`. Raises `UsageError` where the column
        does not exist or holds numbers.
        """
        codes = self._columns.get(column)
        if not isinstance(codes, ValueCodes):
            countable = (
                ", ".join(name for name, column_data in self._columns.items() if isinstance(column_data, ValueCodes))
                or "none"
            )
            raise UsageError(f"The values of '{column}' cannot be counted.", f"Columns that can be: {countable}.")
        return dict(sorted(codes.count(mask).items(), key=lambda entry: (-entry[1], entry[0])))

    def has_value(self, column: str, value: str) -> bool:
        """Whether any row ever had `value`, in the form that filters compare, in a column of names or of paths."""
        low, high = self._codes(column).find_range(value)
        return low < high

    def similar_value(self, column: str, value: str) -> str | None:
        """The shop's spelling of a value that `value` may mean: the shortest path that ends so, or a name near it."""
        codes = self._codes(column)
        ending = SEPARATOR + value
        paths = [path for path in codes.subtree if path.endswith(ending)]
        if paths:
            return codes.spell(min(paths, key=len))
        start = max(bisect_left(codes.values, value) - MAX_SIMILAR // 2, 0)
        near = difflib.get_close_matches(value, codes.values[start : start + MAX_SIMILAR], n=1, cutoff=0.7)
        return codes.spellings[bisect_left(codes.values, near[0])] if near else None

    def save(self, folder: Path) -> None:
        """Writes `columns.json` and a `columnN.npy` for each column into `folder`, which exists."""
        entries: list[dict[str, Any]] = []
        for number, (name, column) in enumerate(self._columns.items()):
            path = folder / f"column{number}.npy"
            entries.append({"name": name, "kind": self.kinds[name].value})
            if isinstance(column, ValueCodes):
                entries[-1] |= {"values": column.values, "spelled": column.spellings, **_save_cells(column.cells, path)}
            else:
                np.save(path, column, allow_pickle=False)
        (folder / METADATA).write_text(json.dumps({"rows": self.n, "columns": entries}) + "\n", "utf-8")

    @classmethod
    def open(cls, folder: Path) -> FilterColumns:
        """The columns saved in `folder`, memory-mapped; raises `ArtifactError` where they are missing or damaged."""
        path = folder / METADATA
        columns: dict[str, ValueCodes | np.ndarray] = {}
        kinds: dict[str, Kind] = {}
        try:
            metadata = parse_json(path.read_text("utf-8"))
            n = int(metadata["rows"])
            for number, column in enumerate(metadata["columns"]):
                path = folder / f"column{number}.npy"
                kinds[column["name"]] = kind = Kind(column["kind"])
                columns[column["name"]] = _open_column(path, n, kind, column)
        except FileNotFoundError as error:
            raise ArtifactError(
                f"{folder} holds no filterable columns: it has no {path.name}.", "Build the index again."
            ) from error
        except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
            raise damage_error(path, error) from error
        return cls(n, kinds, columns)

    def _codes(self, column: str) -> ValueCodes:
        codes = self._columns[column]
        assert isinstance(codes, ValueCodes), column
        return codes


def _save_cells(cells: RowCodes | RowSets, path: Path) -> dict[str, int]:
    """Writes the codes of a column; gives what its entry in `columns.json` needs to open them."""
    if isinstance(cells, RowCodes):
        np.save(path, cells.of_row, allow_pickle=False)
        return {}
    np.save(path, cells.rows, allow_pickle=False)
    np.save(_starts_file(path), cells.starts, allow_pickle=False)
    return {"cells": len(cells.rows)}


def _read_column(items: pa.Table, name: str, kind: Kind) -> ValueCodes | Float64[np.ndarray, " n"]:
    exists = name in items.column_names
    column = items.column(name) if exists else pa.chunked_array([pa.nulls(items.num_rows)])
    if kind is Kind.NUMBER:
        numbers = pc.cast(column, pa.float64(), safe=False)
        return np.array(pc.fill_null(numbers, np.nan).to_numpy())
    if kind is Kind.FLAG:
        flags = pc.fill_null(pc.cast(pc.cast(column, pa.bool_()), pa.int8()), -1)
        return ValueCodes(RowCodes(np.array(flags.to_numpy())), FLAGS, FLAGS, {})
    return encode_texts(column, kind)


def _open_column(path: Path, n: int, kind: Kind, entry: Mapping[str, Any]) -> ValueCodes | Float64[np.ndarray, " n"]:
    if kind is Kind.NUMBER:
        return _open_array(path, (n,), np.float64)
    values, spellings = entry["values"], entry["spelled"]
    cells: RowCodes | RowSets
    if "cells" in entry:
        rows = _open_array(path, (int(entry["cells"]),), np.int32)
        starts = _open_array(_starts_file(path), (len(values) + 1,), np.int64)
        cells = RowSets(n, starts, rows)
        fits = bool(starts[0] == 0 and (np.diff(starts) >= 0).all() and starts[-1] == len(rows))
        fits = fits and (not len(rows) or bool(0 <= rows.min() <= rows.max() < n))
    else:
        of_row = _open_array(path, (n,), np.int8 if kind is Kind.FLAG else np.int32)
        cells = RowCodes(of_row)
        fits = not n or bool(-1 <= of_row.min() <= of_row.max() < len(values))
    if len(spellings) != len(values) or not fits:
        raise ValueError(f"its codes do not fit its {len(values)} values")
    return ValueCodes(cells, values, spellings, subtree_ranges(values) if kind is Kind.PATH else {})


def _open_array(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
    array = np.load(path, mmap_mode="r" if shape[0] else None, allow_pickle=False)
    if array.shape != shape or array.dtype != np.dtype(dtype):
        raise ValueError(f"found {array.dtype} {array.shape}, expected {shape[0]} {np.dtype(dtype)}")
    return np.asarray(array)


def _starts_file(path: Path) -> Path:
    """Where the rows of each value begin, in a column of sets whose rows are in `path`."""
    return path.with_name(f"{path.stem}_starts.npy")
