"""Mining the newest days of a log that grows: `python benchmarks/since.py --days 60 120 240`.

Makes synthetic logs of a Parquet file for each day, as `benchmarks/mine.py` makes rows. Each is mined
whole and from the 60th day before its end on (`[mine] since`), in a process of its own each time.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import environment, write_result
from mine import EVENTS, ITEMS, MEMORY_LIMIT, N_ITEMS, SEED, THREADS, connect

from mmse.mining.mine import MineConfig, mine_log
from mmse.sources.tables import EventsConfig, ItemsConfig

BEGIN = dt.date(2025, 1, 1)
WINDOW_DAYS = 60


def make_log(folder: Path, n_days: int, rows_per_day: int) -> None:
    """One file of events for each day that is not there yet, and the items."""
    (folder / "events").mkdir(parents=True, exist_ok=True)
    connection = connect(folder / "spill")
    connection.execute(f"SELECT setseed({SEED / 100})")
    connection.execute(f"COPY ({ITEMS}) TO '{folder / 'items.parquet'}'")
    requests = rows_per_day // 20
    for day in range(n_days):
        first = day * requests
        rows = EVENTS.format(requests=f"{first}, {first + requests}", items=N_ITEMS)
        rows = rows.replace(
            "to_microseconds(range * 25_000_000)", f"to_microseconds(range * {86_400_000_000 // requests})"
        )
        path = folder / "events" / f"{BEGIN + dt.timedelta(days=day)}.parquet"
        if not path.exists():
            connection.execute(f"COPY ({rows}) TO '{path}'")


def work(folder: Path, n_days: int, since: str | None) -> None:
    """Mines in this process and prints what it took."""
    import resource
    import time

    config = MineConfig(memory_limit=MEMORY_LIMIT, threads=THREADS, since=since)
    start = time.perf_counter()
    manifest = mine_log(ItemsConfig(), EventsConfig("events"), config, folder / "out", base=folder)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    result = {
        "days": n_days,
        "since": since,
        "rows": manifest.counts["read"]["events"],
        "wall_s": round(time.perf_counter() - start, 2),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_rss_mb": round(usage.ru_maxrss / 1024),
    }
    print(json.dumps(result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, nargs="+", default=[60, 120, 240])
    parser.add_argument("--rows-per-day", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "mmse-since")
    parser.add_argument("--work", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(Path(options.work["folder"]), options.work["days"], options.work["since"])
        return
    before, runs = environment(), list[dict[str, Any]]()
    for _ in range(options.rounds):
        for n_days in options.days:
            folder = options.folder / f"{n_days}x{options.rows_per_day}"
            make_log(folder, n_days, options.rows_per_day)
            for since in (None, str(BEGIN + dt.timedelta(days=n_days - WINDOW_DAYS))):
                job = json.dumps({"folder": str(folder), "days": n_days, "since": since})
                command = [sys.executable, __file__, "--work", job]
                output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                runs.append(json.loads(output.splitlines()[-1]))
                print(json.dumps(runs[-1]), file=sys.stderr)
    write_result("since", {"environment": before, "window_days": WINDOW_DAYS, "runs": runs})


if __name__ == "__main__":
    main()
