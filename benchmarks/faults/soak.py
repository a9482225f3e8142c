"""A server under mixed traffic for hours: is memory flat, are handles, threads and disk, is every answer right?

    python benchmarks/faults/soak.py WORK [--seconds 7200] [--per-s 8] [--change-every 20] [--workers 2] [--seed 1]

`mmse serve` serves a site of the campaign's small shop. Searches, edits, events and changes of the site (publish,
rollback, an experiment of two versions, rules, tokens, prune) come at a fixed rate; items, words and filters are
compared with what was acknowledged. Every half minute the memory, open files, threads and processor time of all its
processes are written down, and the bytes of its folders. Afterwards the site is verified, and every acknowledged event
looked for. Writes benchmarks/results/soak.json.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))

import httpx
import numpy as np
import torch
from faults import bases, judges
from faults.kills_of_servers import SLOWEST_START_S, free_port
from faults.soak_traffic import Traffic, administer
from machine import environment, write_result

from mmse.serving.versions.publish import publish

SAMPLE_S = 30.0
KEPT_SAMPLES = 40
MEASURES = ("private_mb", "rss_mb", "files", "threads", "processes", "site_mb", "temporary_mb")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seconds", type=float, default=7200.0)
    parser.add_argument("--per-s", type=float, default=8.0, help="searches, edits and so on")
    parser.add_argument("--change-every", type=float, default=20.0, help="seconds between changes of the site")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    facts = environment()
    options.work.mkdir(parents=True, exist_ok=True)
    bases.make_base(options.work / "base")
    folder = options.work / "soak"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "tmp").mkdir(parents=True)
    site, token = folder / "site", secrets.token_hex(16)
    publish(site, options.work / "base" / "run")
    (folder / "tokens").write_text(f"items,events,admin {token}\n", "ascii")
    port = free_port()
    server = start(folder, port, options.workers)
    try:
        wait_for(port, server)
        traffic = Traffic(f"http://127.0.0.1:{port}", token, options.seed)
        samples, changes = run(options, folder, server.pid, traffic)
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(60)
    log = (folder / "server.log").read_text("utf-8")
    result = vars(options) | {"work": "WORK"} | summarise(samples, changes, traffic, log)
    write_result("soak", facts | result | {"exit code": code, **judge(site, traffic)})


def start(folder: Path, port: int, workers: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mmse", "serve", str(folder / "site"), "--port", str(port)]
    command += ["--workers", str(workers), "--requests-per-s", "0", "--token-file", str(folder / "tokens")]
    command += ["--log-exposures", "--no-access-log", "--timeout-ms", "20000"]
    with (folder / "server.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"TMPDIR": str(folder / "tmp")})


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SLOWEST_START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/v1/health/ready").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise SystemExit("The server does not start.")


def run(
    options: argparse.Namespace, folder: Path, pid: int, traffic: Traffic
) -> tuple[list[dict[str, float]], dict[str, int]]:
    """The samples of the whole time, and how often each change of the site was made."""
    start_s, samples, changes = time.monotonic(), list[dict[str, float]](), dict[str, int]()
    administration = administer(folder / "site", options.work / "base" / "run", folder / "tokens", traffic)
    turn_s, change_s, sample_s = 0.0, options.change_every, 0.0
    while (now_s := time.monotonic() - start_s) < options.seconds:
        if now_s >= sample_s:
            samples.append({"s": round(now_s, 1), **measure(pid, folder)})
            sample_s += SAMPLE_S
        elif now_s >= change_s:
            name = next(administration)
            changes[name] = changes.get(name, 0) + 1
            change_s = max(change_s + options.change_every, now_s + options.change_every / 2)
        elif now_s >= turn_s:
            traffic.turn()
            turn_s = max(turn_s + 1 / options.per_s, now_s - 1.0)
        time.sleep(max(min(turn_s, change_s, sample_s) + start_s - time.monotonic(), 0.0))
    samples.append({"s": round(time.monotonic() - start_s, 1), **measure(pid, folder)})
    traffic.close()
    return samples, changes


def measure(pid: int, folder: Path) -> dict[str, float]:
    """What the server holds: `private_mb` is memory that is no mapped file, `cpu_s` the processor time so far."""
    pids = [pid, *children_of(pid)]
    status = [dict(line.split(":", 1) for line in read(pid, "status").splitlines()) for pid in pids]
    ticks = [read(pid, "stat").rpartition(")")[2].split() for pid in pids]
    site = size(folder / "site")
    events = size(folder / "site" / "events")
    return {
        "private_mb": round(sum(int(values["RssAnon"].split()[0]) for values in status) / 1024, 1),
        "rss_mb": round(sum(int(values["VmRSS"].split()[0]) for values in status) / 1024, 1),
        "files": sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids),  # noqa: PTH208
        "threads": sum(int(values["Threads"]) for values in status),
        "processes": len(pids),
        "site_mb": round((site - events) / 1e6, 2),
        "events_mb": round(events / 1e6, 2),
        "temporary_mb": round(size(folder / "tmp") / 1e6, 2),
        "cpu_s": round(sum(int(fields[11]) + int(fields[12]) for fields in ticks) / os.sysconf("SC_CLK_TCK"), 1),
    }


def read(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text("utf-8")


def children_of(pid: int) -> list[int]:
    return [int(word) for word in read(pid, f"task/{pid}/children").split()]


def size(folder: Path) -> int:
    """The bytes of a folder's files; a file with several names counts once."""
    inodes: dict[int, int] = {}
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                stat = os.lstat(os.path.join(root, name))  # noqa: PTH118
            except FileNotFoundError:
                continue
            inodes[stat.st_ino] = stat.st_size
    return sum(inodes.values())


