"""Search under a filter, measured: does it find what exact search over the filtered rows finds, and is it quick?

Filters of four selectivities, of two sorts: `random` ones, which have nothing to do with the query (a window of a
number, or values of a name where there is no number), and `near` ones, built around an item that the request took (its
brand, its seller, its category or a part of the tree above it, two of them together, or, where none of these is as
broad or as narrow as wanted, a window of a number around the item's own), which hold where the query's own hits lie.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Float64

from mmse.catalogue.snapshot import Snapshot
from mmse.retrieval.retriever import Retriever
from mmse.schema.filters import And, Between, Filter, Kind, OneOf, comparable, path_of, paths_above
from mmse.training.targets import Logged

SHARES = (0.001, 0.01, 0.1, 0.5)
"""The shares of the catalogue that filters let through, about; a filter counts for the nearest in ratio."""
K = 100

Sort = Literal["random", "near"]


@dataclass(frozen=True)
class Filtered:
    """`searches` under filters of one `sort` that let about a share `about` of the catalogue through.

    `share` is the median share. `recall` is that of the vector channel, first 100, against exact search over the rows
    that the filter lets through; `full` the share of searches whose hybrid ranking has the 100 hits, or all there are;
    `p50_ms` the median time from a query's vector to both rankings.
    """

    sort: Sort
    about: float
    searches: int
    share: float
    recall: float
    full: float
    p50_ms: float


@dataclass(frozen=True)
class _Case:
    sort: Sort
    request: int
    only: Filter
    mask: Bool[np.ndarray, " n"]

    @property
    def share(self) -> float:
        return float(self.mask.mean())

    @property
    def about(self) -> float:
        return _nearest(self.share)


@dataclass(frozen=True)
class _Seen:
    recall: float
    full: bool
    ms: float


def filtered_recall(
    retriever: Retriever, logged: Logged, vectors: Float32[np.ndarray, "n width"], requests: int, seed: int
) -> list[Filtered]:
    """One record a sort and selectivity, from the first `requests` of `logged`; none without a filterable column."""
    now = retriever.snapshot()
    seen: dict[tuple[Sort, float], list[tuple[float, _Seen]]] = {}
    for case in _cases(now, logged, min(requests, len(logged)), np.random.default_rng([seed, 7])):
        found = _looked_at(retriever, now, case, logged.queries[case.request], vectors[case.request])
        seen.setdefault((case.sort, case.about), []).append((case.share, found))
    return [
        Filtered(
            sort,
            about,
            len(those),
            float(np.median([share for share, _ in those])),
            float(np.mean([one.recall for _, one in those])),
            float(np.mean([one.full for _, one in those])),
            round(float(np.median([one.ms for _, one in those])), 2),
        )
        for (sort, about), those in sorted(seen.items(), key=lambda one: (one[0][0] != "random", one[0][1]))
    ]


def _looked_at(
    retriever: Retriever, now: Snapshot, case: _Case, query: str, vector: Float32[np.ndarray, " width"]
) -> _Seen:
    rows = np.flatnonzero(case.mask)
    wanted = min(K, len(rows))
    scores = now.vectors(rows) @ vector
    exact = rows[np.argsort(-scores, kind="stable")[:wanted]]
    began = time.perf_counter()
    found = retriever.rankings([query], vector[None], K, ("vector", "hybrid"), [case.only])
    ms = (time.perf_counter() - began) * 1e3
    recall = float(np.isin(exact, found["vector"][0]).mean())
    return _Seen(recall, int((found["hybrid"][0] >= 0).sum()) >= wanted, ms)


def _cases(now: Snapshot, logged: Logged, requests: int, rng: np.random.Generator) -> Iterator[_Case]:
    """For each request up to one filter of each sort and selectivity that lets something through."""
    masks = _Masks(now)
    taken = _taken(logged)
    for request in range(requests):
        for share in SHARES:
            only = masks.at_random(share, rng)
            if only is not None:
                mask = masks.of(only)
                if mask.any():
                    yield _Case("random", request, only, mask)
        if request in taken:
            yield from _near(masks, request, taken[request], rng)


def _near(masks: _Masks, request: int, item_row: int, rng: np.random.Generator) -> Iterator[_Case]:
    """One filter around the item for each selectivity that there is one for, by chance."""
    cases = [_Case("near", request, only, masks.of(only)) for only in masks.around(item_row)]
    for share in SHARES:
        fitting = [case for case in cases if case.about == share]
        if not fitting:
            fitting = [_Case("near", request, only, masks.of(only)) for only in masks.windows(item_row, share)]
        if fitting:
            yield fitting[int(rng.integers(len(fitting)))]


class _Masks:
    """Makes filters over a snapshot, and their masks."""

    def __init__(self, now: Snapshot) -> None:
        self.now = now
        self.kinds: Mapping[str, Kind] = now.kinds
        rows = np.arange(now.n_rows, dtype=np.int64)
        self.numbers = {c: _numbers(now.values(c, rows)) for c, kind in self.kinds.items() if kind is Kind.NUMBER}
        finest_first = sorted(self.numbers.items(), key=lambda held: -len(np.unique(held[1])))
        self.numbers = {column: values for column, values in finest_first if len(values)}
        names = [c for c, kind in self.kinds.items() if kind is Kind.NAME]
        self.names = {column: counted for column in names if (counted := now.counts(column))}

    def of(self, only: Filter) -> Bool[np.ndarray, " n"]:
        """The rows that `only` lets through."""
        mask = self.now.mask(only)
        assert mask is not None
        return mask

    def at_random(self, share: float, rng: np.random.Generator) -> Filter | None:
        """A window of the finest number, or some values of a name, that lets about `share` of the rows through."""
        if self.numbers:
            finest = next(iter(self.numbers))
            ends = len(self.numbers[finest]) - self._width(finest, share) + 1
            return self._window(finest, share, int(rng.integers(ends)))
        if not self.names:
            return None
        column = [*self.names][int(rng.integers(len(self.names)))]
        counted = self.names[column]
        names, held = list(counted), np.array(list(counted.values()))
        order = rng.permutation(len(names))
        enough = int(np.searchsorted(np.cumsum(held[order]), share * self.now.n_rows)) + 1
        return OneOf(column, tuple(comparable(names[place]) for place in order[:enough]))

    def windows(self, item_row: int, share: float) -> list[Filter]:
        """For each number of this item a window around it that lets about `share` of the rows through."""
        item = self.now.items(np.array([item_row]))[0]
        windows = []
        for column, values in self.numbers.items():
            own = item.get(column)
            if isinstance(own, (int, float)) and math.isfinite(own):
                width = self._width(column, share)
                start = int(np.searchsorted(values, own)) - width // 2
                windows.append(self._window(column, share, min(max(start, 0), len(values) - width)))
        return windows

    def around(self, item_row: int) -> list[Filter]:
        """The filters that hold for this item: each of its names and paths, and a name with its whole path."""
        item = self.now.items(np.array([item_row]))[0]
        names = [OneOf(c, (comparable(v),)) for c in self.names if isinstance(v := item.get(c), str) and v.strip()]
        paths: list[Filter] = []
        whole: list[Filter] = []
        for column, kind in self.kinds.items():
            if kind is Kind.PATH and isinstance(path := item.get(column), str) and path_of(path):
                above: list[Filter] = [OneOf(column, (part,)) for part in paths_above(path_of(path))]
                paths += above
                whole.append(above[-1])
        return [*names, *paths, *(And((name, path)) for name in names for path in whole)]

    def _width(self, column: str, share: float) -> int:
        return min(len(self.numbers[column]), max(1, round(share * self.now.n_rows)))

    def _window(self, column: str, share: float, start: int) -> Filter:
        """From the number at the place `start` by size to the one that makes it about `share` of the rows."""
        values = self.numbers[column]
        return Between(column, float(values[start]), float(values[start + self._width(column, share) - 1]))


def _taken(logged: Logged) -> dict[int, int]:
    """An item that each request took, one that got furthest."""
    order = np.argsort(logged.stages, kind="stable")
    return dict(zip(logged.request[order].tolist(), logged.item_rows[order].tolist(), strict=True))


def _numbers(values: Sequence[float | None]) -> Float64[np.ndarray, " n"]:
    held = np.array([value for value in values if value is not None], np.float64)
    return np.sort(held[np.isfinite(held)])


def _nearest(share: float) -> float:
    return min(SHARES, key=lambda about: abs(math.log(about / max(share, 1e-9))))
