"""The effect of an arm on a metric: estimate, interval, and the interval for those who look before the end.

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
from mmse.experiment.units import BEFORE

if TYPE_CHECKING:
    from tea_tasting.aggr import Aggregates
    from tea_tasting.metrics.mean import MeanResult


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`."""

    low: float
    high: float

    @property
    def decides(self) -> bool:
        """Whether it leaves 0 out."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Effect:
    """What an arm did to a metric: `treatment` and `control` are its values, the others treatment against control.

    `always` holds however often one looks; `p` and `always_p` belong to the two. `less_variance` is the share of the
    variance that the past took away, None without it.
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


def effect(
    metric: Metric,
    arm: str,
    control: Aggregates,
    treatment: Aggregates,
    *,
    alpha: float = 0.05,
    past: bool = False,
    planned_n: int | None = None,
) -> Effect | None:
    """The effect of `arm`; None where the control's value is not above 0, or nothing varies.

    With `past` the units' past explains what it can of the variance. `planned_n` units are where the second interval
    is narrowest; by default those that there are.
    """
    found = _analysed(metric, control, treatment, alpha, past=past)
    if found is None:
        return None
    z = float(norm.isf(alpha / 2))
    n = control.count() + treatment.count()
    width = half_width(n, alpha, planned_n or n) / z
    log_half = math.log1p(found.rel_effect_size) - math.log1p(found.rel_effect_size_ci_lower)
    wide = math.exp(log_half * width)
    ratio = 1 + found.rel_effect_size
    less = None
    if past and (plain := _analysed(metric, control, treatment, alpha, past=False)) is not None:
        less = 1 - (_half(found) / _half(plain)) ** 2
    return Effect(
        metric=metric.name,
        arm=arm,
        control=found.control,
        treatment=found.treatment,
        absolute=found.effect_size,
        absolute_interval=Interval(found.effect_size_ci_lower, found.effect_size_ci_upper),
        relative=found.rel_effect_size,
        interval=Interval(found.rel_effect_size_ci_lower, found.rel_effect_size_ci_upper),
        always=Interval(ratio / wide - 1, ratio * wide - 1),
        p=found.pvalue,
        always_p=always_p(found.statistic, n, alpha, planned_n or n),
        n=n,
        less_variance=less,
    )


def half_width(n: int, alpha: float, planned_n: int) -> float:
    """Half the width of the interval that always holds, in standard errors."""
    spread = n * _rho2(alpha, planned_n)
    return math.sqrt(2 * (spread + 1) / spread * math.log(math.sqrt(spread + 1) / alpha))


def always_p(statistic: float, n: int, alpha: float, planned_n: int) -> float:
    """The p-value of a statistic (in standard errors) that may be looked at again and again."""
    spread = n * _rho2(alpha, planned_n)
    return min(1.0, math.sqrt(spread + 1) * math.exp(-(statistic**2) * spread / (2 * (spread + 1))))


def _rho2(alpha: float, planned_n: int) -> float:
    return (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / planned_n


def _analysed(
    metric: Metric, control: Aggregates, treatment: Aggregates, alpha: float, *, past: bool
) -> MeanResult | None:
    from tea_tasting.metrics import RatioOfMeans

    above = BEFORE + metric.above if past else None
    below = BEFORE + metric.below if past and metric.below else None
    if (
        min(control.count(), treatment.count()) < 2
        or control.mean(metric.above) <= 0
        or treatment.mean(metric.above) <= 0
    ):
        return None
    test = RatioOfMeans(
        metric.above,
        metric.below,
        above,
        below,
        confidence_level=1 - alpha,
        use_t=False,
        equal_var=False,
        alternative="two-sided",
    )
    found = test.analyze_aggregates(control, treatment)
    usable = _half(found) > 0 and math.isfinite(found.pvalue) and found.control > 0 and found.treatment > 0
    return found if usable else None


def _half(found: MeanResult) -> float:
    return float(found.effect_size_ci_upper - found.effect_size_ci_lower) / 2