def summarise(
    samples: Sequence[dict[str, float]], changes: dict[str, int], traffic: Traffic, log: str
) -> dict[str, Any]:
    """Counts, times, and each measure: the medians of the four quarters, the most, and the slope of the last three."""
    tally, quarters = traffic.tally, np.array_split(np.array(samples, object), 4)
    trends = {}
    for name in MEASURES:
        later = [sample for quarter in quarters[1:] for sample in quarter]
        hours, values = [sample["s"] / 3600 for sample in later], [sample[name] for sample in later]
        trends[name] = {
            "quarters": [round(median(sample[name] for sample in quarter), 2) for quarter in quarters if len(quarter)],
            "most": max(sample[name] for sample in samples),
            "per_hour": round(float(np.polyfit(hours, values, 1)[0]), 2) if len(set(hours)) > 1 else 0.0,
        }
    p50, p99 = (round(float(np.percentile(tally.search_s, q)) * 1000, 1) for q in (50, 99))
    return {
        "seconds_run": samples[-1]["s"],
        "cores_of_server": round((samples[-1]["cpu_s"] - samples[0]["cpu_s"]) / samples[-1]["s"], 3),
        "operations": dict(tally.counts),
        "changes": changes,
        "search_p50_ms": p50,
        "search_p99_ms": p99,
        "slowest_lag_s": round(tally.slowest_lag_s, 3),
        "faults": tally.faults,
        "errors_in_log": [line for line in log.splitlines() if "ERROR" in line or "Traceback" in line][:20],
        "trends": trends,
        "samples": list(samples)[:: max(len(samples) // KEPT_SAMPLES, 1)],
    }


def judge(site: Path, traffic: Traffic) -> dict[str, Any]:
    """What is wrong with the site afterwards, and with the acknowledged events."""
    rows = judges.count_rows(judges.read_rows(site / "events"))
    return {
        "damages": judges.damages(site),
        "litter": judges.litter(site),
        "events": len(traffic.request_ids),
        "events_lost": sum(rows[request_id] == 0 for request_id in traffic.request_ids),
        "events_twice": sum(rows[request_id] > 3 for request_id in traffic.request_ids),
    }


if __name__ == "__main__":
    main()
