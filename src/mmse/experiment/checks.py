"""What speaks against believing a test: shares that are off, units in several arms, too little of everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chisquare

from mmse.experiment.metrics import Metric
from mmse.experiment.units import Units

MISMATCH_P = 0.001
"""Below it the arms' sizes are not what the assignment should give (Fabijan et al., KDD 2019)."""
MOST_LEAKED = 0.01
LEAST_UNITS = 100
LEAST_BUYERS = 30
"""Units with an order in each arm: with fewer, the normal approximation of a rate cannot be trusted."""
WEEK = 7.0
SATURATED = 0.5
"""Where more units have an order, further orders do not show in the share that has one."""


@dataclass(frozen=True)
class Checks:
    """`refusals` say why nothing can be said, `warnings` what to keep in mind; `mismatch_p` is of the arms' sizes.

    `mismatch_days` are the days on which the newcomers' shares were off, corrected for the number of days.
    """

    refusals: list[str]
    warnings: list[str]
    mismatch_p: float | None
    mismatch_days: list[int]
    leaked: int


def check(units: Units, arms: Sequence[str], weights: Mapping[str, float], primary: Metric) -> Checks:
    """Everything that can be checked before the effects are looked at."""
    refusals = _leaks(units)
    if len(arms) < 2:
        refusals.append(f"there is one arm alone: {', '.join(arms)}.")
        return Checks(refusals, [], None, [], units.leaked)
    sizes = {arm: int((units.arms == arm).sum()) for arm in arms}
    p = _mismatch(list(sizes.values()), [weights.get(arm, 1.0) for arm in arms])
    if p < MISMATCH_P:
        said = ", ".join(f"{arm} {n:,}" for arm, n in sizes.items())
        refusals.append(
            f"the arms do not have the {units.unit}s that they should have (sample-ratio mismatch, p {p:.1g}): {said}. "
            "Assignment or logging is broken, and whoever is missing may be the ones who matter."
        )
    refusals += _too_few(units, sizes)
    return Checks(refusals, _warnings(units, primary), p, _off_days(units, arms, weights), units.leaked)


def _leaks(units: Units) -> list[str]:
    share = units.leaked / max(units.leaked + len(units), 1)
    if share <= MOST_LEAKED:
        return []
    named = ", ".join(units.leaked_examples)
    return [f"{units.leaked} of {units.leaked + len(units)} {units.unit}s were in several arms ({named}, …)."]


def _too_few(units: Units, sizes: Mapping[str, int]) -> list[str]:
    refusals = []
    for arm, n in sizes.items():
        buyers = int(units.columns["converted"][units.arms == arm].sum())
        if n < LEAST_UNITS:
            refusals.append(f"{arm} has {n} {units.unit}s, and fewer than {LEAST_UNITS} say nothing.")
        elif buyers < LEAST_BUYERS:
            refusals.append(
                f"{buyers} {units.unit}s of {arm} ordered, and with fewer than {LEAST_BUYERS} rates say nothing."
            )
    return refusals


def _warnings(units: Units, primary: Metric) -> list[str]:
    warnings = []
    if units.leaked and not _leaks(units):
        warnings.append(f"{units.leaked} {units.unit}s were in several arms and are left out.")
    if units.n_days < WEEK:
        warnings.append(
            f"It ran for {units.n_days:.1f} days: shoppers of a whole week differ from those of some of its days."
        )
    converted = float(units.columns["converted"].mean())
    if primary.name == "conversion" and converted > SATURATED:
        warnings.append(
            f"{converted:.0%} of the {units.unit}s ordered something: a share so full hardly moves. Let orders decide, "
            "--primary orders_per_request or request_conversion, and say so before the next test."
        )
    if units.rejected:
        warnings.append(f"{sum(units.rejected.values())} bad rows were left out.")
    return warnings


def _mismatch(sizes: Sequence[int], weights: Sequence[float]) -> float:
    whole = sum(sizes)
    return float(chisquare(sizes, [whole * weight / sum(weights) for weight in weights]).pvalue) if whole else 1.0


def _off_days(units: Units, arms: Sequence[str], weights: Mapping[str, float]) -> list[int]:
    days = np.unique(units.first_days)
    off = []
    for day in days.tolist():
        sizes = [int(((units.arms == arm) & (units.first_days == day)).sum()) for arm in arms]
        if sum(sizes) >= LEAST_UNITS and _mismatch(sizes, [weights.get(a, 1.0) for a in arms]) < MISMATCH_P / len(days):
            off.append(day + 1)
    return off
