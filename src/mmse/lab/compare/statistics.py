"""The uncertainty of the grid's numbers: means over seeds, queries resampled, simulated shops weighted equally.

A stratum is one log: the requests of one shop, measured with every system and training seed. Its queries are resampled
with all their requests and all training seeds, with the same draws for every system and measure (the cluster bootstrap
of `evaluation.bootstrap`). A mean over several strata, each resampled by itself, is the mean of their means. The
variance over training seeds is not in the interval; the results give the lowest and highest seed beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from mmse.evaluation.bootstrap import CELLS, BootstrapConfig, Estimate, two_sided

MIN_QUERIES = 10
"""With fewer distinct queries there is no interval, because they show too little of how queries differ."""

MeasureKey = tuple[str, str, str, str, int]
"""(on, target, slice, metric, k)."""


@dataclass(frozen=True)
class Stratum:
    """The values of one log, one row per request and measure; `values[system][seed]` has the same rows for all.

    `measure` numbers `measures`, `query` the distinct queries. A system whose training failed lacks that seed.
    """

    measures: list[MeasureKey]
    measure: Int64[np.ndarray, " rows"]
    query: Int64[np.ndarray, " rows"]
    values: Mapping[str, Mapping[int | None, Float[np.ndarray, " rows"]]]


@dataclass(frozen=True)
class BootstrapMeans:
    """Means by measure, and the means of every draw; NaN where a measure has no value."""

    mean: Float[np.ndarray, " m"]
    draws: Float[np.ndarray, "draws m"]
    queries: Int64[np.ndarray, " m"]


def systems_and_gaps(stratum: Stratum, subject: str) -> dict[tuple[str, str], Float[np.ndarray, " rows"]]:
    """By (system, "") its means over seeds; by (subject, system) the subject minus it, over the seeds of both."""
    columns = {}
    for system, by_seed in stratum.values.items():
        columns[system, ""] = np.mean(list(by_seed.values()), axis=0)
    our_values = stratum.values.get(subject, {})
    for system, by_seed in stratum.values.items():
        common_seeds = [seed for seed in our_values if seed in by_seed or None in by_seed]
        if system != subject and common_seeds:
            gaps = [our_values[seed] - by_seed.get(seed, by_seed.get(None, np.empty(0))) for seed in common_seeds]
            columns[subject, system] = np.mean(gaps, axis=0)
    return columns


def bootstrap_means(
    stratum: Stratum, columns: Sequence[Float[np.ndarray, " rows"]], config: BootstrapConfig, number: int
) -> list[BootstrapMeans]:
    """The mean of each column by measure, in the log and in every draw; each stratum `number` has its own draws."""
    n_queries, n_measures = int(stratum.query.max()) + 1, len(stratum.measures)
    cell = stratum.query * n_measures + stratum.measure
    size = n_queries * n_measures
    counts = np.bincount(cell, minlength=size).reshape(n_queries, n_measures).astype(np.float64)
    sums = [np.bincount(cell, weights=column, minlength=size).reshape(n_queries, n_measures) for column in columns]
    rng = np.random.default_rng([config.seed, number])
    drawn_sums = np.empty((len(columns), config.draws, n_measures))
    drawn_counts = np.empty((config.draws, n_measures))
    step = max(1, CELLS // n_queries)
    for start in range(0, config.draws, step):
        n = min(step, config.draws - start)
        rows = rng.integers(0, n_queries, (n, n_queries)) + np.arange(n)[:, None] * n_queries
        times = np.bincount(rows.ravel(), minlength=n * n_queries).reshape(n, n_queries).astype(np.float64)
        drawn_counts[start : start + n] = times @ counts
        for c, column_sums in enumerate(sums):
            drawn_sums[c, start : start + n] = times @ column_sums
    queries = (counts > 0).sum(axis=0).astype(np.int64)
    total = counts.sum(axis=0)
    return [
        BootstrapMeans(_ratio(column_sums.sum(axis=0), total), _ratio(column_draws, drawn_counts), queries)
        for column_sums, column_draws in zip(sums, drawn_sums, strict=True)
    ]


def average(parts: Sequence[BootstrapMeans]) -> BootstrapMeans:
    """The mean of several strata's means with equal weights, draw by draw."""
    return BootstrapMeans(
        np.mean([part.mean for part in parts], axis=0),
        np.mean([part.draws for part in parts], axis=0),
        np.sum([part.queries for part in parts], axis=0),
    )


def estimate(means: BootstrapMeans, measure: int, level: float, *, is_gap: bool = False) -> Estimate | None:
    """The estimate of `measure`: without an interval if too few queries have a value, None if none has.

    With `is_gap` it is a difference and has a `p`.
    """
    value, queries = float(means.mean[measure]), int(means.queries[measure])
    if np.isnan(value):
        return None
    draws = means.draws[:, measure]
    draws = draws[~np.isnan(draws)]
    if queries < MIN_QUERIES or not len(draws):
        return Estimate(value, None, None, queries)
    tail = (1 - level) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), queries, two_sided(draws) if is_gap else None)


def _ratio(sums: Float[np.ndarray, "*m"], counts: Float[np.ndarray, "*m"]) -> Float[np.ndarray, "*m"]:
    ratio: np.ndarray = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return ratio
