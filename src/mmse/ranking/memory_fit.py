"""Learns how fast a memory fades, how it is smoothed and what it weighs, from what shoppers chose in validation.

The memory is as of the window's start. Where the log says what was seen, a choice is one among the items of its page,
each as likely to be looked at as its position is: what the engine chose to show then says nothing. Otherwise it is one
among the candidates. A memory weighs nothing unless it makes choices likelier that it was not learned from; nor does an
item's popularity, for queries that the log does not have, unless it does so for such queries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from mmse.core.progress import Progress
from mmse.ranking.fit import minimise
from mmse.ranking.fusion import log_likelihoods
from mmse.ranking.memory import QueryMemory
from mmse.ranking.memory_log import Gains, MemoryLog, MemorySettings

HALF_LIVES = (1.0, 3.0, 7.0, 14.0, 30.0, 90.0, 365.0)
SMOOTHINGS = (0.03, 0.1, 0.3, 1.0, 3.0)
GAINS: tuple[Gains, ...] = ((1.0, 2.0, 3.0), (1.0, 1.0, 1.0), (1.0, 4.0, 10.0), (0.0, 0.0, 1.0))
START = MemorySettings(half_life_days=14.0, popularity_half_life_days=14.0, gains=GAINS[0], smoothing=0.1)
TUNING_SETS = 1_500
"""How a memory fades and is smoothed is tuned on at most so many requests."""
LEAST_GAIN = 0.001
"""Another setting is taken only if it raises the mean log-likelihood of a choice by so much."""
MIN_CHOICES = 100
"""Fewer choices teach no memory."""
_PRIOR = (0.3, 1.5)
"""The median of each weight in logits, and the standard deviation of its logarithm."""
_ROUNDS = 2


@dataclass(frozen=True, eq=False)
class ChoiceSets:
    """What was chosen among what, flat: set `s` is `starts[s]` to `starts[s + 1]`, and came of the query `keys[s]`.

    `is_new` marks sets of queries that the training log does not have. `scores` are without the memory; `log_looks` is
    the logarithm of how likely each item was looked at. `positives` are the indices of what was chosen.
    """

    keys: list[str]
    is_new: Bool[np.ndarray, " sets"]
    starts: Int64[np.ndarray, " bounds"]
    rows: Int64[np.ndarray, " n"]
    scores: Float64[np.ndarray, " n"]
    log_looks: Float64[np.ndarray, " n"]
    positives: Int64[np.ndarray, " p"]

    def evidence(self, memory: QueryMemory, *, of_new: bool) -> Float32[np.ndarray, "n 2"]:
        """What `memory` has of each, with a popularity of 0 for new queries unless `of_new`."""
        evidence = memory.evidence(self.keys, self.starts, self.rows)
        if not of_new:
            evidence[np.repeat(self.is_new, np.diff(self.starts)), 1] = 0.0
        return evidence

    @property
    def is_new_choice(self) -> Bool[np.ndarray, " p"]:
        """Which of the positives are of new queries."""
        return np.asarray(np.repeat(self.is_new, np.diff(self.starts))[self.positives])

    def head(self, n: int) -> ChoiceSets:
        """The first `n` sets."""
        end = int(self.starts[min(n, len(self.keys))])
        columns = (self.rows[:end], self.scores[:end], self.log_looks[:end])
        positives = self.positives[self.positives < end]
        return ChoiceSets(self.keys[:n], self.is_new[:n], self.starts[: n + 1], *columns, positives)


@dataclass(frozen=True)
class LearnedMemory:
    """How to remember, and the weights of the evidence after a query and of an item, in units of the score.

    `of_new` tells that an item's popularity counts for new queries, too. `gain` is by how much a memory learned on half
    of the queries raised the log-likelihood of a choice of the others.
    """

    settings: MemorySettings
    weights: tuple[float, float]
    of_new: bool
    gain: float


def learn_memory(
    log: MemoryLog, sets: ChoiceSets, sets_without: ChoiceSets, *, has_orders: bool, progress: Progress
) -> LearnedMemory | None:
    """The memory under which the choices are likeliest; None where it does not help, or choices are too few.

    `sets` have the scores that the memory is added to, and `sets_without` those that it has to do better than.
    `has_orders` tells that the log has carts or orders, so that it matters what each stage counts.
    """
    if len(sets.positives) < MIN_CHOICES:
        return None
    tuning_sets = sets.head(TUNING_SETS)
    tuning_fit, fit = _ChoiceModel.of(tuning_sets), _ChoiceModel.of(sets)
    is_new = torch.from_numpy(sets.is_new_choice)
    of_new = int(is_new.sum()) >= MIN_CHOICES
    days = max(START.half_life_days, log.next_days)
    best = replace(START, half_life_days=days, popularity_half_life_days=days)
    best_value, memories = -np.inf, dict[MemorySettings, QueryMemory]()
    changes: list[dict[str, Any]] = [{}, *list(_changes(log.next_days, has_orders=has_orders)) * _ROUNDS]
    for step, change in enumerate(changes):
        progress("learn the memory", step, len(changes))
        settings = replace(best, **change)
        if step and settings == best:
            continue
        cache_key = replace(settings, smoothing=START.smoothing)
        if cache_key not in memories:
            memories[cache_key] = log.remember(cache_key)
        memory = replace(memories[cache_key], smoothing=settings.smoothing)
        value = tuning_fit.value(tuning_sets.evidence(memory, of_new=of_new))
        if value > best_value + LEAST_GAIN:
            best, best_value = settings, value
    memory = replace(memories[replace(best, smoothing=START.smoothing)], smoothing=best.smoothing)
    baseline = _ChoiceModel.of(sets_without)
    if of_new:
        gain, error = fit.held_out_gain(sets.evidence(memory, of_new=True), baseline, is_new)
        of_new = gain > error
    evidence = sets.evidence(memory, of_new=of_new)
    gain, error = fit.held_out_gain(evidence, baseline, fit.everything)
    if gain <= error:
        return None
    temperature, *weights = fit.learn(evidence, fit.everything).tolist()
    return LearnedMemory(best, (weights[0] / temperature, weights[1] / temperature), of_new, gain)


def _changes(least_days: float, *, has_orders: bool) -> Iterator[dict[str, Any]]:
    """Other values of one field of a `MemorySettings`, one after another.

    No half-life is shorter than `least_days`, for which the memory has to last: an even shorter one would do well in a
    short window and be out of date soon after it.
    """
    half_lives = [days for days in HALF_LIVES if days >= least_days] or [least_days]
    yield from ({"half_life_days": days} for days in half_lives)
    yield from ({"popularity_half_life_days": days} for days in half_lives)
    yield from ({"smoothing": smoothing} for smoothing in SMOOTHINGS)
    yield from ({"gains": gains} for gains in (GAINS if has_orders else ()))


@dataclass(frozen=True, eq=False)
class _ChoiceModel:
    """The choices as tensors; `query` is the number of the query of each choice."""

    scores: Tensor
    log_looks: Tensor
    request: Tensor
    positives: Tensor
    n_requests: int
    query: Tensor

    @classmethod
    def of(cls, sets: ChoiceSets) -> _ChoiceModel:
        request = np.repeat(np.arange(len(sets.keys)), np.diff(sets.starts))
        query = np.unique(sets.keys, return_inverse=True)[1].astype(np.int64)[request[sets.positives]]
        return cls(
            torch.from_numpy(sets.scores),
            torch.from_numpy(sets.log_looks),
            torch.from_numpy(request),
            torch.from_numpy(sets.positives),
            len(sets.keys),
            torch.from_numpy(query),
        )

    @property
    def everything(self) -> Tensor:
        return torch.ones_like(self.query, dtype=torch.bool)

    def value(self, evidence: Float32[np.ndarray, "n 2"]) -> float:
        """The mean log-likelihood of the choices with the weights that are learned on them."""
        numbers = self.learn(evidence, self.everything)
        return float(self._log_likelihoods(numbers, torch.from_numpy(evidence)).mean())

    def held_out_gain(
        self, evidence: Float32[np.ndarray, "n 2"], baseline_model: _ChoiceModel, choices: Tensor
    ) -> tuple[float, float]:
        """The mean gain in log-likelihood of `choices` by a memory that was learned on the other half of the queries.

        The second number is its standard error, by query.
        """
        nothing = np.zeros_like(evidence)
        gains = torch.zeros(len(self.positives), dtype=torch.double)
        for half in (self.query % 2 == 0, self.query % 2 == 1):
            if not (half.any() and (~half).any()):
                return 0.0, 0.0
            with_memory = self._log_likelihoods(self.learn(evidence, ~half), torch.from_numpy(evidence))
            baseline = baseline_model._log_likelihoods(baseline_model.learn(nothing, ~half), torch.from_numpy(nothing))
            gains[half] = (with_memory - baseline)[half]
        deviations = torch.zeros(int(self.query.max()) + 1, dtype=torch.double)
        gain, n_choices = gains[choices].mean(), int(choices.sum())
        deviations.scatter_add_(0, self.query[choices], gains[choices] - gain)
        return float(gain), float(deviations.square().sum().sqrt()) / n_choices

    def learn(self, evidence: Float32[np.ndarray, "n 2"], choices: Tensor) -> Tensor:
        """1/temperature, and the weights of the evidence in logits, that make `choices` likeliest, given the prior."""
        values, prior = torch.from_numpy(evidence), torch.tensor([1.0, *_PRIOR[:1] * 2]).double().log()
        prior[0] = 2.5
        shifts = torch.zeros(3, dtype=torch.double, requires_grad=True)

        def loss() -> Tensor:
            log_losses = -self._log_likelihoods(torch.exp(prior + shifts), values)[choices]
            return log_losses.sum() + ((shifts[1:] / _PRIOR[1]) ** 2).sum() / 2

        minimise(shifts, loss)
        return torch.exp(prior + shifts.detach())

    def _log_likelihoods(self, numbers: Tensor, evidence: Tensor) -> Tensor:
        logits = numbers[0] * self.scores + evidence.double() @ numbers[1:] + self.log_looks
        return log_likelihoods(logits, self.request, self.positives, self.n_requests)
