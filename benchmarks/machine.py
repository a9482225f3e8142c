"""Where a number was measured: machine, versions, commit. Every file under `benchmarks/results/` begins with it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]


def where() -> dict[str, object]:
    """The facts that stand beside every measurement."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    dirty = subprocess.run(
        ["git", "status", "--porcelain", "src"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "torch": version("torch"),
        "commit": commit.stdout.strip() + (" with changes" if dirty.stdout else ""),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "load_before": round(os.getloadavg()[0], 2),
    }


def keep(name: str, result: dict[str, object]) -> None:
    """Prints `result` and writes it to `benchmarks/results/NAME.json`."""
    text = json.dumps(result, indent=2)
    print(text)
    (ROOT / "benchmarks" / "results" / f"{name}.json").write_text(text + "\n", "utf-8")
