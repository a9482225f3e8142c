"""The campaign of faults: kills, damage, full disks, pairs, vanished folders, clocks, memory; by seed, into one table.

    python benchmarks/faults/campaign.py WORK [--seed 1] [--scale 1.0] [--only kills-of-events,pairs]

A part that is run alone takes its place among the others of that seed. Writes benchmarks/results/faults.json: of each
fault the trials and their outcomes, and every trial that ended badly in words; and faults.md, a table of it. Kills at a
file operation are the same for a seed; those at a moment depend on the machine as well. Full and read-only disks need
the right to mount, equal process ids that to make namespaces, limits of memory that to make groups: without it they
are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # nothing to fork but this
sys.path.append(str(Path(__file__).parents[1]))

import faiss
import torch
from faults import (
    bases,
    damage,
    disks,
    kills_of_events,
    kills_of_runs,
    kills_of_servers,
    kills_of_sites,
    memory,
    pairs,
    refusals,
)
from faults.trials import Target, run_trials
from machine import ROOT, environment, write_result

Rows = list[dict[str, Any]]
NO_OUTCOMES = ("trials", "operations", "lost or corrupt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0, help="times as many trials")
    parser.add_argument("--only", default="", help="parts, with commas")
    options = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    base, work = options.work / "base", options.work / "trials"
    bases.make_base(base)
    parts = parts_of(base, work, options.seed, options.scale)
    for name in options.only.split(",") if options.only else parts:
        write_part(options.seed, name, parts[name]())


def write_part(seed: int, part: str, rows: Rows) -> None:
    """Writes the rows of a part into the result, beside those of the other parts that were run with this seed."""
    file = ROOT / "benchmarks" / "results" / "faults.json"
    former = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    parts = (former["parts"] if former.get("seed") == seed else {}) | {part: {**environment(), "rows": rows}}
    all_rows = [row for content in parts.values() for row in content["rows"]]
    totals = {
        "seed": seed,
        "trials": sum(row["trials"] for row in all_rows),
        "kills": sum(row.get("killed at work", 0) for row in all_rows),
        "acknowledged": sum(row.get("acknowledged", 0) for row in all_rows),
        "bad": sum(len(row["faults"]) for row in all_rows),
    }
    write_result("faults", totals | {"parts": parts})
    file.with_suffix(".md").write_text(table(all_rows), "utf-8")


def table(rows: Rows) -> str:
    """The rows in Markdown: fault, trials, how they ended, and how many were lost or corrupt."""
    lines = ["| fault | trials | how they ended | lost, corrupt or unsaid |", "|---|---|---|---|"]
    for row in rows:
        outcomes = {name: count for name, count in row.items() if isinstance(count, int) and name not in NO_OUTCOMES}
        text = ", ".join(f"{count:,} {name}" for name, count in outcomes.items() if count)
        lines.append(f"| {row['fault']} | {row['trials']} | {text} | {len(row['faults'])} |")
    return "\n".join(lines) + "\n"


def parts_of(base: Path, work: Path, seed: int, scale: float) -> dict[str, Callable[[], Rows]]:
    """The parts of the campaign, each with its work."""

    def kill(targets: list[Target], n: int) -> Callable[[], Rows]:
        return lambda: [run_trials(target, work, seed, max(round(n * scale), 1)) for target in targets]

    def fill(works: Callable[[], list[disks.DiskWork]]) -> Callable[[], Rows]:
        return lambda: disks.run_full_disks(base, work, seed, times(4), works()) if disks.can_mount(work) else []

    def times(n: int) -> int:
        return max(round(n * scale), 1)

    return {
        "kills-of-events": kill(kills_of_events.targets(base), 24),
        "kills-of-sites": kill(kills_of_sites.targets(base), 14),
        "kills-of-servers": lambda: kills_of_servers.kill_servers(base, work, seed, times(16), times(6)),
        "kills-of-steps": kill(kills_of_runs.step_targets(base), 4),
        "kills-of-runs": kill(kills_of_runs.whole_targets(base), 4),
        "pairs": lambda: pairs.run_pairs(base, work, seed, times(4)),
        "pairs-of-servers": lambda: [pairs.serve_twice(base, work, seed, times(20))],
        "disks": fill(disks.works),
        "disks-of-steps": fill(disks.steps),
        "memory": lambda: memory.run_limits(base, work, seed, times(8), times(4)),
        "refusals": lambda: refusals.run_refusals(base, work),
        "damage-of-runs": lambda: damage.damage_all(base, work, seed, times(2), "run"),
        "damage-of-sites": lambda: damage.damage_all(base, work, seed, times(2), "rich"),
    }


if __name__ == "__main__":
    main()
