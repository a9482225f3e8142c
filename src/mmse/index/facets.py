"""Facets: how many of some items have each value of a column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from mmse.schema.filters import Kind, comparison_key, comparison_path, path_prefixes
from mmse.schema.search import Facet
from mmse.schema.value_sets import values_of

MAX_VALUES = 50
BINS = 10


def count_values(kind: Kind, values: Sequence[Any]) -> Facet:
    """The facet of a column of `kind` with `values`, one for each item: `None` for none, a list for several.

    An item counts once for each of its values.
    """
    present = [value for value in values if value is not None]
    if kind is Kind.NUMBER:
        return _histogram(np.array([number for number in map(float, present) if np.isfinite(number)], np.float64))
    if kind is Kind.FLAG:
        return _count((flag, flag) for flag in (str(bool(value)).lower() for value in present))
    entries = _path_levels if kind is Kind.PATH else _names
    return _count(entry for cell in present for entry in entries(values_of(cell)).items())


def _count(pairs: Iterable[tuple[str, str]]) -> Facet:
    """Counts values, given as pairs of the form that is compared and the shop's spelling."""
    counts, spellings = Counter[str](), dict[str, str]()
    for value, spelling in pairs:
        if value:
            counts[value] += 1
            spellings.setdefault(value, spelling)
    top = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:MAX_VALUES]
    return Facet(counts={spellings[value]: n for value, n in top})


def _names(names: Sequence[str]) -> dict[str, str]:
    """The names of an item, each once, by the form that is compared."""
    return {comparison_key(name): name.strip() for name in names}


def _path_levels(paths: Sequence[str]) -> dict[str, str]:
    """The levels of an item's paths, each once, by the form that is compared."""
    levels: dict[str, str] = {}
    for path in paths:
        parts = [part for part in map(str.strip, path.split(">")) if part]
        for depth, prefix in enumerate(path_prefixes(comparison_path(path)), 1):
            levels.setdefault(prefix, " > ".join(parts[:depth]))
    return levels


def _histogram(numbers: np.ndarray) -> Facet:
    if len(numbers) == 0:
        return Facet()
    low, high = float(numbers.min()), float(numbers.max())
    # One division for all numbers: a range too small to divide by then causes no error.
    bin_position = np.zeros(len(numbers)) if high == low else (numbers - low) / (high - low) * BINS
    bins = np.bincount(np.minimum(bin_position.astype(np.int64), BINS - 1), minlength=BINS)
    return Facet(low=low, high=high, bins=tuple(bins.tolist()))
