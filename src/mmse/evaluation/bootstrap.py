"""The uncertainty of a mean: a paired bootstrap that resamples whole queries.

Requests of one query are alike, so they are drawn together: a cluster bootstrap (Cameron, Gelbach and Miller,
"Bootstrap-based improvements for inference with clustered errors", 2008), with percentile intervals. All systems
see the same draws. The interval of a difference is therefore narrower than the two intervals suggest (Sakai,
"Evaluating evaluation metrics based on the bootstrap", SIGIR 2006).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mmse.core.config import require

CELLS = 4_000_000
"""Draw counts in memory at a time, so that memory does not grow with draws times queries."""


@dataclass(frozen=True)
class BootstrapConfig:
    """How many times the queries are resampled, from which seed, and the share that an interval covers."""

    draws: int = 1000
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        require(self.draws >= 20, "draws", self.draws, "at least 20")
        require(self.seed >= 0, "seed", self.seed, "0 or above")
        require(0 < self.level < 1, "level", self.level, "a share between 0 and 1")


@dataclass(frozen=True)
class Estimate:
    """A mean over requests with its interval; `queries` is the number of distinct queries behind it.

    `value` is NaN if no request defines it. `low` and `high` are None with fewer than two queries, which are too few
    for an interval. `p` is the two-sided probability of so large a mean if the true mean were 0: only differences have
    it, it is None for other estimates.
    """

    value: float
    low: float | None
    high: float | None
    queries: int
    p: float | None = None

    @property
    def significant(self) -> bool:
        """Whether the interval excludes 0; by chance this holds for about one of twenty true zeros."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class BootstrapResult:
    """One estimate for each system, and one difference (system minus reference) for each if there is a reference."""

    systems: list[Estimate]
    differences: list[Estimate]


def bootstrap(
    values: Float[np.ndarray, "systems requests"],
    clusters: Int[np.ndarray, " requests"],
    config: BootstrapConfig,
    *,
    reference: int | None = None,
) -> BootstrapResult:
    """Means over requests with intervals from resampling the distinct `clusters` (queries); NaN values are left out.

    A difference is computed over the requests that both systems define. The reference's own difference is 0.
    """
    numbers = np.unique(clusters, return_inverse=True)[1].astype(np.int64)
    series = values if reference is None else np.concatenate([values, values - values[reference]])
    sums, counts = _by_cluster(series, numbers)
    means = _resample(sums, counts, config)
    estimates = [_estimate(sums[:, c], counts[:, c], means[:, c], config.level) for c in range(len(series))]
    n = len(values)
    differences = [
        Estimate(e.value, e.low, e.high, e.queries, two_sided(means[:, n + i]) if e.low is not None else None)
        for i, e in enumerate(estimates[n:])
    ]
    return BootstrapResult(estimates[:n], differences)


def _by_cluster(
    values: Float[np.ndarray, "s r"], numbers: Int[np.ndarray, " r"]
) -> tuple[Float[np.ndarray, "c s"], Float[np.ndarray, "c s"]]:
    """The sum of each cluster's defined values, and how many there are."""
    n = int(numbers.max()) + 1 if len(numbers) else 0
    valid = ~np.isnan(values)
    zero_filled = np.where(valid, values, 0.0)
    sums = np.stack([np.bincount(numbers, weights=row, minlength=n) for row in zero_filled], axis=1)
    counts = np.stack([np.bincount(numbers, weights=row, minlength=n) for row in valid], axis=1)
    return sums.astype(np.float64), counts.astype(np.float64)


def _resample(
    sums: Float[np.ndarray, "c s"], counts: Float[np.ndarray, "c s"], config: BootstrapConfig
) -> Float[np.ndarray, "draws s"]:
    """The mean of each column in each draw; all columns see the same clusters."""
    n = len(sums)
    rng = np.random.default_rng(config.seed)
    means = np.full((config.draws, sums.shape[1]), np.nan)
    step = max(1, CELLS // max(1, n))
    for start in range(0, config.draws if n else 0, step):
        size = min(step, config.draws - start)
        cells = rng.integers(0, n, (size, n)) + np.arange(size)[:, None] * n
        multiplicity = np.bincount(cells.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
        totals, n_values = multiplicity @ sums, multiplicity @ counts
        np.divide(totals, n_values, out=means[start : start + size], where=n_values > 0)
    return means


def _estimate(
    sums: Float[np.ndarray, " c"], counts: Float[np.ndarray, " c"], means: Float[np.ndarray, " draws"], level: float
) -> Estimate:
    queries = int((counts > 0).sum())
    if queries == 0:
        return Estimate(float("nan"), None, None, 0)
    value = float(sums.sum() / counts.sum())
    if queries == 1:
        return Estimate(value, None, None, 1)
    tail = (1 - level) / 2
    low, high = np.nanquantile(means, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), queries)


def two_sided(means: Float[np.ndarray, " draws"]) -> float:
    """Twice the smaller share of draws on one side of 0; one draw is added to the count, so that p is never 0."""
    draws = means[~np.isnan(means)]
    tail = min((draws <= 0).sum(), (draws >= 0).sum())
    return float(min(1.0, 2 * (tail + 1) / (len(draws) + 1)))


def holm(p_values: Sequence[float], alpha: float = 0.05) -> list[bool]:
    """Which of several differences are significant after Holm's correction.

    The smallest p is compared with alpha / n, the next with alpha / (n - 1), and so on until one fails ("A simple
    sequentially rejective multiple test procedure", 1979).
    """
    significant = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[index] > alpha / (len(p_values) - rank):
            break
        significant[index] = True
    return significant
