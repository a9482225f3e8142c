"""How many of some items hold each value of a column: what a page shows beside its hits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mmse.schema.filters import Kind, comparable, path_of, paths_above
from mmse.schema.search import Facet

MOST_VALUES = 50
BINS = 10


def facet(kind: Kind, values: Sequence[Any]) -> Facet:
    """The facet of a column of `kind` that holds `values`, `None` where an item has none."""
    held = [value for value in values if value is not None]
    if kind is Kind.NUMBER:
        return _spread(np.array([number for number in map(float, held) if np.isfinite(number)], np.float64))
    if kind is Kind.FLAG:
        return _counted((flag, flag) for flag in (str(bool(value)).lower() for value in held))
    if kind is Kind.PATH:
        return _counted(level for value in held for level in _levels(str(value)))
    return _counted((comparable(value), value.strip()) for value in map(str, held))


def _counted(named: Iterable[tuple[str, str]]) -> Facet:
    """Counts values that are given in the form in which they are compared, and as the shop writes them."""
    counts, spelled = Counter[str](), dict[str, str]()
    for value, shown in named:
        if value:
            counts[value] += 1
            spelled.setdefault(value, shown)
    most = sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:MOST_VALUES]
    return Facet(counts={spelled[value]: n for value, n in most})


def _levels(path: str) -> list[tuple[str, str]]:
    parts = [part for part in map(str.strip, path.split(">")) if part]
    return [(above, " > ".join(parts[: depth + 1])) for depth, above in enumerate(paths_above(path_of(path)))]


def _spread(numbers: np.ndarray) -> Facet:
    if len(numbers) == 0:
        return Facet()
    low, high = float(numbers.min()), float(numbers.max())
    # Every number is put into its bin by the same division, so that a difference too small to divide by is no error.
    place = np.zeros(len(numbers)) if high == low else (numbers - low) / (high - low) * BINS
    bins = np.bincount(np.minimum(place.astype(np.int64), BINS - 1), minlength=BINS)
    return Facet(low=low, high=high, bins=tuple(bins.tolist()))
