"""The analysis of a test: the effect of each arm on each metric, the checks of the test, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float64
from scipy.stats import chi2

from mmse.core.config import require
from mmse.core.errors import UsageError
from mmse.evaluation.bootstrap import holm
from mmse.experiment.checks import Checks, check
from mmse.experiment.effects import Effect, Interval, estimate_effect
from mmse.experiment.metrics import METRICS, PRIMARY, Metric, aggregate, find_metric
from mmse.experiment.units import Units

MAX_DAYS = 120
MIN_UNITS_PER_AGE = 30
_CONTROL_NAMES = ("control", "live", "a", "A")


@dataclass(frozen=True)
class AnalysisConfig:
    """`primary` decides; the other metrics are corrected for their number (Holm).

    `sequential` says that somebody looked before the end, so that the interval that always holds decides.
    `planned_effect` is the relative effect that the test was to find. `weights` are those of the arms, equal by
    default.
    """

    control: str | None = None
    primary: str = PRIMARY
    metrics: tuple[str, ...] = tuple(METRICS)
    alpha: float = 0.05
    sequential: bool = False
    planned_effect: float | None = None
    planned_units: int | None = None
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(0 < self.alpha < 0.5, "alpha", self.alpha, "above 0 and below 0.5")
        require(
            self.planned_effect is None or self.planned_effect > 0, "planned_effect", self.planned_effect, "above 0"
        )

    def interval(self, effect: Effect) -> Interval:
        """The interval of `effect` that decides."""
        return effect.always if self.sequential else effect.interval


@dataclass(frozen=True)
class DailyEffect:
    """The effect of an arm on a day: of this day alone, or of all days up to it."""

    day: int
    effect: Effect


@dataclass(frozen=True)
class Trend:
    """Whether an effect changes: `slope` is its change from one day to the next, in points of relative effect."""

    slope: float
    p: float


@dataclass(frozen=True)
class SliceEffects:
    """The primary effect in each part of a column, and whether the parts differ by more than chance.

    `p` is of Cochran's Q; `holds` is whether it is significant after Holm's correction for all columns.
    """

    column: str
    arm: str
    effects: Mapping[str, Effect]
    p: float | None
    holds: bool = False


@dataclass(frozen=True)
class ArmTotals:
    """The number of an arm's units, and the sums over them."""

    name: str
    units: int
    totals: Mapping[str, float]


@dataclass(frozen=True)
class Analysis:
    """Everything that a test has shown; `verdict` is a sentence."""

    verdict: str
    outcome: str
    control: str
    primary: str
    arms: list[ArmTotals]
    effects: list[Effect]
    significant: list[bool]
    checks: Checks
    cumulative: dict[str, list[DailyEffect]]
    by_age: dict[str, list[DailyEffect]]
    trends: dict[str, Trend]
    slices: list[SliceEffects]
    alpha: float
    peeked: bool
    days: float
    unit: str

    def effect(self, arm: str, metric: str) -> Effect | None:
        """The effect of an arm on a metric over the whole test."""
        return next((effect for effect in self.effects if (effect.arm, effect.metric) == (arm, metric)), None)


def analyse(units: Units, config: AnalysisConfig) -> Analysis:
    """The analysis of `units`; raises `UsageError` for an unknown metric or arm."""
    primary = find_metric(config.primary)
    metrics = [primary, *(find_metric(name) for name in config.metrics if name != config.primary)]
    arms = sorted(set(units.arms.tolist()))
    control = _find_control(arms, config.control)
    treatments = [arm for arm in arms if arm != control]
    checks = check(units, arms, config.weights, primary)
    effects = [
        effect
        for arm in treatments
        for metric in metrics
        if (effect := _whole_effect(units, metric, arm, control, config)) is not None
    ]
    significant = _significance(effects, config)
    by_age = {arm: _effects_by_age(units, arm, control, config) for arm in treatments}
    outcome, verdict = _verdict(primary, control, effects, significant, checks, config)
    return Analysis(
        verdict=verdict,
        outcome=outcome,
        control=control,
        primary=primary.name,
        arms=[_arm_totals(units, arm) for arm in arms],
        effects=effects,
        significant=significant,
        checks=checks,
        cumulative={arm: _cumulative_effects(units, primary, arm, control, config) for arm in treatments},
        by_age=by_age,
        trends={arm: trend for arm, effects in by_age.items() if (trend := _trend(effects)) is not None},
        slices=_slice_effects(units, primary, treatments, control, config),
        alpha=config.alpha,
        peeked=config.sequential,
        days=units.n_days,
        unit=units.unit,
    )


