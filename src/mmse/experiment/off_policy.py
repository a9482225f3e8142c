"""Off-policy estimates: what a new ranking would have earned on an old log that has the chances of its items.

A shopper looks at slot k with chance e(k), and clicks or orders an item that they look at with a chance of the item's
own (the position-based model). Then the reward of an item that the log showed counts with the weight

    w(i) = Σ_k e(k) · P_new(i at k) / Σ_k e(k) · P_log(i at k)

(Li, Abbasi-Yadkori, Kveton et al., "Offline Evaluation of Ranking Policies with Click Models", KDD 2018). Three
estimates: inverse propensity; self-normalised, which divides by the mean weight (Swaminathan and Joachims, "The
Self-Normalized Estimator for Counterfactual Learning", NIPS 2015); and doubly robust, which adds what a reward model
expects of the new page (Dudík, Langford and Li, ICML 2011). All agree if the log could have shown what the new ranking
shows. If it could not, no estimate can be right, and the result is a refusal.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy.stats import norm

from mmse.experiment.effects import Interval

MIN_MEAN_WEIGHT = 0.9
"""The mean weight is 1 if the log shows all that the new ranking would; below this too much is never shown."""
MAX_MEAN_WEIGHT = 1.1
"""Above this the log's propensities are too small to be the true ones."""
MIN_SAMPLE = 200.0
"""Effective requests; with fewer the interval is too narrow."""


@dataclass(frozen=True)
class WeightedLog:
    """The shown items of a log, weighted by how likely a new ranking would show them.

    By shown item: its `request` (from 0), `reward`, `weight`, the `look` that its slot gets, and the `prediction` of a
    reward model for a shopper who looks. By request: `page_looks`, the sum of looks that the new page gets, and
    `page_prediction`, the reward that the model expects of it.
    """

    request: Int64[np.ndarray, " n"]
    reward: Float64[np.ndarray, " n"]
    weight: Float64[np.ndarray, " n"]
    look: Float64[np.ndarray, " n"]
    prediction: Float64[np.ndarray, " n"]
    page_looks: Float64[np.ndarray, " m"]
    page_prediction: Float64[np.ndarray, " m"]


@dataclass(frozen=True)
class Value:
    """An estimate of the reward of a request."""

    estimate: float
    interval: Interval


@dataclass(frozen=True)
class Estimates:
    """The three estimates and how far to trust them; `refusal` says why not to use them, empty if they are fine.

    `sample` is the effective number of requests, `mean_weight` should be 1, `largest` is the largest share of all
    weight that one request has.
    """

    requests: int
    ips: Value
    snips: Value
    dr: Value
    sample: float
    mean_weight: Value
    largest: float
    refusal: str


def estimate(log: WeightedLog, alpha: float = 0.05) -> Estimates:
    """The estimates of the reward of a request under the new ranking; intervals are over requests."""
    n = len(log.page_looks)

    def by_request(values: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, " m"]:
        return np.bincount(log.request, values, n)

    rewards = by_request(log.weight * log.reward)
    looks = by_request(log.weight * log.look)
    corrections = by_request(log.weight * (log.reward - log.look * log.prediction))
    mean_looks = log.page_looks.mean()
    weights = looks / max(mean_looks, 1e-12)
    mean_weight = mean_of(weights, alpha)
    ratio = rewards.sum() / looks.sum() if looks.sum() > 0 else math.nan
    residual = (rewards - ratio * looks) / max(looks.mean(), 1e-12) * mean_looks
    snips = mean_of(residual, alpha, offset=ratio * mean_looks)
    dr = mean_of(log.page_prediction + corrections, alpha)
    total = weights.sum()
    sample = float(total**2 / (weights**2).sum()) if total > 0 else 0.0
    largest = float(weights.max() / total) if total > 0 else 1.0
    refusal = _refusal(mean_weight, sample)
    return Estimates(n, mean_of(rewards, alpha), snips, dr, sample, mean_weight, largest, refusal)


def _refusal(mean_weight: Value, sample: float) -> str:
    if mean_weight.interval.high < MIN_MEAN_WEIGHT or mean_weight.estimate < MIN_MEAN_WEIGHT - 0.1:
        return (
            f"Cannot say, because the log shows {mean_weight.estimate:.0%} of what the new ranking would show, by the "
            "looks that it gets: explore more, or deeper."
        )
    if mean_weight.interval.low > MAX_MEAN_WEIGHT:
        return (
            f"Cannot say, because the weights have a mean of {mean_weight.estimate:.2f}, which should be 1: the "
            "propensities of the log are not the chances with which items were shown."
        )
    if sample < MIN_SAMPLE:
        return (
            f"Cannot say, because the log is worth {sample:.0f} requests of the new ranking, and fewer than "
            f"{MIN_SAMPLE:.0f} say nothing: bring a longer log, or explore more."
        )
    return ""


def mean_of(values: Float64[np.ndarray, " m"], alpha: float = 0.05, offset: float = 0.0) -> Value:
    """`offset` plus the mean of values by request, with its interval."""
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.inf
    centre, half = offset + float(values.mean()), float(norm.isf(alpha / 2)) * error
    return Value(centre, Interval(centre - half, centre + half))
