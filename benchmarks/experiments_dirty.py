"""Whether the verdict of an A/B test holds among bots, whales and anonymous shoppers: A/A tests, and power.

    python benchmarks/experiments_dirty.py [--tests 1000]

Of 8,000 visitors in 14 days, 0.5% are programs (500 requests each on average, clicks on all, an order in 400 requests), 0.5% are
whales (trade customers: 20 times the orders of others, at 20 times the price), and 30% of the others' requests carry no id: they are
in no unit, and are counted as such. What decides is the whole of `mmse experiment analyse`: its verdict with all of its
checks. Everything is simulated. Writes benchmarks/results/experiments_dirty.json.
"""

from __future__ import annotations

import argparse
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
from machine import environment, write_result
from scipy.stats import binom

from mmse.experiment.analysis import Analysis, analyse
from mmse.experiment.analysis_config import AnalysisConfig
from mmse.experiment.gaps import Gaps
from mmse.experiment.units import COUNTS, PAST_PREFIX, Units

USERS, DAYS = 8_000, 14
BOT_SHARE, WHALE_SHARE, ANONYMOUS_SHARE = 0.005, 0.005, 0.3
PRIMARIES = ("conversion", "orders_per_request", "revenue_per_unit")
LIFTS = (0.0, 0.1, 0.2)
START = datetime(2026, 1, 1, tzinfo=UTC)


def simulate_units(seed: int, lift: float) -> Units:
    """The units of a test whose treatment has `lift` more orders a request, of everybody but programs."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(3, USERS, p=(1 - BOT_SHARE - WHALE_SHARE, BOT_SHARE, WHALE_SHARE))
    is_bot, is_whale = kind == 1, kind == 2
    arms = np.where(rng.random(USERS) < 0.5, "control", "treatment")
    activity = DAYS * rng.lognormal(-1.6, 1.0, USERS)
    activity[is_bot] = rng.lognormal(np.log(500), 0.5, int(is_bot.sum()))
    all_requests = rng.poisson(activity)
    requests = np.where(is_bot, all_requests, rng.binomial(all_requests, 1 - ANONYMOUS_SHARE))
    chance = rng.beta(2, 14, USERS) * np.where((arms == "treatment") & ~is_bot, 1 + lift, 1.0)
    chance[is_bot] = 1 / 400
    orders = rng.binomial(requests, np.minimum(chance, 1.0))
    orders[is_whale] = 20 * np.maximum(orders[is_whale], rng.random(int(is_whale.sum())) < 0.5)
    price = rng.lognormal(3.5, 0.5, USERS) * np.where(is_whale, 20, 1)
    columns = {
        "requests": requests,
        "buying_requests": np.minimum(orders, requests),
        "shown": 10 * requests,
        "clicks": np.where(is_bot, 10 * requests, rng.binomial(3 * requests, 0.3)),
        "carts": orders,
        "orders": orders,
        "revenue": orders * price,
    }
    values = {name: column.astype(np.float64)[requests > 0] for name, column in columns.items()}
    n = int((requests > 0).sum())
    past = {PAST_PREFIX + name: np.zeros(n) for name in (*COUNTS, "converted")}
    converted = (values["orders"] > 0).astype(np.float64)
    daily = {"unit_index": np.arange(n, dtype=np.float64), "day": np.zeros(n), "age": np.zeros(n)}
    n_anonymous = int((all_requests - requests)[~is_bot].sum())
    return Units(
        unit="user",
        arms=arms[requests > 0],
        columns=values | {"converted": converted} | past,
        slices={},
        daily=daily | values,
        first_days=np.zeros(n, np.int64),
        start=START,
        end=START + timedelta(days=DAYS),
        gaps=Gaps(requests=int(requests.sum()) + n_anonymous, anonymous_requests=n_anonymous),
    )


def raw_decides(analysis: Analysis, primary: str) -> bool:
    """Whether the change as it is, without the checks of few shoppers, is significant."""
    effect = analysis.effect("treatment", primary)
    return effect is not None and effect.p < 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=int, default=1_000)
    n = parser.parse_args().tests
    rows = []
    for lift in LIFTS:
        outcomes: dict[str, Counter[str]] = {primary: Counter() for primary in PRIMARIES}
        for number in range(n):
            units = simulate_units(int(1_000_000 * lift) + number, lift)
            for primary in PRIMARIES:
                analysis = analyse(units, AnalysisConfig(control="control", primary=primary, metrics=(primary,)))
                outcomes[primary][analysis.outcome] += 1
                outcomes[primary]["raw p below 0.05"] += raw_decides(analysis, primary)
        for primary, counts in outcomes.items():
            rows.append({"lift": lift, "primary": primary} | {name: round(k / n, 4) for name, k in counts.items()})
    band = [float(binom.ppf(q, n, 0.05)) / n for q in (0.025, 0.975)]
    write_result(
        "experiments_dirty",
        environment() | {"behaviour": "simulated", "tests": n, "visitors": USERS, "band of 5%": band, "rows": rows},
    )


if __name__ == "__main__":
    main()
