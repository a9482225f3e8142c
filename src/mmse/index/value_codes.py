"""The values of a column of names, paths or flags as codes: which rows hold a value, and how many hold each.

A code is the place of a value in the sorted list of all. Paths are sorted part by part, so that everything below a path
is one range of codes, and every condition on texts becomes a few ranges. Where each row has one value at most, a row
stores its code. Where rows have sets of values, each value stores the rows that hold it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int, Int32, Int64
from scipy.sparse import csc_array

from mmse.index.base import CHUNK
from mmse.schema.filters import Kind, comparison_form, path_prefixes
from mmse.schema.value_sets import is_set

SEPARATOR = " > "
MAX_RANGES = 6
"""Up to this many ranges of codes are compared one by one; for more, a table over all codes is used."""

CodeRange = tuple[int, int]
"""A half-open range of codes."""


@dataclass(frozen=True)
class CodeLists:
    """The `codes` of each row, row after row; those of row `r` begin at `starts[r]`."""

    starts: Int64[np.ndarray, " rows_and_end"]
    codes: Int32[np.ndarray, " m"]


@dataclass(frozen=True)
class RowCodes:
    """The code of each row, -1 for none."""

    of_row: Int[np.ndarray, " n"]

    def mask(self, ranges: Sequence[CodeRange], n_values: int) -> Bool[np.ndarray, " n"]:
        """The rows with a code in one of `ranges`, which do not touch."""
        if len(ranges) <= MAX_RANGES:
            mask = np.zeros(len(self.of_row), dtype=bool)
            for low, high in ranges:
                mask |= self.of_row == low if high == low + 1 else mask_range(self.of_row, low, high - 1)
            return mask
        is_match = np.zeros(n_values + 1, dtype=bool)  # the last entry is for code -1
        for low, high in ranges:
            is_match[low:high] = True
        parts = [is_match.take(self.of_row[start : start + CHUNK]) for start in range(0, len(self.of_row), CHUNK)]
        return np.concatenate([np.empty(0, dtype=bool), *parts])

    def count(self, mask: Bool[np.ndarray, " n"], ranges: Sequence[CodeRange], n_values: int) -> list[int]:
        """How many rows of `mask` have a code in each of `ranges`."""
        codes = self.of_row[mask]
        up_to = np.concatenate([[0], np.cumsum(np.bincount(codes[codes >= 0], minlength=n_values))])
        ends = np.array(ranges, np.int64).reshape(len(ranges), 2)
        counts: list[int] = (up_to[ends[:, 1]] - up_to[ends[:, 0]]).tolist()
        return counts

    def by_row(self) -> CodeLists:
        """The code of each row as a list of one or none."""
        has_code = self.of_row >= 0
        starts = np.concatenate([[0], np.cumsum(has_code)]).astype(np.int64)
        return CodeLists(starts, self.of_row[has_code].astype(np.int32))


@dataclass(frozen=True)
class RowSets:
    """The `rows` of each value, code after code, ascending within each; those of code `c` begin at `starts[c]`."""

    n: int
    starts: Int64[np.ndarray, " values_and_end"]
    rows: Int32[np.ndarray, " m"]

    def mask(self, ranges: Sequence[CodeRange], n_values: int) -> Bool[np.ndarray, " n"]:
        """The rows that hold a value in one of `ranges`."""
        mask = np.zeros(self.n, dtype=bool)
        for low, high in ranges:
            mask[self.rows[self.starts[low] : self.starts[high]]] = True
        return mask

    def count(self, mask: Bool[np.ndarray, " n"], ranges: Sequence[CodeRange], n_values: int) -> list[int]:
        """How many rows of `mask` hold a value in each of `ranges`; a row with several counts once."""
        counts = []
        for low, high in ranges:
            rows = self.rows[self.starts[low] : self.starts[high]]
            rows = rows[mask[rows]]
            counts.append(len(rows) if high == low + 1 else len(np.unique(rows)))
        return counts

    def by_row(self) -> CodeLists:
        """The codes of each row, ascending."""
        cells = (np.ones(len(self.rows), bool), np.asarray(self.rows), np.asarray(self.starts))
        table = csc_array(cells, shape=(self.n, len(self.starts) - 1)).tocsr()
        return CodeLists(table.indptr.astype(np.int64), table.indices.astype(np.int32))


@final
@dataclass(frozen=True)
class ValueCodes:
    """A text column: `values` are sorted, in the form that filters compare; `spellings` are the shop's own.

    `subtree` has the range of codes at and below each path; it is empty where the column holds no paths.
    """

    cells: RowCodes | RowSets
    values: Sequence[str]
    spellings: Sequence[str]
    subtree: Mapping[str, CodeRange]

    def mask(self, values: Iterable[str]) -> Bool[np.ndarray, " n"]:
        """The rows that hold one of `values`, or something below one that is a path."""
        return self.cells.mask(_merge_ranges(map(self.find_range, values)), len(self.values))

    def count(self, mask: Bool[np.ndarray, " n"]) -> dict[str, int]:
        """How many rows of `mask` hold each value, in the shop's spelling; a path also counts for those above it."""
        ranges = {self.spell(path): codes for path, codes in self.subtree.items()}
        if not self.subtree:
            ranges = {spelling: (code, code + 1) for code, spelling in enumerate(self.spellings)}
        counts = self.cells.count(mask, list(ranges.values()), len(self.values))
        return {spelling: n for spelling, n in zip(ranges, counts, strict=True) if n}

    def find_range(self, value: str) -> CodeRange:
        """The codes that match `value`."""
        if self.subtree:
            return self.subtree.get(value, (0, 0))
        code = bisect_left(self.values, value)
        return code, code + int(code < len(self.values) and self.values[code] == value)

    def spell(self, path: str) -> str:
        """The shop's spelling of a path; no item needs to have this path itself."""
        parts = self.spellings[self.subtree[path][0]].split(SEPARATOR)
        return SEPARATOR.join(parts[: path.count(SEPARATOR) + 1])


