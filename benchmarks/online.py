"""Which measures before a test predict its result: eleven systems with simulated shoppers.

    python benchmarks/online.py WORK [--requests 60000] [--pairs 4000]

Each system is measured on the old log, on the simulated truth, by off-policy estimates from a log that explored, and by
interleaving with `dssm` and with `mmse`. Then all of them are compared in A/B tests on the real server: once with
their pages as they are, once behind the ranking steps of the simulated shop. Everything is simulated.
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
from machine import environment, write_result
from scipy.stats import kendalltau, spearmanr

from mmse.evaluation.channels import QueryBatch, Subject
from mmse.evaluation.metrics import TrueTop, draw_orders, from_pairs, locate, order_rate, recall
from mmse.evaluation.truth import CatalogueTruth
from mmse.experiment.assignment import Arm, Experiment, Explore, Interleave
from mmse.experiment.effects import estimate_effect
from mmse.experiment.interleaving import Credit, Scoring, estimate_preference, read_margins
from mmse.experiment.metrics import METRICS, aggregate
from mmse.experiment.off_policy import estimate
from mmse.experiment.search_log import Reward, new_pages, read_log, weigh_log
from mmse.experiment.units import Window, read_units
from mmse.lab.simulated_test.arms import make_runs
from mmse.lab.simulated_test.online_shop import OnlineConfig, OnlineShop, open_shop
from mmse.lab.simulated_test.server_process import Server, run_server
from mmse.lab.simulated_test.traffic import Display, simulate_traffic
from mmse.lab.simulator.behaviour import examination
from mmse.lab.simulator.truth import Truth
from mmse.pipeline import Listener
from mmse.retrieval.retriever import Retriever
from mmse.schema.search import Channel
from mmse.schema.stages import Stage
from mmse.serving import experiments
from mmse.serving.versions.publish import publish
from mmse.serving.versions.site import Site
from mmse.shop import read_shop
from mmse.sources.tables import EventsConfig
from mmse.training.targets import read_logged_requests

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
Findings = dict[str, dict[str, Any]]


def main() -> None:
    """Runs everything and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--requests", type=int, default=60_000, help="of each A/B test, over all systems")
    parser.add_argument("--pairs", type=int, default=4_000, help="requests of each interleaved test")
    options, start_environment = parser.parse_args(), environment()
    config = OnlineConfig()
    shop = open_shop(config, options.work / "shop")
    runs = make_runs(read_shop(options.work / "shop" / "shop.toml"), RECIPES, options.work / "round-1", Listener())
    findings: Findings = {name: {} for name in SYSTEMS}
    measure_offline(runs, findings, options.work)
    site = make_site(options.work / "site", runs)
    with run_server(site) as server:
        measure_truth(shop, server, findings)
        for rerank in WAYS.values():
            all_arms = Experiment(f"ab-{rerank}", {name: arm_of(name) for name in SYSTEMS})
            run_experiment(shop, server, site, all_arms, options.requests, Display(rerank=rerank, seed=1))
            for rival, system in rival_pairs():
                run_experiment(
                    shop,
                    server,
                    site,
                    interleaved_experiment(rival, system, rerank),
                    options.pairs,
                    Display(rerank=rerank, seed=2),
                )
        explores = Arm(serves="dssm", explore=Explore(0.3, 100))
        explored = Experiment("explored", {"x": explores, "y": explores})
        run_experiment(shop, server, site, explored, 40_000, Display(rerank=False, seed=3))
    logs = {name: export_log(site, name) for name in experiment_names(site)}
    for way, rerank in WAYS.items():
        analyse_ab(logs, way, rerank, findings)
        for rival, system in rival_pairs():
            analyse_interleaved(logs, rival, system, way, rerank, findings)
    estimate_off_policy(shop, runs, logs["explored"], findings)
    (options.work / "found.json").write_text(json.dumps(findings, indent=1), "utf-8")
    write_result(
        "online",
        {
            "where": start_environment,
            "simulated": True,
            "shop": {
                "items": config.market.n_items,
                "log_days": config.log_days,
                "requests_a_day": config.requests_a_day,
            },
            "requests": options.requests,
            "interleaved_requests": options.pairs,
            "systems": findings,
            "agreement": {way: measure_agreement(findings, way) for way in WAYS},
            "interleaving": {way: compare_interleaving(findings, way) for way in WAYS},
        },
    )


