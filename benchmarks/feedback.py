"""What five rounds of a search that learns from what it showed itself come to, with and without exploration.

    python benchmarks/feedback.py WORK [--exploration 0.15] [--seeds 2]

A simulated shop of 10,000 items and a log of 60,000 requests; `mmse` is trained on it, served over HTTP and met by the
shoppers of a fortnight (28,000 requests); what they were shown and did trains the next round, together with the round
before it, so that from the third round on the model knows nothing but its own pages. The same shop twice: with nothing
shown at random, and with a share of slots filled at random from what was found. `model` is what the model alone would
earn, shown without exploring, for the same requests of each round: what a slot at random costs is not in it. Everything
is simulated. Writes benchmarks/results/feedback.json.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import numpy as np
from machine import keep, where

from mmse.lab.simulated_test.arms import Arm
from mmse.lab.simulated_test.front import Display, visit
from mmse.lab.simulated_test.process import serving
from mmse.lab.simulated_test.trial import TrialConfig, simulate
from mmse.lab.simulated_test.world import OnlineConfig, open_shop
from mmse.lab.simulator.simulate import MarketConfig
from mmse.serving.versions.publish import publish

ASKED = 4_000
"""Requests of a round for which the models alone are compared."""


def main() -> None:
    """Both ways for every seed, and keeps them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--exploration", type=float, default=0.15)
    parser.add_argument("--seeds", type=int, default=2)
    asked, began = parser.parse_args(), where()
    loops = [
        {"seed": seed, "exploration": share, "rounds": loop(asked.work / f"seed-{seed}-explored-{share}", seed, share)}
        for seed in range(asked.seeds)
        for share in (0.0, asked.exploration)
    ]
    keep("feedback", {"where": began, "simulated": True, "config": asdict(online(0)), "loops": loops})


def online(seed: int) -> OnlineConfig:
    """The shop."""
    market = MarketConfig(seed=seed, n_items=10_000)
    return OnlineConfig(market, log_days=30, round_days=14, rounds=5, requests_a_day=2_000)


def loop(work: Path, seed: int, exploration: float) -> list[dict[str, float]]:
    """The rounds of one way."""
    config = TrialConfig(online(seed), {"mmse": Arm("mmse")}, exploration=exploration, rounds_kept=2)
    went = simulate(config, work)
    return [asdict(one.arms["mmse"]) | {"model": alone(work, config, one.number)} for one in went]


def alone(work: Path, config: TrialConfig, number: int) -> float:
    """The orders to be expected by the truth of what a round's model finds, with nothing shown at random."""
    shop = open_shop(config.online, work / "shop")
    site = work / f"alone-{number}"
    publish(site, work / f"round-{number}" / "mmse")
    rows = np.sort(np.random.default_rng(number).choice(shop.round_of(number), ASKED, replace=False))
    display = Display(ranked=config.ranked, silent=True, version="live")
    with serving(site) as server:
        return float(visit(shop, server, rows, display).orders.mean())


if __name__ == "__main__":
    main()
