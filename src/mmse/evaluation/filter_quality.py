"""Search under a filter, measured: does it find what exact search over the filtered rows finds, and how fast?

There are filters of four selectivities and of two sorts. `random` filters have nothing to do with the query: a window
of a number, or values of a name if there is no number. `near` filters are built around an item that the request clicked
or ordered, so they let through the region of the query's own hits: the item's brand, seller, category or a part of the
tree above it, or two of these together; if none has the selectivity, a window of a number around the item's own.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from jaxtyping import Bool, Float32, Float64

from mmse.catalogue.snapshot import Snapshot
from mmse.index.base import CHUNK
from mmse.retrieval.retriever import Retriever
from mmse.schema.filters import And, Between, Filter, Kind, OneOf, comparison_key, comparison_path, path_prefixes
from mmse.schema.value_sets import values_of
from mmse.training.targets import LoggedRequests

SELECTIVITIES = (0.001, 0.01, 0.1, 0.5)
"""The approximate shares of the catalogue that filters let through; a filter counts for the nearest one in ratio."""
K = 100

Sort = Literal["random", "near"]


class FilterQuality(msgspec.Struct, frozen=True):
    """`searches` under filters of one `sort` that let about the share `selectivity` of the catalogue through.

    `share` is the median of the exact shares. `recall` is that of the vector channel's first 100 hits, against exact
    search over the rows that the filter lets through. `full` is the share of searches whose hybrid ranking has 100
    hits, or all that there are. `p50_ms` is the median time from a query's vector to both rankings.
    """

    sort: Sort
    selectivity: float = msgspec.field(name="about")
    searches: int
    share: float
    recall: float
    full: float
    p50_ms: float


@dataclass(frozen=True)
class _FilterCase:
    sort: Sort
    request: int
    condition: Filter
    mask: Bool[np.ndarray, " n"]

    @property
    def share(self) -> float:
        return float(self.mask.mean())

    @property
    def selectivity(self) -> float:
        return _nearest_selectivity(self.share)


@dataclass(frozen=True)
class _FilteredSearch:
    share: float
    recall: float
    full: bool
    ms: float


def measure_filters(
    retriever: Retriever, log: LoggedRequests, vectors: Float32[np.ndarray, "n width"], requests: int, seed: int
) -> list[FilterQuality]:
    """One record per sort and selectivity, from the first `requests` of `log`; none without a filterable column."""
    snapshot = retriever.snapshot()
    searches: dict[tuple[Sort, float], list[_FilteredSearch]] = {}
    cases = _cases(snapshot, log, min(requests, len(log)), np.random.default_rng([seed, 7]))
    for request, request_cases in itertools.groupby(cases, key=lambda case: case.request):
        exact_scores = _score_items(snapshot, vectors[request])
        for case in request_cases:
            search = _search(retriever, exact_scores, case, log.queries[request], vectors[request])
            searches.setdefault((case.sort, case.selectivity), []).append(search)
    return [
        FilterQuality(
            sort,
            selectivity,
            len(group),
            float(np.median([search.share for search in group])),
            float(np.mean([search.recall for search in group])),
            float(np.mean([search.full for search in group])),
            round(float(np.median([search.ms for search in group])), 2),
        )
        for (sort, selectivity), group in sorted(searches.items(), key=lambda kv: (kv[0][0] != "random", kv[0][1]))
    ]


def _score_items(snapshot: Snapshot, query: Float32[np.ndarray, " width"]) -> Float32[np.ndarray, " n"]:
    """The inner product of each item of the catalogue, taken in parts."""
    rows = np.arange(snapshot.n_rows, dtype=np.int64)
    parts = (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))
    return np.concatenate([np.empty(0, np.float32), *(snapshot.vectors(part) @ query for part in parts)])


def _search(
    retriever: Retriever,
    exact_scores: Float32[np.ndarray, " n"],
    case: _FilterCase,
    query: str,
    vector: Float32[np.ndarray, " width"],
) -> _FilteredSearch:
    """Searches under the filter and compares the hits with those of exact search."""
    rows = np.flatnonzero(case.mask)
    n_hits = min(K, len(rows))
    exact = rows[np.argsort(-exact_scores[rows], kind="stable")[:n_hits]]
    start_s = time.perf_counter()
    rankings = retriever.rankings([query], vector[None], K, ("vector", "hybrid"), [case.condition])
    ms = (time.perf_counter() - start_s) * 1e3
    recall = float(np.isin(exact, rankings["vector"][0]).mean())
    return _FilteredSearch(case.share, recall, int((rankings["hybrid"][0] >= 0).sum()) >= n_hits, ms)


def _cases(snapshot: Snapshot, log: LoggedRequests, requests: int, rng: np.random.Generator) -> Iterator[_FilterCase]:
    """For each request up to one filter of each sort and selectivity that lets something through."""
    maker = _FilterMaker(snapshot)
    best_items = _best_items(log)
    for request in range(requests):
        for selectivity in SELECTIVITIES:
            condition = maker.random(selectivity, rng)
            if condition is not None:
                mask = maker.mask(condition)
                if mask.any():
                    yield _FilterCase("random", request, condition, mask)
        if request in best_items:
            yield from _near_cases(maker, request, best_items[request], rng)


def _near_cases(maker: _FilterMaker, request: int, item_row: int, rng: np.random.Generator) -> Iterator[_FilterCase]:
    """For each selectivity one random filter among those around the item, if there is any."""
    cases = [_FilterCase("near", request, condition, maker.mask(condition)) for condition in maker.around(item_row)]
    for selectivity in SELECTIVITIES:
        choices = [case for case in cases if case.selectivity == selectivity]
        if not choices:
            windows = maker.windows(item_row, selectivity)
            choices = [_FilterCase("near", request, condition, maker.mask(condition)) for condition in windows]
        if choices:
            yield choices[int(rng.integers(len(choices)))]


class _FilterMaker:
    """Makes filters over a snapshot, and their masks."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.kinds: Mapping[str, Kind] = snapshot.kinds
        rows = np.arange(snapshot.n_rows, dtype=np.int64)
        numbers = {
            c: _sorted_numbers(snapshot.values(c, rows)) for c, kind in self.kinds.items() if kind is Kind.NUMBER
        }
        finest_first = sorted(numbers.items(), key=lambda column: -len(np.unique(column[1])))
        self.numbers = {column: values for column, values in finest_first if len(values)}
        names = [c for c, kind in self.kinds.items() if kind is Kind.NAME]
        self.name_counts = {column: counts for column in names if (counts := snapshot.counts(column))}

    def mask(self, condition: Filter) -> Bool[np.ndarray, " n"]:
        """The rows that `condition` lets through."""
        mask = self.snapshot.mask(condition)
        assert mask is not None
        return mask

    def random(self, share: float, rng: np.random.Generator) -> Filter | None:
        """A window of the finest number, or some values of a name, that lets about `share` of the rows through."""
        if self.numbers:
            finest = next(iter(self.numbers))
            n_starts = len(self.numbers[finest]) - self._width(finest, share) + 1
            return self._window(finest, share, int(rng.integers(n_starts)))
        if not self.name_counts:
            return None
        column = [*self.name_counts][int(rng.integers(len(self.name_counts)))]
        names, counts = list(self.name_counts[column]), np.array(list(self.name_counts[column].values()))
        order = rng.permutation(len(names))
        n_names = int(np.searchsorted(np.cumsum(counts[order]), share * self.snapshot.n_rows)) + 1
        return OneOf(column, tuple(comparison_key(names[i]) for i in order[:n_names]))

    def windows(self, item_row: int, share: float) -> list[Filter]:
        """For each number of this item a window around it that lets about `share` of the rows through."""
        item = self.snapshot.items(np.array([item_row]))[0]
        windows = []
        for column, values in self.numbers.items():
            value = item.get(column)
            if isinstance(value, (int, float)) and math.isfinite(value):
                width = self._width(column, share)
                start = int(np.searchsorted(values, value)) - width // 2
                windows.append(self._window(column, share, min(max(start, 0), len(values) - width)))
        return windows

    def around(self, item_row: int) -> list[Filter]:
        """The filters that hold for this item: each of its names and paths, and a name with its whole path."""
        item = self.snapshot.items(np.array([item_row]))[0]
        names = [
            OneOf(column, (name,))
            for column in self.name_counts
            for name in filter(None, map(comparison_key, values_of(item.get(column))))
        ]
        paths: list[Filter] = []
        full_paths: list[Filter] = []
        for column in (column for column, kind in self.kinds.items() if kind is Kind.PATH):
            for path in filter(None, map(comparison_path, values_of(item.get(column)))):
                prefixes: list[Filter] = [OneOf(column, (prefix,)) for prefix in path_prefixes(path)]
                paths += prefixes
                full_paths.append(prefixes[-1])
        return [*names, *paths, *(And((name, path)) for name in names for path in full_paths)]

    def _width(self, column: str, share: float) -> int:
        return min(len(self.numbers[column]), max(1, round(share * self.snapshot.n_rows)))

    def _window(self, column: str, share: float, start: int) -> Filter:
        """A window of about `share` of the rows; `start` is the index of its lower end in the sorted numbers."""
        values = self.numbers[column]
        return Between(column, float(values[start]), float(values[start + self._width(column, share) - 1]))


def _best_items(log: LoggedRequests) -> dict[int, int]:
    """For each request one of its items of the furthest stage."""
    order = np.argsort(log.stages, kind="stable")
    return dict(zip(log.request[order].tolist(), log.item_rows[order].tolist(), strict=True))


def _sorted_numbers(values: Sequence[float | None]) -> Float64[np.ndarray, " n"]:
    numbers = np.array([value for value in values if value is not None], np.float64)
    return np.sort(numbers[np.isfinite(numbers)])


def _nearest_selectivity(share: float) -> float:
    return min(SELECTIVITIES, key=lambda selectivity: abs(math.log(selectivity / max(share, 1e-9))))
