"""Where a number was measured: machine, versions, commit. Every file under `benchmarks/results/` begins with it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from mmse.lab.compare.machine import facts

ROOT = Path(__file__).parents[1]


def where() -> dict[str, object]:
    """The facts that stand beside every measurement."""
    return {**facts(), "load_before": round(os.getloadavg()[0], 2)}


def keep(name: str, result: dict[str, object]) -> None:
    """Prints `result` and writes it to `benchmarks/results/NAME.json`."""
    text = json.dumps(result, indent=2)
    print(text)
    (ROOT / "benchmarks" / "results" / f"{name}.json").write_text(text + "\n", "utf-8")
