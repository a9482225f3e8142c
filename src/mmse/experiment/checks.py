"""Checks of a test before its effects: sizes of the arms, units in several arms, too few units or orders, lost rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chisquare

from mmse.experiment.gaps import MAX_LOST_ORDERS
from mmse.experiment.metrics import Metric
from mmse.experiment.units import Units

MISMATCH_P = 0.001
"""Below this p the sizes of the arms are not what the assignment should give (Fabijan et al., KDD 2019)."""
MAX_LEAK_SHARE = 0.01
SHARED_ID = 0.02
"""An id in several arms with more of all requests than this is not one shopper's."""
MIN_UNITS = 100
MIN_BUYERS = 30
"""Units with an order in each arm: with fewer, the normal approximation of a rate cannot be trusted."""
WEEK_DAYS = 7.0
MAX_SILENCE = 0.5
"""The share of a test's time that may pass without a request, in one piece, before it is named."""
MIN_SILENT_DAYS = 0.25
SATURATION = 0.5
"""If more units than this share have an order, further orders hardly change the share."""
_VERBS = {"clicks": "clicked", "carts": "put something into the cart"}


@dataclass(frozen=True)
class Checks:
    """`refusals` are reasons not to give a verdict, `warnings` are remarks; `mismatch_p` is of the arms' sizes.

    `mismatch_days` are the days on which the arms of new units had wrong sizes, corrected for the number of days.
    `leaked` is the number of units that were in several arms. No sentence has a shopper's id.
    """

    refusals: list[str]
    warnings: list[str]
    mismatch_p: float | None
    mismatch_days: list[int]
    leaked: int


def check(
    units: Units,
    arms: Sequence[str],
    weights: Mapping[str, float],
    primary: Metric,
    *,
    max_leak_share: float = MAX_LEAK_SHARE,
) -> Checks:
    """All checks; `weights` are the planned ones of the arms, 1 by default."""
    refusals = [*_lost_orders(units), *_leaks(units, max_leak_share)]
    if len(arms) < 2:
        refusals.append(f"there is one arm alone: {', '.join(arms)}.")
        return Checks(refusals, _warnings(units, primary, max_leak_share), None, [], units.n_leaks)
    sizes = {arm: int((units.arms == arm).sum()) for arm in arms}
    refusals += _absent_arms(units, arms, weights)
    p = _mismatch_p(list(sizes.values()), [weights.get(arm, 1.0) for arm in arms])
    if p < MISMATCH_P:
        refusals.append(_mismatch(units, sizes, weights, p))
    refusals += _too_few(units, sizes, primary)
    warnings = _warnings(units, primary, max_leak_share)
    return Checks(refusals, warnings, p, _mismatch_days(units, arms, weights), units.n_leaks)


def count(n: int, word: str) -> str:
    """`1 user`, `2,000 users`."""
    return f"{n:,} {word}" if n == 1 else f"{n:,} {word}s"


def _lost_orders(units: Units) -> list[str]:
    gaps = units.gaps
    if gaps.lost_orders <= MAX_LOST_ORDERS * max(gaps.orders, 1):
        return []
    return [
        f"{gaps.lost_orders:,} of {count(gaps.orders, 'row')} with an order cannot be read: {_reasons(units)}. "
        f"Correct these rows{_price_cure(units)}."
    ]


def _reasons(units: Units) -> str:
    parts = []
    for reason, n in units.rejections.items():
        example = units.gaps.examples.get(reason)
        parts.append(f"{n:,} × {reason}" + (f" (such as '{example}')" if example else ""))
    return ", ".join(parts)


def _price_cure(units: Units) -> str:
    if not any(reason.startswith("price") for reason in units.rejections):
        return ""
    currencies = units.gaps.currencies
    into = f", all in one currency (found: {', '.join(currencies)})" if len(currencies) > 1 else ""
    return f": a price is a number with a point and without a currency or separators, such as 1234.50{into}"


def _leaks(units: Units, max_share: float) -> list[str]:
    n = units.n_leaks + len(units)
    if units.n_leaks / max(n, 1) <= max_share:
        return []
    return [
        f"{units.n_leaks} of {n} {units.unit}s were in several arms, more than {max_share:.1%}. Assign by an id that "
        f"a shopper keeps; if they may be left out, --max-leaks {_rounded_up(units.n_leaks / n)}."
    ]


def _rounded_up(share: float) -> str:
    return f"{np.ceil(share * 1000) / 1000:.3f}"


def _absent_arms(units: Units, arms: Sequence[str], weights: Mapping[str, float]) -> list[str]:
    absent = sorted(set(weights) - set(arms))
    if not absent:
        return []
    return [
        f"the plan has the arm {', '.join(absent)}, and no {units.unit} of the table is in it. Arms of the table: "
        f"{', '.join(arms)}."
    ]


def _mismatch(units: Units, sizes: Mapping[str, int], weights: Mapping[str, float], p: float) -> str:
    size_list = ", ".join(f"{arm} {n:,}" for arm, n in sizes.items())
    planned = " : ".join(f"{weights.get(arm, 1.0):g}" for arm in sizes)
    cure = "" if weights else " If unequal shares were planned, say so: " + " ".join(_weight_options(sizes)) + "."
    return (
        f"the arms do not have the {units.unit}s that they should have (sample-ratio mismatch, "
        f"p {p:.1g}): {size_list}, where {planned} was planned. Assignment or logging is broken, and the missing "
        f"{units.unit}s may be the ones that matter.{cure}"
    ).replace("p 0)", "p <1e-300)")