def encode_texts(column: pa.ChunkedArray, kind: Kind) -> ValueCodes:
    """The codes of a column of names or of paths: texts, or lists of them."""
    array = column.combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    has_sets = is_set(array.type)
    texts = pc.dictionary_encode(pc.cast(pc.list_flatten(array) if has_sets else array, pa.large_string()))
    raw = texts.dictionary.to_pylist()
    values, spellings = _collect_values(kind, raw)
    code_of = {value: code for code, value in enumerate(values)}
    code_of_raw = np.array([*(code_of.get(comparison_form(text, kind), -1) for text in raw), -1], dtype=np.int32)
    codes = code_of_raw[pc.fill_null(texts.indices, -1).to_numpy(zero_copy_only=False)]
    cells: RowCodes | RowSets = RowCodes(codes)
    if has_sets:
        rows = pc.list_parent_indices(array).to_numpy(zero_copy_only=False)
        cells = _group_rows(codes, rows.astype(np.int64), len(values), len(array))
    return ValueCodes(cells, values, spellings, subtree_ranges(values) if kind is Kind.PATH else {})


def subtree_ranges(values: Sequence[str]) -> dict[str, CodeRange]:
    """The range of codes at and below each path; `values` are paths, sorted by part."""
    ranges: dict[str, CodeRange] = {}
    for code, value in enumerate(values):
        for ancestor in path_prefixes(value):
            ranges[ancestor] = (ranges.get(ancestor, (code, code))[0], code + 1)
    return ranges


def mask_range(numbers: np.ndarray, low: int | float | None, high: int | float | None) -> Bool[np.ndarray, " n"]:
    """Where `low <= numbers <= high`, in chunks that stay in the processor's cache between the two comparisons."""
    mask = np.empty(len(numbers), dtype=bool)
    for start in range(0, len(numbers), CHUNK):
        chunk, chunk_mask = numbers[start : start + CHUNK], mask[start : start + CHUNK]
        np.greater_equal(chunk, -np.inf if low is None else low, out=chunk_mask)
        if high is not None:
            chunk_mask &= chunk <= high
    return mask


def _group_rows(codes: Int32[np.ndarray, " m"], rows: Int64[np.ndarray, " m"], n_values: int, n_rows: int) -> RowSets:
    """The rows of each code; a code that a row has twice counts once."""
    has_code = codes >= 0
    cells = (np.ones(int(has_code.sum()), bool), (rows[has_code], codes[has_code]))
    by_value = csc_array(cells, shape=(n_rows, n_values))  # a counting sort, where numpy would compare
    by_value.sum_duplicates()
    return RowSets(n_rows, by_value.indptr.astype(np.int64), by_value.indices.astype(np.int32))


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


def _merge_ranges(ranges: Iterable[CodeRange]) -> list[CodeRange]:
    """The same codes as ranges that are not empty and do not touch."""
    result: list[CodeRange] = []
    for low, high in sorted(ranges):
        if result and low <= result[-1][1]:
            result[-1] = (result[-1][0], max(high, result[-1][1]))
        elif low < high:
            result.append((low, high))
    return result
