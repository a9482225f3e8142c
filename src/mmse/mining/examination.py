"""How likely a shopper is to look at each position at all: position bias, learned from the log's own clicks.

Model: in a stratum `s` of rows that are equally good wherever they are shown, the clicks at position `k` are
Poisson with mean `n_sk · θ_k · γ_s`: rows shown there, times examination of the position, times attraction of
the stratum. All rows whose slot was filled at random are one stratum; any other row's stratum is its (query,
item), so that the ranker's habit of putting good items first is not taken for bias. Given a stratum's clicks
their spread over positions is multinomial and free of `γ`, so strata may be chosen by their clicks without bias.

Sources: Wang et al., *Position Bias Estimation for Unbiased Learning to Rank in Personal Search*, WSDM 2018 (the
examination model; we have no regression, a free `γ` per pair instead); Agarwal et al., *Estimating Position
Bias without Intrusive Interventions*, WSDM 2019 (the same pair at several positions as intervention harvesting;
we take the joint likelihood instead of their AllPairs sets). Clicks are assumed rare enough for Poisson, and
attraction constant over the log: an item that rises because its season came biases `θ` towards what it moved to.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy import sparse

MIN_CLICKS = 100
"""Fewer informative clicks than this over all positions, and no curve is fitted."""
MIN_CLICKS_AT_POSITION = 10
MAX_LOG_ERROR = 0.5
"""A position whose log-examination is less certain than this takes its neighbours' value."""
FLOOR = 0.01

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Counts:
    """Rows shown and clicked for each (stratum, position) that occurs; strata and positions are any integers."""

    stratum: Int64[np.ndarray, " m"]
    position: Int64[np.ndarray, " m"]
    shown: Int64[np.ndarray, " m"]
    clicked: Int64[np.ndarray, " m"]

    def of(self, stratum: int) -> Counts:
        """The counts of one stratum."""
        there = self.stratum == stratum
        return Counts(self.stratum[there], self.position[there], self.shown[there], self.clicked[there])


