"""The plan of a test: what effect can be found in how many days, from the shop's own log.

The variance of a metric over units grows with the days that each is in the test, and new units come ever more slowly.
Both are measured on the log, for the days that it has, instead of assumed by a formula.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from mmse.core.config import require
from mmse.core.errors import UsageError
from mmse.experiment.effects import half_width
from mmse.experiment.metrics import Metric, aggregate, find_metric
from mmse.experiment.units import Units

_DAYS = (1, 2, 3, 5, 7, 10, 14, 21, 28, 35, 42, 56, 70, 84)


@dataclass(frozen=True)
class PlanConfig:
    """What the test should be able to do.

    `effect` is the smallest relative effect to be found, in the share `power` of all tests. `arms` share `traffic`
    equally, the control is one of them. With `sequential` somebody may look at any time. The level `alpha` is divided
    by the number of comparisons with the control.
    """

    metric: str = "conversion"
    effect: float = 0.05
    alpha: float = 0.05
    power: float = 0.8
    arms: int = 2
    traffic: float = 1.0
    sequential: bool = False

    def __post_init__(self) -> None:
        require(0 < self.effect < 10, "effect", self.effect, "a relative effect such as 0.05")
        require(0 < self.alpha < 0.5, "alpha", self.alpha, "above 0 and below 0.5")
        require(0.5 <= self.power < 1, "power", self.power, "0.5 to below 1")
        require(self.arms >= 2, "arms", self.arms, "2 or more")
        require(0 < self.traffic <= 1, "traffic", self.traffic, "a share above 0")


@dataclass(frozen=True)
class PlanPoint:
    """A test of so many days: the units of all arms, and the smallest effect that it finds."""

    days: int
    units: int
    effect: float


@dataclass(frozen=True)
class Plan:
    """The plan of a test. `days` and `units` are those that it needs, None if the log is too short to find the effect.

    `value` is the metric in the log, over all its days. `steps` are tests of rising length.
    """

    metric: str
    value: float
    effect: float
    days: int | None
    units: int | None
    steps: list[PlanPoint]


def plan(units: Units, config: PlanConfig) -> Plan:
    """The plan for `config` from the log in `units` (all in one arm).

    Raises `UsageError` if the metric is 0 in the whole log, or the log is shorter than two days.
    """
    metric = find_metric(config.metric)
    points = [point for days in _days(units) if (point := _plan_point(units, metric, config, days)) is not None]
    if len(points) < 2:
        raise UsageError(
            f"Too little of {metric.name} to plan with: {units.n_days:.0f} days of log, {len(units)} {units.unit}s.",
            "Give two days of log or more, with orders in them.",
        )
    shortest = next((point for point in points if point.effect <= config.effect), None)
    totals = aggregate({name: units.columns[name] for name in metric.own_columns})
    value = totals.mean(metric.numerator) / (totals.mean(metric.denominator) if metric.denominator else 1)
    days, n_units = (shortest.days, shortest.units) if shortest else (None, None)
    return Plan(metric.name, value, config.effect, days, n_units, points)


def relative_error(units: Units, metric: Metric, days: int) -> tuple[int, float] | None:
    """The units of the first `days`, and the relative standard error of the metric from a single unit.

    None if there are fewer than two units, or the metric is 0.
    """
    sums = units.sum_daily(units.daily["day"] < days)
    active = sums["requests"] > 0
    numerator, n = sums[metric.numerator][active], int(active.sum())
    denominator = sums[metric.denominator][active] if metric.denominator else np.ones(n)
    if n < 2 or numerator.sum() == 0:
        return None
    ratio = numerator.sum() / denominator.sum()
    residual = (numerator - ratio * denominator) / denominator.mean()
    return n, float(residual.std(ddof=1) / ratio)


def _plan_point(units: Units, metric: Metric, config: PlanConfig, days: int) -> PlanPoint | None:
    result = relative_error(units, metric, days)
    if result is None:
        return None
    n_units, error = result
    n = max(round(n_units * config.traffic), 1)
    return PlanPoint(days, n, detectable(error, n, config))


def detectable(relative_error: float, n: int, config: PlanConfig) -> float:
    """The smallest relative effect found with `power` by `n` units over all arms, each with that relative error.

    The error is that of the difference of two arms with n / arms units each; a sequential test has a wider interval.
    """
    alpha = config.alpha / (config.arms - 1)
    error = relative_error * math.sqrt(2 * config.arms / n)
    critical_value = half_width(n, alpha, n) if config.sequential else float(norm.isf(alpha / 2))
    return error * (critical_value + float(norm.isf(1 - config.power)))


def _days(units: Units) -> Sequence[int]:
    n_days = int(units.daily["day"].max()) + 1 if len(units.daily["day"]) else 0
    return [days for days in _DAYS if days <= n_days]
