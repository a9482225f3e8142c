"""What a new ranking would have earned on an old log, where the log has chances: off-policy estimates.

A shopper looks at slot k with chance e(k) and takes an item that they look at with a chance of the item's own (the
position-based model). Then what was taken of an item that the log showed counts with the weight

    w(i) = Σ_k e(k) · P_new(i at k) / Σ_k e(k) · P_log(i at k)

(Li, Abbasi-Yadkori, Kveton et al., "Offline Evaluation of Ranking Policies with Click Models", KDD 2018). Three
estimates: inverse propensity; self-normalised, which divides by the mean weight (Swaminathan and Joachims, "The
Self-Normalized Estimator for Counterfactual Learning", NIPS 2015); and doubly robust, which adds what a reward model
expects of the new page (Dudík, Langford and Li, ICML 2011). All agree where the log could have shown what the new
ranking shows. Where it could not, none of them can know, and nothing is said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy.stats import norm

from mmse.experiment.effects import Interval

LEAST_WEIGHT = 0.9
"""The mean weight is 1 where the log shows all that the new ranking would; below this too much is never shown."""
MOST_WEIGHT = 1.1
"""Above it the log's chances are too small to be those by which it was shown."""
LEAST_SAMPLE = 200.0
"""Effective requests; with fewer an interval promises what it cannot keep."""


@dataclass(frozen=True)
class Slots:
    """What a log showed and a new ranking would do with it.

    By shown item: its `request` (from 0), `reward`, `weight`, the `look` that its slot gets, and what a reward model
    `predicts` of whoever looks. By request: `whole`, the looks that the new page gets in all, and `promised`, what the
    model expects of it.
    """

    request: Int64[np.ndarray, " n"]
    reward: Float64[np.ndarray, " n"]
    weight: Float64[np.ndarray, " n"]
    look: Float64[np.ndarray, " n"]
    predicts: Float64[np.ndarray, " n"]
    whole: Float64[np.ndarray, " m"]
    promised: Float64[np.ndarray, " m"]


@dataclass(frozen=True)
class Value:
    """An estimate of the reward of a request."""

    estimate: float
    interval: Interval


@dataclass(frozen=True)
class Estimates:
    """The estimates, and what they rest on; `refusal` says why they must not be used, empty where they may be.

    `sample` is the effective number of requests, `mean_weight` should be 1, `largest` is the largest share that one
    request has of all weight.
    """

    requests: int
    ips: Value
    snips: Value
    dr: Value
    sample: float
    mean_weight: Value
    largest: float
    refusal: str


def estimate(slots: Slots, alpha: float = 0.05) -> Estimates:
    """The estimates of the reward of a request under the new ranking; intervals are over requests."""
    n = len(slots.whole)

    def summed(values: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " m"]:
        return np.bincount(slots.request, values, n)

    earned = summed(slots.weight * slots.reward)
    seen = summed(slots.weight * slots.look)
    rest = summed(slots.weight * (slots.reward - slots.look * slots.predicts))
    share = seen / max(slots.whole.mean(), 1e-12)
    mean_weight = mean_of(share, alpha)
    ratio = earned.sum() / seen.sum() if seen.sum() > 0 else math.nan
    residual = (earned - ratio * seen) / max(seen.mean(), 1e-12) * slots.whole.mean()
    snips = mean_of(residual, alpha, about=ratio * slots.whole.mean())
    total = share.sum()
    sample = float(total**2 / (share**2).sum()) if total > 0 else 0.0
    largest = float(share.max() / total) if total > 0 else 1.0
    refusal = _refusal(mean_weight, sample)
    return Estimates(
        n, mean_of(earned, alpha), snips, mean_of(slots.promised + rest, alpha), sample, mean_weight, largest, refusal
    )


def _refusal(mean_weight: Value, sample: float) -> str:
    if mean_weight.interval.high < LEAST_WEIGHT or mean_weight.estimate < LEAST_WEIGHT - 0.1:
        return (
            f"Cannot say, because the log shows {mean_weight.estimate:.0%} of what the new ranking would show, by the "
            "looks that it gets: explore more, or deeper."
        )
    if mean_weight.interval.low > MOST_WEIGHT:
        return (
            f"Cannot say, because the weights have a mean of {mean_weight.estimate:.2f}, where it should be 1: the "
            "propensities of the log are not the chances by which it was shown."
        )
    if sample < LEAST_SAMPLE:
        return (
            f"Cannot say, because the log is worth {sample:.0f} requests of the new ranking, and fewer than "
            f"{LEAST_SAMPLE:.0f} say nothing: bring a longer log, or explore more."
        )
    return ""


def mean_of(values: Float64[np.ndarray, " m"], alpha: float = 0.05, about: float = 0.0) -> Value:
    """The mean of what requests earned, from `about` on, with its interval."""
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.inf
    centre, half = about + float(values.mean()), float(norm.isf(alpha / 2)) * error
    return Value(centre, Interval(centre - half, centre + half))