def _find_control(arms: Sequence[str], name: str | None) -> str:
    """The arm `name`, or without a name the first arm that is called like a control."""
    if name is not None:
        if name not in arms:
            raise UsageError(f"There is no arm '{name}'.", f"Arms: {', '.join(arms)}.")
        return name
    for control in _CONTROL_NAMES:
        if control in arms:
            return control
    raise UsageError(f"None of the arms is called 'control': {', '.join(arms)}.", "Say which it is: --control ARM.")


def _whole_effect(units: Units, metric: Metric, arm: str, control: str, config: AnalysisConfig) -> Effect | None:
    """The effect over the whole test; the past is used if the units have one."""
    columns = {name: units.columns[name] for name in metric.columns}
    past = units.unit != "request" and columns[metric.columns[-1]].any()
    a, b = (aggregate(columns, units.arms == name) for name in (control, arm))
    return estimate_effect(metric, arm, a, b, alpha=config.alpha, past=bool(past), planned_n=config.planned_units)


def _significance(effects: Sequence[Effect], config: AnalysisConfig) -> list[bool]:
    """The primary metric by itself (corrected for several arms), the others corrected for all of them."""
    p = [effect.always_p if config.sequential else effect.p for effect in effects]
    significant = [False] * len(effects)
    for is_primary in (True, False):
        indices = [i for i, effect in enumerate(effects) if (effect.metric == config.primary) == is_primary]
        for i, holds in zip(indices, holm([p[i] for i in indices], config.alpha), strict=True):
            significant[i] = holds
    return significant


def _verdict(
    primary: Metric,
    control: str,
    effects: Sequence[Effect],
    significant: Sequence[bool],
    checks: Checks,
    config: AnalysisConfig,
) -> tuple[str, str]:
    """The outcome as a word, and the verdict as a sentence."""
    if checks.refusals:
        return "cannot_say", f"Cannot say, because {checks.refusals[0]}"
    results = [(e, holds) for e, holds in zip(effects, significant, strict=True) if e.metric == primary.name]
    if not results:
        return "cannot_say", f"Cannot say, because nothing that {primary.name} counts ever happened in both arms."
    better = [effect for effect, holds in results if holds and effect.relative > 0]
    worse = [effect for effect, holds in results if holds and effect.relative <= 0]
    level = [effect for effect, holds in results if not holds]
    outcome = "better" if better else "worse" if worse else "no_difference"
    half = max(config.interval(effect).width for effect, _ in results) / 2
    goal = config.planned_effect
    if outcome == "no_difference" and goal is not None and half > goal:
        return "cannot_say", (
            f"Cannot say, because the interval is too wide: ±{half:.1%} of {primary.description}, where "
            f"{goal:.1%} was to be found."
        )
    return outcome, _comparison(primary, control, better, worse, level, config)


def _comparison(
    metric: Metric,
    control: str,
    better: Sequence[Effect],
    worse: Sequence[Effect],
    level: Sequence[Effect],
    config: AnalysisConfig,
) -> str:
    """The arms against the control in a sentence, the best first."""
    interval_name = f"{1 - config.alpha:.0%} interval"
    effects = [*better, *worse, *level]
    if len(effects) == 1:
        (effect,) = effects
        phrase = "is better than" if better else "is worse than" if worse else "shows no difference to"
        interval = config.interval(effect)
        return (
            f"{effect.arm} {phrase} {control}: {effect.relative:+.1%} {metric.description} ({interval_name} "
            f"{interval.low:+.1%} to {interval.high:+.1%})."
        )
    parts = []
    for word, group in (("better", better), ("worse", worse), ("no difference shown", level)):
        arms = []
        for effect in sorted(group, key=lambda effect: -effect.relative):
            interval = config.interval(effect)
            arms.append(f"{effect.arm} {effect.relative:+.1%} ({interval.low:+.1%} to {interval.high:+.1%})")
        if arms:
            parts.append(f"{word}: {', '.join(arms)}")
    return f"Against {control}, in {metric.description} ({interval_name}s), {'; '.join(parts)}."


