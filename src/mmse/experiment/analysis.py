"""The analysis of a test: the effect of each arm on each metric, what speaks against believing it, and a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float64
from scipy.stats import chi2

from mmse.core.config import require
from mmse.core.errors import UsageError
from mmse.evaluation.bootstrap import holm
from mmse.experiment.checks import Checks, check
from mmse.experiment.effects import Effect, Interval, effect
from mmse.experiment.metrics import METRICS, PRIMARY, Metric, aggregates, metric_of
from mmse.experiment.units import Units

MOST_DAYS = 120
LEAST_ON_A_DAY = 30


@dataclass(frozen=True)
class AnalysisConfig:
    """`primary` decides; the other metrics are corrected for their number (Holm).

    `peeked`: somebody looked before the end, so that the interval that always holds decides. `planned_effect` is the
    relative effect that the test was to find. `weights` are those of the arms, equal by default.
    """

    control: str | None = None
    primary: str = PRIMARY
    metrics: tuple[str, ...] = tuple(METRICS)
    alpha: float = 0.05
    peeked: bool = False
    planned_effect: float | None = None
    planned_units: int | None = None
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(0 < self.alpha < 0.5, "alpha", self.alpha, "above 0 and below 0.5")
        require(
            self.planned_effect is None or self.planned_effect > 0, "planned_effect", self.planned_effect, "above 0"
        )


@dataclass(frozen=True)
class Dated:
    """The effect of an arm on a day: that of the day alone, or of all days up to it."""

    day: int
    effect: Effect


@dataclass(frozen=True)
class Trend:
    """Whether an effect changes: `slope` is its change from one day to the next, in points of relative effect."""

    slope: float
    p: float


@dataclass(frozen=True)
class Sliced:
    """The primary effect in the parts of a column, and whether they differ more than chance has it.

    `p` is of Cochran's Q; `holds` says that it holds after Holm's correction for all columns that were looked at.
    """

    column: str
    arm: str
    effects: Mapping[str, Effect]
    p: float | None
    holds: bool = False


@dataclass(frozen=True)
class ArmSeen:
    """An arm as it went: its units, and the sums of what they did."""

    name: str
    units: int
    totals: Mapping[str, float]


@dataclass(frozen=True)
class Analysis:
    """Everything that a test has to say; `verdict` is its first sentence."""

    verdict: str
    outcome: str
    control: str
    primary: str
    arms: list[ArmSeen]
    effects: list[Effect]
    significant: list[bool]
    checks: Checks
    cumulative: dict[str, list[Dated]]
    by_age: dict[str, list[Dated]]
    trends: dict[str, Trend]
    slices: list[Sliced]
    alpha: float
    peeked: bool
    days: float
    unit: str

    def of(self, arm: str, metric: str) -> Effect | None:
        """The effect of an arm on a metric, with the past where that was used."""
        return next((one for one in self.effects if (one.arm, one.metric) == (arm, metric)), None)


def analyse(units: Units, config: AnalysisConfig) -> Analysis:
    """The analysis of `units`; raises `UsageError` for a metric or an arm that is not there."""
    primary = metric_of(config.primary)
    wanted = [primary, *(metric_of(name) for name in config.metrics if name != config.primary)]
    seen = sorted(set(units.arms.tolist()))
    control = _control(seen, config.control)
    others = [arm for arm in seen if arm != control]
    checks = check(units, seen, config.weights, primary)
    effects = [
        found
        for arm in others
        for metric in wanted
        if (found := _effect(units, metric, arm, control, config)) is not None
    ]
    significant = _significant(effects, config)
    trends, by_age = {}, {}
    for arm in others:
        by_age[arm] = _by_age(units, arm, control, config)
        if (trend := _trend(by_age[arm])) is not None:
            trends[arm] = trend
    slices = _slices(units, primary, others, control, config)
    outcome, verdict = _verdict(primary, control, others, effects, significant, checks, config)
    return Analysis(
        verdict=verdict,
        outcome=outcome,
        control=control,
        primary=primary.name,
        arms=[_seen(units, arm) for arm in seen],
        effects=effects,
        significant=significant,
        checks=checks,
        cumulative={arm: _cumulative(units, arm, control, config) for arm in others},
        by_age=by_age,
        trends=trends,
        slices=slices,
        alpha=config.alpha,
        peeked=config.peeked,
        days=units.n_days,
        unit=units.unit,
    )


def _control(seen: Sequence[str], asked: str | None) -> str:
    if asked is not None:
        if asked not in seen:
            raise UsageError(f"There is no arm '{asked}'.", f"Arms: {', '.join(seen)}.")
        return asked
    for name in ("control", "live", "a", "A"):
        if name in seen:
            return name
    raise UsageError(f"None of the arms is called 'control': {', '.join(seen)}.", "Say which it is: --control ARM.")


def _effect(units: Units, metric: Metric, arm: str, control: str, config: AnalysisConfig) -> Effect | None:
    columns = {name: units.columns[name] for name in metric.columns}
    past = units.unit != "request" and columns[metric.columns[-1]].any()
    a, b = (aggregates(columns, units.arms == name) for name in (control, arm))
    return effect(metric, arm, a, b, alpha=config.alpha, past=bool(past), planned_n=config.planned_units)


def _significant(effects: Sequence[Effect], config: AnalysisConfig) -> list[bool]:
    """The primary metric by itself (corrected for several arms), the others corrected for all of them."""
    p = [one.always_p if config.peeked else one.p for one in effects]
    held = [False] * len(effects)
    for group in (True, False):
        places = [place for place, one in enumerate(effects) if (one.metric == config.primary) == group]
        for place, holds in zip(places, holm([p[place] for place in places], config.alpha), strict=True):
            held[place] = holds
    return held


def _verdict(
    primary: Metric,
    control: str,
    others: Sequence[str],
    effects: Sequence[Effect],
    significant: Sequence[bool],
    checks: Checks,
    config: AnalysisConfig,
) -> tuple[str, str]:
    if checks.refusals:
        return "cannot_say", f"Cannot say, because {checks.refusals[0]}"
    found = [(one, holds) for one, holds in zip(effects, significant, strict=True) if one.metric == primary.name]
    if not found:
        return "cannot_say", f"Cannot say, because nothing that {primary.name} counts ever happened in both arms."
    better = [one for one, holds in found if holds and one.relative > 0]
    worse = [one for one, holds in found if holds and one.relative <= 0]
    level = [one for one, holds in found if not holds]
    outcome = "better" if better else "worse" if worse else "no_difference"
    if better or worse:
        return outcome, _compared(primary, control, better, worse, level, config)
    widest = max((one for one, _ in found), key=lambda one: _interval(one, config).high - _interval(one, config).low)
    interval = _interval(widest, config)
    if config.planned_effect is not None and (interval.high - interval.low) / 2 > config.planned_effect:
        half = (interval.high - interval.low) / 2
        return "cannot_say", (
            f"Cannot say, because the interval is too wide: ±{half:.1%} of {primary.says}, where "
            f"{config.planned_effect:.1%} was to be found."
        )
    return outcome, _compared(primary, control, better, worse, level, config)


def _compared(
    metric: Metric,
    control: str,
    better: Sequence[Effect],
    worse: Sequence[Effect],
    level: Sequence[Effect],
    config: AnalysisConfig,
) -> str:
    """The arms against the control in a sentence, the best first."""
    sure = f"{1 - config.alpha:.0%} interval"
    if len(found := [*better, *worse, *level]) == 1:
        (one,) = found
        said = "is better than" if better else "is worse than" if worse else "shows no difference to"
        interval = _interval(one, config)
        return (
            f"{one.arm} {said} {control}: {one.relative:+.1%} {metric.says} ({sure} {interval.low:+.1%} to "
            f"{interval.high:+.1%})."
        )
    parts = []
    for word, some in (("better", better), ("worse", worse), ("no difference shown", level)):
        arms = []
        for one in sorted(some, key=lambda one: -one.relative):
            interval = _interval(one, config)
            arms.append(f"{one.arm} {one.relative:+.1%} ({interval.low:+.1%} to {interval.high:+.1%})")
        if arms:
            parts.append(f"{word}: {', '.join(arms)}")
    return f"Against {control}, in {metric.says} ({sure}s), {'; '.join(parts)}."


def _interval(one: Effect, config: AnalysisConfig) -> Interval:
    return one.always if config.peeked else one.interval


def _seen(units: Units, arm: str) -> ArmSeen:
    kept = units.arms == arm
    names = ("requests", "buying_requests", "converted", "shown", "clicks", "carts", "orders", "revenue")
    return ArmSeen(arm, int(kept.sum()), {name: float(units.columns[name][kept].sum()) for name in names})


def _cumulative(units: Units, arm: str, control: str, config: AnalysisConfig) -> list[Dated]:
    """The primary effect as it stood at the end of each day."""
    days = units.daily["day"].astype(np.int64)
    found = []
    for day in range(min(int(days.max()) + 1, MOST_DAYS)) if len(days) else []:
        columns = _summed(units, days <= day)
        one = _on(units, columns, columns["requests"] > 0, arm, control, config)
        if one is not None:
            found.append(Dated(day + 1, one))
    return found


def _by_age(units: Units, arm: str, control: str, config: AnalysisConfig) -> list[Dated]:
    """The effect on orders a request, by how many days ago a unit was first in the test."""
    ages = units.daily["age"].astype(np.int64)
    metric = METRICS["request_conversion"]
    found = []
    for age in range(min(int(ages.max()) + 1, MOST_DAYS)) if len(ages) else []:
        columns = _summed(units, ages == age)
        there = columns["requests"] > 0
        one = _on(units, columns, there, arm, control, config, metric)
        if one is not None and there.sum() >= LEAST_ON_A_DAY:
            found.append(Dated(age, one))
    return found


def _on(
    units: Units,
    columns: Mapping[str, Float64[np.ndarray, " n"]],
    there: Bool[np.ndarray, " n"],
    arm: str,
    control: str,
    config: AnalysisConfig,
    metric: Metric | None = None,
) -> Effect | None:
    metric = metric or metric_of(config.primary)
    own = {name: columns[name] for name in (metric.above, *([metric.below] if metric.below else []))}
    a, b = (aggregates(own, there & (units.arms == name)) for name in (control, arm))
    return effect(metric, arm, a, b, alpha=config.alpha, planned_n=config.planned_units or len(units))


def _summed(units: Units, kept: Bool[np.ndarray, " m"]) -> dict[str, Float64[np.ndarray, " n"]]:
    place = units.daily["place"][kept].astype(np.int64)
    names = [name for name in units.daily if name not in ("place", "day", "age")]
    summed = {name: np.bincount(place, units.daily[name][kept], len(units)) for name in names}
    return summed | {"converted": (summed["orders"] > 0).astype(np.float64)}


def _trend(found: Sequence[Dated]) -> Trend | None:
    """A line through the daily effects, each by its own error (weighted least squares)."""
    if len(found) < 4:
        return None
    days = np.array([one.day for one in found], np.float64)
    effects = np.log1p([one.effect.relative for one in found])
    errors = np.array([np.log1p(one.effect.interval.high) - np.log1p(one.effect.interval.low) for one in found]) / 3.92
    weights = errors**-2
    centred = days - (weights * days).sum() / weights.sum()
    spread = (weights * centred**2).sum()
    slope = float((weights * centred * effects).sum() / spread)
    return Trend(slope, float(chi2.sf(slope**2 * spread, 1)))


def _slices(units: Units, metric: Metric, arms: Sequence[str], control: str, config: AnalysisConfig) -> list[Sliced]:
    found: list[Sliced] = []
    for column, values in units.slices.items():
        for arm in arms:
            effects = {}
            for value in sorted({str(one) for one in values.tolist() if one is not None}):
                kept = values == value
                part = {name: units.columns[name] for name in metric.columns}
                a, b = (aggregates(part, kept & (units.arms == name)) for name in (control, arm))
                one = effect(metric, arm, a, b, alpha=config.alpha)
                if one is not None:
                    effects[value] = one
            found.append(Sliced(column, arm, effects, _heterogeneity(list(effects.values()))))
    tested = [one for one in found if one.p is not None]
    holds = holm([one.p for one in tested if one.p is not None], config.alpha)
    marks = {id(one): held for one, held in zip(tested, holds, strict=True)}
    return [Sliced(one.column, one.arm, one.effects, one.p, marks.get(id(one), False)) for one in found]


def _heterogeneity(effects: Sequence[Effect]) -> float | None:
    """Cochran's Q: whether effects of parts differ more than their errors have it."""
    if len(effects) < 2:
        return None
    values = np.log1p([one.relative for one in effects])
    errors = np.array([np.log1p(one.interval.high) - np.log1p(one.interval.low) for one in effects]) / 3.92
    weights = errors**-2
    q = float((weights * (values - (weights * values).sum() / weights.sum()) ** 2).sum())
    return float(chi2.sf(q, len(effects) - 1))
