"""Whether probabilities are true: of the hits with a probability of 20%, do those who look click a fifth?

A probability is that of a click by a shopper who looks at the item. A log says whether a shown item was clicked, not
whether it was looked at. Clicks are therefore divided by expected looks, the sum of the slots' examination. A simulated
shop knows the true chance of a click, also for hits that were never shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from jaxtyping import Float, Float64, Int64

from mmse.evaluation import metrics
from mmse.evaluation.metrics import Relevant
from mmse.ranking.calibration import FORMS, Form
from mmse.retrieval.channel_rankings import CalibratedHits

BINS = 10
STEPS = 100
"""The number of steps from threshold 0 to threshold 1."""

_EPSILON = 1e-9


class Bin(msgspec.Struct, frozen=True):
    """A tenth of the looks, by probability: the mean probability, the share that was clicked, its 95% interval."""

    probability: float = msgspec.field(name="likely")
    clicked: float
    low: float | None
    high: float | None
    looks: float


class Reliability(msgspec.Struct, frozen=True):
    """How well one `form` of probability fits a `sample` of `slots`.

    `error` is the expected calibration error: the mean distance, over bins, of the probability from the share that was
    clicked. `log_loss` is the mean over slots.
    """

    form: str
    sample: str = msgspec.field(name="on")
    slots: int
    clicks: float
    error: float
    log_loss: float
    bins: list[Bin]


@dataclass(frozen=True)
class CalibrationSample:
    """Slots with their probabilities by form: `clicked` is 0 or 1, or the true chance; `looks` is the examination."""

    name: str
    probabilities: dict[Form, Float64[np.ndarray, " n"]]
    clicked: Float64[np.ndarray, " n"]
    looks: Float64[np.ndarray, " n"]
    exact: bool = False
    """Whether `clicked` is the true chance, so that bins need no interval."""


def measure_reliability(sample: CalibrationSample, bins: int = BINS) -> list[Reliability]:
    """One record per form; none if nothing was looked at. Every bin has the same share of the looks."""
    return [_of_form(sample, form, bins) for form in sample.probabilities] if sample.looks.sum() > 0 else []


def log_loss(
    probabilities: Float[np.ndarray, " n"], clicked: Float[np.ndarray, " n"], looks: Float[np.ndarray, " n"]
) -> float:
    """The mean of the negative log likelihood, with `looks · probabilities` as the chance of a click."""
    p = np.clip(probabilities * looks, _EPSILON, 1 - _EPSILON)
    return float(-(clicked * np.log(p) + (1 - clicked) * np.log1p(-p)).mean())


def best_forms(records: Sequence[Reliability]) -> dict[str, str]:
    """The form with the lower log loss on each sample."""
    best: dict[str, Reliability] = {}
    for record in records:
        if record.sample not in best or record.log_loss < best[record.sample].log_loss:
            best[record.sample] = record
    return {sample: record.form for sample, record in best.items()}


class ThresholdCurve(msgspec.Struct, frozen=True):
    """What a minimum probability costs, if hits below it are left out.

    At `thresholds[i]`, the share `answer_rate[i]` of the searches still has a hit, and the share `recall[i]` of the
    recall remains. The recall is that of clicked and ordered items among the first 100; `recall_of_all` is its value
    without a threshold.
    """

    thresholds: list[float] = msgspec.field(name="least")
    answer_rate: list[float] = msgspec.field(name="answered")
    recall: list[float]
    recall_of_all: float


def threshold_curve(hits: Sequence[CalibratedHits], form: Form, relevant: Relevant, k: int) -> ThresholdCurve | None:
    """The curve of the first `k` of `hits`; None if they have no relevant item at all."""
    n = len(hits)
    ranking = np.full((n, k), -1, np.int64)
    probabilities = np.full((n, k), -1.0)
    for index, query_hits in enumerate(hits):
        rows = query_hits.rows[:k]
        ranking[index, : len(rows)] = rows
        probabilities[index, : len(rows)] = query_hits.probabilities[form][:k]
    ranks = metrics.locate(ranking, relevant).ranks
    is_hit = ranks > 0
    probability = np.where(is_hit, probabilities[relevant.requests, np.maximum(ranks, 1) - 1], -1.0)
    share = 1 / np.maximum(relevant.counts, 1)[relevant.requests]
    total = float((share * is_hit).sum())
    if not total:
        return None
    top, thresholds = probabilities.max(axis=1, initial=-1.0), np.arange(STEPS + 1) / STEPS
    answer_rate = [float((top >= t).mean()) for t in thresholds]
    recall = [float((share * (is_hit & (probability >= t))).sum() / total) for t in thresholds]
    end = next((i for i, rate in enumerate(answer_rate) if rate == 0), STEPS) + 1
    n_requests = int((relevant.counts > 0).sum())
    return ThresholdCurve(thresholds[:end].tolist(), answer_rate[:end], recall[:end], total / n_requests)


def concatenate_probabilities(
    parts: Sequence[Mapping[Form, Float64[np.ndarray, " _"]]],
) -> dict[Form, Float64[np.ndarray, " m"]]:
    """The probabilities of all `parts`, one after the other, by form."""
    return {form: np.concatenate([np.empty(0), *(part[form] for part in parts)]) for form in FORMS}


def _of_form(sample: CalibrationSample, form: Form, n_bins: int) -> Reliability:
    probabilities = sample.probabilities[form]
    numbers = _bin_numbers(probabilities, sample.looks, n_bins)
    bins = [_bin(sample, probabilities, numbers == b) for b in np.unique(numbers)]
    total = sum(b.looks for b in bins)
    error = sum(b.looks * abs(b.probability - b.clicked) for b in bins) / total
    loss = log_loss(probabilities, sample.clicked, sample.looks)
    return Reliability(form, sample.name, len(probabilities), float(sample.clicked.sum()), error, loss, bins)


def _bin_numbers(
    probabilities: Float64[np.ndarray, " n"], looks: Float64[np.ndarray, " n"], n_bins: int
) -> Int64[np.ndarray, " n"]:
    """The bin of each slot, by rising probability; bins have equal looks, and equal probabilities share a bin."""
    values, index = np.unique(probabilities, return_inverse=True)
    per_value = np.bincount(index, weights=looks, minlength=len(values))
    start = np.cumsum(per_value) - per_value
    return np.asarray((start / per_value.sum() * n_bins).astype(np.int64)[index])


def _bin(sample: CalibrationSample, probabilities: Float64[np.ndarray, " n"], mask: np.ndarray) -> Bin:
    looks, clicks = float(sample.looks[mask].sum()), float(sample.clicked[mask].sum())
    probability, clicked = float((sample.looks * probabilities)[mask].sum()) / looks, clicks / looks
    if sample.exact:
        return Bin(probability, clicked, None, None, looks)
    half = 1.96 * math.sqrt(max(clicks, 1.0)) / looks
    return Bin(probability, clicked, max(0.0, clicked - half), clicked + half, looks)