def rival_pairs() -> Iterator[tuple[str, str]]:
    """Each rival with each other system."""
    return ((rival, system) for rival, system in product(RIVALS, SYSTEMS) if system != rival)


def measure_offline(runs: Mapping[str, Path], findings: Findings, work: Path) -> None:
    """Logged recall and the metrics on the truth, on the old log's test window."""
    for name, (run, channel) in SYSTEMS.items():
        subject = Subject.open(runs[run])
        log = read_logged_requests(runs[run] / "dataset", "test", 3_000, clicked_only=False)
        vectors = subject.vectors(QueryBatch(log.queries, log.users, log.history))
        ranking = subject.retriever.rankings(log.queries, vectors, 100, [channel])[channel]
        for action, pairs_mask, depth in (
            ("order", log.stages == Stage.ORDERED, (10, 100)),
            ("click", log.stages >= Stage.CLICKED, (10,)),
        ):
            relevant = from_pairs(
                log.request[pairs_mask], log.item_rows[pairs_mask], np.ones(int(pairs_mask.sum())), len(log)
            )
            for k in depth:
                findings[name][f"logged {action} recall@{k}"] = float(np.nanmean(recall(locate(ranking, relevant), k)))
        catalogue_truth = CatalogueTruth.align(Truth.open(work / "shop" / "truth"), runs[run] / "dataset")
        chances = catalogue_truth.orders(log.request_ids[:800])
        orders = draw_orders(chances, 5, np.random.default_rng(1))
        findings[name]["off_search recall@100 (truth)"] = float(np.nanmean(recall(locate(ranking[:800], orders), 100)))
        findings[name]["order rate@10 (truth)"] = float(
            np.nanmean(order_rate(ranking[:800], TrueTop.of(chances, 10), 10))
        )


def make_site(folder: Path, runs: Mapping[str, Path]) -> Path:
    """A site with an arm for each run."""
    shutil.rmtree(folder, ignore_errors=True)
    publish(folder, runs["mmse"])
    for name, run in runs.items():
        publish(folder, run, arm=name)
    return folder


def arm_of(name: str) -> Arm:
    """The arm of a system."""
    version, channel = SYSTEMS[name]
    return Arm(serves=version, channel=channel)


def interleaved_experiment(rival: str, system: str, rerank: bool) -> Experiment:
    """The rival's list (a) interleaved with the system's (b)."""
    version, channel = SYSTEMS[system]
    arm = Arm(serves=rival, channel="hybrid", interleave=Interleave(version, channel=channel))
    return Experiment(f"{rival}-{system}-{rerank}", {"x": arm, "y": arm})


def measure_truth(shop: OnlineShop, server: Server, findings: Findings) -> None:
    """The expected orders and clicks of each system for the same 4,000 requests."""
    sample = np.sort(np.random.default_rng(0).choice(shop.round_rows(1), 4_000, replace=False))
    for (name, (version, channel)), (way, rerank) in product(SYSTEMS.items(), WAYS.items()):
        traffic = simulate_traffic(
            shop, server, sample, Display(rerank=rerank, version=version, channel=channel, silent=True)
        )
        findings[name][f"{TRUTH}, {way}"] = float(traffic.orders.mean())
        findings[name][f"true clicks a request, {way}"] = float(traffic.clicks.mean())


