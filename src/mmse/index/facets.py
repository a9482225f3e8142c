"""Facets: how many of some items have each value of a column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mmse.schema.filters import Kind, comparison_key, comparison_path, path_prefixes
from mmse.schema.search import Facet

MAX_VALUES = 50
BINS = 10


def count_values(kind: Kind, values: Sequence[Any]) -> Facet:
    """The facet of a column of `kind` with `values`, `None` where an item has none."""
    present = [value for value in values if value is not None]
    if kind is Kind.NUMBER:
        return _histogram(np.array([number for number in map(float, present) if np.isfinite(number)], np.float64))
    if kind is Kind.FLAG:
        return _count((flag, flag) for flag in (str(bool(value)).lower() for value in present))
    if kind is Kind.PATH:
        return _count(level for value in present for level in _levels(str(value)))
    return _count((comparison_key(value), value.strip()) for value in map(str, present))


def _count(pairs: Iterable[tuple[str, str]]) -> Facet:
    """Counts values, given as pairs of the form that is compared and the shop's spelling."""
    counts, spellings = Counter[str](), dict[str, str]()
    for value, spelling in pairs:
        if value:
            counts[value] += 1
            spellings.setdefault(value, spelling)
    top = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:MAX_VALUES]
    return Facet(counts={spellings[value]: n for value, n in top})


def _levels(path: str) -> list[tuple[str, str]]:
    parts = [part for part in map(str.strip, path.split(">")) if part]
    return [
        (path_prefix, " > ".join(parts[: depth + 1]))
        for depth, path_prefix in enumerate(path_prefixes(comparison_path(path)))
    ]


def _histogram(numbers: np.ndarray) -> Facet:
    if len(numbers) == 0:
        return Facet()
    low, high = float(numbers.min()), float(numbers.max())
    # One division for all numbers: a range too small to divide by then causes no error.
    bin_position = np.zeros(len(numbers)) if high == low else (numbers - low) / (high - low) * BINS
    bins = np.bincount(np.minimum(bin_position.astype(np.int64), BINS - 1), minlength=BINS)
    return Facet(low=low, high=high, bins=tuple(bins.tolist()))
