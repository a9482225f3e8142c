"""How fast the shop is simulated on one core: catalogue, behaviour, end to end, and a look at the truth.

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

from mmse.core.artifact import writing
from mmse.lab.simulator.behaviour import Behaviour
from mmse.lab.simulator.simulate import KIND, MarketConfig, World, make_world, run
from mmse.lab.simulator.truth import Truth
from mmse.text.bm25 import Bm25

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--requests", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    config = MarketConfig(seed=asked.seed, n_items=asked.items, n_requests=asked.requests)
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


def measure(config: MarketConfig) -> dict[str, float]:
    """Seconds and event rows per second of each part; `behaviour` includes the engine, BM25 and writing Parquet."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        world = make_world(config)
        made = time.perf_counter()
        rows = _run(world, config.behaviour, config.seed, Path(folder) / "shop")
        done = time.perf_counter()
        truth = Truth.open(Path(folder) / "shop" / "truth")
        propensity_s, n_asked = _propensity(truth)
    return {
        "event_rows": rows,
        "catalogue_s": round(made - start, 2),
        "behaviour_s": round(done - made, 2),
        "behaviour_rows_per_s": round(rows / (done - made)),
        "end_to_end_rows_per_s": round(rows / (done - start)),
        "truth_requests": n_asked,
        "truth_s": round(propensity_s, 2),
        **_bm25(world),
    }


def _run(world: World, behaviour: Behaviour, seed: int, out: Path) -> int:
    with writing(out, kind=KIND, config={}, inputs={}) as draft:
        run(world, behaviour, seed, draft, None)
        return int(draft.counts["events"])


def _propensity(truth: Truth) -> tuple[float, int]:
    asked = truth.request_ids[:: max(len(truth.request_ids) // 2_000, 1)][:2_000]
    start = time.perf_counter()
    truth.order_propensity(asked)
    return time.perf_counter() - start, len(asked)


def _bm25(world: World) -> dict[str, float]:
    titles, queries = world.items["title"].to_pylist(), (world.texts * (12_000 // len(world.texts) + 1))[:12_000]
    start = time.perf_counter()
    index = Bm25.build(titles)
    built = time.perf_counter()
    index.search(queries, 200)
    return {
        "bm25_build_s": round(built - start, 2),
        "bm25_12000_queries_top_200_s": round(time.perf_counter() - built, 2),
    }


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
