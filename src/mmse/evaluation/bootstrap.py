"""How sure a mean is: a paired bootstrap that resamples whole queries.

Requests of one query are alike, so they are drawn together: a cluster bootstrap (Cameron, Gelbach and Miller,
"Bootstrap-based improvements for inference with clustered errors", 2008), with percentile intervals. All systems
see the same draws, which makes the interval of a difference narrower than the two intervals suggest (Sakai,
"Evaluating evaluation metrics based on the bootstrap", SIGIR 2006).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mmse.core.config import require

CELLS = 4_000_000
"""Draw counts held at a time: memory is bounded by these, not by draws times queries."""


@dataclass(frozen=True)
class BootstrapConfig:
    """How many times the queries are drawn anew, from which seed, and the share an interval covers."""

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

    `value` is NaN where no request defines it; `low` and `high` are None with fewer than two queries, where
    nothing can be said. `p` is the two-sided chance of so large a mean if there were none: it is meant for
    differences, and is None elsewhere.
    """

    value: float
    low: float | None
    high: float | None
    queries: int
    p: float | None = None

    @property
    def significant(self) -> bool:
        """Whether the interval leaves 0 out; of twenty differences that are none, about one is still marked."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Bootstrapped:
    """One estimate a system, and one difference (system minus reference) a system where a reference was named."""

    systems: list[Estimate]
    differences: list[Estimate]


def bootstrap(
    values: Float[np.ndarray, "systems requests"],
    clusters: Int[np.ndarray, " requests"],
    config: BootstrapConfig,
    *,
    reference: int | None = None,
) -> Bootstrapped:
    """Means over requests, NaN left out, with intervals from drawing the distinct `clusters` (queries) anew.

    A difference is taken over the requests that both systems define. The reference's own difference is 0.
    """
    numbers = np.unique(clusters, return_inverse=True)[1].astype(np.int64)
    measured = values if reference is None else np.concatenate([values, values - values[reference]])
    sums, counts = _by_cluster(measured, numbers)
    drawn = _draw(sums, counts, config)
    estimates = [_estimate(sums[:, c], counts[:, c], drawn[:, c], config.level) for c in range(len(measured))]
    n = len(values)
    differences = [
        Estimate(e.value, e.low, e.high, e.queries, two_sided(drawn[:, n + i]) if e.low is not None else None)
        for i, e in enumerate(estimates[n:])
    ]
    return Bootstrapped(estimates[:n], differences)


def _by_cluster(
    values: Float[np.ndarray, "s r"], numbers: Int[np.ndarray, " r"]
) -> tuple[Float[np.ndarray, "c s"], Float[np.ndarray, "c s"]]:
    n = int(numbers.max()) + 1 if len(numbers) else 0
    defined = ~np.isnan(values)
    filled = np.where(defined, values, 0.0)
    sums = np.stack([np.bincount(numbers, weights=row, minlength=n) for row in filled], axis=1)
    counts = np.stack([np.bincount(numbers, weights=row, minlength=n) for row in defined], axis=1)
    return sums.astype(np.float64), counts.astype(np.float64)


def _draw(
    sums: Float[np.ndarray, "c s"], counts: Float[np.ndarray, "c s"], config: BootstrapConfig
) -> Float[np.ndarray, "draws s"]:
    """The mean of each column in each draw; the same clusters for all columns."""
    n = len(sums)
    rng = np.random.default_rng(config.seed)
    means = np.full((config.draws, sums.shape[1]), np.nan)
    step = max(1, CELLS // max(1, n))
    for start in range(0, config.draws if n else 0, step):
        size = min(step, config.draws - start)
        picked = rng.integers(0, n, (size, n)) + np.arange(size)[:, None] * n
        times = np.bincount(picked.ravel(), minlength=size * n).reshape(size, n).astype(np.float64)
        above, below = times @ sums, times @ counts
        np.divide(above, below, out=means[start : start + size], where=below > 0)
    return means


def _estimate(
    sums: Float[np.ndarray, " c"], counts: Float[np.ndarray, " c"], drawn: Float[np.ndarray, " draws"], level: float
) -> Estimate:
    queries = int((counts > 0).sum())
    if queries == 0:
        return Estimate(float("nan"), None, None, 0)
    value = float(sums.sum() / counts.sum())
    if queries == 1:
        return Estimate(value, None, None, 1)
    tail = (1 - level) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), queries)


def two_sided(drawn: Float[np.ndarray, " draws"]) -> float:
    """Twice the smaller share of draws on one side of 0, counting one more draw so that it is never 0."""
    draws = drawn[~np.isnan(drawn)]
    smaller = min((draws <= 0).sum(), (draws >= 0).sum())
    return float(min(1.0, 2 * (smaller + 1) / (len(draws) + 1)))


def holm(p_values: Sequence[float], alpha: float = 0.05) -> list[bool]:
    """Which of several differences hold after Holm's correction.

    The smallest p is held against alpha / n, the next against alpha / (n - 1), until one fails ("A simple sequentially
    rejective multiple test procedure", 1979).
    """
    held = [False] * len(p_values)
    for left, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[place] > alpha / (len(p_values) - left):
            break
        held[place] = True
    return held
