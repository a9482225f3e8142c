"""What the exposure log holds on to when its process is killed, at 5,000 exposures a second of ten items each.

    python benchmarks/exposures.py RUN [--kills 20] [--rate 5000]

Twice: a process that logs as the server's searches do, without waiting, and a real server that is sent exposures over
HTTP and acknowledges them. Each is killed (SIGKILL) at a random moment, the next one takes over, and in the end every
exposure is looked for in the log: `lost` are those that were told (or acknowledged) before the kill and are not there,
`oldest_lost_ms` how long before the kill the oldest of them was told, `twice` and `torn` those that are there twice or
with fewer than ten items. RUN is a run folder to serve. Writes benchmarks/results/exposures.json.
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
from machine import keep, where

from mmse.client import AsyncClient, ServiceError
from mmse.lab.simulated_test.process import Server, serving
from mmse.schema.http import Exposure
from mmse.serving.events import segments as journal
from mmse.serving.events.log import SCHEMA, EventLog, Shown
from mmse.serving.versions.publish import publish

ITEMS = [f"item-{place:07}" for place in range(10)]
TOGETHER, SENDERS, MOST = 100, 8, 1_000_000
"""Exposures of one call over HTTP, calls at a time, and exposures of one process at most."""
TICK_S = 0.005


def main() -> None:
    """Both ways, and keeps what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rate", type=int, default=5_000)
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        inside = logged_inside(Path(folder) / "inside", asked.kills, asked.rate, rng)
    with tempfile.TemporaryDirectory() as folder:
        over_http = logged_over_http(Path(folder) / "site", asked.run, asked.kills, asked.rate, rng)
    keep(
        "exposures",
        {
            "where": where(),
            "kills": asked.kills,
            "asked_exposures_per_s": asked.rate,
            "items_of_each": len(ITEMS),
            "as_searches_do": inside,
            "over_http": over_http,
        },
    )


def logged_inside(folder: Path, kills: int, rate: int, rng: np.random.Generator) -> dict[str, object]:
    """Processes that log without waiting, one after the other, each killed."""
    folder.mkdir()
    lives: list[tuple[np.ndarray, float]] = []
    cost = []
    for life in range(kills):
        clock = folder / f"clock-{life}"
        np.memmap(clock, np.float64, "w+", shape=(2, MOST)).flush()
        process = multiprocessing.get_context("spawn").Process(target=_tell, args=(folder, clock, life, rate))
        process.start()
        noted = np.memmap(clock, np.float64, "r", shape=(2, MOST))
        while noted[0, 0] == 0 and process.is_alive():
            time.sleep(0.01)
        time.sleep(rng.uniform(1.5, 3.5))
        assert process.pid is not None
        killed = time.monotonic()
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        n = int((noted[0] > 0).sum())
        lives.append((np.array(noted[0, :n]), killed))
        cost.append(np.array(noted[1, :n]))
        clock.unlink()
    found, twice, torn = look(folder / "events")
    lost, ages = 0, []
    for life, (times, killed) in enumerate(lives):
        gone = [number for number in range(len(times)) if f"{life}-{number}" not in found]
        lost += len(gone)
        ages.append(1000 * (killed - times[gone[0]]) if gone else 0.0)
    told, seconds = sum(len(times) for times, _ in lives), sum(killed - times[0] for times, killed in lives)
    micros = 1e6 * np.concatenate(cost)
    return {
        "exposures": told,
        "exposures_per_s": round(told / seconds),
        "lost": lost,
        "oldest_lost_ms": round(float(max(ages)), 1),
        "of_each_kill": [round(float(age), 1) for age in ages],
        "twice": twice,
        "torn": torn,
        "call_us": {f"p{q}": round(float(np.percentile(micros, q)), 1) for q in (50, 99)},
    }


def _tell(folder: Path, clock: Path, life: int, rate: int) -> None:
    """Logs `rate` exposures a second until it is killed; notes when each was told, and how long that took."""
    times = np.memmap(clock, np.float64, "r+", shape=(2, MOST))
    log = EventLog(folder / "events")
    began, number = time.monotonic(), 0
    while number < MOST:
        due = min(int((time.monotonic() - began) * rate), MOST)
        while number < due:
            before = time.perf_counter()
            log.record(Shown(f"{life}-{number}", time.time(), "red kettle", ITEMS, version="v1", user_id="u1"))
            times[1, number] = time.perf_counter() - before
            times[0, number] = time.monotonic()
            number += 1
        time.sleep(TICK_S)


def logged_over_http(site: Path, run: Path, kills: int, rate: int, rng: np.random.Generator) -> dict[str, object]:
    """Servers that are sent exposures, one after the other, each killed with all of its processes."""
    publish(site, run)
    acknowledged: list[str] = []
    seconds = 0.0
    for life in range(kills):
        with serving(site) as server:
            ends = threading.Timer(rng.uniform(1.5, 3.5), os.killpg, (server.group, signal.SIGKILL))
            ends.start()
            began = time.monotonic()
            acknowledged += asyncio.run(_send(server, life, rate))
            seconds += time.monotonic() - began
            ends.join()
    found, twice, torn = look(site / "events")
    return {
        "acknowledged": len(acknowledged),
        "exposures_per_s": round(len(acknowledged) / seconds),
        "exposures_of_one_call": TOGETHER,
        "lost": sum(one not in found for one in acknowledged),
        "twice": twice,
        "torn": torn,
    }


async def _send(server: Server, life: int, rate: int) -> list[str]:
    """Sends until the server is gone; gives the requests that it acknowledged."""
    acknowledged: list[str] = []
    calls = iter(range(10**9))
    began = time.monotonic()

    async def work(client: AsyncClient) -> None:
        while True:
            number = next(calls)
            await asyncio.sleep(max(0.0, began + number * TOGETHER / rate - time.monotonic()))
            ids = [f"{life}-{number}-{place}" for place in range(TOGETHER)]
            try:
                await client.send_events([Exposure(request_id=one, query="red kettle", items=ITEMS) for one in ids])
            except ServiceError as error:
                if error.code != "unreachable":
                    raise
                return
            acknowledged.extend(ids)

    async with AsyncClient(server.url, token=server.token, retries=0) as client:
        await asyncio.gather(*(work(client) for _ in range(SENDERS)))
    return acknowledged


def look(events: Path) -> tuple[set[str], int, int]:
    """The requests in a log whose processes are all gone, how many of them are there twice, and how many in part."""
    journal.seal_orphans(events, SCHEMA)
    rows = pq.ParquetDataset(journal.sealed_files(events)).read(["request_id", "item_id"])
    counted = rows.group_by("request_id").aggregate([("item_id", "count"), ("item_id", "count_distinct")])
    n, items = (counted[name].to_numpy() for name in ("item_id_count", "item_id_count_distinct"))
    return set(counted["request_id"].to_pylist()), int((n > items).sum()), int((items < len(ITEMS)).sum())


if __name__ == "__main__":
    main()
