"""How many requests a second training takes on the demo's shop at d 64 with the default views, on two threads.

    python benchmarks/train_speed.py [--threads 2] [--repeats 5] [--seed 0]

A request is one group of eight items. The time covers all of training with batches and optimizer, without validation;
the first epoch of each repeat is a warm-up and does not count. Writes benchmarks/results/train_speed.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from machine import environment, write_result

from mmse.core.run_folder import DATASET
from mmse.lab.simulator.simulate import SimulatorConfig, simulate
from mmse.pipeline import Listener, make
from mmse.shop import read_shop
from mmse.training.loop import TrainConfig, TrainingStep, train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result = environment() | {"seed": options.seed, "threads": options.threads, "config": "defaults: d 64, three views"}
    with tempfile.TemporaryDirectory() as folder:
        shop_folder = Path(folder) / "shop"
        simulate(SimulatorConfig(seed=options.seed, n_requests=62_000), shop_folder)
        shop = read_shop(shop_folder / "shop.toml")
        make(DATASET, shop, Path(folder) / "run", Listener())
        result["requests_per_s"] = [
            round(measure(Path(folder) / "run" / "dataset", Path(folder) / f"model{n}", shop.train))
            for n in range(options.repeats)
        ]
    write_result("train_speed", result)


def measure(dataset: Path, target: Path, config: TrainConfig) -> float:
    """Requests a second over the second epoch."""
    marks: list[tuple[float, TrainingStep]] = []
    train(dataset, target, replace(config, epochs=2), on_step=lambda step: marks.append((time.perf_counter(), step)))
    second = [mark for mark in marks if mark[1].epoch == 2 and mark[1].recall is None]
    batch = TrainConfig().batch_requests
    return (len(second) - 1) * batch / (second[-1][0] - second[0][0])


if __name__ == "__main__":
    main()
