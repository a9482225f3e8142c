"""The filterable columns of a catalogue: a filter becomes a mask over a million rows in a millisecond.

Names, paths and flags are stored as codes into the sorted list of their values, -1 for none. Paths are sorted part by
part, so that everything below a path is one range of codes, and every condition on texts becomes a few ranges. Numbers
are float64, NaN for none; rounded to float32, a price would no longer equal the value it is compared with.
"""

from __future__ import annotations

import difflib
import json
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float64, Int

from mmse.core.errors import ArtifactError, UsageError
from mmse.index.base import CHUNK, damage_error
from mmse.schema.columns import ITEM_COLUMNS
from mmse.schema.filters import And, Between, Filter, Kind, Not, OneOf, comparison_form, path_prefixes

METADATA = "columns.json"
FLAGS = ("false", "true")
SEPARATOR = " > "
MAX_RANGES = 6
"""Up to this many ranges of codes are compared one by one; for more, a table over all codes is used."""
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


@dataclass(frozen=True)
class _Codes:
    """A text column: `values` are sorted, in the form that filters compare; `spellings` are the shop's own.

    `subtree` has the range of codes at and below each path; it is empty where the column holds no paths.
    """

    of_row: Int[np.ndarray, " n"]
    values: Sequence[str]
    spellings: Sequence[str]
    subtree: Mapping[str, tuple[int, int]]

    def find_range(self, value: str) -> tuple[int, int]:
        """The half-open range of codes that match `value`."""
        if self.subtree:
            return self.subtree.get(value, (0, 0))
        code = bisect_left(self.values, value)
        return code, code + int(code < len(self.values) and self.values[code] == value)

    def spell(self, path: str) -> str:
        """The shop's spelling of a path; no item needs to have this path itself."""
        parts = self.spellings[self.subtree[path][0]].split(SEPARATOR)
        return SEPARATOR.join(parts[: path.count(SEPARATOR) + 1])


@final
class FilterColumns:
    """`n` item rows by the columns in `kinds`, row for row."""

    def __init__(
        self, n: int, kinds: Mapping[str, Kind], columns: Mapping[str, _Codes | Float64[np.ndarray, " n"]]
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
            return self._match_values(filter)
        if isinstance(filter, Between):
            numbers = self._columns[filter.column]
            assert isinstance(numbers, np.ndarray), filter.column
            return _mask_range(numbers, filter.low, filter.high)
        if isinstance(filter, Not):
            return ~self.mask(filter.part)
        join, start = (np.logical_and, True) if isinstance(filter, And) else (np.logical_or, False)
        mask = np.full(self.n, start)
        for part in filter.parts:
            join(mask, self.mask(part), out=mask)
        return mask

    def count_values(self, column: str, mask: Bool[np.ndarray, " n"]) -> dict[str, int]:
        """How many rows of `mask` have each value of `column`, in the shop's spelling, most frequent first.

        A path also counts for every path above it; flags are `true` and `false`. Raises `UsageError` where the column
        does not exist or holds numbers.
        """
        codes = self._columns.get(column)
        if not isinstance(codes, _Codes):
            countable = (
                ", ".join(name for name, column_data in self._columns.items() if isinstance(column_data, _Codes))
                or "none"
            )
            raise UsageError(f"The values of '{column}' cannot be counted.", f"Columns that can be: {countable}.")
        rows = codes.of_row[mask]
        per_code = np.bincount(rows[rows >= 0], minlength=len(codes.values))
        counts = {codes.spellings[code]: int(per_code[code]) for code in np.flatnonzero(per_code).tolist()}
        if codes.subtree:
            up_to = np.concatenate([[0], np.cumsum(per_code)])
            levels = {path: int(up_to[high] - up_to[low]) for path, (low, high) in codes.subtree.items()}
            counts = {codes.spell(path): n for path, n in levels.items() if n}
        return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))

    def has_value(self, column: str, value: str) -> bool:
        """Whether any row ever had `value`, in the form that filters compare, in a column of names or of paths."""
        codes = self._columns[column]
        assert isinstance(codes, _Codes), column
        low, high = codes.find_range(value)
        return low < high

    def similar_value(self, column: str, value: str) -> str | None:
        """The shop's spelling of a value that `value` may mean: the shortest path that ends so, or a name near it."""
        codes = self._columns[column]
        assert isinstance(codes, _Codes), column
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
            texts = {"values": column.values, "spelled": column.spellings} if isinstance(column, _Codes) else {}
            entries.append({"name": name, "kind": self.kinds[name].value, **texts})
            array = column.of_row if isinstance(column, _Codes) else column
            np.save(folder / f"column{number}.npy", array, allow_pickle=False)
        (folder / METADATA).write_text(json.dumps({"rows": self.n, "columns": entries}) + "\n", "utf-8")

    @classmethod
    def open(cls, folder: Path) -> FilterColumns:
        """The columns saved in `folder`, memory-mapped; raises `ArtifactError` where they are missing or damaged."""
        path = folder / METADATA
        columns: dict[str, _Codes | np.ndarray] = {}
        kinds: dict[str, Kind] = {}
        try:
            metadata = json.loads(path.read_text("utf-8"))
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

    def _match_values(self, condition: OneOf) -> Bool[np.ndarray, " n"]:
        codes = self._columns[condition.column]
        assert isinstance(codes, _Codes), condition.column
        texts = [FLAGS[value] if isinstance(value, bool) else value for value in condition.values]
        ranges = _merge_ranges(map(codes.find_range, texts))
        if len(ranges) <= MAX_RANGES:
            mask = np.zeros(self.n, dtype=bool)
            for low, high in ranges:
                mask |= codes.of_row == low if high == low + 1 else _mask_range(codes.of_row, low, high - 1)
            return mask
        is_match = np.zeros(len(codes.values) + 1, dtype=bool)  # the last entry is for code -1
        for low, high in ranges:
            is_match[low:high] = True
        parts = [is_match.take(codes.of_row[start : start + CHUNK]) for start in range(0, self.n, CHUNK)]
        return np.concatenate([np.empty(0, dtype=bool), *parts])


