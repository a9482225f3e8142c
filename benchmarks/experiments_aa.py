"""Whether the statistics of tests keep what they promise: A/A, coverage, peeking, and power against the plan.

    python benchmarks/experiments_aa.py [--experiments 1000]

Shoppers differ: how often they search (log-normal), how often they order, and what they pay; each has a past of their
own. Everything is simulated; the estimators are those of `mmse experiment analyse`.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from typing import Any

import numpy as np
from machine import keep, where
from scipy.optimize import brentq
from scipy.stats import binom

from mmse.experiment.effects import effect
from mmse.experiment.metrics import METRICS, aggregates
from mmse.experiment.plan import PlanConfig, detectable
from mmse.experiment.units import BEFORE

DAYS, USERS, LIFT = 14, 8_000, 0.08


def traits(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """How many requests a day each shopper makes, and which share of them ends in an order."""
    return rng.lognormal(-1.6, 1.0, n), rng.beta(2, 14, n)


def shoppers(rng: np.random.Generator, n: int, lift: float) -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
    """What `n` shoppers did up to the end of each day, and who is in the treatment, whose orders are `lift` more."""
    treated = rng.random(n) < 0.5
    activity, taste = traits(rng, n)
    price = rng.lognormal(3.5, 0.5, n)
    chance = taste * np.where(treated, 1 + lift, 1.0)
    past = rng.poisson(activity * DAYS)
    past_orders = rng.binomial(past, taste)
    before = {
        "requests": past,
        "buying_requests": past_orders,
        "orders": past_orders,
        "clicks": rng.binomial(past * 3, 0.3),
        "converted": past_orders > 0,
        "revenue": past_orders * price,
    }
    sums = {name: np.zeros(n) for name in ("requests", "buying_requests", "orders", "clicks", "revenue")}
    days = []
    for _ in range(DAYS):
        requests = rng.poisson(activity)
        orders = rng.binomial(requests, np.minimum(chance, 1))
        sums["requests"] = sums["requests"] + requests
        sums["buying_requests"] = sums["buying_requests"] + orders
        sums["orders"] = sums["orders"] + orders
        sums["clicks"] = sums["clicks"] + rng.binomial(requests * 3, 0.3)
        sums["revenue"] = sums["revenue"] + np.where(orders > 0, orders * price * rng.lognormal(0, 0.4, n), 0)
        columns = sums | {"converted": (sums["orders"] > 0).astype(float)}
        days.append(columns | {BEFORE + name: values.astype(float) for name, values in before.items()})
    return days, treated


def truth(lift: float, n: int = 1_000_000) -> dict[str, float]:
    """The relative effect of `lift` on each metric: all that is a sum of orders has it, shoppers who order have less.

    Of those who search at all, by how often and how gladly they order; the same shoppers with and without the lift.
    """
    activity, taste = traits(np.random.default_rng(10**6), n)
    there = 1 - np.exp(-activity * DAYS)
    bought = [(1 - np.exp(-activity * DAYS * np.minimum(taste * (1 + by), 1))).sum() / there.sum() for by in (0, lift)]
    exact = {name: lift for name in METRICS} | {"clicks_per_request": 0.0}
    return exact | {"conversion": float(bought[1] / bought[0] - 1)}


def one(seed: int, lift: float) -> dict[str, dict[str, Any]]:
    """One test: of each metric, its effect at the end (with and without the past) and at the end of each day."""
    days, treated = shoppers(np.random.default_rng(seed), USERS, lift)
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for day, columns in enumerate(days, 1):
        there = columns["requests"] > 0
        for name, metric in METRICS.items():
            used = {c: columns[c] for c in metric.columns}
            a, b = aggregates(used, there & ~treated), aggregates(used, there & treated)
            found[name][f"day {day}"] = effect(metric, "b", a, b, past=True, planned_n=int(USERS * 0.8))
            if day == DAYS:
                found[name]["end"] = effect(metric, "b", a, b, past=False)
    return found


def band(n: int, rate: float) -> list[float]:
    """Where 95% of experiments' shares lie if each happens at `rate`."""
    return [float(binom.ppf(q, n, rate)) / n for q in (0.025, 0.975)]


