"""Changed code that no test notices: the share of mutants that the quick tests of the core modules kill.

    pip install mutmut==3.8.1
    python benchmarks/mutation.py [--sample 25] [--seed 1] [--only mmse.core.frames] [--children 1] [--again | --report]

Mutmut makes the mutants of the modules that `[tool.mutmut]` in pyproject.toml names, in `mutants/`, and runs the tests
named there that reach the changed function, without the checks of types at run time, which only cost time. Of each
module `--sample` mutants are drawn by the seed (0: all); one that has a result keeps it, so that a run may be stopped
and go on. Writes benchmarks/results/mutation.json: by module the mutants, those drawn and killed, the share with its
95% interval, and the survivors as differences, those with a reason of `EQUIVALENT` apart.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import Any

from machine import ROOT, environment, write_result

KILLED, SURVIVED, UNTESTED, TIMED_OUT = (1, 3), (0,), (5, 33), (24, 36, 152, 255, -24)
"""Exit codes of mutmut: the tests failed, passed, none reaches the function, or took too long (killed as well)."""
Z = 1.96
EQUIVALENT: dict[str, str] = {
    "mmse.evaluation.metrics.x_draw_orders__mutmut_13": "another number of requests in a part, and the same draws",
    "mmse.evaluation.metrics.x_draw_orders__mutmut_49": "a chance of 0 divides into infinity all the same",
    "mmse.ranking.fusion.x_reciprocal_ranks__mutmut_5": "ranks as floats, of which the same reciprocals are taken",
    "mmse.model.objectives.x_hard_negatives__mutmut_56": "the value of what is masked two lines below",
    "mmse.ranking.calibration.xǁCalibrationǁlog_odds__mutmut_31": "the slope is a float64, so the product is one",
    "mmse.ranking.calibration.x_learn_calibration__mutmut_54": "another start of a search that converges to the same",
    "mmse.evaluation.metrics.x_recall__mutmut_10": "a type of None is float64",
    "mmse.ranking.fusion.xǁFusionǁweights__mutmut_4": "a type of None is float64",
    "mmse.ranking.fusion.x_learn_fusion__mutmut_71": "another start of a scale that is learned",
    "mmse.core.frames.x_is_torn__mutmut_5": "the byte before is the last of a whole frame, in which no other begins",
    "mmse.catalogue.wal.x_create__mutmut_14": "the file that is removed was made a line above",
}
"""Mutants that change nothing that anybody could see, each with the reason; they count as neither."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=25, help="mutants of each module; 0: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="modules, with commas")
    parser.add_argument("--children", type=int, default=1, help="processes")
    parser.add_argument("--again", action="store_true", help="only those that survived, after a change of the tests")
    parser.add_argument("--report", action="store_true", help="report what there is, and run nothing")
    options = parser.parse_args()
    facts = environment()
    if not options.report:
        if not list(_result_files()):
            run_mutants(["mmse.core.frames.x_encode_frame__mutmut_1"], options.children)  # makes all of them
        if names := draw(options):
            run_mutants(names, options.children)
    modules = {name: report_module(codes) for name, codes in read_codes().items()}
    counts = [module["drawn"] - len(module["equivalent"]) for module in modules.values()]
    total = sum(module["killed"] for module in modules.values()) / max(sum(counts), 1)
    write_result("mutation", facts | vars(options) | {"score": round(total, 3), "modules": modules})


def draw(options: argparse.Namespace) -> list[str]:
    """The mutants to run: of each module a sample by the seed, those without a result (or those that survived)."""
    names = []
    for module, codes in read_codes().items():
        if not options.only or module in options.only.split(","):
            mutants = sorted(codes)
            random.Random(f"{options.seed} {module}").shuffle(mutants)
            drawn = mutants[: options.sample or None]
            survivors = (*SURVIVED, *UNTESTED)
            names += [name for name in drawn if (codes[name] in survivors if options.again else codes[name] is None)]
    return names


def run_mutants(names: Sequence[str], children: int) -> None:
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(children), *names]
    subprocess.run(command, cwd=ROOT, check=True)


def read_codes() -> dict[str, dict[str, int | None]]:
    """The exit code of each mutant by module, None where it was not run."""
    found = {}
    for file in _result_files():
        module = ".".join(file.relative_to(ROOT / "mutants" / "src").with_name(file.name.split(".")[0]).parts)
        found[module] = json.loads(file.read_text("utf-8"))["exit_code_by_key"]
    return found


def _result_files() -> list[Path]:
    return sorted((ROOT / "mutants" / "src").rglob("*.py.meta"))


def report_module(codes: dict[str, int | None]) -> dict[str, Any]:
    """What became of the mutants of a module that were run."""
    results = {name: code for name, code in codes.items() if code is not None}
    survivors = [name for name, code in results.items() if code in (*SURVIVED, *UNTESTED)]
    equivalent = [name for name in survivors if name in EQUIVALENT]
    killed = sum(code in (*KILLED, *TIMED_OUT) for code in results.values())
    n = len(results) - len(equivalent)
    share = killed / n if n else 0.0
    centre = (share + Z * Z / (2 * n)) / (1 + Z * Z / n) if n else 0.0
    half = Z * sqrt(share * (1 - share) / n + Z * Z / (4 * n * n)) / (1 + Z * Z / n) if n else 0.0
    return {
        "mutants": len(codes),
        "drawn": len(results),
        "killed": killed,
        "timed_out": sum(code in TIMED_OUT for code in results.values()),
        "untested": sum(code in UNTESTED for code in results.values()),
        "score": round(share, 3),
        "interval": [round(max(centre - half, 0.0), 3), round(min(centre + half, 1.0), 3)],
        "survivors": {name: _difference(name) for name in survivors if name not in EQUIVALENT},
        "equivalent": {name: EQUIVALENT[name] for name in equivalent},
    }


def _difference(name: str) -> list[str]:
    """The changed lines of a mutant."""
    command = [sys.executable, "-m", "mutmut", "show", name]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    return [line for line in output.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]


if __name__ == "__main__":
    main()
