"""What `mmse run` takes on a simulated shop, step by step: seconds, CPU seconds and the most memory at once.

    python benchmarks/whole_run.py WORK [--items 1000000] [--requests 200000] [--seed 0] [--baseline]
                                        [--steps index ranking report] [--out whole_run]

Simulates the shop once in WORK/shop-ITEMS-REQUESTS-SEED and makes its run from nothing there, in one process, as the
command does; without `--baseline` no other recipe is trained. With `--steps` these alone are made again, in the run
that is there, and the other lines of the results stay. The peak of a step is that of the whole process while the step
runs, files that are mapped into memory among it (Linux alone tells it). Writes benchmarks/results/OUT.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

from machine import ROOT, environment, write_result

from mmse import pipeline
from mmse.core.run_folder import RunFolder
from mmse.shop import Shop, read_shop

_PEAK_RESET = "5"
"""What makes Linux forget the peak of a process's memory."""


class Meter:
    """A line for each step, by its name: what was used since it began."""

    def __init__(self, facts: dict[str, object]) -> None:
        """`facts` stand in every line."""
        self.rows: dict[str, dict[str, object]] = {}
        self._facts = facts
        self._step: str | None = None
        self._begin()

    def start_step(self, name: str, reason: str, runs: bool) -> None:
        """Ends the step before, and begins step `name`."""
        self.end_step()
        self._step = name if runs else None
        self._begin()

    def end_step(self) -> None:
        """Writes down what the step that runs has used."""
        if self._step is None:
            return
        seconds, cpu_seconds = time.perf_counter() - self._start_s, time.process_time() - self._start_cpu_s
        row = {"step": self._step, "wall_s": round(seconds, 1), "cpu_s": round(cpu_seconds, 1), "peak_gb": peak_gb()}
        self.rows[self._step] = row | {"load_after": round(os.getloadavg()[0], 1)} | self._facts
        print(self.rows[self._step], file=sys.stderr, flush=True)
        self._step = None

    def _begin(self) -> None:
        Path("/proc/self/clear_refs").write_text(_PEAK_RESET)
        self._start_s, self._start_cpu_s = time.perf_counter(), time.process_time()


def peak_gb() -> float:
    """The most memory (10⁹ bytes) that this process has held since the peak was reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
    return round(int(kilobytes) * 1024 / 1e9, 2)


def simulate_shop(folder: Path, n_items: int, n_requests: int, seed: int) -> Shop:
    """The simulated shop in `folder`, which is made unless it exists, in a process whose memory is not the run's."""
    if not folder.exists() and os.fork() == 0:
        from mmse.lab.simulator.simulate import SimulatorConfig, simulate

        simulate(SimulatorConfig(seed=seed, n_items=n_items, n_requests=n_requests), folder)
        os._exit(0)
    elif not folder.exists():
        os.wait()
    return read_shop(folder / "shop.toml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--baseline", action="store_true")
    parser.add_argument("--steps", nargs="+", choices=list(pipeline.STEPS), default=list(pipeline.STEPS))
    parser.add_argument("--out", default="whole_run")
    options = parser.parse_args()
    shop_facts = {"items": options.items, "requests": options.requests, "seed": options.seed}
    folder = options.work / f"shop-{options.items}-{options.requests}-{options.seed}"
    shop = simulate_shop(folder, options.items, options.requests, options.seed)
    if not options.baseline:
        shop = replace(shop, baselines=())
    run, facts = RunFolder(folder / "run"), environment()
    result_file, rows = ROOT / "benchmarks" / "results" / f"{options.out}.json", {}
    if options.steps != list(pipeline.STEPS) and result_file.exists():
        rows = {row["step"]: row for row in json.loads(result_file.read_text())["steps"]}
    for kind in options.steps:
        shutil.rmtree(run.path / kind, ignore_errors=True)
    meter = Meter({key: facts[key] for key in ("date", "commit") if key in facts})
    pipeline.run(shop, run.path, pipeline.Listener(step=meter.start_step), options.steps)
    meter.end_step()
    rows |= meter.rows
    totals = {key: round(sum(float(row[key]) for row in rows.values()), 1) for key in ("wall_s", "cpu_s")}
    totals["peak_gb"] = max(float(row["peak_gb"]) for row in rows.values())
    write_result(options.out, facts | shop_facts | totals | {"steps": list(rows.values())})


if __name__ == "__main__":
    main()