def _weight_options(sizes: Mapping[str, int]) -> list[str]:
    smallest = max(min(sizes.values()), 1)
    return [f"--weight {arm}={max(round(n / smallest), 1)}" for arm, n in sizes.items()]


def _too_few(units: Units, sizes: Mapping[str, int], primary: Metric) -> list[str]:
    refusals = []
    for arm, n in sizes.items():
        mask = units.arms == arm
        name = primary.numerator if primary.numerator in _VERBS else "converted"
        verb = _VERBS.get(primary.numerator, "ordered")
        doers = int((units.columns[name][mask] > 0).sum())
        if n < MIN_UNITS:
            refusals.append(f"{arm} has {count(n, units.unit)}, and fewer than {MIN_UNITS} say nothing.")
        elif doers < MIN_BUYERS:
            refusals.append(
                f"{count(doers, units.unit)} of {arm} {verb}, and with fewer than {MIN_BUYERS} rates say nothing."
            )
        elif primary.kind == "share" and (rest := _non_buyers(units, mask, primary)) < MIN_BUYERS:
            what = "requests" if primary.denominator else f"{units.unit}s"
            refusals.append(
                f"only {rest} {what} of {arm} are without an order, and with fewer than {MIN_BUYERS} the share with "
                "one says nothing. A table of orders alone cannot be judged: log all that was shown."
            )
    return refusals


def _non_buyers(units: Units, mask: np.ndarray, primary: Metric) -> int:
    n = units.columns[primary.denominator][mask].sum() if primary.denominator else mask.sum()
    return int(n - units.columns[primary.numerator][mask].sum())


def _warnings(units: Units, primary: Metric, max_leak_share: float) -> list[str]:
    warnings = [*_leak_warnings(units, max_leak_share), *_anonymous_warnings(units), *_price_warnings(units)]
    if units.n_days < WEEK_DAYS:
        warnings.append(
            f"The test ran for {units.n_days:.1f} days: shoppers of a whole week differ from those of a part of it."
        )
    if units.gaps.silent_days > max(MAX_SILENCE * units.n_days, MIN_SILENT_DAYS):
        warnings.append(
            f"No request came in {units.gaps.silent_days:.1f} of the {units.n_days:.1f} days, in one piece: a server's "
            "clock was set, or nothing was logged. The test is shorter than its days say."
        )
    conversion = float(units.columns["converted"].mean()) if len(units) else 0.0
    if primary.name == "conversion" and conversion > SATURATION:
        warnings.append(
            f"{conversion:.0%} of the {units.unit}s ordered something: a share so high hardly changes. Let orders "
            "decide, --primary orders_per_request or request_conversion, and announce it before the next test."
        )
    if units.rejections and not _lost_orders(units):
        warnings.append(f"{count(sum(units.rejections.values()), 'bad row')} left out: {_reasons(units)}.")
    return warnings


def _leak_warnings(units: Units, max_share: float) -> list[str]:
    gaps, warnings = units.gaps, []
    if units.n_leaks and not _leaks(units, max_share):
        was, are = ("was", "is") if units.n_leaks == 1 else ("were", "are")
        requests = f", with {gaps.leaked_requests:,} of {gaps.requests:,} requests" if gaps.requests else ""
        warnings.append(f"{count(units.n_leaks, units.unit)} {was} in several arms and {are} left out{requests}.")
    if gaps.heaviest_leak > SHARED_ID * max(gaps.requests, 1):
        warnings.append(
            f"One id in several arms has {gaps.heaviest_leak / gaps.requests:.0%} of all requests: it stands for "
            "shoppers without an id, such as 'null' or a guest's. Log them without an id."
        )
    return warnings


def _anonymous_warnings(units: Units) -> list[str]:
    gaps, warnings = units.gaps, []
    if gaps.anonymous_requests:
        share = gaps.anonymous_requests / max(gaps.requests, 1)
        warnings.append(
            f"{gaps.anonymous_requests:,} of {gaps.requests:,} requests ({share:.0%}), with "
            f"{count(gaps.anonymous_orders, 'order')}, have no {units.unit} id and are left out: the verdict is "
            "about the others. To count them, assign by session or request (--unit)."
        )
    if gaps.unassigned:
        warnings.append(
            f"{count(gaps.unassigned, 'request')} of that time had no {units.unit} id and no arm: the test says "
            "nothing about them."
        )
    return warnings


def _price_warnings(units: Units) -> list[str]:
    gaps, warnings = units.gaps, []
    if len(gaps.currencies) > 1:
        warnings.append(f"Prices are in several currencies ({', '.join(gaps.currencies)}): revenue adds what differs.")
    if gaps.refunds:
        warnings.append(
            f"{count(gaps.refunds, 'price')} below 0, taken for refunds: they lower the revenue, not the orders."
        )
    if gaps.unpriced_orders and gaps.priced_orders:
        warnings.append(
            f"{gaps.unpriced_orders:,} of {gaps.unpriced_orders + gaps.priced_orders:,} orders have no price and count "
            "as revenue 0."
        )
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
