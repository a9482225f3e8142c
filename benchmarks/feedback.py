"""Five rounds of a search that learns from its own pages, with and without exploration.

    python benchmarks/feedback.py WORK [--exploration 0.15] [--seeds 2]

A simulated shop of 10,000 items has a log of 60,000 requests. `mmse` is trained on it and served over HTTP to the
shoppers of a fortnight (28,000 requests). Their events train the next round, together with the round before it, so that
from the third round on the model is trained on its own pages alone. The same shop is run twice: without random slots,
and with a share of slots filled at random with hits. `model` is the expected orders of the model alone, without random
slots, for the same requests of each round, so it does not include the cost of random slots. Everything is simulated.
Writes benchmarks/results/feedback.json.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
from machine import environment, write_result

from mmse.lab.simulated_test.arms import SimulatedArm
from mmse.lab.simulated_test.online_shop import OnlineConfig, open_shop
from mmse.lab.simulated_test.server_process import run_server
from mmse.lab.simulated_test.traffic import Display, simulate_traffic
from mmse.lab.simulated_test.trial import TrialConfig, run_trial
from mmse.lab.simulator.simulate import SimulatorConfig
from mmse.serving.versions.publish import publish

COMPARED_REQUESTS = 4_000
"""Requests of a round on which the models alone are compared."""


def main() -> None:
    """Runs both variants for every seed and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--exploration", type=float, default=0.15)
    parser.add_argument("--seeds", type=int, default=2)
    options, start_environment = parser.parse_args(), environment()
    loops = [
        {
            "seed": seed,
            "exploration": share,
            "rounds": run_loop(options.work / f"seed-{seed}-explored-{share}", seed, share),
        }
        for seed in range(options.seeds)
        for share in (0.0, options.exploration)
    ]
    write_result(
        "feedback", {"where": start_environment, "simulated": True, "config": asdict(online_config(0)), "loops": loops}
    )


def online_config(seed: int) -> OnlineConfig:
    """The config of the simulated shop."""
    simulator = SimulatorConfig(seed=seed, n_items=10_000)
    return OnlineConfig(simulator, log_days=30, round_days=14, rounds=5, requests_a_day=2_000)


def run_loop(work: Path, seed: int, exploration: float) -> list[dict[str, float]]:
    """The rounds of one variant."""
    config = TrialConfig(online_config(seed), {"mmse": SimulatedArm("mmse")}, exploration=exploration, rounds_kept=2)
    rounds = run_trial(config, work)
    return [asdict(result.arms["mmse"]) | {"model": orders_of_model(work, config, result.number)} for result in rounds]


def orders_of_model(work: Path, config: TrialConfig, number: int) -> float:
    """The expected orders, by the truth, of the hits of a round's model without random slots."""
    shop = open_shop(config.online, work / "shop")
    site = work / f"alone-{number}"
    publish(site, work / f"round-{number}" / "mmse")
    rows = np.sort(np.random.default_rng(number).choice(shop.round_rows(number), COMPARED_REQUESTS, replace=False))
    display = Display(rerank=config.ranked, silent=True, version="live")
    with run_server(site) as server:
        return float(simulate_traffic(shop, server, rows, display).orders.mean())


if __name__ == "__main__":
    main()
