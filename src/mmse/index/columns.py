"""The filterable columns of a catalogue, held so that a filter is a mask over a million rows in a millisecond.

Names, paths and flags are codes into the sorted list of their values, -1 where there is none. Paths are sorted part by
part, so that whatever lies below a path is one range of codes, and every condition on texts becomes a few ranges.
Numbers stay float64, NaN where there is none: in float32 a price would no longer equal itself.
"""

from __future__ import annotations

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
from mmse.index.base import CHUNK, damaged
from mmse.schema.filters import And, Between, Filter, Kind, Not, OneOf, comparable, path_of, paths_above

ABOUT = "columns.json"
FLAGS = ("false", "true")
SEPARATOR = " > "
FEW_RANGES = 6
"""Up to so many ranges of codes are compared one by one; past it a table of all codes is looked up."""

KNOWN = {
    "category": Kind.PATH,
    "brand": Kind.NAME,
    "seller": Kind.NAME,
    "price": Kind.NUMBER,
    "rating": Kind.NUMBER,
    "available": Kind.FLAG,
}


def filterable(items_columns: Sequence[str], declared: Mapping[str, Sequence[str]]) -> dict[str, Kind]:
    """What each column of an items table can be filtered as: the known ones, then those in `declared`.

    `declared` has the lists `categorical` and `numeric` of shop.toml; only columns in `items_columns` are taken, and
    a known column keeps its known kind.
    """
    kinds = dict(KNOWN)
    for key, kind in (("categorical", Kind.NAME), ("numeric", Kind.NUMBER)):
        for name in declared.get(key, ()):
            kinds.setdefault(name, kind)
    return {name: kind for name, kind in kinds.items() if name in items_columns}


@dataclass(frozen=True)
class _Codes:
    """A text column: `values` are sorted, in the form that filters compare; `spelled` is how the shop writes each.

    `below` has the codes at and below each path, and is empty where the column holds no paths.
    """

    of_row: Int[np.ndarray, " n"]
    values: Sequence[str]
    spelled: Sequence[str]
    below: Mapping[str, tuple[int, int]]

    def range_of(self, value: str) -> tuple[int, int]:
        """The codes that a condition on `value` asks for, from the first to before the second."""
        if self.below:
            return self.below.get(value, (0, 0))
        code = bisect_left(self.values, value)
        return code, code + int(code < len(self.values) and self.values[code] == value)

    def spelling(self, path: str) -> str:
        """How the shop writes a path that it may have only longer ones of."""
        parts = self.spelled[self.below[path][0]].split(SEPARATOR)
        return SEPARATOR.join(parts[: path.count(SEPARATOR) + 1])


