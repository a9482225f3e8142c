"""Mining by DuckDB and by Spark on one machine: `python benchmarks/mine_engines.py --rows 2000000`.

Each mines the log of `benchmarks/mine.py` in a process of its own; wall and CPU seconds and the largest resident
memory are those of that process and of all that it started (the JVM and Spark's workers), looked at twice in a second.
Last the two folders are compared row by row. Needs pyspark and Java.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
from mine import MEMORY_LIMIT, THREADS, make_tables

from mmse.mining.mine import MineConfig, mine_log
from mmse.mining.spark.cluster import open_spark
from mmse.mining.spark.engine import spark_engine
from mmse.sources.tables import EventsConfig, ItemsConfig

ENGINES = ("duckdb", "spark")
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


def work(engine: str, folder: Path) -> None:
    """Mines in this process."""
    config = MineConfig(memory_limit=MEMORY_LIMIT, threads=THREADS)
    tables, target = (ItemsConfig(), EventsConfig("events.parquet")), folder / f"out-{engine}"
    if engine == "duckdb":
        mine_log(*tables, config, target, base=folder)
        return
    with open_spark(f"local[{THREADS}]", {"spark.ui.enabled": "false", "spark.driver.memory": "2g"}) as spark:
        mine_log(*tables, config, target, base=folder, engine=spark_engine(spark))


def descendants(root: int) -> dict[int, tuple[float, float]]:
    """CPU seconds and resident megabytes of a process and all below it, by process."""
    parents, usage = dict[int, int](), dict[int, tuple[float, float]]()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        pid = int(stat.parent.name)
        parents[pid] = int(fields[1])
        usage[pid] = ((int(fields[11]) + int(fields[12])) / TICKS, int(fields[21]) * PAGE_MB)
    family = {root}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return {pid: usage[pid] for pid in family if pid in usage}


def measure(engine: str, folder: Path) -> dict[str, Any]:
    """Mines in a new process, and watches it."""
    shutil.rmtree(folder / f"out-{engine}", ignore_errors=True)
    start, cpu, peak = time.perf_counter(), dict[int, float](), 0.0
    command = [sys.executable, __file__, "--engine", engine, "--folder", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        family = descendants(process.pid)
        cpu |= {pid: seconds for pid, (seconds, _) in family.items()}
        peak = max(peak, sum(memory for _, memory in family.values()))
        time.sleep(0.5)
    assert process.returncode == 0, engine
    wall = time.perf_counter() - start
    load = round(os.getloadavg()[0], 1)
    return {"wall_s": round(wall, 1), "cpu_s": round(sum(cpu.values()), 1), "peak_rss_mb": round(peak), "load": load}


def differences(folder: Path) -> dict[str, int]:
    """The files whose rows, numbered in their order, are not those of the other engine, and how many differ."""
    connection = duckdb.connect()
    connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'; SET temp_directory = '{folder / 'spill'}'")
    found = {}
    first = folder / "out-duckdb"
    for path in sorted(first.rglob("*.parquet")):
        sides = [
            f"SELECT * FROM read_parquet('{folder / f'out-{engine}' / path.relative_to(first)}', "
            "file_row_number = true, hive_partitioning = false)"
            for engine in ENGINES
        ]
        (n,) = connection.execute(
            f"SELECT (SELECT count(*) FROM ({sides[0]} EXCEPT ALL {sides[1]})) "
            f"+ (SELECT count(*) FROM ({sides[1]} EXCEPT ALL {sides[0]}))"
        ).fetchall()[0]
        if n:
            found[str(path.relative_to(first))] = int(n)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.gettempdir()) / f"mmse-mine-{options.rows}"
    if options.engine:
        work(options.engine, folder)
        return
    make_tables(folder, options.rows)
    results: dict[str, Any] = {engine: measure(engine, folder) for engine in ENGINES}
    print(json.dumps({"rows": options.rows, **results, "different_rows": differences(folder)}, indent=2))


if __name__ == "__main__":
    main()
