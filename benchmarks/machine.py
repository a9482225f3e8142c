"""The environment of a measurement: machine, versions, commit. Every file in `benchmarks/results/` has it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from mmse.lab.compare.machine import facts

ROOT = Path(__file__).parents[1]


def environment() -> dict[str, object]:
    """The facts that go with every measurement."""
    return {**facts(), "load_before": round(os.getloadavg()[0], 2)}


def write_result(name: str, result: dict[str, object]) -> None:
    """Prints `result` and writes it to `benchmarks/results/NAME.json`."""
    text = json.dumps(result, indent=2)
    print(text)
    (ROOT / "benchmarks" / "results" / f"{name}.json").write_text(text + "\n", "utf-8")
