"""Which measure taken before a test tells what the test will show: eleven systems in front of simulated shoppers.

    python benchmarks/online.py WORK [--requests 60000] [--pairs 4000]

Each system is measured on the old log, on the simulated truth, by off-policy estimates from a log that explored, and by
interleaving with `dssm` and with `mmse`; then all of them meet in A/B tests behind the real server: once their pages
are shown as they come, once behind the ranking stages of the simulated shop. Everything is simulated.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
from machine import keep, where
from scipy.stats import kendalltau, spearmanr

from mmse.evaluation.channels import Questions, Served
from mmse.evaluation.metrics import draw_orders, from_pairs, locate, order_rate, recall
from mmse.evaluation.truth import World
from mmse.experiment.assignment import Arm, Experiment, Explore, Interleave
from mmse.experiment.effects import effect
from mmse.experiment.interleaving import Credit, Scoring, preference, read_margins
from mmse.experiment.metrics import METRICS, aggregates
from mmse.experiment.off_policy import estimate
from mmse.experiment.search_log import Reward, new_pages, read_log, slots_of
from mmse.experiment.units import Window, read_units
from mmse.lab.simulated_test.arms import make_runs
from mmse.lab.simulated_test.front import Display, visit
from mmse.lab.simulated_test.process import Server, serving
from mmse.lab.simulated_test.world import OnlineConfig, Shop, open_shop
from mmse.lab.simulator.behaviour import examination
from mmse.pipeline import Listener, read_shop
from mmse.retrieval.retriever import Retriever
from mmse.schema.search import Channel
from mmse.schema.stages import Stage
from mmse.serving import experiments
from mmse.serving.versions.publish import publish
from mmse.serving.versions.site import Site
from mmse.sources.tables import EventsConfig
from mmse.training.targets import read_logged

RECIPES = (
    "mmse",
    "mmse_paper",
    "weighted_softmax",
    "dssm",
    "mmse_logq",
    "semantic_product_search",
    "dpsr",
    "mgdspr",
    "moppr",
    "h_infonce",
)
SYSTEMS: dict[str, tuple[str, Channel]] = {name: (name, "hybrid") for name in RECIPES} | {"bm25": ("mmse", "lexical")}
RIVALS = ("dssm", "mmse")
WAYS = {"shown as it is": False, "behind ranking stages": True}
TRUTH = "true orders a request"
Found = dict[str, dict[str, Any]]


def main() -> None:
    """Runs everything and keeps it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--requests", type=int, default=60_000, help="of each A/B test, over all systems")
    parser.add_argument("--pairs", type=int, default=4_000, help="requests of each interleaved test")
    asked, began = parser.parse_args(), where()
    config = OnlineConfig()
    shop = open_shop(config, asked.work / "shop")
    runs = make_runs(read_shop(asked.work / "shop" / "shop.toml"), RECIPES, asked.work / "round-1", Listener())
    found: Found = {name: {} for name in SYSTEMS}
    offline(runs, found, asked.work)
    site = make_site(asked.work / "site", runs)
    with serving(site) as server:
        truths(shop, server, found)
        for ranked in WAYS.values():
            all_arms = Experiment(f"ab-{ranked}", {name: arm_of(name) for name in SYSTEMS})
            meet(shop, server, site, all_arms, asked.requests, Display(ranked=ranked, seed=1))
            for rival, other in pairs():
                meet(shop, server, site, against(rival, other, ranked), asked.pairs, Display(ranked=ranked, seed=2))
        explores = Arm(serves="dssm", explore=Explore(0.3, 100))
        explored = Experiment("explored", {"x": explores, "y": explores})
        meet(shop, server, site, explored, 40_000, Display(ranked=False, seed=3))
    logs = {name: split(site, name) for name in experiment_names(site)}
    for way, ranked in WAYS.items():
        judge_ab(logs, way, ranked, found)
        for rival, other in pairs():
            judge_interleaved(logs, rival, other, way, ranked, found)
    off_policy(shop, runs, logs["explored"], found)
    (asked.work / "found.json").write_text(json.dumps(found, indent=1), "utf-8")
    keep(
        "online",
        {
            "where": began,
            "simulated": True,
            "shop": {
                "items": config.market.n_items,
                "log_days": config.log_days,
                "requests_a_day": config.requests_a_day,
            },
            "requests": asked.requests,
            "interleaved_requests": asked.pairs,
            "systems": found,
            "agreement": {way: agreement(found, way) for way in WAYS},
            "interleaving": {way: interleaving(found, way) for way in WAYS},
        },
    )


def pairs() -> Iterator[tuple[str, str]]:
    """Rivals and who is interleaved with each."""
    return ((rival, other) for rival, other in product(RIVALS, SYSTEMS) if other != rival)


