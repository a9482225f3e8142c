"""The effect of an arm on a metric: estimate, interval, and an interval that holds however often somebody looks.

Ratios by the delta method over units, CUPED by the units' past (Deng et al., WSDM 2013), both by tea-tasting. The
second interval is an asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform
central limit theory and asymptotic confidence sequences", Annals of Statistics 2024): it holds at all moments at once.
With n units and a standard error s, half its width is

    s · sqrt( 2 (n ρ² + 1) / (n ρ²) · log( sqrt(n ρ² + 1) / α ) )

where ρ² = (−2 log α + log(−2 log α + 1)) / n* makes it narrowest at n* units.

A difference and the logarithm of a ratio can disagree about one test, where few units carry a sum. The smaller of the
two statistics counts, and both intervals are widened to it: an interval excludes 0 exactly if its p is below α.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

from mmse.experiment.metrics import Metric
from mmse.experiment.units import PAST_PREFIX

if TYPE_CHECKING:
    from tea_tasting.aggr import Aggregates
    from tea_tasting.metrics.mean import MeanResult

_ROUNDING = 1e-12


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """From end to end."""
        return self.high - self.low


@dataclass(frozen=True)
class Effect:
    """The effect of an arm on a metric: `treatment` and `control` are its values, the other fields compare them.

    `always` is the interval that holds however often somebody looks; `p` belongs to `interval`, `always_p` to `always`.
    `log_error` is the standard error of log(1 + relative).
    `less_variance` is the share of the variance that the units' past explains, None if it was not used.
    """

    metric: str
    arm: str
    control: float
    treatment: float
    absolute: float
    absolute_interval: Interval
    relative: float
    interval: Interval
    always: Interval
    p: float
    always_p: float
    n: int
    log_error: float
    less_variance: float | None = None


def estimate_effect(
    metric: Metric,
    arm: str,
    control: Aggregates,
    treatment: Aggregates,
    *,
    alpha: float = 0.05,
    past: bool = False,
    planned_n: int | None = None,
) -> Effect | None:
    """The effect of `arm`; None if the value of the control or of the arm is not above 0, or if nothing varies.

    With `past`, the units' past explains a part of the variance. The second interval is narrowest at `planned_n` units,
    by default at the number that there are.
    """
    plain = _compare(metric, control, treatment, alpha, past=False)
    result = (_compare(metric, control, treatment, alpha, past=True) if past else None) or plain
    if result is None or plain is None:
        return None
    z = float(norm.isf(alpha / 2))
    n = control.count() + treatment.count()
    statistic, error, log_error = _agreement(result, z)
    less_variance = None if result is plain else 1 - (_half(result) / _half(plain)) ** 2
    always_z = half_width(n, alpha, planned_n or n)
    return Effect(
        metric=metric.name,
        arm=arm,
        control=result.control,
        treatment=result.treatment,
        absolute=result.effect_size,
        absolute_interval=Interval(result.effect_size - z * error, result.effect_size + z * error),
        relative=result.rel_effect_size,
        interval=_relative_interval(result, z * log_error),
        always=_relative_interval(result, always_z * log_error),
        p=float(2 * norm.sf(abs(statistic))),
        always_p=always_p(statistic, n, alpha, planned_n or n),
        n=n,
        log_error=log_error,
        less_variance=less_variance,
    )


def half_width(n: int, alpha: float, planned_n: int) -> float:
    """Half the width of the interval that always holds, in standard errors."""
    n_rho2 = n * _rho2(alpha, planned_n)
    return math.sqrt(2 * (n_rho2 + 1) / n_rho2 * math.log(math.sqrt(n_rho2 + 1) / alpha))


def always_p(statistic: float, n: int, alpha: float, planned_n: int) -> float:
    """The p-value of a statistic (in standard errors) that holds however often somebody looks."""
    n_rho2 = n * _rho2(alpha, planned_n)
    return min(1.0, math.sqrt(n_rho2 + 1) * math.exp(-(statistic**2) * n_rho2 / (2 * (n_rho2 + 1))))


def _rho2(alpha: float, planned_n: int) -> float:
    return (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / planned_n


def _agreement(result: MeanResult, z: float) -> tuple[float, float, float]:
    """The statistic of the difference or of the log ratio, the smaller; and the errors of both that belong to it."""
    log_ratio = math.log1p(result.rel_effect_size)
    error, log_error = _half(result) / z, (log_ratio - math.log1p(result.rel_effect_size_ci_lower)) / z
    slope = result.effect_size / log_ratio if log_ratio else result.control
    factor = slope * log_error / error
    if factor > 1:
        return log_ratio / log_error, error * factor, log_error
    return result.effect_size / error, error, log_error / factor


def _relative_interval(result: MeanResult, log_half: float) -> Interval:
    """The relative effect, with half a width on the scale of its logarithm."""
    log_ratio = math.log1p(result.rel_effect_size)
    return Interval(math.expm1(log_ratio - log_half), math.expm1(min(log_ratio + log_half, 700.0)))


def _varies(metric: Metric, control: Aggregates, treatment: Aggregates) -> bool:
    """Whether the units of an arm differ in the metric by more than rounding."""
    shares = []
    for arm in (control, treatment):
        numerator, denominator = metric.numerator, metric.denominator
        variance = arm.var(numerator)
        if denominator is not None:
            ratio = arm.mean(numerator) / arm.mean(denominator)
            variance += ratio**2 * arm.var(denominator) - 2 * ratio * arm.cov(numerator, denominator)
        shares.append(variance / arm.mean(numerator) ** 2)
    return bool(max(shares) > _ROUNDING)


def _compare(
    metric: Metric, control: Aggregates, treatment: Aggregates, alpha: float, *, past: bool
) -> MeanResult | None:
    """The test of the two arms; None if it has no usable result."""
    from tea_tasting.metrics import RatioOfMeans

    if (
        min(control.count(), treatment.count()) < 2
        or control.mean(metric.numerator) <= 0
        or treatment.mean(metric.numerator) <= 0
        or not _varies(metric, control, treatment)
    ):
        return None
    test = RatioOfMeans(
        metric.numerator,
        metric.denominator,
        PAST_PREFIX + metric.numerator if past else None,
        PAST_PREFIX + metric.denominator if past and metric.denominator else None,
        confidence_level=1 - alpha,
        use_t=False,
        equal_var=False,
        alternative="two-sided",
    )
    try:
        with np.errstate(all="ignore"):
            result = test.analyze_aggregates(control, treatment)
    except ValueError:  # the past explains everything, and rounding makes the rest of the variance negative
        return None
    usable = _half(result) > 0 and math.isfinite(result.pvalue) and result.control > 0 and result.treatment > 0
    return result if usable else None


def _half(result: MeanResult) -> float:
    return float(result.effect_size_ci_upper - result.effect_size_ci_lower) / 2
