"""How long a test has to run, from the shop's own log: what effect can be found in how many days.

The variance of a metric over units grows with the days that each is in the test, and new units come ever more slowly;
so both are read off the log, for the days that it has, in place of a formula for either.
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
from mmse.experiment.metrics import Metric, aggregates, metric_of
from mmse.experiment.units import Units


@dataclass(frozen=True)
class PlanConfig:
    """What the test should be able to do.

    `effect` is the smallest relative effect that is to be found in `power` of all tests. `arms` share `traffic`
    equally, the control among them; with `sequential` somebody may look at any time. The level `alpha` is divided by
    the comparisons with the control.
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
class Step:
    """A test of so many days: the units that it gets in all arms, and the smallest effect that it finds."""

    days: int
    units: int
    effect: float


@dataclass(frozen=True)
class Plan:
    """What the log says of a test. `days` None: not in the days that the log has; `units` are those needed by then.

    `value` is the metric in the log, over all its days.
    """

    metric: str
    value: float
    effect: float
    days: int | None
    units: int | None
    steps: list[Step]


def plan(units: Units, config: PlanConfig) -> Plan:
    """The plan that the log in `units` (everybody in one arm) makes for `config`.

    Raises `UsageError` where the metric never happened or the log is shorter than two days.
    """
    metric = metric_of(config.metric)
    steps = [step for days in _days(units) if (step := _step(units, metric, config, days)) is not None]
    if len(steps) < 2:
        raise UsageError(
            f"Too little of {metric.name} to plan with: {units.n_days:.0f} days of log, {len(units)} {units.unit}s.",
            "Give two days of log or more, with orders in them.",
        )
    reached = next((step for step in steps if step.effect <= config.effect), None)
    own = aggregates({name: units.columns[name] for name in _own(metric)})
    value = own.mean(metric.above) / (own.mean(metric.below) if metric.below else 1)
    return Plan(
        metric.name, value, config.effect, reached.days if reached else None, reached.units if reached else None, steps
    )


def relative_error(units: Units, metric: Metric, days: int) -> tuple[int, float] | None:
    """The units of the first `days`, and the relative standard error that the metric has with one of them."""
    kept = units.daily["day"] < days
    place = units.daily["place"][kept].astype(np.int64)
    summed = {
        name: np.bincount(place, units.daily[name][kept], len(units))
        for name in ("requests", "buying_requests", "clicks", "orders", "revenue")
    }
    summed["converted"] = (summed["orders"] > 0).astype(np.float64)
    there = summed["requests"] > 0
    above, n = summed[metric.above][there], int(there.sum())
    below = summed[metric.below][there] if metric.below else np.ones(n)
    if n < 2 or above.sum() == 0:
        return None
    ratio = above.sum() / below.sum()
    residual = (above - ratio * below) / below.mean()
    return n, float(residual.std(ddof=1) / ratio)


def _step(units: Units, metric: Metric, config: PlanConfig, days: int) -> Step | None:
    found = relative_error(units, metric, days)
    if found is None:
        return None
    n = max(round(found[0] * config.traffic), 1)
    return Step(days, n, detectable(found[1], n, config))


def detectable(relative_error: float, n: int, config: PlanConfig) -> float:
    """The smallest relative effect found with `power` by `n` units over all arms, each of that relative error.

    The error is that of the difference of two arms with n / arms units each; a sequential test has a wider interval.
    """
    alpha = config.alpha / (config.arms - 1)
    error = relative_error * math.sqrt(2 * config.arms / n)
    reach = half_width(n, alpha, n) if config.sequential else float(norm.isf(alpha / 2))
    return error * (reach + float(norm.isf(1 - config.power)))


def _own(metric: Metric) -> Sequence[str]:
    return (metric.above, *([metric.below] if metric.below else []))


def _days(units: Units) -> Sequence[int]:
    last = int(units.daily["day"].max()) + 1 if len(units.daily["day"]) else 0
    return [days for days in (1, 2, 3, 5, 7, 10, 14, 21, 28, 35, 42, 56, 70, 84) if days <= last]
