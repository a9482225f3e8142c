"""How sure the grid's numbers are: values averaged over training seeds, queries drawn anew, worlds of equal weight.

A stratum is one log: the requests of one shop, measured with every system and training seed. Its queries are drawn
with all their requests and all training seeds at once, the same draws for every system and measure (the cluster
bootstrap of `evaluation.bootstrap`). A mean over several strata, each drawn by itself, is the mean of their means.
What training seeds add is not in the interval: their spread is told beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from mmse.evaluation.bootstrap import CELLS, BootstrapConfig, Estimate, two_sided

LEAST_QUERIES = 10
"""Fewer distinct queries say too little of how queries differ: no interval is told."""

Measures = tuple[str, str, str, str, int]
"""(on, target, slice, metric, k)."""


@dataclass(frozen=True)
class Stratum:
    """The values of one log: a row a request and measure; `values[system][seed]` has the same rows for all.

    `measure` numbers `measures`, `query` the distinct queries. A system whose training failed lacks that seed.
    """

    measures: list[Measures]
    measure: Int64[np.ndarray, " rows"]
    query: Int64[np.ndarray, " rows"]
    values: Mapping[str, Mapping[int | None, Float[np.ndarray, " rows"]]]


@dataclass(frozen=True)
class Drawn:
    """Means by measure, and the same in every draw; NaN where a measure is not defined."""

    mean: Float[np.ndarray, " m"]
    draws: Float[np.ndarray, "draws m"]
    queries: Int64[np.ndarray, " m"]


def systems_and_gaps(stratum: Stratum, ours: str) -> dict[tuple[str, str], Float[np.ndarray, " rows"]]:
    """By (system, "") its values, averaged over its seeds; by (ours, system) ours minus it, over the seeds of both."""
    found = {}
    for system, by_seed in stratum.values.items():
        found[system, ""] = np.mean(list(by_seed.values()), axis=0)
    for system, theirs in stratum.values.items():
        mine = stratum.values.get(ours, {})
        shared = [seed for seed in mine if seed in theirs or None in theirs]
        if system != ours and shared:
            gaps = [mine[seed] - theirs.get(seed, theirs.get(None, np.empty(0))) for seed in shared]
            found[ours, system] = np.mean(gaps, axis=0)
    return found


def draw(
    stratum: Stratum, columns: Sequence[Float[np.ndarray, " rows"]], config: BootstrapConfig, place: int
) -> list[Drawn]:
    """The mean of each column by measure, and in every draw of queries; stratum `place` has draws of its own."""
    n_queries, n_measures = int(stratum.query.max()) + 1, len(stratum.measures)
    cell = stratum.query * n_measures + stratum.measure
    size = n_queries * n_measures
    counts = np.bincount(cell, minlength=size).reshape(n_queries, n_measures).astype(np.float64)
    sums = [np.bincount(cell, weights=column, minlength=size).reshape(n_queries, n_measures) for column in columns]
    rng = np.random.default_rng([config.seed, place])
    above = np.empty((len(columns), config.draws, n_measures))
    below = np.empty((config.draws, n_measures))
    step = max(1, CELLS // n_queries)
    for start in range(0, config.draws, step):
        n = min(step, config.draws - start)
        picked = rng.integers(0, n_queries, (n, n_queries)) + np.arange(n)[:, None] * n_queries
        times = np.bincount(picked.ravel(), minlength=n * n_queries).reshape(n, n_queries).astype(np.float64)
        below[start : start + n] = times @ counts
        for c, one in enumerate(sums):
            above[c, start : start + n] = times @ one
    queries = (counts > 0).sum(axis=0).astype(np.int64)
    total = counts.sum(axis=0)
    return [
        Drawn(_ratio(one.sum(axis=0), total), _ratio(a, below), queries) for one, a in zip(sums, above, strict=True)
    ]


def mean_of(parts: Sequence[Drawn]) -> Drawn:
    """The mean of several strata's means, each of the same weight, draw by draw."""
    return Drawn(
        np.mean([part.mean for part in parts], axis=0),
        np.mean([part.draws for part in parts], axis=0),
        np.sum([part.queries for part in parts], axis=0),
    )


def sure(drawn: Drawn, at: int, level: float, *, gap: bool = False) -> Estimate | None:
    """The estimate of measure `at`, without an interval where too few queries define it; None where none does.

    `gap` says that it is a difference, which has a `p`.
    """
    value, queries = float(drawn.mean[at]), int(drawn.queries[at])
    if np.isnan(value):
        return None
    draws = drawn.draws[:, at]
    draws = draws[~np.isnan(draws)]
    if queries < LEAST_QUERIES or not len(draws):
        return Estimate(value, None, None, queries)
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), queries, two_sided(draws) if gap else None)


def _ratio(above: Float[np.ndarray, "*m"], below: Float[np.ndarray, "*m"]) -> Float[np.ndarray, "*m"]:
    ratio: np.ndarray = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return ratio
