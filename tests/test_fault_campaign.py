"""The campaign of benchmarks/faults in short: some kills of each cheap kind, and nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPT = """
import json, sys
from pathlib import Path
from faults import kills_of_events, kills_of_sites
from faults.trials import run_trials
base, work = Path(sys.argv[1]), Path(sys.argv[2])
targets = [kills_of_events.targets(base)[0], kills_of_sites.targets(base)[3]]
print("ROWS", json.dumps([run_trials(target, work, 1, 2) for target in targets]))
"""


def test_nothing_is_lost_to_kills(small_run: Path, tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "run").symlink_to(small_run)
    folders = os.pathsep.join(str(ROOT / name) for name in ("src", "benchmarks"))
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "base"), str(tmp_path / "work")],
        env=os.environ | threads | {"PYTHONPATH": folders},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    rows = json.loads(process.stdout.split("ROWS ")[1])
    assert [row["faults"] for row in rows] == [[], []]
    assert sum(row["killed at work"] for row in rows) >= 2
    assert rows[0]["acknowledged"] > 0