@final
class Columns:
    """`n` item rows by the columns in `kinds`, row for row."""

    def __init__(
        self, n: int, kinds: Mapping[str, Kind], held: Mapping[str, _Codes | Float64[np.ndarray, " n"]]
    ) -> None:
        self.n = n
        self.kinds = dict(kinds)
        self._held = held

    @classmethod
    def of(cls, items: pa.Table, kinds: Mapping[str, Kind]) -> Columns:
        """The columns of an items table, row for row; one that the table lacks has no value in any row.

        A text that is empty once stripped, and a path without a part, are no values.
        """
        held = {name: _column(items, name, kind) for name, kind in kinds.items()}
        return cls(items.num_rows, kinds, held)

    def __len__(self) -> int:
        return self.n

    def mask(self, filter: Filter) -> Bool[np.ndarray, " n"]:
        """Which rows meet `filter`, a new array; `filter` was parsed with the kinds of these columns."""
        if isinstance(filter, OneOf):
            return self._one_of(filter)
        if isinstance(filter, Between):
            numbers = self._held[filter.column]
            assert isinstance(numbers, np.ndarray), filter.column
            return _between(numbers, filter.low, filter.high)
        if isinstance(filter, Not):
            return ~self.mask(filter.part)
        join, start = (np.logical_and, True) if isinstance(filter, And) else (np.logical_or, False)
        met = np.full(self.n, start)
        for part in filter.parts:
            join(met, self.mask(part), out=met)
        return met

    def counts(self, column: str, mask: Bool[np.ndarray, " n"]) -> dict[str, int]:
        """How many rows of `mask` hold each value of `column`, most first, in the shop's spelling; none are left out.

        A path counts for every path above it, too; flags are `true` and `false`. Raises `UsageError` where the column
        is not there or holds numbers.
        """
        codes = self._held.get(column)
        if not isinstance(codes, _Codes):
            able = ", ".join(name for name, held in self._held.items() if isinstance(held, _Codes)) or "none"
            raise UsageError(f"The values of '{column}' cannot be counted.", f"Columns that can be: {able}.")
        rows = codes.of_row[mask]
        per_code = np.bincount(rows[rows >= 0], minlength=len(codes.values))
        counted = {codes.spelled[code]: int(per_code[code]) for code in np.flatnonzero(per_code).tolist()}
        if codes.below:
            up_to = np.concatenate([[0], np.cumsum(per_code)])
            levels = {path: int(up_to[high] - up_to[low]) for path, (low, high) in codes.below.items()}
            counted = {codes.spelling(path): n for path, n in levels.items() if n}
        return dict(sorted(counted.items(), key=lambda one: (-one[1], one[0])))

    def save(self, folder: Path) -> None:
        """Writes `columns.json` and a `columnN.npy` for each column into `folder`, which exists."""
        about: list[dict[str, Any]] = []
        for place, (name, held) in enumerate(self._held.items()):
            texts = {"values": held.values, "spelled": held.spelled} if isinstance(held, _Codes) else {}
            about.append({"name": name, "kind": self.kinds[name].value, **texts})
            array = held.of_row if isinstance(held, _Codes) else held
            np.save(folder / f"column{place}.npy", array, allow_pickle=False)
        (folder / ABOUT).write_text(json.dumps({"rows": self.n, "columns": about}) + "\n", "utf-8")

    @classmethod
    def open(cls, folder: Path) -> Columns:
        """The columns saved in `folder`, memory-mapped; raises `ArtifactError` where they are missing or damaged."""
        path = folder / ABOUT
        held: dict[str, _Codes | np.ndarray] = {}
        kinds: dict[str, Kind] = {}
        try:
            about = json.loads(path.read_text("utf-8"))
            n = int(about["rows"])
            for place, column in enumerate(about["columns"]):
                path = folder / f"column{place}.npy"
                kinds[column["name"]] = kind = Kind(column["kind"])
                held[column["name"]] = _opened(path, n, kind, column)
        except FileNotFoundError as error:
            raise ArtifactError(
                f"{folder} holds no filterable columns: it has no {path.name}.", "Build the index again."
            ) from error
        except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
            raise damaged(path, error) from error
        return cls(n, kinds, held)

    def _one_of(self, asked: OneOf) -> Bool[np.ndarray, " n"]:
        codes = self._held[asked.column]
        assert isinstance(codes, _Codes), asked.column
        texts = [FLAGS[value] if isinstance(value, bool) else value for value in asked.values]
        ranges = _merged(map(codes.range_of, texts))
        if len(ranges) <= FEW_RANGES:
            met = np.zeros(self.n, dtype=bool)
            for low, high in ranges:
                met |= codes.of_row == low if high == low + 1 else _between(codes.of_row, low, high - 1)
            return met
        wanted = np.zeros(len(codes.values) + 1, dtype=bool)  # the last is what code -1 looks up
        for low, high in ranges:
            wanted[low:high] = True
        parts = [wanted.take(codes.of_row[start : start + CHUNK]) for start in range(0, self.n, CHUNK)]
        return np.concatenate([np.empty(0, dtype=bool), *parts])


