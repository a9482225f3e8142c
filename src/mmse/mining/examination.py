"""How likely a shopper is to look at each position: position bias, learned from the clicks of the log.

Model: in a stratum `s`, whose rows are equally good at whatever position they are shown, the clicks at position `k` are
Poisson with mean `n_sk · θ_k · γ_s`: the rows shown there, times the examination of the position, times the attraction
of the stratum. All rows whose slot was filled at random are one stratum. Any other row's stratum is its (query, item),
so that a ranker that puts good items at the top is not mistaken for bias. Given the number of a stratum's clicks, their
spread over positions is multinomial and does not depend on `γ`, so strata may be chosen by their clicks without bias.

Sources: Wang et al., *Position Bias Estimation for Unbiased Learning to Rank in Personal Search*, WSDM 2018 (the
examination model; we have a free `γ` per pair instead of their regression); Agarwal et al., *Estimating Position
Bias without Intrusive Interventions*, WSDM 2019 (intervention harvesting from the same pair at several
positions; we take the joint likelihood instead of their AllPairs sets). We assume that clicks are rare enough for
Poisson, and that attraction is constant over the log: an item that rises because its season begins biases `θ` towards
the positions to which it rises.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy import sparse

MIN_CLICKS = 100
"""No curve is fitted to fewer informative clicks than this, over all positions."""
MIN_CLICKS_AT_POSITION = 10
MAX_LOG_ERROR = 0.5
"""A position whose log-examination has a larger standard error than this takes its neighbours' value."""
FLOOR = 0.01

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PositionCounts:
    """Rows shown and clicked for each (stratum, position) that occurs; strata and positions are any integers."""

    stratum: Int64[np.ndarray, " m"]
    position: Int64[np.ndarray, " m"]
    shown: Int64[np.ndarray, " m"]
    clicked: Int64[np.ndarray, " m"]

    def select_stratum(self, stratum: int) -> PositionCounts:
        """The counts of one stratum."""
        return _select(self, self.stratum == stratum)