def offline(runs: Mapping[str, Path], found: Found, work: Path) -> None:
    """Logged recall, and what the truth says of what is served, on the old log's test window."""
    for name, (run, channel) in SYSTEMS.items():
        served = Served.open(runs[run])
        logged = read_logged(runs[run] / "dataset", "test", 3_000, clicked_only=False)
        vectors = served.vectors(Questions(logged.queries, logged.users, logged.history))
        ranked = served.retriever.rankings(logged.queries, vectors, 100, [channel])[channel]
        for what, kept, depth in (
            ("order", logged.stages == Stage.ORDERED, (10, 100)),
            ("click", logged.stages >= Stage.CLICKED, (10,)),
        ):
            wanted = from_pairs(logged.request[kept], logged.item_rows[kept], np.ones(int(kept.sum())), len(logged))
            for k in depth:
                found[name][f"logged {what} recall@{k}"] = float(np.nanmean(recall(locate(ranked, wanted), k)))
        world = World.open(work / "shop" / "truth", runs[run] / "dataset")
        chances = world.orders(logged.request_ids[:800])
        drawn = draw_orders(chances, 5, np.random.default_rng(1))
        found[name]["off_search recall@100 (truth)"] = float(np.nanmean(recall(locate(ranked[:800], drawn), 100)))
        found[name]["order rate@10 (truth)"] = float(np.nanmean(order_rate(ranked[:800], chances, 10)))


def make_site(folder: Path, runs: Mapping[str, Path]) -> Path:
    """A site with an arm for each run."""
    shutil.rmtree(folder, ignore_errors=True)
    publish(folder, runs["mmse"])
    for name, run in runs.items():
        publish(folder, run, arm=name)
    return folder


def arm_of(name: str) -> Arm:
    """What the shoppers of a system are served."""
    version, channel = SYSTEMS[name]
    return Arm(serves=version, channel=channel)


def against(rival: str, other: str, ranked: bool) -> Experiment:
    """The rival's list (a) and the other's (b) in one."""
    version, channel = SYSTEMS[other]
    mixed = Arm(serves=rival, channel="hybrid", interleave=Interleave(version, channel=channel))
    return Experiment(f"{rival}-{other}-{ranked}", {"x": mixed, "y": mixed})


def truths(shop: Shop, server: Server, found: Found) -> None:
    """The orders to be expected of each system for the same 4,000 requests."""
    sample = np.sort(np.random.default_rng(0).choice(shop.round_of(1), 4_000, replace=False))
    for (name, (version, channel)), (way, ranked) in product(SYSTEMS.items(), WAYS.items()):
        went = visit(shop, server, sample, Display(ranked=ranked, version=version, channel=channel, silent=True))
        found[name][f"{TRUTH}, {way}"] = float(went.orders.mean())
        found[name][f"true clicks a request, {way}"] = float(went.clicks.mean())


def meet(shop: Shop, server: Server, site: Path, experiment: Experiment, n: int, display: Display) -> None:
    """Lets `n` requests of the first round happen in an experiment."""
    experiments.start(Site.open(site), experiment)
    seed = [11, *experiment.name.encode()]
    rows = np.sort(np.random.default_rng(seed).choice(shop.round_of(1), min(n, len(shop.round_of(1))), replace=False))
    visit(shop, server, rows, display)
    experiments.stop(Site.open(site), experiment.name)


def experiment_names(site: Path) -> list[str]:
    """All experiments of which something was logged."""
    return sorted({step.name for step in experiments.read(site).history})


def split(site: Path, experiment: str) -> EventsConfig:
    """The exposures of one experiment as a table of its own, which is read faster than all."""
    import duckdb

    out = site.parent / "split" / f"{experiment}.parquet"
    out.parent.mkdir(exist_ok=True)
    duckdb.execute(f"""COPY (WITH told AS (SELECT * FROM read_parquet('{site}/events/*/*.parquet')),
        mine AS (SELECT DISTINCT request_id FROM told WHERE assignments['{experiment}'] IS NOT NULL)
        SELECT * FROM told SEMI JOIN mine USING (request_id)) TO '{out}'""")
    return EventsConfig(str(out.absolute()))


def judge_ab(logs: Mapping[str, EventsConfig], way: str, ranked: bool, found: Found) -> None:
    """What the A/B test measured, and how many requests it takes to be sure of a pair."""
    units = read_units(logs[f"ab-{ranked}"], Path(), "user", Window(f"ab-{ranked}"))
    metric = METRICS["orders_per_request"]
    used = {column: units.columns[column] for column in metric.columns}
    sides = {name: aggregates(used, units.arms == name) for name in SYSTEMS}
    for name, side in sides.items():
        found[name][f"A/B orders a request, {way}"] = float(side.mean("orders") / side.mean("requests"))
    for rival, other in pairs():
        one = effect(metric, other, sides[rival], sides[other])
        both = effect(
            METRICS["conversion"],
            other,
            *(
                aggregates({c: units.columns[c] for c in METRICS["conversion"].columns}, units.arms == name)
                for name in (rival, other)
            ),
        )
        for what, seen in (("orders a request", one), ("conversion", both)):
            if seen is not None:
                found[other][f"A/B against {rival}, {what}, {way}"] = {
                    "lift": seen.relative,
                    "interval": [seen.interval.low, seen.interval.high],
                }
        if one is not None:
            requests = float(sum(used["requests"][units.arms == name].sum() for name in (rival, other)))
            error = (one.absolute_interval.high - one.absolute_interval.low) / 3.92
            true = found[other][f"{TRUTH}, {way}"] - found[rival][f"{TRUTH}, {way}"]
            found[other][f"A/B against {rival}, orders a request, {way}"] |= {
                "true": true,
                "requests to be sure": sure(requests, error, true),
            }


