"""Whether the statistics of A/B tests are correct: A/A tests, coverage, peeking, and power against the plan.

    python benchmarks/experiments_aa.py [--experiments 1000]

Shoppers differ in how often they search (log-normal), how often they order, and how much they pay; each has a past.
Everything is simulated; the estimators are those of `mmse experiment analyse`.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from typing import Any

import numpy as np
from machine import environment, write_result
from scipy.optimize import brentq
from scipy.stats import binom

from mmse.experiment.effects import estimate_effect
from mmse.experiment.metrics import METRICS, aggregate
from mmse.experiment.plan import PlanConfig, detectable
from mmse.experiment.units import PAST_PREFIX

DAYS, USERS, LIFT = 14, 8_000, 0.08


def draw_traits(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Each shopper's requests per day, and the share of them that ends in an order."""
    return rng.lognormal(-1.6, 1.0, n), rng.beta(2, 14, n)


def simulate_shoppers(rng: np.random.Generator, n: int, lift: float) -> tuple[list[dict[str, np.ndarray]], np.ndarray]:
    """The totals of `n` shoppers at the end of each day, and the treatment group, whose orders are `lift` more."""
    in_treatment = rng.random(n) < 0.5
    activity, taste = draw_traits(rng, n)
    price = rng.lognormal(3.5, 0.5, n)
    chance = taste * np.where(in_treatment, 1 + lift, 1.0)
    past = rng.poisson(activity * DAYS)
    past_orders = rng.binomial(past, taste)
    past_metrics = {
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
        days.append(columns | {PAST_PREFIX + name: values.astype(float) for name, values in past_metrics.items()})
    return days, in_treatment


def true_effects(lift: float, n: int = 1_000_000) -> dict[str, float]:
    """The true relative effect of `lift` on each metric: `lift` on sums of orders, less on the share who order.

    The latter is computed over shoppers who search at all, the same shoppers with and without the lift.
    """
    activity, taste = draw_traits(np.random.default_rng(10**6), n)
    search_chance = 1 - np.exp(-activity * DAYS)
    conversions = [
        (1 - np.exp(-activity * DAYS * np.minimum(taste * (1 + by), 1))).sum() / search_chance.sum() for by in (0, lift)
    ]
    exact = {name: lift for name in METRICS} | {"clicks_per_request": 0.0}
    return exact | {"conversion": float(conversions[1] / conversions[0] - 1)}


def run_test(seed: int, lift: float) -> dict[str, dict[str, Any]]:
    """One test: the effect on each metric at the end (without the past), and at the end of each day with the past."""
    days, in_treatment = simulate_shoppers(np.random.default_rng(seed), USERS, lift)
    effects: dict[str, dict[str, Any]] = defaultdict(dict)
    for day, columns in enumerate(days, 1):
        has_requests = columns["requests"] > 0
        for name, metric in METRICS.items():
            metric_columns = {c: columns[c] for c in metric.columns}
            a, b = (
                aggregate(metric_columns, has_requests & ~in_treatment),
                aggregate(metric_columns, has_requests & in_treatment),
            )
            effects[name][f"day {day}"] = estimate_effect(metric, "b", a, b, past=True, planned_n=int(USERS * 0.8))
            if day == DAYS:
                effects[name]["end"] = estimate_effect(metric, "b", a, b, past=False)
    return effects


def band(n: int, rate: float) -> list[float]:
    """The middle 95% of the share of `n` experiments with an event of probability `rate`."""
    return [float(binom.ppf(q, n, rate)) / n for q in (0.025, 0.975)]


def power_against_plan(n: int, effect_size: float, name: str) -> dict[str, float]:
    """The share of tests that find the planned effect, for which the plan promises 80%."""
    (*_, totals), _ = simulate_shoppers(np.random.default_rng(7), 200_000, 0.0)
    has_requests = totals["requests"] > 0
    metric = METRICS[name]
    numerator = totals[metric.numerator][has_requests]
    denominator = totals[metric.denominator][has_requests] if metric.denominator else np.ones(int(has_requests.sum()))
    ratio = numerator.sum() / denominator.sum()
    relative = float(((numerator - ratio * denominator) / denominator.mean()).std(ddof=1) / ratio)
    config = PlanConfig(metric=name, effect=effect_size)
    users = 1_000
    while detectable(relative, users, config) > effect_size:
        users = int(users * 1.02) + 1
    lift = lift_for(effect_size, name)
    hits = 0
    for seed in range(n):
        (*_, end), in_treatment = simulate_shoppers(
            np.random.default_rng(5_000_000 + seed), int(users / has_requests.mean()), lift
        )
        active = end["requests"] > 0
        metric_columns = {c: end[c] for c in metric.columns}
        measured_effect = estimate_effect(
            metric,
            "b",
            aggregate(metric_columns, active & ~in_treatment),
            aggregate(metric_columns, active & in_treatment),
        )
        hits += measured_effect is not None and measured_effect.p < 0.05
    return {"effect": effect_size, "users": users, "promised": 0.8, "found": hits / n, "tests": n}


def lift_for(target: float, name: str) -> float:
    """The lift of orders that changes a metric by `wanted`."""
    return float(brentq(lambda lift: true_effects(lift)[name] - target, 0, 5 * target))


def main() -> None:
    """Runs everything and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=1_000)
    n = parser.parse_args().experiments
    result: dict[str, object] = {
        "where": environment(),
        "experiments": n,
        "users": USERS,
        "days": DAYS,
        "band": {"5%": band(n, 0.05), "95%": band(n, 0.95)},
    }
    null_tests = [run_test(seed, 0.0) for seed in range(n)]
    lift_tests, true_lifts = [run_test(10_000 + seed, LIFT) for seed in range(n)], true_effects(LIFT)
    metrics: dict[str, dict[str, Any]] = {}
    for name in METRICS:
        ends = [test[name]["end"] for test in null_tests]
        pasts = [test[name][f"day {DAYS}"] for test in null_tests]
        looks = [[test[name][f"day {day}"] for day in range(1, DAYS + 1)] for test in null_tests]
        metrics[name] = {
            "false positives": np.mean([e.p < 0.05 for e in ends]),
            "false positives with the past": np.mean([e.p < 0.05 for e in pasts]),
            "less variance by the past": np.mean([e.less_variance for e in pasts]),
            "coverage of 0": np.mean([e.interval.low <= 0 <= e.interval.high for e in ends]),
            "coverage of the true lift": np.mean(
                [
                    test[name]["end"].interval.low <= true_lifts[name] <= test[name]["end"].interval.high
                    for test in lift_tests
                ]
            ),
            "coverage of the true lift with the past": np.mean(
                [
                    e.interval.low <= true_lifts[name] <= e.interval.high
                    for e in (test[name][f"day {DAYS}"] for test in lift_tests)
                ]
            ),
            "true lift": true_lifts[name],
            "false positives of who looks daily, fixed": np.mean(
                [any(e and e.p < 0.05 for e in effects) for effects in looks]
            ),
            "false positives of who looks daily, always": np.mean(
                [any(e and e.always_p < 0.05 for e in effects) for effects in looks]
            ),
            "found at the end, fixed": np.mean([test[name]["end"].p < 0.05 for test in lift_tests]),
            "found by who looks daily, always": np.mean(
                [
                    any(e and e.always_p < 0.05 for e in (test[name][f"day {d}"] for d in range(1, DAYS + 1)))
                    for test in lift_tests
                ]
            ),
        }
    result["metrics"] = {name: {k: round(float(v), 4) for k, v in values.items()} for name, values in metrics.items()}
    result["power"] = {
        f"{name} {size:.0%}": power_against_plan(n, size, name)
        for name, size in (("conversion", 0.05), ("conversion", 0.10), ("orders_per_request", 0.06))
    }
    write_result("experiments_aa", result)


if __name__ == "__main__":
    main()