def _arm_totals(units: Units, arm: str) -> ArmTotals:
    mask = units.arms == arm
    names = ("requests", "buying_requests", "converted", "shown", "clicks", "carts", "orders", "revenue")
    return ArmTotals(arm, int(mask.sum()), {name: float(units.columns[name][mask].sum()) for name in names})


def _cumulative_effects(
    units: Units, metric: Metric, arm: str, control: str, config: AnalysisConfig
) -> list[DailyEffect]:
    """The primary effect of all days up to each day."""
    days = units.daily["day"].astype(np.int64)
    effects = []
    for day in range(min(int(days.max()) + 1, MAX_DAYS)) if len(days) else []:
        columns = units.sum_daily(days <= day)
        effect = _effect_of(units, columns, columns["requests"] > 0, metric, arm, control, config)
        if effect is not None:
            effects.append(DailyEffect(day + 1, effect))
    return effects


def _effects_by_age(units: Units, arm: str, control: str, config: AnalysisConfig) -> list[DailyEffect]:
    """The effect on the share of requests with an order, by days since a unit's first request in the test."""
    ages = units.daily["age"].astype(np.int64)
    metric = METRICS["request_conversion"]
    effects = []
    for age in range(min(int(ages.max()) + 1, MAX_DAYS)) if len(ages) else []:
        columns = units.sum_daily(ages == age)
        active = columns["requests"] > 0
        effect = _effect_of(units, columns, active, metric, arm, control, config)
        if effect is not None and active.sum() >= MIN_UNITS_PER_AGE:
            effects.append(DailyEffect(age, effect))
    return effects


def _effect_of(
    units: Units,
    columns: Mapping[str, Float64[np.ndarray, " n"]],
    mask: Bool[np.ndarray, " n"],
    metric: Metric,
    arm: str,
    control: str,
    config: AnalysisConfig,
) -> Effect | None:
    """The effect in `columns` of the units in `mask`, without their past."""
    own = {name: columns[name] for name in metric.own_columns}
    a, b = (aggregate(own, mask & (units.arms == name)) for name in (control, arm))
    return estimate_effect(metric, arm, a, b, alpha=config.alpha, planned_n=config.planned_units or len(units))


def _trend(effects: Sequence[DailyEffect]) -> Trend | None:
    """A line through the daily effects, each weighted by its error (weighted least squares); None for few days."""
    if len(effects) < 4:
        return None
    days = np.array([daily.day for daily in effects], np.float64)
    values, weights = _log_effects([daily.effect for daily in effects])
    centred_days = days - (weights * days).sum() / weights.sum()
    spread = (weights * centred_days**2).sum()
    slope = float((weights * centred_days * values).sum() / spread)
    return Trend(slope, float(chi2.sf(slope**2 * spread, 1)))


def _slice_effects(
    units: Units, metric: Metric, arms: Sequence[str], control: str, config: AnalysisConfig
) -> list[SliceEffects]:
    columns = {name: units.columns[name] for name in metric.columns}
    slices = []
    for column, values in units.slices.items():
        for arm in arms:
            effects = {}
            for value in sorted({str(value) for value in values.tolist() if value is not None}):
                mask = values == value
                a, b = (aggregate(columns, mask & (units.arms == name)) for name in (control, arm))
                effect = estimate_effect(metric, arm, a, b, alpha=config.alpha)
                if effect is not None:
                    effects[value] = effect
            slices.append(SliceEffects(column, arm, effects, _heterogeneity_p(list(effects.values()))))
    indices = [i for i, part in enumerate(slices) if part.p is not None]
    p_values = [part.p for part in slices if part.p is not None]
    for i, holds in zip(indices, holm(p_values, config.alpha), strict=True):
        slices[i] = replace(slices[i], holds=holds)
    return slices


def _heterogeneity_p(effects: Sequence[Effect]) -> float | None:
    """Cochran's Q: whether the effects of parts differ by more than their errors; None for fewer than two parts."""
    if len(effects) < 2:
        return None
    values, weights = _log_effects(effects)
    q = float((weights * (values - (weights * values).sum() / weights.sum()) ** 2).sum())
    return float(chi2.sf(q, len(effects) - 1))


def _log_effects(effects: Sequence[Effect]) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """The logarithms of relative effects, and their weights: one over the squared error."""
    values = np.log1p([effect.relative for effect in effects])
    errors = np.array([np.log1p(e.interval.high) - np.log1p(e.interval.low) for e in effects]) / 3.92
    return values, errors**-2