def judge_interleaved(
    logs: Mapping[str, EventsConfig], rival: str, other: str, way: str, ranked: bool, found: Found
) -> None:
    """What the interleaved test says of a pair, by each credit and scoring."""
    name = f"{rival}-{other}-{ranked}"
    for credit, scoring in product(get_args(Credit), get_args(Scoring)):
        if scoring == "balanced":
            continue
        won = preference(*read_margins(logs[name], Path(), name, credit, scoring=scoring), credit)
        if won is not None:
            error = (won.interval.high - won.interval.low) / 3.92
            found[other][f"interleaved with {rival}, {credit} {scoring}, {way}"] = {
                "delta": won.delta,
                "interval": [won.interval.low - 0.5, won.interval.high - 0.5],
                "requests": won.requests,
                "decided": won.decided,
                "requests to be sure": sure(won.requests, error, won.delta),
            }


def sure(requests: float, error: float, effect: float) -> float:
    """How many requests find the effect in 80% of tests at the level of 5%, by the error that `requests` had."""
    return float(requests * (2.8 * error / abs(effect)) ** 2) if effect else float("inf")


def off_policy(shop: Shop, runs: Mapping[str, Path], log: EventsConfig, found: Found) -> None:
    """What each system would have earned on the log that explored, for the true chances of a look."""
    logged, looks = read_log(log, Path(), experiment="explored"), examination(shop.behaviour)
    for name, (run, channel) in SYSTEMS.items():
        pages = new_pages(Retriever.open(runs[run], edits=False), logged, len(looks), channel)
        for reward in get_args(Reward):
            made = estimate(slots_of(logged, pages, looks, reward))
            found[name][f"off-policy {reward} a request"] = {
                "ips": made.ips.estimate,
                "snips": made.snips.estimate,
                "dr": made.dr.estimate,
                "dr_interval": [made.dr.interval.low, made.dr.interval.high],
                "sample": made.sample,
                "mean_weight": made.mean_weight.estimate,
                "refusal": made.refusal,
            }


def interleaving(found: Found, way: str) -> dict[str, dict[str, float]]:
    """By credit and scoring: signs that are the truth's, and by how many times fewer requests than an A/B test needs.

    The test of arms is given the true difference in orders a request, the interleaved one has the delta that it found.
    """
    result = {}
    for credit, scoring in product(get_args(Credit), ("team", "alone")):
        right, times = [], []
        for rival, other in pairs():
            arms = found[other][f"A/B against {rival}, orders a request, {way}"]
            mixed = found[other].get(f"interleaved with {rival}, {credit} {scoring}, {way}")
            if mixed is not None:
                right.append(mixed["delta"] * arms["true"] > 0)
                times.append(arms["requests to be sure"] / mixed["requests to be sure"])
        result[f"{credit} {scoring}"] = {
            "pairs": len(right),
            "signs_right": int(sum(right)),
            "times_fewer_requests": round(float(np.median(times)), 1),
            "times_fewer_at_least": round(float(np.min(times)), 1),
        }
    return result


def agreement(found: Found, way: str) -> dict[str, dict[str, float]]:
    """Of each measure: rank correlations with the true orders a request, and pairs of systems in the right order."""
    target = {name: said[f"{TRUTH}, {way}"] for name, said in found.items()}
    result = {}
    for measure, values in measures(found).items():
        names = sorted(values)
        x, y = [values[n] for n in names], [target[n] for n in names]
        right = np.mean([(x[i] - x[j]) * (y[i] - y[j]) > 0 for i in range(len(names)) for j in range(i)])
        rank, kendall = spearmanr(x, y).statistic, kendalltau(x, y).statistic
        result[measure] = {
            "systems": len(names),
            "spearman": round(float(rank), 3),
            "kendall": round(float(kendall), 3),
            "pairs_right": round(float(right), 3),
        }
    return dict(sorted(result.items(), key=lambda item: -item[1]["spearman"]))


def measures(found: Found) -> dict[str, dict[str, float]]:
    """Each measure by system; a rival interleaved with itself stands at 0."""
    told: dict[str, dict[str, float]] = {}
    for name, said in found.items():
        for measure, value in said.items():
            if measure.startswith("A/B against"):
                continue
            parts = (
                {measure: value}
                if isinstance(value, float)
                else {
                    f"{measure}, {kind}" if kind != "delta" else measure: value[kind]
                    for kind in ("ips", "snips", "dr", "delta")
                    if kind in value
                }
            )
            for key, number in parts.items():
                told.setdefault(key, {})[name] = number
    for measure, values in told.items():
        for rival in RIVALS:
            if measure.startswith(f"interleaved with {rival},"):
                values[rival] = 0.0
    return told


if __name__ == "__main__":
    main()