@dataclass(frozen=True)
class Curve:
    """Examination in (0, 1] of `positions` (ascending), 1 at the first; `error` is NaN where a neighbour lent it.

    `fitted` is false where the log told too little and every value is 1.
    """

    positions: Int64[np.ndarray, " k"]
    examination: Float64[np.ndarray, " k"]
    error: Float64[np.ndarray, " k"]
    fitted: bool

    def at(self, positions: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """The examination of any positions: past the last known one its value, between two the straight line."""
        return np.asarray(np.interp(positions, self.positions, self.examination), np.float64)


def fit(counts: Counts, positions: Int64[np.ndarray, " k"]) -> Curve:
    """The curve over `positions` (ascending, not empty) by maximum likelihood, from informative strata alone."""
    counts = _informative(counts)
    clicks = int(counts.clicked.sum())
    known = np.unique(counts.position)
    if clicks < MIN_CLICKS or len(known) < 2:
        return _flat(positions, f"{clicks} clicks on rows that were seen at several positions, {MIN_CLICKS} needed")
    _, stratum = np.unique(counts.stratum, return_inverse=True)
    column = np.searchsorted(known, counts.position)
    shown = sparse.csr_array((counts.shown.astype(np.float64), (stratum, column)))
    clicked_at = np.bincount(column, counts.clicked, len(known))
    reference = int(np.argmax(clicked_at))
    logs, covariance = _maximise(shown, np.bincount(stratum, counts.clicked), clicked_at, reference)
    usable = (clicked_at >= MIN_CLICKS_AT_POSITION) & (np.sqrt(covariance.diagonal()) <= MAX_LOG_ERROR)
    if usable.sum() < 2:
        return _flat(positions, "no two positions have enough clicks to be compared")
    return _normalised(positions, known[usable], logs[usable], covariance[np.ix_(usable, usable)])


def _informative(counts: Counts) -> Counts:
    """Positions with clicks, then strata seen at two of them or more and clicked: the rest cancels out."""
    _, position = np.unique(counts.position, return_inverse=True)
    seen = counts.shown > 0
    if len(position):
        seen &= np.bincount(position, counts.clicked)[position] > 0
    counts = _where(counts, seen)
    _, stratum = np.unique(counts.stratum, return_inverse=True)
    if not len(stratum):
        return counts
    several = np.bincount(stratum)[stratum] > 1
    return _where(counts, several & (np.bincount(stratum, counts.clicked)[stratum] > 0))


def _where(counts: Counts, keep: np.ndarray) -> Counts:
    return Counts(counts.stratum[keep], counts.position[keep], counts.shown[keep], counts.clicked[keep])


def _maximise(
    shown: sparse.csr_array, clicks_of: Float64[np.ndarray, " s"], clicks_at: Float64[np.ndarray, " k"], reference: int
) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, "k k"]]:
    """Newton's method on `log θ` with `γ` profiled out; also the covariance, `θ` at `reference` being held.

    The alternating solution `θ_k = Σ_s c / Σ_s nγ`, `γ_s = Σ_k c / Σ_k nθ` has the same fixed point and takes
    hundreds of rounds where this takes ten. The tiny ridge keeps positions that nothing links apart: they
    come out with a huge variance.
    """
    logs = np.zeros(len(clicks_at))
    value = -np.inf
    ridge = np.full(len(logs), 1e-6)
    ridge[reference] = 1e12
    hessian = np.eye(len(logs))
    for _ in range(100):
        weighted = shown.multiply(np.exp(logs)[None, :]).tocsr()
        totals = np.asarray(weighted.sum(axis=1)).ravel()
        share = sparse.diags_array(1 / totals) @ weighted
        scaled = sparse.diags_array(clicks_of) @ share
        expected = np.asarray(scaled.sum(axis=0)).ravel()
        hessian = np.diag(expected + ridge) - np.asarray((share.T @ scaled).todense())
        step = np.linalg.solve(hessian, clicks_at - expected - ridge * logs)
        logs, value, former = *_climb(shown, clicks_of, clicks_at, logs, step), value
        if value - former < 1e-9 * abs(value):
            break
    return logs, np.linalg.inv(hessian)


def _climb(
    shown: sparse.csr_array,
    clicks_of: Float64[np.ndarray, " s"],
    clicks_at: Float64[np.ndarray, " k"],
    logs: Float64[np.ndarray, " k"],
    step: Float64[np.ndarray, " k"],
) -> tuple[Float64[np.ndarray, " k"], float]:
    """The point along `step` that does not lower the likelihood, and the likelihood there."""

    def likelihood(at: Float64[np.ndarray, " k"]) -> float:
        return float(clicks_at @ at - clicks_of @ np.log(shown @ np.exp(at)))

    before = likelihood(logs)
    for halvings in range(30):
        trial = logs + step / 2**halvings
        after = likelihood(trial) if np.abs(trial).max() < 50 else -np.inf
        if after >= before:
            return trial, after
    return logs, before


def _normalised(
    positions: Int64[np.ndarray, " k"],
    known: Int64[np.ndarray, " u"],
    logs: Float64[np.ndarray, " u"],
    covariance: Float64[np.ndarray, "u u"],
) -> Curve:
    """1 at the first usable position; positions without enough data take the line between their neighbours."""
    variance = covariance.diagonal() + covariance[0, 0] - 2 * covariance[0]
    values = np.clip(np.exp(logs - logs[0]), FLOOR, 1.0)
    examination = np.interp(positions, known, values)
    error = np.full(len(positions), np.nan)
    _, ours, theirs = np.intersect1d(positions, known, return_indices=True)
    error[ours] = (values * np.sqrt(np.maximum(variance, 0)))[theirs]
    return Curve(positions, examination, error, True)


def _flat(positions: Int64[np.ndarray, " k"], why: str) -> Curve:
    log.warning("position bias cannot be learned from this log (%s): every position counts as examined", why)
    n = len(positions)
    return Curve(positions, np.ones(n), np.full(n, np.nan), False)