def _read_column(items: pa.Table, name: str, kind: Kind) -> _Codes | Float64[np.ndarray, " n"]:
    exists = name in items.column_names
    column = items.column(name) if exists else pa.chunked_array([pa.nulls(items.num_rows)])
    if kind is Kind.NUMBER:
        numbers = pc.cast(column, pa.float64(), safe=False)
        return np.array(pc.fill_null(numbers, np.nan).to_numpy())
    if kind is Kind.FLAG:
        flags = pc.fill_null(pc.cast(pc.cast(column, pa.bool_()), pa.int8()), -1)
        return _Codes(np.array(flags.to_numpy()), FLAGS, FLAGS, {})
    texts = pc.dictionary_encode(pc.cast(column, pa.large_string()).combine_chunks())
    raw = texts.dictionary.to_pylist()
    values, spellings = _collect_values(kind, raw)
    code_of = {value: code for code, value in enumerate(values)}
    code_of_raw = np.array([*(code_of.get(comparison_form(text, kind), -1) for text in raw), -1], dtype=np.int32)
    of_row = code_of_raw[pc.fill_null(texts.indices, -1).to_numpy(zero_copy_only=False)]
    return _Codes(of_row, values, spellings, _subtree_ranges(values) if kind is Kind.PATH else {})


def _collect_values(kind: Kind, raw: Iterable[str]) -> tuple[Sequence[str], Sequence[str]]:
    """The distinct values of `raw`, sorted, and the spelling of each that came first."""
    spellings: dict[str, str] = {}
    for text in raw:
        marks = text.split(">") if kind is Kind.PATH else [text]
        spelling = SEPARATOR.join(part for part in map(str.strip, marks) if part)
        spellings.setdefault(comparison_form(text, kind), spelling)
    spellings.pop("", None)
    values = sorted(spellings, key=lambda value: value.split(SEPARATOR))
    return values, [spellings[value] for value in values]


def _subtree_ranges(values: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The half-open range of codes at and below each path; `values` are paths, sorted by part."""
    ranges: dict[str, tuple[int, int]] = {}
    for code, value in enumerate(values):
        for ancestor in path_prefixes(value):
            ranges[ancestor] = (ranges.get(ancestor, (code, code))[0], code + 1)
    return ranges


def _merge_ranges(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same codes as ranges that are not empty and do not touch."""
    result: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if result and low <= result[-1][1]:
            result[-1] = (result[-1][0], max(high, result[-1][1]))
        elif low < high:
            result.append((low, high))
    return result


def _open_column(path: Path, n: int, kind: Kind, entry: Mapping[str, Any]) -> _Codes | Float64[np.ndarray, " n"]:
    array = np.load(path, mmap_mode="r" if n else None, allow_pickle=False)
    dtype = np.dtype(np.float64 if kind is Kind.NUMBER else _code_type(kind))
    if array.shape != (n,) or array.dtype != dtype:
        raise ValueError(f"found {array.dtype} {array.shape}, expected {n} {dtype}")
    if kind is Kind.NUMBER:
        return np.asarray(array)
    subtree = _subtree_ranges(entry["values"]) if kind is Kind.PATH else {}
    codes = _Codes(np.asarray(array), entry["values"], entry["spelled"], subtree)
    if len(codes.spellings) != len(codes.values) or (n and not -1 <= array.min() <= array.max() < len(codes.values)):
        raise ValueError(f"its codes do not fit its {len(codes.values)} values")
    return codes


def _mask_range(numbers: np.ndarray, low: int | float | None, high: int | float | None) -> Bool[np.ndarray, " n"]:
    """Where `low <= numbers <= high`, in chunks that stay in the processor's cache between the two comparisons."""
    mask = np.empty(len(numbers), dtype=bool)
    for start in range(0, len(numbers), CHUNK):
        chunk, chunk_mask = numbers[start : start + CHUNK], mask[start : start + CHUNK]
        np.greater_equal(chunk, -np.inf if low is None else low, out=chunk_mask)
        if high is not None:
            chunk_mask &= chunk <= high
    return mask


def _code_type(kind: Kind) -> type[np.signedinteger[Any]]:
    return np.int8 if kind is Kind.FLAG else np.int32