def power_against_plan(n: int, effect_size: float, name: str) -> dict[str, float]:
    """The share of tests that find an effect, where the plan promised 80% for the effect that it names."""
    (*_, last), _ = shoppers(np.random.default_rng(7), 200_000, 0.0)
    there = last["requests"] > 0
    metric = METRICS[name]
    above = last[metric.above][there]
    below = last[metric.below][there] if metric.below else np.ones(int(there.sum()))
    ratio = above.sum() / below.sum()
    relative = float(((above - ratio * below) / below.mean()).std(ddof=1) / ratio)
    config = PlanConfig(metric=name, effect=effect_size)
    users = 1_000
    while detectable(relative, users, config) > effect_size:
        users = int(users * 1.02) + 1
    lift = lift_for(effect_size, name)
    hits = 0
    for seed in range(n):
        (*_, end), treated = shoppers(np.random.default_rng(5_000_000 + seed), int(users / there.mean()), lift)
        seen = end["requests"] > 0
        used = {c: end[c] for c in metric.columns}
        found = effect(metric, "b", aggregates(used, seen & ~treated), aggregates(used, seen & treated))
        hits += found is not None and found.p < 0.05
    return {"effect": effect_size, "users": users, "promised": 0.8, "found": hits / n, "tests": n}


def lift_for(wanted: float, name: str) -> float:
    """The lift of orders that changes a metric by `wanted`."""
    return float(brentq(lambda lift: truth(lift)[name] - wanted, 0, 5 * wanted))


def main() -> None:
    """Runs everything and keeps it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=1_000)
    n = parser.parse_args().experiments
    result: dict[str, object] = {
        "where": where(),
        "experiments": n,
        "users": USERS,
        "days": DAYS,
        "band": {"5%": band(n, 0.05), "95%": band(n, 0.95)},
    }
    same = [one(seed, 0.0) for seed in range(n)]
    lifted, true = [one(10_000 + seed, LIFT) for seed in range(n)], truth(LIFT)
    metrics: dict[str, dict[str, Any]] = {}
    for name in METRICS:
        ends = [test[name]["end"] for test in same]
        pasts = [test[name][f"day {DAYS}"] for test in same]
        looks = [[test[name][f"day {day}"] for day in range(1, DAYS + 1)] for test in same]
        metrics[name] = {
            "false positives": np.mean([e.p < 0.05 for e in ends]),
            "false positives with the past": np.mean([e.p < 0.05 for e in pasts]),
            "less variance by the past": np.mean([e.less_variance for e in pasts]),
            "coverage of 0": np.mean([e.interval.low <= 0 <= e.interval.high for e in ends]),
            "coverage of the true lift": np.mean(
                [test[name]["end"].interval.low <= true[name] <= test[name]["end"].interval.high for test in lifted]
            ),
            "coverage of the true lift with the past": np.mean(
                [
                    e.interval.low <= true[name] <= e.interval.high
                    for e in (test[name][f"day {DAYS}"] for test in lifted)
                ]
            ),
            "true lift": true[name],
            "false positives of who looks daily, fixed": np.mean(
                [any(e and e.p < 0.05 for e in one_) for one_ in looks]
            ),
            "false positives of who looks daily, always": np.mean(
                [any(e and e.always_p < 0.05 for e in one_) for one_ in looks]
            ),
            "found at the end, fixed": np.mean([test[name]["end"].p < 0.05 for test in lifted]),
            "found by who looks daily, always": np.mean(
                [
                    any(e and e.always_p < 0.05 for e in (test[name][f"day {d}"] for d in range(1, DAYS + 1)))
                    for test in lifted
                ]
            ),
        }
    result["metrics"] = {name: {k: round(float(v), 4) for k, v in one_.items()} for name, one_ in metrics.items()}
    result["power"] = {
        f"{name} {size:.0%}": power_against_plan(n, size, name)
        for name, size in (("conversion", 0.05), ("conversion", 0.10), ("orders_per_request", 0.06))
    }
    keep("experiments_aa", result)


if __name__ == "__main__":
    main()