def run_experiment(
    shop: OnlineShop, server: Server, site: Path, experiment: Experiment, n: int, display: Display
) -> None:
    """Simulates `n` requests of the first round in an experiment."""
    experiments.start(Site.open(site), experiment)
    seed = [11, *experiment.name.encode()]
    rows = np.sort(
        np.random.default_rng(seed).choice(shop.round_rows(1), min(n, len(shop.round_rows(1))), replace=False)
    )
    simulate_traffic(shop, server, rows, display)
    experiments.stop(Site.open(site), experiment.name)


def experiment_names(site: Path) -> list[str]:
    """The names of all experiments of the site."""
    return sorted({step.name for step in experiments.read_experiments(site).history})


def export_log(site: Path, experiment: str) -> EventsConfig:
    """Writes the exposures of one experiment into a table of its own, which is faster to read."""
    import duckdb

    target = site.parent / "split" / f"{experiment}.parquet"
    target.parent.mkdir(exist_ok=True)
    duckdb.execute(f"""COPY (WITH told AS (SELECT * FROM read_parquet('{site}/events/*/*.parquet')),
        mine AS (SELECT DISTINCT request_id FROM told WHERE assignments['{experiment}'] IS NOT NULL)
        SELECT * FROM told SEMI JOIN mine USING (request_id)) TO '{target}'""")
    return EventsConfig(str(target.absolute()))


def analyse_ab(logs: Mapping[str, EventsConfig], way: str, rerank: bool, findings: Findings) -> None:
    """The results of the A/B test, and the requests needed to tell each pair apart."""
    units = read_units(logs[f"ab-{rerank}"], Path(), "user", Window(f"ab-{rerank}"))
    metric = METRICS["orders_per_request"]
    metric_columns = {column: units.columns[column] for column in metric.columns}
    sides = {name: aggregate(metric_columns, units.arms == name) for name in SYSTEMS}
    for name, side in sides.items():
        findings[name][f"A/B orders a request, {way}"] = float(side.mean("orders") / side.mean("requests"))
    for rival, system in rival_pairs():
        order_effect = estimate_effect(metric, system, sides[rival], sides[system])
        conversion_effect = estimate_effect(
            METRICS["conversion"],
            system,
            *(
                aggregate({c: units.columns[c] for c in METRICS["conversion"].columns}, units.arms == name)
                for name in (rival, system)
            ),
        )
        for name, effect in (("orders a request", order_effect), ("conversion", conversion_effect)):
            if effect is not None:
                findings[system][f"A/B against {rival}, {name}, {way}"] = {
                    "lift": effect.relative,
                    "interval": [effect.interval.low, effect.interval.high],
                }
        if order_effect is not None:
            requests = float(sum(metric_columns["requests"][units.arms == name].sum() for name in (rival, system)))
            error = (order_effect.absolute_interval.high - order_effect.absolute_interval.low) / 3.92
            true_difference = findings[system][f"{TRUTH}, {way}"] - findings[rival][f"{TRUTH}, {way}"]
            findings[system][f"A/B against {rival}, orders a request, {way}"] |= {
                "true": true_difference,
                "requests to be sure": required_requests(requests, error, true_difference),
            }


def analyse_interleaved(
    logs: Mapping[str, EventsConfig], rival: str, system: str, way: str, rerank: bool, findings: Findings
) -> None:
    """The results of the interleaved test of a pair, by credit and scoring."""
    name = f"{rival}-{system}-{rerank}"
    for credit, scoring in product(get_args(Credit), get_args(Scoring)):
        if scoring == "balanced":
            continue
        preference = estimate_preference(*read_margins(logs[name], Path(), name, credit, scoring=scoring), credit)
        if preference is not None:
            error = (preference.interval.high - preference.interval.low) / 3.92
            findings[system][f"interleaved with {rival}, {credit} {scoring}, {way}"] = {
                "delta": preference.delta,
                "interval": [preference.interval.low - 0.5, preference.interval.high - 0.5],
                "requests": preference.requests,
                "decided": preference.decided,
                "requests to be sure": required_requests(preference.requests, error, preference.delta),
            }


