"""Checks of a test before its effects: sizes of the arms, units in several arms, too few units or orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chisquare

from mmse.experiment.metrics import Metric
from mmse.experiment.units import Units

MISMATCH_P = 0.001
"""Below this p the sizes of the arms are not what the assignment should give (Fabijan et al., KDD 2019)."""
MAX_LEAK_SHARE = 0.01
MIN_UNITS = 100
MIN_BUYERS = 30
"""Units with an order in each arm: with fewer, the normal approximation of a rate cannot be trusted."""
WEEK_DAYS = 7.0
SATURATION = 0.5
"""If more units than this share have an order, further orders hardly change the share."""


@dataclass(frozen=True)
class Checks:
    """`refusals` are reasons not to give a verdict, `warnings` are remarks; `mismatch_p` is of the arms' sizes.

    `mismatch_days` are the days on which the arms of new units had wrong sizes, corrected for the number of days.
    `leaked` is the number of units that were in several arms.
    """

    refusals: list[str]
    warnings: list[str]
    mismatch_p: float | None
    mismatch_days: list[int]
    leaked: int


def check(units: Units, arms: Sequence[str], weights: Mapping[str, float], primary: Metric) -> Checks:
    """All checks; `weights` are the planned ones of the arms, 1 by default."""
    refusals = _leaks(units)
    if len(arms) < 2:
        refusals.append(f"there is one arm alone: {', '.join(arms)}.")
        return Checks(refusals, [], None, [], units.n_leaks)
    sizes = {arm: int((units.arms == arm).sum()) for arm in arms}
    p = _mismatch_p(list(sizes.values()), [weights.get(arm, 1.0) for arm in arms])
    if p < MISMATCH_P:
        size_list = ", ".join(f"{arm} {n:,}" for arm, n in sizes.items())
        refusals.append(
            f"the arms do not have the {units.unit}s that they should have (sample-ratio mismatch, p {p:.1g}): "
            f"{size_list}. Assignment or logging is broken, and the missing {units.unit}s may be the ones that matter."
        )
    refusals += _too_few(units, sizes)
    return Checks(refusals, _warnings(units, primary), p, _mismatch_days(units, arms, weights), units.n_leaks)


def _leaks(units: Units) -> list[str]:
    n = units.n_leaks + len(units)
    if units.n_leaks / max(n, 1) <= MAX_LEAK_SHARE:
        return []
    examples = ", ".join(units.leak_examples)
    return [f"{units.n_leaks} of {n} {units.unit}s were in several arms ({examples}, …)."]


def _too_few(units: Units, sizes: Mapping[str, int]) -> list[str]:
    refusals = []
    for arm, n in sizes.items():
        buyers = int(units.columns["converted"][units.arms == arm].sum())
        if n < MIN_UNITS:
            refusals.append(f"{arm} has {n} {units.unit}s, and fewer than {MIN_UNITS} say nothing.")
        elif buyers < MIN_BUYERS:
            refusals.append(
                f"{buyers} {units.unit}s of {arm} ordered, and with fewer than {MIN_BUYERS} rates say nothing."
            )
    return refusals


def _warnings(units: Units, primary: Metric) -> list[str]:
    warnings = []
    if units.n_leaks and not _leaks(units):
        warnings.append(f"{units.n_leaks} {units.unit}s were in several arms and are left out.")
    if units.n_days < WEEK_DAYS:
        warnings.append(
            f"The test ran for {units.n_days:.1f} days: shoppers of a whole week differ from those of a part of it."
        )
    conversion = float(units.columns["converted"].mean())
    if primary.name == "conversion" and conversion > SATURATION:
        warnings.append(
            f"{conversion:.0%} of the {units.unit}s ordered something: a share so high hardly changes. Let orders "
            "decide, --primary orders_per_request or request_conversion, and announce it before the next test."
        )
    if units.rejections:
        warnings.append(f"{sum(units.rejections.values())} bad rows were left out.")
    return warnings


def _mismatch_p(sizes: Sequence[int], weights: Sequence[float]) -> float:
    total = sum(sizes)
    return float(chisquare(sizes, [total * weight / sum(weights) for weight in weights]).pvalue) if total else 1.0


def _mismatch_days(units: Units, arms: Sequence[str], weights: Mapping[str, float]) -> list[int]:
    all_days = np.unique(units.first_days)
    arm_weights = [weights.get(arm, 1.0) for arm in arms]
    days = []
    for day in all_days.tolist():
        sizes = [int(((units.arms == arm) & (units.first_days == day)).sum()) for arm in arms]
        if sum(sizes) >= MIN_UNITS and _mismatch_p(sizes, arm_weights) < MISMATCH_P / len(all_days):
            days.append(day + 1)
    return days