def _column(items: pa.Table, name: str, kind: Kind) -> _Codes | Float64[np.ndarray, " n"]:
    there = name in items.column_names
    column = items.column(name) if there else pa.chunked_array([pa.nulls(items.num_rows)])
    if kind is Kind.NUMBER:
        numbers = pc.cast(column, pa.float64(), safe=False)
        return np.array(pc.fill_null(numbers, np.nan).to_numpy())
    if kind is Kind.FLAG:
        flags = pc.fill_null(pc.cast(pc.cast(column, pa.bool_()), pa.int8()), -1)
        return _Codes(np.array(flags.to_numpy()), FLAGS, FLAGS, {})
    texts = pc.dictionary_encode(pc.cast(column, pa.large_string()).combine_chunks())
    raw = texts.dictionary.to_pylist()
    values, spelled = _values(kind, raw)
    place = {value: code for code, value in enumerate(values)}
    code_of_raw = np.array([*(place.get(_form(text, kind), -1) for text in raw), -1], dtype=np.int32)
    of_row = code_of_raw[pc.fill_null(texts.indices, -1).to_numpy(zero_copy_only=False)]
    return _Codes(of_row, values, spelled, _below(values) if kind is Kind.PATH else {})


def _values(kind: Kind, raw: Iterable[str]) -> tuple[Sequence[str], Sequence[str]]:
    """The distinct values of `raw`, sorted, and the first spelling of each."""
    spelled: dict[str, str] = {}
    for text in raw:
        marks = text.split(">") if kind is Kind.PATH else [text]
        shown = SEPARATOR.join(part for part in map(str.strip, marks) if part)
        spelled.setdefault(_form(text, kind), shown)
    spelled.pop("", None)
    values = sorted(spelled, key=lambda value: value.split(SEPARATOR))
    return values, [spelled[value] for value in values]


def _below(values: Sequence[str]) -> dict[str, tuple[int, int]]:
    """The codes at and below each path, from the first to before the second; `values` are paths, sorted by part."""
    below: dict[str, tuple[int, int]] = {}
    for code, value in enumerate(values):
        for above in paths_above(value):
            below[above] = (below.get(above, (code, code))[0], code + 1)
    return below


def _merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same codes in ranges that neither touch nor are empty."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        elif low < high:
            merged.append((low, high))
    return merged


def _opened(path: Path, n: int, kind: Kind, about: Mapping[str, Any]) -> _Codes | Float64[np.ndarray, " n"]:
    array = np.load(path, mmap_mode="r" if n else None, allow_pickle=False)
    expected = np.dtype(np.float64 if kind is Kind.NUMBER else _code_type(kind))
    if array.shape != (n,) or array.dtype != expected:
        raise ValueError(f"found {array.dtype} {array.shape}, expected {n} {expected}")
    if kind is Kind.NUMBER:
        return np.asarray(array)
    below = _below(about["values"]) if kind is Kind.PATH else {}
    codes = _Codes(np.asarray(array), about["values"], about["spelled"], below)
    if len(codes.spelled) != len(codes.values) or (n and not -1 <= array.min() <= array.max() < len(codes.values)):
        raise ValueError(f"its codes do not fit its {len(codes.values)} values")
    return codes


def _between(numbers: np.ndarray, low: int | float | None, high: int | float | None) -> Bool[np.ndarray, " n"]:
    """Where `low <= numbers <= high`, by chunks that stay in the processor's cache between the two comparisons."""
    met = np.empty(len(numbers), dtype=bool)
    for start in range(0, len(numbers), CHUNK):
        some, out = numbers[start : start + CHUNK], met[start : start + CHUNK]
        np.greater_equal(some, -np.inf if low is None else low, out=out)
        if high is not None:
            out &= some <= high
    return met


def _form(text: str, kind: Kind) -> str:
    return path_of(text) if kind is Kind.PATH else comparable(text)


def _code_type(kind: Kind) -> type[np.signedinteger[Any]]:
    return np.int8 if kind is Kind.FLAG else np.int32