def required_requests(requests: float, error: float, effect: float) -> float:
    """The requests that find the effect in 80% of tests at the level of 5%, from the standard error at `requests`."""
    return float(requests * (2.8 * error / abs(effect)) ** 2) if effect else float("inf")


def estimate_off_policy(shop: OnlineShop, runs: Mapping[str, Path], log: EventsConfig, findings: Findings) -> None:
    """The off-policy estimates of each system on the log that explored, with the true examination chances."""
    log_table, look_chances = read_log(log, Path(), experiment="explored"), examination(shop.behaviour)
    for name, (run, channel) in SYSTEMS.items():
        pages = new_pages(Retriever.open(runs[run], edits=False), log_table, len(look_chances), channel)
        for reward in get_args(Reward):
            estimates = estimate(weigh_log(log_table, pages, look_chances, reward))
            findings[name][f"off-policy {reward} a request"] = {
                "ips": estimates.ips.estimate,
                "snips": estimates.snips.estimate,
                "dr": estimates.dr.estimate,
                "dr_interval": [estimates.dr.interval.low, estimates.dr.interval.high],
                "sample": estimates.sample,
                "mean_weight": estimates.mean_weight.estimate,
                "refusal": estimates.refusal,
            }


def compare_interleaving(findings: Findings, way: str) -> dict[str, dict[str, float]]:
    """By credit and scoring: correct signs, and how many times fewer requests than an A/B test it needs.

    The A/B test's number is from the true difference in orders a request, the interleaved one's from its own delta.
    """
    result = {}
    for credit, scoring in product(get_args(Credit), ("team", "alone")):
        has_right_sign, ratios = [], []
        for rival, system in rival_pairs():
            ab_test = findings[system][f"A/B against {rival}, orders a request, {way}"]
            interleaved_test = findings[system].get(f"interleaved with {rival}, {credit} {scoring}, {way}")
            if interleaved_test is not None:
                has_right_sign.append(interleaved_test["delta"] * ab_test["true"] > 0)
                ratios.append(ab_test["requests to be sure"] / interleaved_test["requests to be sure"])
        result[f"{credit} {scoring}"] = {
            "pairs": len(has_right_sign),
            "signs_right": int(sum(has_right_sign)),
            "times_fewer_requests": round(float(np.median(ratios)), 1),
            "times_fewer_at_least": round(float(np.min(ratios)), 1),
        }
    return result


def measure_agreement(findings: Findings, way: str) -> dict[str, dict[str, float]]:
    """By measure: rank correlations with the true orders a request, and the share of pairs in the right order."""
    target = {name: values[f"{TRUTH}, {way}"] for name, values in findings.items()}
    result = {}
    for measure, values in list_measures(findings).items():
        names = sorted(values)
        x, y = [values[n] for n in names], [target[n] for n in names]
        share_right = np.mean([(x[i] - x[j]) * (y[i] - y[j]) > 0 for i in range(len(names)) for j in range(i)])
        rank, kendall = spearmanr(x, y).statistic, kendalltau(x, y).statistic
        result[measure] = {
            "systems": len(names),
            "spearman": round(float(rank), 3),
            "kendall": round(float(kendall), 3),
            "pairs_right": round(float(share_right), 3),
        }
    return dict(sorted(result.items(), key=lambda item: -item[1]["spearman"]))


def list_measures(findings: Findings) -> dict[str, dict[str, float]]:
    """Each measure by system; a rival interleaved with itself has 0."""
    values_of: dict[str, dict[str, float]] = {}
    for name, values in findings.items():
        for measure, value in values.items():
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
                values_of.setdefault(key, {})[name] = number
    for measure, values in values_of.items():
        for rival in RIVALS:
            if measure.startswith(f"interleaved with {rival},"):
                values[rival] = 0.0
    return values_of


if __name__ == "__main__":
    main()
