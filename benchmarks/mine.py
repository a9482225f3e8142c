"""The time of mining, compared with a bare SELECT over the same Parquet: `python benchmarks/mine.py`.

Makes a synthetic log once (20 million rows, 1 million requests of 20, Zipf-like queries and items), then times
`scan` (every needed column is read), `group` (a bare SELECT merges the rows of each request and item to the
furthest stage and writes Parquet) and `mine` (the whole step), interleaved, each in a process of its own.
The published ratio is `mine` to `group`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb

from mmse.mining.mine import MineConfig, mine_log
from mmse.sources.tables import EventsConfig, ItemsConfig

JOBS = ("scan", "group", "mine")
ROOT = Path(__file__).resolve().parent.parent
SEED = 7
N_ITEMS = 200_000
MEMORY_LIMIT = "1500MB"
THREADS = 2

ITEMS = f"""
    SELECT 'item-' || lpad(range::VARCHAR, 8, '0') AS item_id, 'title of item ' || range AS title,
           'root > branch ' || range % 40 || ' > leaf ' || range % 900 AS category, 'brand ' || range % 500 AS brand,
           range % 1000 / 10 AS price, true AS available, 4.5 AS rating
      FROM range({N_ITEMS})"""

EVENTS = """
    WITH request AS (
        SELECT range AS n, md5(range::VARCHAR) AS request_id,
               TIMESTAMP '2025-01-01' + to_microseconds(range * 25_000_000) AS timestamp,
               CAST(exp(random() * ln(200000)) AS INTEGER) AS q,
               'user-' || CAST(random() * 300000 AS INTEGER) AS user_id
          FROM range({requests}))
    SELECT request_id, timestamp, 'some query words ' || q AS query,
           'item-' || lpad(((q * 131 + exp(random() * ln(3000))::BIGINT) % {items})::VARCHAR, 8, '0') AS item_id,
           position::INTEGER AS position, random() < 0.3 / position AS clicked, random() < 0.02 / position AS ordered,
           user_id, hash(n) % 10 = 0 AS explored
      FROM request, range(1, 21) AS slot(position)"""

COLUMNS = "request_id, timestamp, query, item_id, position, clicked, ordered, user_id, explored"
SCAN = "SELECT " + ", ".join(f"max(hash({column}))" for column in COLUMNS.split(", ")) + " FROM '{events}'"
GROUP = """
    COPY (SELECT request_id, item_id, min(position) AS position,
                 max(CASE WHEN ordered THEN 3 WHEN clicked THEN 2 ELSE 1 END) AS stage
            FROM '{events}' GROUP BY request_id, item_id)
      TO '{out}' (FORMAT parquet)"""


def connect(spill: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'; SET threads = {THREADS}")
    connection.execute(f"SET preserve_insertion_order = false; SET temp_directory = '{spill}'")
    return connection


def make_tables(folder: Path, n_rows: int) -> None:
    if (folder / "made").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    connection = connect(folder / "spill")
    connection.execute(f"SELECT setseed({SEED / 100})")
    connection.execute(f"COPY ({ITEMS}) TO '{folder / 'items.parquet'}'")
    connection.execute(f"COPY ({EVENTS.format(requests=n_rows // 20, items=N_ITEMS)}) TO '{folder / 'events.parquet'}'")
    (folder / "made").touch()


def work(job: str, folder: Path) -> dict[str, Any]:
    """Runs one job in this process; wall and CPU seconds, and peak resident memory."""
    start, output = time.perf_counter(), folder / f"out-{job}"
    events = folder / "events.parquet"
    if job == "scan":
        connect(folder / "spill").execute(SCAN.format(events=events)).fetchall()
    elif job == "group":
        connect(folder / "spill").execute(GROUP.format(events=events, out=output)).fetchall()
    else:
        config = MineConfig(memory_limit=MEMORY_LIMIT, threads=THREADS)
        mine_log(ItemsConfig(), EventsConfig("events.parquet"), config, output, base=folder)
    wall, usage = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    return {
        "wall_s": round(wall, 2),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_rss_mb": usage.ru_maxrss // 1024,
    }


def measure(folder: Path, repeats: int) -> dict[str, list[dict[str, Any]]]:
    runs: dict[str, list[dict[str, Any]]] = {job: [] for job in JOBS}
    for _ in range(repeats):
        for job in JOBS:
            output = folder / f"out-{job}"
            if output.is_dir():
                shutil.rmtree(output)
            command = [sys.executable, __file__, "--job", job, "--folder", str(folder)]
            process = subprocess.run(command, check=True, capture_output=True, text=True)
            runs[job].append({**json.loads(process.stdout), "load": round(os.getloadavg()[0], 1)})
            print(job, runs[job][-1], file=sys.stderr)
    return runs


def summary(runs: dict[str, list[dict[str, Any]]], n_rows: int, folder: Path) -> dict[str, Any]:
    def ratio(key: str, reference: str) -> float:
        medians = {job: statistics.median(run[key] for run in runs[job]) for job in JOBS}
        return float(round(medians["mine"] / medians[reference], 2))

    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return {
        "rows": n_rows,
        "events_parquet_mb": round((folder / "events.parquet").stat().st_size / 1e6),
        "ratio_to_group": {"wall": ratio("wall_s", "group"), "cpu": ratio("cpu_s", "group")},
        "ratio_to_scan": {"wall": ratio("wall_s", "scan"), "cpu": ratio("cpu_s", "scan")},
        "peak_rss_mb": max(run["peak_rss_mb"] for run in runs["mine"]),
        "runs": runs,
        "settings": {"threads": THREADS, "memory_limit": MEMORY_LIMIT, "seed": SEED},
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "commit": commit.stdout.strip(),
        "duckdb": duckdb.__version__,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="keeps the log between runs; by default in /tmp")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "mine.json")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.gettempdir()) / f"mmse-benchmark-mine-{arguments.rows}"
    if arguments.job:
        print(json.dumps(work(arguments.job, folder)))
        return
    make_tables(folder, arguments.rows)
    result = summary(measure(folder, arguments.repeats), arguments.rows, folder)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
