"""What the exposure log keeps when its process is killed, at 5,000 exposures of ten items a second.

    python benchmarks/exposures.py RUN [--kills 20] [--rate 5000]

Two variants: a process that logs without waiting, as the server's searches do, and a real server that gets exposures
over HTTP and acknowledges them. Each process is killed (SIGKILL) at a random moment and replaced by the next. In the
end every exposure is looked up in the log: `lost` counts those that were logged (or acknowledged) before the kill and
are missing, `oldest_lost_ms` is the time from the oldest of them to the kill, `twice` and `torn` count those that are
there twice or with fewer than ten items. RUN is a run folder to serve. Writes benchmarks/results/exposures.json.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from machine import environment, write_result

from mmse.client import AsyncClient, ServiceError
from mmse.lab.simulated_test.server_process import Server, run_server
from mmse.schema.http_events import Exposure
from mmse.serving.events import segments
from mmse.serving.events.log import EventLog
from mmse.serving.events.rows import SCHEMA, ExposureRecord
from mmse.serving.versions.publish import publish

ITEMS = [f"item-{i:07}" for i in range(10)]
BATCH_EXPOSURES, SENDERS, MAX_EXPOSURES = 100, 8, 1_000_000
"""Exposures per HTTP call, parallel calls, and the most exposures of one process."""
TICK_S = 0.005


def main() -> None:
    """Runs both variants and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rate", type=int, default=5_000)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        in_process = log_in_process(Path(folder) / "inside", options.kills, options.rate, rng)
    with tempfile.TemporaryDirectory() as folder:
        over_http = log_over_http(Path(folder) / "site", options.run, options.kills, options.rate, rng)
    write_result(
        "exposures",
        {
            "where": environment(),
            "kills": options.kills,
            "asked_exposures_per_s": options.rate,
            "items_of_each": len(ITEMS),
            "as_searches_do": in_process,
            "over_http": over_http,
        },
    )


def log_in_process(folder: Path, kills: int, rate: int, rng: np.random.Generator) -> dict[str, object]:
    """Starts processes that log without waiting, one after the other, and kills each."""
    folder.mkdir()
    lives: list[tuple[np.ndarray, float]] = []
    cost = []
    for life in range(kills):
        clock = folder / f"clock-{life}"
        np.memmap(clock, np.float64, "w+", shape=(2, MAX_EXPOSURES)).flush()
        process = multiprocessing.get_context("spawn").Process(target=_log_exposures, args=(folder, clock, life, rate))
        process.start()
        clock_times = np.memmap(clock, np.float64, "r", shape=(2, MAX_EXPOSURES))
        while clock_times[0, 0] == 0 and process.is_alive():
            time.sleep(0.01)
        time.sleep(rng.uniform(1.5, 3.5))
        assert process.pid is not None
        kill_time = time.monotonic()
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        n = int((clock_times[0] > 0).sum())
        lives.append((np.array(clock_times[0, :n]), kill_time))
        cost.append(np.array(clock_times[1, :n]))
        clock.unlink()
    request_ids, n_duplicates, n_incomplete = read_log(folder / "events")
    n_lost, ages = 0, []
    for life, (times, kill_time) in enumerate(lives):
        missing_numbers = [number for number in range(len(times)) if f"{life}-{number}" not in request_ids]
        n_lost += len(missing_numbers)
        ages.append(1000 * (kill_time - times[missing_numbers[0]]) if missing_numbers else 0.0)
    n_logged, seconds = sum(len(times) for times, _ in lives), sum(kill_time - times[0] for times, kill_time in lives)
    micros = 1e6 * np.concatenate(cost)
    return {
        "exposures": n_logged,
        "exposures_per_s": round(n_logged / seconds),
        "lost": n_lost,
        "oldest_lost_ms": round(float(max(ages)), 1),
        "of_each_kill": [round(float(age), 1) for age in ages],
        "twice": n_duplicates,
        "torn": n_incomplete,
        "call_us": {f"p{q}": round(float(np.percentile(micros, q)), 1) for q in (50, 99)},
    }


def _log_exposures(folder: Path, clock: Path, life: int, rate: int) -> None:
    """Logs `rate` exposures a second until it is killed; records the time and the duration of each call."""
    times = np.memmap(clock, np.float64, "r+", shape=(2, MAX_EXPOSURES))
    log = EventLog(folder / "events")
    start, number = time.monotonic(), 0
    while number < MAX_EXPOSURES:
        due = min(int((time.monotonic() - start) * rate), MAX_EXPOSURES)
        while number < due:
            call_start = time.perf_counter()
            log.record(ExposureRecord(f"{life}-{number}", time.time(), "red kettle", ITEMS, version="v1", user_id="u1"))
            times[1, number] = time.perf_counter() - call_start
            times[0, number] = time.monotonic()
            number += 1
        time.sleep(TICK_S)


def log_over_http(site: Path, run: Path, kills: int, rate: int, rng: np.random.Generator) -> dict[str, object]:
    """Starts servers that receive exposures, one after the other, and kills each with all its processes."""
    publish(site, run)
    acknowledged_ids: list[str] = []
    seconds = 0.0
    for life in range(kills):
        with run_server(site) as server:
            timer = threading.Timer(rng.uniform(1.5, 3.5), os.killpg, (server.process_group, signal.SIGKILL))
            timer.start()
            start = time.monotonic()
            acknowledged_ids += asyncio.run(_send(server, life, rate))
            seconds += time.monotonic() - start
            timer.join()
    request_ids, n_duplicates, n_incomplete = read_log(site / "events")
    return {
        "acknowledged": len(acknowledged_ids),
        "exposures_per_s": round(len(acknowledged_ids) / seconds),
        "exposures_of_one_call": BATCH_EXPOSURES,
        "lost": sum(request_id not in request_ids for request_id in acknowledged_ids),
        "twice": n_duplicates,
        "torn": n_incomplete,
    }


async def _send(server: Server, life: int, rate: int) -> list[str]:
    """Sends until the server does not answer; gives the acknowledged request ids."""
    acknowledged_ids: list[str] = []
    calls = iter(range(10**9))
    start = time.monotonic()

    async def work(client: AsyncClient) -> None:
        while True:
            number = next(calls)
            await asyncio.sleep(max(0.0, start + number * BATCH_EXPOSURES / rate - time.monotonic()))
            ids = [f"{life}-{number}-{i}" for i in range(BATCH_EXPOSURES)]
            try:
                await client.send_events([Exposure(request_id=i, query="red kettle", items=ITEMS) for i in ids])
            except ServiceError as error:
                if error.code != "unreachable":
                    raise
                return
            acknowledged_ids.extend(ids)

    async with AsyncClient(server.url, token=server.token, retries=0) as client:
        await asyncio.gather(*(work(client) for _ in range(SENDERS)))
    return acknowledged_ids


def read_log(events: Path) -> tuple[set[str], int, int]:
    """The request ids in a log without running writers, the number of duplicates, and of incomplete requests."""
    segments.seal_orphans(events, SCHEMA)
    rows = pq.ParquetDataset(segments.sealed_files(events)).read(["request_id", "item_id"])
    counts = rows.group_by("request_id").aggregate([("item_id", "count"), ("item_id", "count_distinct")])
    n, items = (counts[name].to_numpy() for name in ("item_id_count", "item_id_count_distinct"))
    return set(counts["request_id"].to_pylist()), int((n > items).sum()), int((items < len(ITEMS)).sum())


if __name__ == "__main__":
    main()
