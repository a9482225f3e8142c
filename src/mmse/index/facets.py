"""Facets: how many of some items have each value of a column."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from mmse.schema.filters import Kind, comparison_key, comparison_path, path_prefixes
from mmse.schema.search import Facet
from mmse.schema.value_sets import values_of

MAX_VALUES = 50
BINS = 10
MAX_FORMS = 1 << 16
"""Forms of so many values are kept: those of a column are the same for every search."""


def count_values(
    kind: Kind, values: Sequence[Any], groups: Sequence[int] | Int64[np.ndarray, " n"] | None = None
) -> Facet:
    """The facet of a column of `kind` with `values`, one for each item: `None` for none, a list for several.

    An item counts once for each of its values; items of the same number in `groups` count once together.
    """
    owners = range(len(values)) if groups is None else groups
    present = [(owner, value) for owner, value in zip(owners, values, strict=True) if value is not None]
    if kind is Kind.NUMBER:
        finite = [(owner, number) for owner, value in present if np.isfinite(number := float(value))]
        return _histogram(*(np.array(column) for column in zip(*finite, strict=True))) if finite else Facet()
    if kind is Kind.FLAG:
        return _count((owner, flag, flag) for owner, value in present for flag in (str(bool(value)).lower(),))
    entries = _path_levels if kind is Kind.PATH else _name
    return _count((owner, *entry) for owner, cell in present for text in values_of(cell) for entry in entries(text))


def _count(entries: Iterable[tuple[int, str, str]]) -> Facet:
    """Counts the owners of each value, given with the form that is compared and the shop's spelling."""
    owners, spellings = defaultdict[str, set[int]](set), dict[str, str]()
    for owner, value, spelling in entries:
        if value:
            owners[value].add(owner)
            spellings.setdefault(value, spelling)
    counts = {value: len(value_owners) for value, value_owners in owners.items()}
    top = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))[:MAX_VALUES]
    return Facet(counts={spellings[value]: n for value, n in top})


@functools.lru_cache(MAX_FORMS)
def _name(text: str) -> list[tuple[str, str]]:
    """The form of a name that is compared, and the name."""
    return [(comparison_key(text), text.strip())]


@functools.lru_cache(MAX_FORMS)
def _path_levels(text: str) -> list[tuple[str, str]]:
    """The form of each level of a path that is compared, and the level as the shop writes it."""
    parts = [part for part in map(str.strip, text.split(">")) if part]
    prefixes = enumerate(path_prefixes(comparison_path(text)), 1)
    return [(prefix, " > ".join(parts[:depth])) for depth, prefix in prefixes]


def _histogram(owners: Int64[np.ndarray, " n"], numbers: Float64[np.ndarray, " n"]) -> Facet:
    """The owners of numbers in each bin, an owner once for each bin."""
    low, high = float(numbers.min()), float(numbers.max())
    # One division for all numbers: a range too small to divide by then causes no error.
    bin_position = np.zeros(len(numbers)) if high == low else (numbers - low) / (high - low) * BINS
    bins = np.minimum(bin_position.astype(np.int64), BINS - 1)
    owner_bins = np.unique(np.column_stack([owners, bins]), axis=0)
    return Facet(low=low, high=high, bins=tuple(np.bincount(owner_bins[:, 1], minlength=BINS).tolist()))
