"""The analysis of a test: the effect of each arm on each metric, the checks of the test, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64
from scipy.stats import chi2

from mmse.core.errors import UsageError
from mmse.evaluation.bootstrap import holm
from mmse.experiment.analysis_config import AnalysisConfig
from mmse.experiment.capping import HEAVY_SHARE, HeavyUnit, cap_columns, heaviest_units, parts
from mmse.experiment.checks import Checks, check
from mmse.experiment.effects import Effect, estimate_effect
from mmse.experiment.metrics import METRICS, Metric, aggregate, find_metric, label
from mmse.experiment.units import Units
from mmse.experiment.verdict import primary_findings, significance, state_verdict

MAX_DAYS = 120
MIN_UNITS_PER_AGE = 30
_CONTROL_NAMES = ("control", "live", "a", "A")


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
    """Everything that a test has shown; `verdict` is a sentence.

    `capped` are the `effects` with the heaviest units' values capped, None where that leaves nothing to compare.
    """

    verdict: str
    outcome: str
    control: str
    primary: str
    arms: list[ArmTotals]
    effects: list[Effect]
    significant: list[bool]
    capped: list[Effect | None]
    heaviest: list[HeavyUnit]
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
    checks = check(units, arms, config.weights, primary, max_leak_share=config.max_leak_share)
    effects = [
        effect
        for arm in treatments
        for metric in metrics
        if (effect := _whole_effect(units, metric, arm, control, config)) is not None
    ]
    significant = significance(effects, config)
    light_units = replace(units, columns=cap_columns(units.columns))
    capped = [_whole_effect(light_units, METRICS[e.metric], e.arm, control, config) for e in effects]
    heaviest = heaviest_units(units)
    checks = replace(checks, warnings=[*checks.warnings, *_weight_warnings(effects, capped, heaviest, units.unit)])
    by_age = {arm: _effects_by_age(units, arm, control, config) for arm in treatments}
    findings = primary_findings(effects, significant, capped, config)
    outcome, verdict = state_verdict(units, primary, control, findings, checks, config)
    return Analysis(
        verdict=verdict,
        outcome=outcome,
        control=control,
        primary=primary.name,
        arms=[_arm_totals(units, arm) for arm in arms],
        effects=effects,
        significant=significant,
        capped=capped,
        heaviest=heaviest,
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


def _weight_warnings(
    effects: Sequence[Effect], capped: Sequence[Effect | None], heaviest: Sequence[HeavyUnit], unit: str
) -> list[str]:
    """Which effects few units move, and which unit has much of an arm; units by rank and share alone."""
    moved = [
        f"{label(effect.metric)} of {effect.arm} {effect.relative:+.1%}"
        + (", capped nothing" if light is None else f", capped {light.relative:+.1%}")
        for effect, light in zip(effects, capped, strict=True)
        if parts(effect, light)
    ]
    warnings = [f"The heaviest {unit}s move these: {'; '.join(moved)}."] if moved else []
    return warnings + [
        f"One {unit} has {heavy.share:.0%} of the {heavy.column} of {heavy.arm}: a bot, a test account or a trade "
        "customer?"
        for heavy in heaviest
        if heavy.rank == 1 and heavy.share > HEAVY_SHARE
    ]


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
    return values, np.array([effect.log_error for effect in effects]) ** -2
