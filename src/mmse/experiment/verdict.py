"""The verdict of a test as a sentence: which arm is better in the deciding metric, or why nobody can say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mmse.evaluation.bootstrap import holm
from mmse.experiment.analysis_config import AnalysisConfig
from mmse.experiment.capping import parts
from mmse.experiment.checks import Checks
from mmse.experiment.effects import Effect
from mmse.experiment.metrics import Metric, label
from mmse.experiment.units import Units

MIN_LEFT = 0.5
"""An effect of which capping leaves less than this share is that of few units, also if what is left is significant."""


@dataclass(frozen=True)
class EffectFinding:
    """An effect on the deciding metric, and the same with the heaviest values `capped`; whether each is significant."""

    effect: Effect
    holds: bool
    capped: Effect | None
    capped_holds: bool

    @property
    def parts(self) -> bool:
        """Whether few units move the effect."""
        return parts(self.effect, self.capped)

    @property
    def is_undecided(self) -> bool:
        """Whether few units decide: the effect holds in one way of counting alone, or capping takes most of it."""
        if self.capped is None:
            return self.holds
        return self.parts and (self.holds != self.capped_holds or (self.holds and self._left < MIN_LEFT))

    @property
    def _left(self) -> float:
        """How much of the effect capping leaves, on the scale of logarithms; below 0 if the effect turns."""
        if self.capped is None or not self.effect.relative:
            return 0.0
        return math.log1p(self.capped.relative) / math.log1p(self.effect.relative)


def significance(effects: Sequence[Effect], config: AnalysisConfig) -> list[bool]:
    """The primary metric by itself (corrected for several arms), the others corrected for all of them."""
    p = [effect.always_p if config.sequential else effect.p for effect in effects]
    significant = [False] * len(effects)
    for is_primary in (True, False):
        indices = [i for i, effect in enumerate(effects) if (effect.metric == config.primary) == is_primary]
        for i, holds in zip(indices, holm([p[i] for i in indices], config.alpha), strict=True):
            significant[i] = holds
    return significant


def primary_findings(
    effects: Sequence[Effect], significant: Sequence[bool], capped: Sequence[Effect | None], config: AnalysisConfig
) -> list[EffectFinding]:
    """What the primary metric shows, by arm."""
    capped_holds = significance([c or e for e, c in zip(effects, capped, strict=True)], config)
    rows = zip(effects, significant, capped, capped_holds, strict=True)
    return [
        EffectFinding(effect, holds, light, light is not None and light_holds)
        for effect, holds, light, light_holds in rows
        if effect.metric == config.primary
    ]


def state_verdict(
    units: Units,
    primary: Metric,
    control: str,
    findings: Sequence[EffectFinding],
    checks: Checks,
    config: AnalysisConfig,
) -> tuple[str, str]:
    """The outcome as a word, and the verdict as a sentence."""
    if checks.refusals:
        return "cannot_say", f"Cannot say, because {checks.refusals[0]}"
    if not findings:
        return "cannot_say", f"Cannot say, because {_missing_reason(units, primary)}"
    undecided = [finding for finding in findings if finding.is_undecided]
    decided = [finding for finding in findings if not finding.is_undecided]
    if not decided:
        return "cannot_say", f"Cannot say, because few {units.unit}s decide: {_both_ways(undecided, primary, config)}."
    better = [finding.effect for finding in decided if finding.holds and finding.effect.relative > 0]
    worse = [finding.effect for finding in decided if finding.holds and finding.effect.relative <= 0]
    level = [finding.effect for finding in decided if not finding.holds]
    outcome = "better" if better else "worse" if worse else "no_difference"
    half = max(config.interval(finding.effect).width for finding in decided) / 2
    goal = config.planned_effect
    if outcome == "no_difference" and goal is not None and half > goal:
        return "cannot_say", (
            f"Cannot say, because the interval is too wide: ±{half:.1%} of {primary.description}, where "
            f"{goal:.1%} was to be found."
        )
    sentences = [_comparison(primary, control, better, worse, level, config)]
    if undecided:
        sentences.append(f"Few {units.unit}s decide: {_both_ways(undecided, primary, config)}.")
    if moved := [finding for finding in decided if finding.parts]:
        sentences.append(f"Few {units.unit}s move it: {_both_ways(moved, primary, config)}.")
    return outcome, " ".join(sentences)


def _both_ways(findings: Sequence[EffectFinding], primary: Metric, config: AnalysisConfig) -> str:
    """The effects as they are, and with the heaviest values capped."""
    parts_ = []
    for finding in findings:
        raw, light = finding.effect, finding.capped
        text = f"{raw.arm} has {_with_interval(raw, config)} {primary.description} as it is"
        if light is None:
            parts_.append(text + ", and nothing to compare once the heaviest values are capped")
        else:
            parts_.append(f"{text}, and {_with_interval(light, config)} with the heaviest 1% of values capped")
    return "; ".join(parts_)


def _with_interval(effect: Effect, config: AnalysisConfig) -> str:
    interval = config.interval(effect)
    return f"{effect.relative:+.1%} ({interval.low:+.1%} to {interval.high:+.1%})"


def _missing_reason(units: Units, primary: Metric) -> str:
    """Why the deciding metric has no effect at all."""
    values = units.columns[primary.numerator]
    if primary.kind == "money" and not values.any():
        if not units.gaps.has_price:
            return f"{primary.name} needs prices, and the table has no column 'price'."
        return f"{primary.name} needs prices, and no order of the test has one."
    for arm in sorted(set(units.arms.tolist())):
        if (total := float(values[units.arms == arm].sum())) <= 0:
            return f"{label(primary.name)} of {arm} is {total:g}, and nothing can be held against it."
    return f"all {units.unit}s are alike in {label(primary.name)}, so that effect and chance cannot be told apart."


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
