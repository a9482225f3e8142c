"""How many requests a second training takes on the demo's shop at d 64 with the default views, on two threads.

    python benchmarks/train_speed.py [--threads 2] [--repeats 5] [--seed 0]

A request is one group of eight items. Timed is whole training, batches and optimizer included, without validation;
the first epoch of each repeat warms up and is left out. Writes benchmarks/results/train_speed.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from machine import keep, where

from mmse.lab.simulator.simulate import MarketConfig, simulate
from mmse.pipeline import Listener, mine_stage, read_shop
from mmse.training.loop import Step, TrainConfig, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    result = where() | {"seed": asked.seed, "threads": asked.threads, "config": "defaults: d 64, three views"}
    with tempfile.TemporaryDirectory() as folder:
        shop_folder = Path(folder) / "shop"
        simulate(MarketConfig(seed=asked.seed, n_requests=62_000), shop_folder)
        shop = read_shop(shop_folder / "shop.toml")
        mine_stage(shop, Path(folder) / "run", Listener())
        result["requests_per_s"] = [
            round(measure(Path(folder) / "run" / "dataset", Path(folder) / f"model{n}", shop.train))
            for n in range(asked.repeats)
        ]
    keep("train_speed", result)


def measure(dataset: Path, out: Path, config: TrainConfig) -> float:
    """Requests a second over the second epoch."""
    marks: list[tuple[float, Step]] = []
    train(dataset, out, replace(config, epochs=2), on_step=lambda step: marks.append((time.perf_counter(), step)))
    second = [mark for mark in marks if mark[1].epoch == 2 and mark[1].recall is None]
    batch = TrainConfig().batch_requests
    return (len(second) - 1) * batch / (second[-1][0] - second[0][0])


if __name__ == "__main__":
    main()
