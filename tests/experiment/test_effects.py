"""Estimates against slow, obvious versions of them; verdicts on tests whose truth is known."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from mmse.core.errors import UsageError
from mmse.experiment.analysis import analyse
from mmse.experiment.analysis_config import AnalysisConfig
from mmse.experiment.checks import MISMATCH_P
from mmse.experiment.effects import always_p, estimate_effect, half_width
from mmse.experiment.interleaving import credit_margins, estimate_preference
from mmse.experiment.metrics import METRICS, aggregate
from mmse.experiment.plan import PlanConfig, detectable, plan
from mmse.experiment.report import write_report
from mmse.experiment.report.charts import ticks
from mmse.experiment.units import COUNTS, PAST_PREFIX, Units

DAYS = 8


def units(seed: int, n: int = 6_000, lift: float = 0.0, weights: Sequence[float] = (1, 1)) -> Units:
    """Shoppers who differ, of whom the treated order `lift` more; their past is like their future."""
    rng = np.random.default_rng(seed)
    arms = rng.choice(["a", "b"], n, p=np.array(weights) / sum(weights)).astype(object)
    activity, taste = rng.lognormal(-0.6, 0.8, n), rng.beta(2, 8, n)
    chance = np.minimum(taste * np.where(arms == "b", 1 + lift, 1), 1)
    daily: dict[str, list[np.ndarray]] = {name: [] for name in ("unit_index", "day", "age", *COUNTS)}
    for day in range(DAYS):
        requests = rng.poisson(activity)
        active = np.flatnonzero(requests)
        orders = rng.binomial(requests, chance)
        keys = {"unit_index": active, "day": np.full(len(active), day), "age": np.full(len(active), day)}
        counts = {
            "requests": requests,
            "buying_requests": orders,
            "shown": requests * 9,
            "clicks": requests + orders,
            "carts": orders,
            "orders": orders,
            "revenue": orders * 10.0,
        }
        for name, values in (keys | {key: value[active] for key, value in counts.items()}).items():
            daily[name].append(values.astype(float))
    joined = {name: np.concatenate(parts) for name, parts in daily.items()}
    columns = {name: np.bincount(joined["unit_index"].astype(int), joined[name], n) for name in COUNTS}
    past = rng.poisson(activity * DAYS)
    past_orders = rng.binomial(past, taste)
    past_columns = {
        "requests": past,
        "buying_requests": past_orders,
        "shown": past * 9,
        "clicks": past,
        "carts": past_orders,
        "orders": past_orders,
        "revenue": past_orders * 10,
    }
    columns |= {PAST_PREFIX + name: values.astype(float) for name, values in past_columns.items()}
    columns["converted"], columns[PAST_PREFIX + "converted"] = (
        (columns[name] > 0).astype(float) for name in ("orders", PAST_PREFIX + "orders")
    )
    start = datetime(2026, 3, 1)
    return Units(
        "user",
        arms,
        columns,
        {"device": np.where(np.arange(n) % 3 == 0, "phone", "desk").astype(object)},
        joined,
        np.zeros(n, np.int64),
        start,
        start + timedelta(days=DAYS),
    )


def sides(sample: Units, name: str) -> tuple[Any, Any]:
    used = {column: sample.columns[column] for column in METRICS[name].columns}
    return aggregate(used, sample.arms == "a"), aggregate(used, sample.arms == "b")


@pytest.mark.parametrize("name", METRICS)
def test_intervals_are_those_of_the_delta_method(name: str) -> None:
    sample, metric = units(1, lift=0.1), METRICS[name]
    effect = estimate_effect(metric, "b", *sides(sample, name))
    assert effect is not None
    rates, variances = [], []
    for arm in ("a", "b"):
        numerator = sample.columns[metric.numerator][sample.arms == arm]
        denominator = (
            sample.columns[metric.denominator][sample.arms == arm] if metric.denominator else np.ones(len(numerator))
        )
        rate = numerator.sum() / denominator.sum()
        rates.append(rate)
        variances.append(((numerator - rate * denominator) / denominator.mean()).var(ddof=1) / len(numerator))
    error = np.sqrt(sum(variances))
    assert effect.absolute == pytest.approx(rates[1] - rates[0])
    log_error, log_ratio = (
        np.sqrt(sum(v / r**2 for v, r in zip(variances, rates, strict=True))),
        np.log1p(effect.relative),
    )
    statistic = min(abs(effect.absolute) / error, abs(log_ratio) / log_error)
    half = norm.isf(0.025) / statistic
    assert effect.absolute_interval.high - effect.absolute == pytest.approx(half * abs(effect.absolute), rel=1e-6)
    assert effect.p == pytest.approx(2 * norm.sf(statistic), rel=1e-6)
    assert np.log1p(effect.interval.high) == pytest.approx(log_ratio + half * abs(log_ratio))


def test_the_past_narrows_and_moves_nothing() -> None:
    errors = []
    for seed in range(40):
        sample = units(seed, n=1_500)
        own, past = (
            estimate_effect(METRICS["orders_per_unit"], "b", *sides(sample, "orders_per_unit"), past=p)
            for p in (False, True)
        )
        assert own is not None
        assert past is not None
        assert past.less_variance is not None
        assert past.less_variance > 0.2
        errors.append((own.absolute, past.absolute))
    own_spread, past_spread = np.std(errors, axis=0)
    assert past_spread < 0.9 * own_spread
    assert abs(np.mean([past for _, past in errors])) < 3 * past_spread / 40**0.5


def test_what_always_holds_holds_on_every_day() -> None:
    assert half_width(1_000, 0.05, 1_000) == pytest.approx(3.06, abs=0.03)  # where 1.96 is that of one look
    assert half_width(100, 0.05, 1_000) > half_width(1_000, 0.05, 1_000) < half_width(100_000, 0.05, 1_000)
    for n in (10, 1_000, 10_000):
        assert always_p(half_width(n, 0.05, 500), n, 0.05, 500) == pytest.approx(0.05)
    rng = np.random.default_rng(0)
    walks = rng.standard_normal((1_500, 4_000)).cumsum(axis=1)[:, 99::20] / np.sqrt(np.arange(100, 4_001, 20))
    limit = np.array([half_width(n, 0.05, 4_000) for n in range(100, 4_001, 20)])
    assert (np.abs(walks) > limit).any(axis=1).mean() < 0.05
    assert (np.abs(walks) > 1.96).any(axis=1).mean() > 0.2


def test_verdicts() -> None:
    better = analyse(units(2, lift=0.3), AnalysisConfig(control="a"))
    assert better.outcome == "better"
    assert better.verdict.startswith("b is better than a: +")
    assert analyse(units(2, lift=-0.3), AnalysisConfig(control="a")).outcome == "worse"
    level = analyse(units(3), AnalysisConfig(control="a"))
    assert level.outcome == "no_difference"
    wide = analyse(units(3), AnalysisConfig(control="a", planned_effect=0.001))
    assert wide.verdict.startswith("Cannot say, because the interval is too wide")
    sequential = analyse(units(2, lift=0.3), AnalysisConfig(control="a", sequential=True))
    effect = sequential.effect("b", "conversion")
    assert effect is not None
    assert f"{effect.always.low:+.1%}" in sequential.verdict
    assert {part.column for part in better.slices} == {"device"}
    assert not better.slices[0].holds
    assert len(better.cumulative["b"]) == DAYS == len(better.by_age["b"])


def test_a_verdict_of_several_arms_leaves_none_out() -> None:
    lifted = units(2, lift=0.3)
    arms = np.where((lifted.arms == "a") & (np.arange(len(lifted.arms)) % 2 == 0), "c", lifted.arms).astype(object)
    analysis = analyse(replace(lifted, arms=arms), AnalysisConfig(control="a", weights={"b": 2.0}))
    assert analysis.outcome == "better"
    assert analysis.verdict.startswith("Against a, in shoppers with an order (95% intervals), better: b +")
    assert "; no difference shown: c " in analysis.verdict


def test_reasons_to_say_nothing() -> None:
    off = analyse(units(4, weights=(1, 1.3)), AnalysisConfig(control="a"))
    assert off.verdict.startswith("Cannot say, because the arms do not have the users that they should have")
    assert off.checks.mismatch_p is not None
    assert off.checks.mismatch_p < MISMATCH_P
    assert analyse(units(4, weights=(1, 1.3)), AnalysisConfig(control="a", weights={"b": 1.3})).outcome != "cannot_say"
    leaked = replace(units(4), n_leaks=200, leak_examples=("u1",))
    verdict = analyse(leaked, AnalysisConfig(control="a")).verdict
    assert "200 of 6200 users were in several arms, more than 1.0%" in verdict
    assert "--max-leaks 0.033" in verdict
    assert "u1" not in verdict
    assert analyse(leaked, AnalysisConfig(control="a", max_leak_share=0.033)).outcome != "cannot_say"
    alone = replace(units(4), arms=np.full(6_000, "a", dtype=object))
    assert "there is one arm alone: a" in analyse(alone, AnalysisConfig()).verdict
    assert "fewer than 100 say nothing" in analyse(units(4, n=120), AnalysisConfig(control="a")).verdict
    nothing = units(4)
    zero = replace(nothing, columns={k: v * (k in ("requests", "shown")) for k, v in nothing.columns.items()})
    assert "rates say nothing" in analyse(zero, AnalysisConfig(control="a")).verdict
    full = replace(nothing, columns=nothing.columns | {"converted": (np.arange(6_000) % 50 > 0) + 0.0})
    assert "98% of the users ordered something" in analyse(full, AnalysisConfig(control="a")).checks.warnings[-1]
    by_orders = analyse(full, AnalysisConfig(control="a", primary="orders_per_request"))
    assert not any("ordered something" in warning for warning in by_orders.checks.warnings)
    with pytest.raises(UsageError, match="no arm 'c'"):
        analyse(units(4), AnalysisConfig(control="c"))
    with pytest.raises(UsageError, match="None of the arms is called 'control'"):
        analyse(replace(units(4), arms=np.array(["x", "y"] * 3_000, dtype=object)), AnalysisConfig())
    with pytest.raises(UsageError, match="no metric 'profit'"):
        analyse(units(4), AnalysisConfig(primary="profit"))


def test_the_report_says_it(tmp_path: Path) -> None:
    analysis = analyse(units(2, lift=0.3), AnalysisConfig(control="a"))
    json.dumps(asdict(analysis))
    write_report(analysis, "<try> 🛒", tmp_path / "r.html", simulated=True)
    page = (tmp_path / "r.html").read_text("utf-8")
    for text in (analysis.verdict, "&lt;try&gt; 🛒", "simulated behaviour", "Do not go fishing", "<svg"):
        assert text in page
    write_report(analyse(units(4, n=120), AnalysisConfig(control="a")), "x", tmp_path / "r.html")


def test_a_plan_is_read_off_the_log() -> None:
    log = replace(units(5), arms=np.full(6_000, "all", dtype=object))
    result = plan(log, PlanConfig(effect=0.08))
    assert [step.days for step in result.steps] == [1, 2, 3, 5, 7]
    assert all(a.effect > b.effect for a, b in zip(result.steps, result.steps[1:], strict=False))
    assert result.days is not None
    half = plan(log, PlanConfig(effect=0.08, traffic=0.5))
    assert half.steps[-1].effect == pytest.approx(result.steps[-1].effect * 2**0.5, rel=1e-3)
    assert plan(log, PlanConfig(effect=0.08, sequential=True)).steps[-1].effect > result.steps[-1].effect
    assert plan(log, PlanConfig(effect=0.001)).days is None
    # by hand: two arms of 500, relative error 1, level 5%, power 80%
    by_hand = (1.959964 + 0.841621) * (1 / 500 + 1 / 500) ** 0.5
    assert detectable(1.0, 1_000, PlanConfig()) == pytest.approx(by_hand, rel=1e-5)
    with pytest.raises(UsageError, match="Too little of conversion"):
        plan(replace(log, daily={k: v[log.daily["day"] < 1] for k, v in log.daily.items()}), PlanConfig())


def test_credit_of_interleaved_lists() -> None:
    teams: list[list[str | None]] = [["a", "b", "a"], ["a", "b", "a"], ["b", None, "a"]]
    ranks_a: list[list[int | None]] = [[1, 2, 3], [1, None, 2], [3, None, 1]]
    ranks_b: list[list[int | None]] = [[3, 1, None], [4, 1, None], [1, None, 2]]
    taken = [[True, False, True], [False, True, False], [True, False, True]]
    assert credit_margins(teams, ranks_a, ranks_b, taken).tolist() == [-2, 1, 0]
    # first request: both were read to depth 3, where a has two of the taken and b one
    assert credit_margins(teams, ranks_a, ranks_b, taken, scoring="balanced").tolist() == [-1, 1, 0]


def test_preferences_and_their_intervals() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        shoppers = rng.integers(0, 150, 800)
        leaning = rng.normal(0, 1, 150)[shoppers]
        margins = np.where(rng.random(800) < 0.3, np.where(leaning + rng.normal(0, 1, 800) > 0, 1, -1), 0)
        preference = estimate_preference(margins.astype(float), shoppers.astype(np.int64), "clicks")
        assert preference is not None
        covered += preference.interval.low <= 0.5 <= preference.interval.high
    assert 0.91 < covered / 300 < 0.985
    clear = estimate_preference(np.array([1.0] * 90 + [-1.0] * 10), np.arange(100), "clicks")
    assert clear is not None
    assert clear.share == 0.9
    assert clear.verdict.startswith("List b is preferred: b wins 90.0% of 100 requests")
    assert estimate_preference(np.zeros(5), np.arange(5), "clicks") is None


@pytest.mark.parametrize(
    ("reach", "expected"),
    [(0.987, [0.5]), (0.05, [0.02, 0.04]), (0.031, [0.01, 0.02, 0.03]), (1.0, [0.5, 1]), (12, [5, 10])],
)
def test_ticks_are_round_numbers_around_zero(reach: float, expected: list[float]) -> None:
    assert ticks(float(reach)) == [*(-tick for tick in reversed(expected)), 0, *expected]
