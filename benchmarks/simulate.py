"""How fast a shop is simulated on one core: catalogue, behaviour, end to end, and a query of the truth.

    python benchmarks/simulate.py [--items 20000] [--requests 60000] [--seed 0]

Prints JSON and writes it to benchmarks/results/simulate.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

from mmse.core.artifact import write_folder
from mmse.lab.simulator.behaviour import Behaviour
from mmse.lab.simulator.simulate import KIND, SimulatedWorld, SimulatorConfig, build_world, simulate_requests
from mmse.lab.simulator.truth import Truth
from mmse.text.bm25 import Bm25

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--requests", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    config = SimulatorConfig(seed=options.seed, n_items=options.items, n_requests=options.requests)
    result = {
        "machine": f"{platform.machine()}, one core of {os.cpu_count()}, Python {platform.python_version()}",
        "load_before": round(os.getloadavg()[0], 2),
        "commit": _commit(),
        "seed": config.seed,
        "n_items": config.n_items,
        "n_requests": config.n_requests,
        **measure(config),
    }
    text = json.dumps(result, indent=2)
    print(text)
    folder = ROOT / "benchmarks" / "results"
    folder.mkdir(exist_ok=True)
    (folder / "simulate.json").write_text(text + "\n")


def measure(config: SimulatorConfig) -> dict[str, float]:
    """Seconds and event rows per second of each part; `behaviour` includes the engine, BM25 and writing Parquet."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        world = build_world(config)
        world_end = time.perf_counter()
        rows = _write_shop(world, config.behaviour, config.seed, Path(folder) / "shop")
        requests_end = time.perf_counter()
        truth = Truth.open(Path(folder) / "shop" / "truth")
        propensity_s, n_requests = _time_propensity(truth)
    return {
        "event_rows": rows,
        "catalogue_s": round(world_end - start, 2),
        "behaviour_s": round(requests_end - world_end, 2),
        "behaviour_rows_per_s": round(rows / (requests_end - world_end)),
        "end_to_end_rows_per_s": round(rows / (requests_end - start)),
        "truth_requests": n_requests,
        "truth_s": round(propensity_s, 2),
        **_time_bm25(world),
    }


def _write_shop(world: SimulatedWorld, behaviour: Behaviour, seed: int, folder: Path) -> int:
    with write_folder(folder, kind=KIND, config={}, inputs={}) as draft:
        simulate_requests(world, behaviour, seed, draft)
        return int(draft.counts["events"])


def _time_propensity(truth: Truth) -> tuple[float, int]:
    request_ids = truth.request_ids[:: max(len(truth.request_ids) // 2_000, 1)][:2_000]
    start = time.perf_counter()
    truth.order_propensity(request_ids)
    return time.perf_counter() - start, len(request_ids)


def _time_bm25(world: SimulatedWorld) -> dict[str, float]:
    titles, queries = world.items["title"].to_pylist(), (world.texts * (12_000 // len(world.texts) + 1))[:12_000]
    start = time.perf_counter()
    index = Bm25.build(titles)
    build_end = time.perf_counter()
    index.search(queries, 200)
    return {
        "bm25_build_s": round(build_end - start, 2),
        "bm25_12000_queries_top_200_s": round(time.perf_counter() - build_end, 2),
    }


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return process.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
