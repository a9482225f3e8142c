"""Whether a probability means what it says: of what was given 20%, is a fifth clicked by those who look?

A probability is that of a click by a shopper who looks at the item. A log says whether a shown item was clicked, not
whether it was looked at, so clicks are held against the examination of the slot: in a bin, clicks divided by
expected looks. A simulated shop knows the chance itself, for hits too that were never shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64

from mmse.evaluation import metrics
from mmse.evaluation.metrics import Relevant
from mmse.ranking.calibration import FORMS, Form
from mmse.retrieval.query_context import Calibrated

BINS = 10
STEPS = 100
"""Thresholds between 0 and 1 at which it is counted what is left."""

_LEAST = 1e-9


@dataclass(frozen=True)
class Bin:
    """A tenth of the looks, by probability: the mean said to click it, the share that did, its 95% interval."""

    likely: float
    clicked: float
    low: float | None
    high: float | None
    looks: float


@dataclass(frozen=True)
class Reliability:
    """How well one `form` of probability fits on `on`, a set of `slots`.

    `error` is the expected calibration error, the mean distance over bins of what was said from what came; `log_loss`
    is the mean over slots.
    """

    form: str
    on: str
    slots: int
    clicks: float
    error: float
    log_loss: float
    bins: list[Bin]


@dataclass(frozen=True)
class Slots:
    """What was given a probability, by form: `clicked` is 0 or 1, or the true chance; `looks` its examination."""

    on: str
    chances: dict[Form, Float64[np.ndarray, " n"]]
    clicked: Float64[np.ndarray, " n"]
    looks: Float64[np.ndarray, " n"]
    sure: bool = False
    """Whether `clicked` is the chance itself, so that no interval is needed."""


def reliability(slots: Slots, bins: int = BINS) -> list[Reliability]:
    """One record a form; none where nothing was looked at. Every bin holds the same share of the looks."""
    return [_of_form(slots, form, bins) for form in slots.chances] if slots.looks.sum() > 0 else []


def log_loss(
    chances: Float[np.ndarray, " n"], clicked: Float[np.ndarray, " n"], looks: Float[np.ndarray, " n"]
) -> float:
    """The mean of -log of what happened, where a click happens with `looks · chances`."""
    p = np.clip(chances * looks, _LEAST, 1 - _LEAST)
    return float(-(clicked * np.log(p) + (1 - clicked) * np.log1p(-p)).mean())


def better_form(found: Sequence[Reliability]) -> dict[str, str]:
    """The form with the lower log loss on each set of slots."""
    best: dict[str, Reliability] = {}
    for one in found:
        if one.on not in best or one.log_loss < best[one.on].log_loss:
            best[one.on] = one
    return {on: one.form for on, one in best.items()}


@dataclass(frozen=True)
class Kept:
    """What is left of the hits where those below a probability are left out.

    At `least[i]`, a share `answered[i]` of the searches has a hit left, and `recall[i]` is what is kept of the recall
    of clicked and ordered items among the first 100; `recall_of_all` is that recall itself with nothing left out.
    """

    least: list[float]
    answered: list[float]
    recall: list[float]
    recall_of_all: float


def kept(hits: Sequence[Calibrated], form: Form, wanted: Relevant, k: int) -> Kept | None:
    """What is left of the first `k` of `hits` by threshold; None where nothing wanted is found at all."""
    n = len(hits)
    ranking = np.full((n, k), -1, np.int64)
    chances = np.full((n, k), -1.0)
    for place, one in enumerate(hits):
        rows, those = one.rows[:k], one.chances[form][:k]
        ranking[place, : len(rows)], chances[place, : len(rows)] = rows, those
    found = metrics.locate(ranking, wanted)
    there = found.ranks > 0
    chance = np.where(there, chances[wanted.requests, np.maximum(found.ranks, 1) - 1], -1.0)
    share = 1 / np.maximum(wanted.counts, 1)[wanted.requests]
    whole = float((share * there).sum())
    if not whole:
        return None
    top, least = chances.max(axis=1, initial=-1.0), np.arange(STEPS + 1) / STEPS
    answered = [float((top >= t).mean()) for t in least]
    recall = [float((share * (there & (chance >= t))).sum() / whole) for t in least]
    end = next((i for i, share_answered in enumerate(answered) if share_answered == 0), STEPS) + 1
    asking = int((wanted.counts > 0).sum())
    return Kept(least[:end].tolist(), answered[:end], recall[:end], whole / asking)


def flat(hits: Sequence[Calibrated], *, others: bool) -> dict[Form, Float64[np.ndarray, " m"]]:
    """The probabilities of all hits, or of the other rows that were asked for, one after the other."""
    none = np.empty(0)
    return {
        form: np.concatenate([none, *((one.others if others else one.chances)[form] for one in hits)]) for form in FORMS
    }


def _of_form(slots: Slots, form: Form, bins: int) -> Reliability:
    chances = slots.chances[form]
    numbers = _bin_of(chances, slots.looks, bins)
    made = [_bin(slots, chances, numbers == b) for b in np.unique(numbers)]
    total = sum(one.looks for one in made)
    error = sum(one.looks * abs(one.likely - one.clicked) for one in made) / total
    loss = log_loss(chances, slots.clicked, slots.looks)
    return Reliability(form, slots.on, len(chances), float(slots.clicked.sum()), error, loss, made)


def _bin_of(chances: Float64[np.ndarray, " n"], looks: Float64[np.ndarray, " n"], bins: int) -> Int64[np.ndarray, " n"]:
    """The bin of each slot, by rising probability, every bin with the same looks; equal ones share a bin."""
    values, place = np.unique(chances, return_inverse=True)
    per_value = np.bincount(place, weights=looks, minlength=len(values))
    before = np.cumsum(per_value) - per_value
    return np.asarray((before / per_value.sum() * bins).astype(np.int64)[place])


def _bin(slots: Slots, chances: Float64[np.ndarray, " n"], held: np.ndarray) -> Bin:
    looks, clicks = float(slots.looks[held].sum()), float(slots.clicked[held].sum())
    likely, clicked = float((slots.looks * chances)[held].sum()) / looks, clicks / looks
    if slots.sure:
        return Bin(likely, clicked, None, None, looks)
    half = 1.96 * math.sqrt(max(clicks, 1.0)) / looks
    return Bin(likely, clicked, max(0.0, clicked - half), clicked + half, looks)
