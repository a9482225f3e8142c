"""The readers against DuckDB's own reading of the same files: seconds for all values of a log.

    python benchmarks/read_speed.py [--rows 20000000] [--folder KEPT] [--threads 2] [--checked]

A made-up log of eight columns as CSV, JSON Lines and Parquet. `duckdb` is DuckDB's own table function with the columns
that it finds in the first 20,480 rows, `whole` the same with those of all rows, as ours has them; `reader` is ours from
opening the files (which finds dialect, encoding and, for JSON, the keys of all rows) to the same aggregate over all
columns; `checked` is `read_events`: every row cast, checked, joined to the items and written to shards (`--checked`).
Each is the quicker of two runs. Writes benchmarks/results/read_speed.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
from machine import environment, write_result

from mmse.sources.casting import read_events, read_items
from mmse.sources.duckdb_session import Session, open_session
from mmse.sources.sql import identifier, literal
from mmse.sources.tables import EventsConfig, ItemsConfig, open_events, open_items

ITEMS = 10_000
OWN = {"csv": "read_csv({})", "jsonl": "read_json({}, format = 'newline_delimited')", "parquet": "read_parquet({})"}
WHOLE = {
    "csv": "read_csv({}, sample_size = -1)",
    "jsonl": "read_json({}, format = 'newline_delimited', sample_size = -1)",
    "parquet": "read_parquet({}, union_by_name = true)",
}
COLUMNS = ("request_id", "timestamp", "query", "item_id", "position", "clicked", "ordered", "user_id")


def write_log(folder: Path, n_rows: int) -> None:
    """The log in each format, and its items."""
    rows = f"""
        SELECT 'q' || (i // 10) AS request_id,
               strftime(TIMESTAMP '2026-03-01' + to_seconds(i // 20), '%Y-%m-%d %H:%M:%S') AS timestamp,
               'red shoe ' || (i // 10 % 997) AS query, 'item-' || (hash(i) % {ITEMS}) AS item_id,
               i % 10 + 1 AS position, hash(i) % 9 = 0 AS clicked, hash(i) % 90 = 0 AS ordered,
               'user-' || (i // 50 % 100000) AS user_id FROM range({n_rows}) AS numbers(i)"""
    forms = {"csv": "FORMAT csv, HEADER", "jsonl": "FORMAT json", "parquet": "FORMAT parquet"}
    for ending, form in forms.items():
        target = folder / f"events.{ending}"
        if not target.exists():
            duckdb.execute(f"COPY ({rows}) TO {literal(str(target))} ({form})")
    items = f"SELECT 'item-' || i AS item_id, 'shoe ' || i AS title FROM range({ITEMS}) AS numbers(i)"
    duckdb.execute(f"COPY ({items}) TO {literal(str(folder / 'items.parquet'))} (FORMAT parquet)")


def seconds_of(work: Callable[[], object]) -> float:
    """The quicker of two runs."""
    seconds = []
    for _ in range(2):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return round(min(seconds), 2)


def aggregate(session: Session, scan: str) -> None:
    session.run(f"SELECT count(*), {', '.join(f'max({identifier(name)})' for name in COLUMNS)} FROM {scan}")


def measure(folder: Path, ending: str, threads: int, *, is_checked: bool) -> dict[str, float]:
    file = folder / f"events.{ending}"

    def read_with_duckdb(function: str) -> None:
        with open_session(memory_limit="4GB", threads=threads) as session:
            aggregate(session, function.format(literal(str(file))))

    def read_with_reader() -> None:
        with open_session(memory_limit="4GB", threads=threads) as session:
            table = open_events(session.connection, EventsConfig(file.name), folder)
            values = ", ".join(f"{table.column(name)} AS {name}" for name in COLUMNS)
            aggregate(session, f"(SELECT {values} FROM {table.scan})")

    def read_checked() -> None:
        with (
            tempfile.TemporaryDirectory(dir=folder) as target,
            open_session(memory_limit="4GB", threads=threads) as session,
        ):
            session.spill_to(folder / "spill")
            read_items(session, open_items(session.connection, ItemsConfig(), folder), ItemsConfig())
            read_events(session, [open_events(session.connection, EventsConfig(file.name), folder)], 8, Path(target))

    own = seconds_of(lambda: read_with_duckdb(OWN[ending]))
    whole = seconds_of(lambda: read_with_duckdb(WHOLE[ending]))
    reader = seconds_of(read_with_reader)
    result = {"megabytes": round(file.stat().st_size / 1e6), "duckdb_s": own, "whole_s": whole, "reader_s": reader}
    result |= {"reader_by_duckdb": round(reader / own, 2), "reader_by_whole": round(reader / whole, 2)}
    if is_checked:
        begin = time.perf_counter()
        read_checked()
        result |= {"checked_s": round(time.perf_counter() - begin, 2)}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--checked", action="store_true", help="measure read_events, too")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=None, help="keeps the log between runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        write_log(folder, options.rows)
        formats = {ending: measure(folder, ending, options.threads, is_checked=options.checked) for ending in OWN}
        write_result(
            "read_speed", {**environment(), "rows": options.rows, "threads": options.threads, "formats": formats}
        )


if __name__ == "__main__":
    main()
