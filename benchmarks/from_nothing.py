"""From nothing to a verdict: a simulated shop without a log that learns from its own traffic, a day at a time.

    python benchmarks/from_nothing.py WORK [--days 7] [--requests 1000] [--seed 11]

Two sites of one simulated shop: `nothing` begins with the items alone, `log` with 30 days of the log of the shop's own
engine. Each day shoppers search on a real server (`mmse serve`), their clicks and orders are posted to it, and at night
`mmse cycle` runs; nothing is done by hand. After 0, 1, 3 and 7 days the same later requests, which nothing is learned
from, are shown what is served then, and the orders that the truth expects are counted. Last, shoppers take part in an
A/B test of what `nothing` serves now against where it began. Writes benchmarks/results/from_nothing.json.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from machine import environment, write_result

from mmse.cycle.loop import CycleOptions, run_cycle
from mmse.cycle.record import read_records
from mmse.experiment.analysis import analyse
from mmse.experiment.analysis_config import AnalysisConfig
from mmse.experiment.assignment import Arm, Experiment
from mmse.experiment.units import Window, read_units
from mmse.lab.simulated_test.online_shop import OnlineConfig, OnlineShop, open_shop
from mmse.lab.simulated_test.server_process import run_server
from mmse.lab.simulated_test.traffic import Display, simulate_traffic
from mmse.lab.simulator.simulate import SimulatorConfig
from mmse.serving import experiments
from mmse.serving.versions.site import Site, put_in_service
from mmse.sources.tables import EventsConfig

N_LATER, TEST_DAYS = 2_000, 5
MEASURED_AFTER = (0, 1, 3, 7)
DRAWS = 2_000
KEPT_VERSIONS = 20


@dataclass(frozen=True)
class Measurement:
    """The orders that the truth expects of each later request, after so many days."""

    days: int
    orders: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--days", type=int, default=7)
    parser.add_argument("--requests", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=11)
    options = parser.parse_args()
    market = SimulatorConfig(seed=options.seed, n_items=3_000, n_shoppers=1_500)
    n_rounds = options.days + TEST_DAYS + -(-N_LATER // options.requests)
    config = OnlineConfig(market, log_days=30, round_days=1, rounds=n_rounds, requests_a_day=options.requests)
    shop = open_shop(config, options.work / "shop")
    sites = {name: options.work / name for name in ("nothing", "log")}
    measurements = {name: live_through(shop, site, options.days, has_log=name == "log") for name, site in sites.items()}
    write_result(
        "from_nothing",
        environment()
        | {
            "shop": {"seed": options.seed, "items": 3_000, "shoppers": 1_500, "requests_a_day": options.requests},
            "behaviour": "simulated",
            "orders_per_request": [row for name in sites for row in table(name, measurements[name], measurements)],
            "cycles": {name: describe_cycles(site) for name, site in sites.items()},
            "test": test_start_against_now(shop, sites["nothing"], options.days),
        },
    )


def live_through(shop: OnlineShop, site: Path, days: int, *, has_log: bool) -> list[Measurement]:
    """So many days of a site: a cycle before the first one and after each, and what is served measured in between."""
    shutil.rmtree(site, ignore_errors=True)
    shop_file = write_shop(shop, site.with_suffix(".toml"), site.parent, has_log=has_log)
    measurements = []
    for day in range(days + 1):
        record = run_cycle(site, shop_file, CycleOptions(keep=KEPT_VERSIONS))
        print(site.name, day, record.outcome, record.summary, f"{record.seconds:.0f} s", flush=True)
        with run_server(site) as server:
            if day in MEASURED_AFTER or day == days:
                later = simulate_traffic(shop, server, later_rows(shop, days), Display(rerank=False, silent=True))
                measurements.append(Measurement(day, later.orders))
                print(site.name, day, f"{later.orders.mean():.4f} orders a request", flush=True)
            if day < days:
                simulate_traffic(shop, server, shop.round_rows(day + 1), Display(rerank=False, seed=day))
    return measurements


def write_shop(shop: OnlineShop, path: Path, work: Path, *, has_log: bool) -> Path:
    """The shop.toml of a site: the items alone, or the log of the shop's own engine too."""
    text = f'[items]\nsource = "{work.resolve()}/shop/items.parquet"\ncategorical = ["colour", "material"]\n'
    if has_log:
        text += f'[events]\nsource = "{work.resolve()}/shop/events/*.parquet"\n'
    path.write_text(text, "utf-8")
    return path


def later_rows(shop: OnlineShop, days: int) -> np.ndarray:
    """The requests after all days and the test, from which nothing is learned."""
    first = days + TEST_DAYS + 1
    return np.concatenate([shop.round_rows(day) for day in range(first, shop.config.rounds + 1)])[:N_LATER]


def table(name: str, rows: list[Measurement], measurements: dict[str, list[Measurement]]) -> list[dict[str, object]]:
    """Orders a request after so many days, with the paired difference to the start, and to the site with a log."""
    start = measurements[name][0].orders
    return [
        {
            "site": name,
            "days": row.days,
            "orders": round(float(row.orders.mean()), 4),
            "to_start": interval(row.orders - start),
            "to_log": interval(row.orders - log.orders),
        }
        for row, log in zip(rows, measurements["log"], strict=True)
    ]


def interval(differences: np.ndarray) -> list[float]:
    """The mean of paired differences, and its 95% interval by the bootstrap over requests."""
    rng = np.random.default_rng(0)
    draws = [differences[rng.integers(0, len(differences), len(differences))].mean() for _ in range(DRAWS)]
    return [round(float(value), 4) for value in (differences.mean(), *np.quantile(draws, (0.025, 0.975)))]


def describe_cycles(site: Path) -> list[dict[str, object]]:
    """What each cycle did."""
    return [
        {
            "cycle": record.number,
            "outcome": record.outcome,
            "version": record.version,
            "seconds": round(record.seconds),
            "requests": record.log.requests if record.log else 0,
            "refused_by": [finding.name for finding in record.findings if finding.severity == "blocks"],
        }
        for record in read_records(site)
    ]


def test_start_against_now(shop: OnlineShop, site: Path, days: int) -> dict[str, object]:
    """The A/B test of the last version against the first one, as an operator would run it."""
    open_site = Site.open(site)
    put_in_service(open_site, "start", "0001")
    arms = {"start": Arm(serves="start"), "now": Arm(serves="live")}
    experiments.start(open_site, Experiment("from-nothing", arms))
    rows = np.concatenate([shop.round_rows(days + 1 + day) for day in range(TEST_DAYS)])
    with run_server(site) as server:
        simulate_traffic(shop, server, rows, Display(rerank=False, seed=days))
    units = read_units(EventsConfig(str((site / "events").absolute())), site, "user", Window("from-nothing"))
    analysis = analyse(units, replace(AnalysisConfig(), control="start"))
    return {
        "requests": len(rows),
        "verdict": analysis.verdict,
        "effects": [
            {
                "metric": effect.metric,
                "control": round(effect.control, 4),
                "treatment": round(effect.treatment, 4),
                "relative": round(effect.relative, 4),
                "low": round(effect.interval.low, 4),
                "high": round(effect.interval.high, 4),
            }
            for effect in analysis.effects
        ],
    }


if __name__ == "__main__":
    main()
