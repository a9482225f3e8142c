"""The demo's shop over several seeds: `mmse` against the baselines, on the simulated truth and on the log.

    python benchmarks/quality.py [--seeds 0 1 2] [--items 20000] [--requests 62000]

Every seed is another simulated shop, another model and other baselines. Behaviour is simulated. Writes
benchmarks/results/quality.json (every row) and benchmarks/results/quality.md (the table of the README).
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path

from machine import ROOT, environment, write_result

from mmse.evaluation.offline import Evaluation
from mmse.evaluation.rows import Measure, find_difference, pivot
from mmse.evaluation.step import read_report
from mmse.lab.simulator.simulate import SimulatorConfig, simulate
from mmse.pipeline import run
from mmse.shop import Shop, read_shop

MEASURES = {
    "off-search recall@100": Measure("off_search", "recall", 100),
    "off-search recall@1000": Measure("off_search", "recall", 1000),
    "order rate@10": Measure("truth", "order_rate", 10),
    "true top 100 found": Measure("truth", "share_of_top", 100),
    "logged order recall@10": Measure("ordered", "recall", 10),
    "logged order recall@100": Measure("ordered", "recall", 100),
}
BASELINES = ("dssm", "mmse_logq")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--requests", type=int, default=62_000)
    options = parser.parse_args()
    result = environment() | {
        "seeds": options.seeds,
        "items": options.items,
        "requests": options.requests,
        "simulated": True,
    }
    evaluations: dict[int, Evaluation] = {}
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            simulate(
                SimulatorConfig(seed=seed, n_items=options.items, n_requests=options.requests), Path(folder) / "shop"
            )
            shop = with_seed(Path(folder) / "shop" / "shop.toml", seed)
            run(shop, Path(folder) / "run")
            evaluations[seed] = read_report(Path(folder) / "run" / "report")
            print(table({seed: evaluations[seed]}), flush=True)
    result["rows"] = {seed: [asdict(row) for row in e.rows if row.slice == "all"] for seed, e in evaluations.items()}
    result["differences"] = {
        seed: [asdict(d) for d in e.differences if d.slice == "all"] for seed, e in evaluations.items()
    }
    write_result("quality", result)
    (ROOT / "benchmarks" / "results" / "quality.md").write_text(table(evaluations) + "\n", "utf-8")
    print(table(evaluations))


def with_seed(toml: Path, seed: int) -> Shop:
    """The shop with its training seed and baselines set."""
    names = ", ".join(f'"{name}"' for name in BASELINES)
    toml.write_text(f"{toml.read_text('utf-8')}\n[train]\nseed = {seed}\n\n[baselines]\nrecipes = [{names}]\n", "utf-8")
    return read_shop(toml)


def table(evaluations: dict[int, Evaluation]) -> str:
    """One line per seed and system, 95% intervals over queries; a star where the paired difference is significant."""
    lines = ["| seed | system | " + " | ".join(MEASURES) + " |", "|---|---|" + "---|" * len(MEASURES)]
    for seed, evaluation in evaluations.items():
        rows = pivot(evaluation.rows)
        for system in rows.systems:
            cells = []
            for measure in MEASURES.values():
                row = rows.get(system, measure)
                if row is None or row.low is None or row.high is None:
                    cells.append("–")
                    continue
                difference = find_difference(evaluation.differences, evaluation.subject, system, measure)
                star = "\\*" if difference and difference.significant else ""
                cells.append(f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]{star}")
            lines.append(f"| {seed} | {system} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
