"""How steps grow with the catalogue and the log, and what that makes of 100 million and a billion items.

    python benchmarks/scale.py WORK --items 100000 1000000 [--requests 20000]
    python benchmarks/scale.py WORK --rows 1000000 10000000
    python benchmarks/scale.py --fit

The first simulates a shop of each size, with the same number of requests, and makes dataset, model (one epoch),
vectors, index and ranking in a process of its own; then 200 searches on one thread. The second mines logs of
`benchmarks/mine.py`. Each size is a line of benchmarks/results/scale.json, in place of a former one of that size. The
last takes CPU seconds as a power of the size, at least the first, and memory and bytes as a line, through the two
largest sizes, and computes what that gives for the sizes and prices of `Assumptions`; nothing of it is measured.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import ROOT, environment, write_result
from whole_run import Meter, peak_gb, simulate_shop

STEPS = ("dataset", "serving", "model", "vectors", "index", "ranking")
RESULT = ROOT / "benchmarks" / "results" / "scale.json"
N_QUERIES = 200
CATALOGUE_SIZES = (100_000_000, 1_000_000_000)


@dataclass(frozen=True)
class Assumptions:
    """What the computed numbers rest on besides the fits."""

    dollars_per_core_hour: float = 0.05
    """A virtual core with 8 GB of memory, rented on demand; a core here is one of the two of the measurements."""
    memory_gb_per_core: float = 8.0
    dollars_per_gb_month: float = 0.08
    """Of a disk that many machines mount."""
    cores_per_machine: int = 16
    hours: float = 4.0
    """What a step may take at night; so many machines share it, where it can be shared."""


@dataclass(frozen=True)
class Growth:
    """What a cost grows to: `base + per_million · (size / 10^6)^slope`."""

    base: float
    per_million: float
    slope: float

    def at(self, size: float) -> float:
        """The cost of `size`."""
        return float(self.base + self.per_million * (size / 1e6) ** self.slope)


def fit_time(sizes: Sequence[float], costs: Sequence[float]) -> Growth:
    """A power through the two largest sizes; nothing is taken to grow slower than the size."""
    (former, former_cost), (size, cost) = _two_largest(sizes, costs)
    slope = 1.0
    if former < size and min(cost, former_cost) > 0:
        slope = max(1.0, float(np.log(cost / former_cost) / np.log(size / former)))
    return Growth(0.0, cost / (size / 1e6) ** slope, slope)


def fit_room(sizes: Sequence[float], costs: Sequence[float]) -> Growth:
    """A line through the two largest sizes, for memory and bytes: a process has what it has without any item."""
    (former, former_cost), (size, cost) = _two_largest(sizes, costs)
    if former == size:
        return Growth(0.0, cost / (size / 1e6), 1.0)
    per_million = max(0.0, (cost - former_cost) / (size - former) * 1e6)
    return Growth(cost - per_million * size / 1e6, per_million, 1.0)


def _two_largest(sizes: Sequence[float], costs: Sequence[float]) -> tuple[tuple[float, float], tuple[float, float]]:
    points = sorted(zip(sizes, costs, strict=True))
    return points[max(0, len(points) - 2)], points[-1]


def measure_catalogue(work: Path, n_items: int, n_requests: int) -> dict[str, Any]:
    """The steps on a simulated shop of `n_items`, and searches."""
    from mmse import pipeline
    from mmse.core.run_folder import RunFolder

    folder = work / f"scale-{n_items}-{n_requests}"
    shop = replace(simulate_shop(folder, n_items, n_requests, 0), baselines=())
    shop = replace(shop, train=replace(shop.train, epochs=1))
    shutil.rmtree(folder / "run", ignore_errors=True)
    meter = Meter({})
    pipeline.run(shop, folder / "run", pipeline.Listener(step=meter.start_step), STEPS)
    meter.end_step()
    run = RunFolder(folder / "run")
    rows = [row | {"mb": folder_mb(run.path / str(row["step"]))} for row in meter.rows.values()]
    return {"items": n_items, "requests": n_requests, "steps": rows, "search": measure_search(run.path)}


def measure_search(run: Path) -> dict[str, float]:
    """How long the run takes to open, and searches of popular queries for 100 hits, on one thread."""
    import faiss
    import torch

    from mmse.dataset.serving_data import read_probe_queries
    from mmse.retrieval.retriever import Retriever

    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    start = time.perf_counter()
    retriever = Retriever.open(run)
    opened_s = time.perf_counter() - start
    queries, times = read_probe_queries(run / "serving", N_QUERIES), []
    for query in queries:
        start = time.perf_counter()
        retriever.search(query, 100)
        times.append(1_000 * (time.perf_counter() - start))
    recall = json.loads((run / "index" / "manifest.json").read_text())["counts"].get("measured_recall")
    p50, p99 = np.percentile(times, [50, 99])
    return {
        "open_s": round(opened_s, 2),
        "p50_ms": round(float(p50), 1),
        "p99_ms": round(float(p99), 1),
        "queries": len(queries),
        **({"recall": recall} if recall else {}),
    }


def measure_log(work: Path, n_rows: int) -> dict[str, Any]:
    """Mining of `n_rows` rows of events, 200,000 items."""
    from mine import MEMORY_LIMIT, THREADS, make_tables

    from mmse.mining.mine import MineConfig, mine_log
    from mmse.sources.tables import EventsConfig, ItemsConfig

    folder = work / f"scale-log-{n_rows}"
    make_tables(folder, n_rows)
    Path("/proc/self/clear_refs").write_text("5")
    start, start_cpu = time.perf_counter(), time.process_time()
    config = MineConfig(memory_limit=MEMORY_LIMIT, threads=THREADS)
    mine_log(ItemsConfig(), EventsConfig("events.parquet"), config, folder / "out", base=folder)
    used = {"wall_s": round(time.perf_counter() - start, 1), "cpu_s": round(time.process_time() - start_cpu, 1)}
    return {"rows": n_rows, **used, "peak_gb": peak_gb(), "mb": folder_mb(folder / "out")}


def folder_mb(folder: Path) -> float:
    """The size of all files below `folder`."""
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 1)


def fit_results(result: dict[str, Any]) -> dict[str, Any]:
    """The fits of `result`, and what they give for the sizes of `CATALOGUE_SIZES`."""
    sizes, costs = defaultdict[str, list[float]](list), defaultdict[tuple[str, str], list[float]](list)
    for line in result["catalogues"]:
        for row in line["steps"]:
            sizes[row["step"]].append(line["items"])
            for name in ("cpu_s", "peak_gb", "mb"):
                costs[row["step"], name].append(float(row[name]))
    laws = {"cpu_s": fit_time, "peak_gb": fit_room, "mb": fit_room}
    fits = {step: {name: law(sizes[step], costs[step, name]) for name, law in laws.items()} for step in sizes}
    logs = result["logs"]
    mining = {
        name: law([line["rows"] for line in logs], [line[name] for line in logs]) for name, law in laws.items() if logs
    }
    assumptions = Assumptions()
    return {
        "assumptions": asdict(assumptions),
        "fits": {step: {name: asdict(fit) for name, fit in by_name.items()} for step, by_name in fits.items()},
        "mining_by_rows": {name: asdict(fit) for name, fit in mining.items()},
        "computed": [project(fits, size, assumptions) for size in CATALOGUE_SIZES],
    }


def project(fits: dict[str, dict[str, Growth]], size: int, assumptions: Assumptions) -> dict[str, Any]:
    """What the steps take for `size` items by the fits: core hours, memory, gigabytes, machines, dollars."""
    steps = {}
    for step, fit in fits.items():
        core_hours, memory_gb = fit["cpu_s"].at(size) / 3600, fit["peak_gb"].at(size)
        paid_core_hours = max(core_hours, memory_gb / assumptions.memory_gb_per_core * core_hours / 2)
        machine_hours = core_hours / assumptions.cores_per_machine
        steps[step] = {
            "core_hours": round(core_hours, 1),
            "memory_gb_of_one_process": round(memory_gb, 1),
            "gb_on_disk": round(fit["mb"].at(size) / 1_000, 1),
            "machines": max(1, int(np.ceil(machine_hours / assumptions.hours))),
            "dollars": round(paid_core_hours * assumptions.dollars_per_core_hour, 2),
        }
    gb = sum(step["gb_on_disk"] for step in steps.values())
    total = {name: round(sum(step[name] for step in steps.values()), 1) for name in ("core_hours", "dollars")}
    return {
        "items": size,
        "steps": steps,
        **total,
        "dollars_of_disk_per_month": round(gb * assumptions.dollars_per_gb_month, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, nargs="?")
    parser.add_argument("--items", type=int, nargs="+", default=[])
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rows", type=int, nargs="+", default=[])
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        function = measure_catalogue if options.job[0] == "catalogue" else measure_log
        print(json.dumps(function(options.work, *options.job[1:])))
        return
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {"catalogues": [], "logs": []}
    jobs = [("catalogues", "items", ["catalogue", n, options.requests]) for n in options.items]
    jobs += [("logs", "rows", ["log", n]) for n in options.rows]
    for group, key, job in jobs:
        facts = environment()
        command = [sys.executable, __file__, str(options.work), "--job", json.dumps(job)]
        output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        line = json.loads(output.splitlines()[-1]) | {"environment": facts}
        result[group] = sorted([*(x for x in result[group] if x[key] != line[key]), line], key=lambda x: x[key])
        RESULT.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    write_result("scale", {"catalogues": result["catalogues"], "logs": result["logs"], **fit_results(result)})


if __name__ == "__main__":
    main()