@dataclass(frozen=True)
class ExaminationCurve:
    """Examination in (0, 1] of `positions` (ascending), 1 at the first.

    `error` is the standard error, NaN where the value is taken from the neighbours. `is_fitted` is false if the log has
    too few clicks; then every value is 1.
    """

    positions: Int64[np.ndarray, " k"]
    examination: Float64[np.ndarray, " k"]
    error: Float64[np.ndarray, " k"]
    is_fitted: bool

    def examination_at(self, positions: Int64[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        """The examination of any positions: linear between two that are known, constant after the last."""
        return np.asarray(np.interp(positions, self.positions, self.examination), np.float64)


def fit_curve(counts: PositionCounts, positions: Int64[np.ndarray, " k"]) -> ExaminationCurve:
    """The curve over `positions` (ascending, not empty) by maximum likelihood, from the informative strata."""
    counts = _select_informative(counts)
    n_clicks = int(counts.clicked.sum())
    log_positions = np.unique(counts.position)
    if n_clicks < MIN_CLICKS or len(log_positions) < 2:
        return _flat(positions, f"{n_clicks} clicks on rows that were seen at several positions, {MIN_CLICKS} needed")
    _, stratum = np.unique(counts.stratum, return_inverse=True)
    column = np.searchsorted(log_positions, counts.position)
    n_shown = sparse.csr_array((counts.shown.astype(np.float64), (stratum, column)))
    clicks_at = np.bincount(column, counts.clicked, len(log_positions))
    reference = int(np.argmax(clicks_at))
    logs, covariance = _maximise(n_shown, np.bincount(stratum, counts.clicked), clicks_at, reference)
    usable = (clicks_at >= MIN_CLICKS_AT_POSITION) & (np.sqrt(covariance.diagonal()) <= MAX_LOG_ERROR)
    if usable.sum() < 2:
        return _flat(positions, "no two positions have enough clicks to be compared")
    return _normalise(positions, log_positions[usable], logs[usable], covariance[np.ix_(usable, usable)])


def _select_informative(counts: PositionCounts) -> PositionCounts:
    """The positions that have clicks, and the strata that were clicked and shown at two or more of these positions.

    The others cancel out of the likelihood.
    """
    _, position = np.unique(counts.position, return_inverse=True)
    keep = counts.shown > 0
    if len(position):
        keep &= np.bincount(position, counts.clicked)[position] > 0
    counts = _select(counts, keep)
    _, stratum = np.unique(counts.stratum, return_inverse=True)
    if not len(stratum):
        return counts
    compares = np.bincount(stratum)[stratum] > 1
    return _select(counts, compares & (np.bincount(stratum, counts.clicked)[stratum] > 0))


def _select(counts: PositionCounts, keep: np.ndarray) -> PositionCounts:
    return PositionCounts(counts.stratum[keep], counts.position[keep], counts.shown[keep], counts.clicked[keep])


def _maximise(
    n_shown: sparse.csr_array,
    clicks_of: Float64[np.ndarray, " s"],
    clicks_at: Float64[np.ndarray, " k"],
    reference: int,
) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, "k k"]]:
    """`log θ` and its covariance by Newton's method, with `γ` profiled out and `θ` fixed at `reference`.

    The alternating solution `θ_k = Σ_s c / Σ_s nγ`, `γ_s = Σ_k c / Σ_k nθ` has the same fixed point, but takes hundreds
    of rounds where this takes ten. The tiny ridge keeps the system solvable where nothing links two positions: they get
    a huge variance.
    """
    logs = np.zeros(len(clicks_at))
    value = -np.inf
    ridge = np.full(len(logs), 1e-6)
    ridge[reference] = 1e12
    hessian = np.eye(len(logs))
    for _ in range(100):
        looks = n_shown.multiply(np.exp(logs)[None, :]).tocsr()
        totals = np.asarray(looks.sum(axis=1)).ravel()
        share = sparse.diags_array(1 / totals) @ looks
        expected_clicks = sparse.diags_array(clicks_of) @ share
        expected_at = np.asarray(expected_clicks.sum(axis=0)).ravel()
        hessian = np.diag(expected_at + ridge) - np.asarray((share.T @ expected_clicks).todense())
        step = np.linalg.solve(hessian, clicks_at - expected_at - ridge * logs)
        logs, value, former = *_climb(n_shown, clicks_of, clicks_at, logs, step), value
        if value - former < 1e-9 * abs(value):
            break
    return logs, np.linalg.inv(hessian)


def _climb(
    n_shown: sparse.csr_array,
    clicks_of: Float64[np.ndarray, " s"],
    clicks_at: Float64[np.ndarray, " k"],
    logs: Float64[np.ndarray, " k"],
    step: Float64[np.ndarray, " k"],
) -> tuple[Float64[np.ndarray, " k"], float]:
    """The farthest point along `step` that does not lower the likelihood, and its likelihood."""

    def likelihood(point: Float64[np.ndarray, " k"]) -> float:
        return float(clicks_at @ point - clicks_of @ np.log(n_shown @ np.exp(point)))

    start_value = likelihood(logs)
    for halvings in range(30):
        trial = logs + step / 2**halvings
        value = likelihood(trial) if np.abs(trial).max() < 50 else -np.inf
        if value >= start_value:
            return trial, value
    return logs, start_value


def _normalise(
    positions: Int64[np.ndarray, " k"],
    usable: Int64[np.ndarray, " u"],
    logs: Float64[np.ndarray, " u"],
    covariance: Float64[np.ndarray, "u u"],
) -> ExaminationCurve:
    """The curve, 1 at the first usable position; positions that are not usable are interpolated between neighbours."""
    variance = covariance.diagonal() + covariance[0, 0] - 2 * covariance[0]
    values = np.clip(np.exp(logs - logs[0]), FLOOR, 1.0)
    examination = np.interp(positions, usable, values)
    error = np.full(len(positions), np.nan)
    _, index, usable_index = np.intersect1d(positions, usable, return_indices=True)
    error[index] = (values * np.sqrt(np.maximum(variance, 0)))[usable_index]
    return ExaminationCurve(positions, examination, error, True)


def _flat(positions: Int64[np.ndarray, " k"], reason: str) -> ExaminationCurve:
    log.warning("position bias cannot be learned from this log (%s): every position counts as examined", reason)
    n = len(positions)
    return ExaminationCurve(positions, np.ones(n), np.full(n, np.nan), False)
