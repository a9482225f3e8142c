"""Kills of a server under live updates, over HTTP: of the one process, of a worker, of the parent with its workers.

A client edits items, sends events and searches; what was answered with success must be there afterwards. Answers other
than success, and broken connections, are what a client may see; they are not counted as faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from faults import bases, children, judges
from faults.children import Report
from granian.constants import Interfaces
from granian.server.embed import Server

from mmse.serving.app import create
from mmse.serving.config import ServeConfig
from mmse.serving.versions.publish import publish
from mmse.serving.versions.site import Site

TOKEN = "a-token-of-trials-only"
SLOWEST_START_S = 120.0


def kill_servers(base: Path, work: Path, seed: int, n: int, n_commands: int) -> list[dict[str, Any]]:
    """Two rows: `n` kills of a server of one process, and `n_commands` of `mmse serve` with two workers."""
    return [
        _run(base, work, random.Random(f"{seed} server"), n, "a server of one process, under edits and events"),
        _run(
            base, work, random.Random(f"{seed} workers"), n_commands, "mmse serve with two workers, or a worker of it"
        ),
    ]


def publish_trial(base: Path, work: Path) -> Path:
    """A new site in `work` with the run of `base` as its version; a former one is removed."""
    site = work / "trial" / "site"
    shutil.rmtree(site.parent, ignore_errors=True)
    site.parent.mkdir(parents=True)
    children.call(lambda: bases.link_tree(base / "run", site.parent / "run") and None)
    children.call(lambda: publish(site, site.parent / "run"))
    return site


def _run(base: Path, work: Path, rng: random.Random, n: int, name: str) -> dict[str, Any]:
    is_command = name.startswith("mmse")
    site = publish_trial(base, work)
    counts, faults, lines = Counter[str](), list[str](), list[str]()
    for number in range(n):
        port = free_port()
        server = _start_command(site, port) if is_command else children.start(partial(serve_here, site, port))
        client = children.start(partial(use, port, number))
        deadline = time.monotonic() + SLOWEST_START_S
        while not client.lines and time.monotonic() < deadline:
            client.read(0.02)
        client.read(rng.uniform(0.2, 2.0))
        kill = "worker" if is_command and number % 2 else "all"
        counts["killed at work"] += _kill_worker(server.pid, rng) if kill == "worker" else server.kill()
        client.read(1.0 if kill == "worker" else 0.1)
        client.kill()
        if kill == "worker":
            server.kill()
        lines += client.lines
        counts["acknowledged"] += sum(line.startswith(("edit ", "event ")) for line in client.lines)
        counts["searches"] += client.lines.count("search")
        try:
            problems = children.call(partial(judge_server, site, lines))
        except children.ChildFailure as failure:
            problems = [f"the judge fails: {failure}"]
        counts["lost or corrupt"] += bool(problems)
        faults += [f"trial {number}, {kill}: {problem}" for problem in problems]
    row = {"fault": f"kill -9: {name}", "trials": n, **counts, "faults": faults}
    print(row, flush=True)
    return row


def serve_here(site: Path, port: int, report: Report) -> None:
    """Serves a site in this process, as a worker does, until it is killed."""
    logging.disable()
    config = ServeConfig(site, port=port, token=TOKEN, requests_per_s=0, log_exposures=True, access_log=False)
    server = Server(create(config), port=port, interface=Interfaces.ASGI, websockets=False, log_enabled=False)
    asyncio.run(server.serve())


def use(port: int, number: int, report: Report) -> None:
    """A client: reports `ready`, and each edit and event before it is sent and once it is acknowledged."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5, headers=headers) as client:
        while not _answers(client):
            time.sleep(0.02)
        report("ready")
        turn = 0
        while True:
            turn += 1
            with contextlib.suppress(httpx.TransportError):
                _edit(client, f"n{turn % 12}", 0.0 if turn % 5 == 4 else number * 10_000 + turn, report)
                _send(client, f"{number}-{turn}", report)
                if client.get("/v1/search", params={"q": "drill", "k": 3}).status_code == 200:
                    report("search")


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/v1/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def _edit(client: httpx.Client, item_id: str, price: float, report: Report) -> None:
    report(f"try {item_id} {price:.0f}")
    if price:
        answer = client.put(f"/v1/items/{item_id}", json={"title": "zorbak thing", "price": price})
    else:
        answer = client.delete(f"/v1/items/{item_id}")
    if answer.status_code == 200 or (not price and answer.status_code == 404):
        report(f"edit {item_id} {price:.0f}")


def _send(client: httpx.Client, request_id: str, report: Report) -> None:
    events = [{"type": "exposure", "request_id": f"request-{request_id}", "query": "drill", "items": ["i1", "i2"]}]
    if client.post("/v1/events", json={"events": events}).status_code == 202:
        report(f"event request-{request_id}")


def judge_server(site: Path, lines: list[str]) -> list[str]:
    """What is wrong with a site, and with the edits and events of it that a client reported."""
    problems = [problem for problem in judges.damages(site) if "no whole" not in problem]
    problems += judges.lost_edits(Site.open(site).state().live.run, lines)
    return problems + judges.miscounted_events(site / "events", lines)


def _start_command(site: Path, port: int) -> children.Child:
    """`mmse serve` as a process of its own, which leads its group."""

    def work(report: Report) -> None:
        command = [sys.executable, "-m", "mmse", "serve", str(site), "--port", str(port), "--workers", "2"]
        os.execve(sys.executable, [*command, "--requests-per-s", "0"], os.environ | {"MMSE_TOKEN": TOKEN})

    return children.start(work)


def _kill_worker(parent: int, rng: random.Random) -> bool:
    """Ends a worker of a server; gives whether it had one."""
    output = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True, check=False).stdout
    workers = [int(line) for line in output.split()]
    if workers:
        os.kill(rng.choice(workers), signal.SIGKILL)
    return bool(workers)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
