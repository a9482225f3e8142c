"""The effect of an arm on a metric: estimate, interval, and an interval that holds however often somebody looks.

Ratios by the delta method over units, CUPED by the units' past (Deng et al., WSDM 2013), both by tea-tasting. The
second interval is an asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform
central limit theory and asymptotic confidence sequences", Annals of Statistics 2024): it holds at all moments at once.
With n units and a standard error s, half its width is

    s · sqrt( 2 (n ρ² + 1) / (n ρ²) · log( sqrt(n ρ² + 1) / α ) )

where ρ² = (−2 log α + log(−2 log α + 1)) / n* makes it narrowest at n* units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy.stats import norm

from mmse.experiment.metrics import Metric
from mmse.experiment.units import PAST_PREFIX

if TYPE_CHECKING:
    from tea_tasting.aggr import Aggregates
    from tea_tasting.metrics.mean import MeanResult


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
    result = _compare(metric, control, treatment, alpha, past=past)
    if result is None:
        return None
    z = float(norm.isf(alpha / 2))
    n = control.count() + treatment.count()
    width = half_width(n, alpha, planned_n or n) / z
    log_half = math.log1p(result.rel_effect_size) - math.log1p(result.rel_effect_size_ci_lower)
    factor = math.exp(log_half * width)
    ratio = 1 + result.rel_effect_size
    less_variance = None
    if past and (plain := _compare(metric, control, treatment, alpha, past=False)) is not None:
        less_variance = 1 - (_half(result) / _half(plain)) ** 2
    return Effect(
        metric=metric.name,
        arm=arm,
        control=result.control,
        treatment=result.treatment,
        absolute=result.effect_size,
        absolute_interval=Interval(result.effect_size_ci_lower, result.effect_size_ci_upper),
        relative=result.rel_effect_size,
        interval=Interval(result.rel_effect_size_ci_lower, result.rel_effect_size_ci_upper),
        always=Interval(ratio / factor - 1, ratio * factor - 1),
        p=result.pvalue,
        always_p=always_p(result.statistic, n, alpha, planned_n or n),
        n=n,
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


def _compare(
    metric: Metric, control: Aggregates, treatment: Aggregates, alpha: float, *, past: bool
) -> MeanResult | None:
    """The test of the two arms; None if it has no usable result."""
    from tea_tasting.metrics import RatioOfMeans

    if (
        min(control.count(), treatment.count()) < 2
        or control.mean(metric.numerator) <= 0
        or treatment.mean(metric.numerator) <= 0
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
    result = test.analyze_aggregates(control, treatment)
    usable = _half(result) > 0 and math.isfinite(result.pvalue) and result.control > 0 and result.treatment > 0
    return result if usable else None


def _half(result: MeanResult) -> float:
    return float(result.effect_size_ci_upper - result.effect_size_ci_lower) / 2
