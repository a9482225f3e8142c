"""The HTTP server under load, on a run folder: latency, throughput, overload, and a swap of versions.

    python benchmarks/serve.py latency RUN     one caller, k = 100, fresh queries: the whole way, and its stages
    python benchmarks/serve.py throughput RUN  16 callers against this server and against a bare handler, turn by turn
    python benchmarks/serve.py overload RUN    ten times what it can answer, for a minute, then half of it; another
                                               process asks now and then, since the generator is busy itself
    python benchmarks/serve.py swap RUN OTHER  versions swapped back and forth under load; every answer is checked

Queries are those of the run's test window, each asked once where that is said, so that no cache helps. Generator and
server share the machine. Writes benchmarks/results/serve_WHAT.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import bare
import load
import numpy as np
from machine import keep, where

from mmse.retrieval.retriever import Retriever
from mmse.schema.search import Search
from mmse.serving.versions.publish import publish
from mmse.training.targets import read_logged

SECONDS = 10.0
ROUNDS = 3
MMSE = str(Path(sys.executable).with_name("mmse"))


@contextlib.contextmanager
def server(path: Path, workers: int, *options: str) -> Iterator[int]:
    """A server of `path` as its own process; gives its port."""
    port = free_port()
    command = [MMSE, "serve", str(path), "--port", str(port), "--workers", str(workers)]
    command += ["--no-access-log", "--requests-per-s", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_ready(port)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@contextlib.contextmanager
def bare_server(run: Path, workers: int) -> Iterator[int]:
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(target=bare.serve, args=(run, port, workers))
    process.start()
    try:
        wait_ready(port)
        yield port
    finally:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGTERM)
        process.join(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_ready(port: int, patience_s: float = 120) -> None:
    until = time.monotonic() + patience_s
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/health/ready", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def queries(run: Path, n: int) -> list[str]:
    """Different queries of the test window, in their order."""
    logged = read_logged(run / "dataset", "test", 10 * n, clicked_only=False)
    return list(dict.fromkeys(logged.queries))[:n]


def latency(run: Path) -> dict[str, object]:
    asked = queries(run, 3_000)
    warm, fresh = asked[:200], asked[200:]
    found: dict[str, object] = {"queries": len(fresh)}
    with server(run, 1) as port:
        load.alone(port, [load.request({"query": q, "k": 100}) for q in warm])
        part = len(fresh) // (ROUNDS * 2)
        for turn in range(ROUNDS):
            for at, channel in enumerate(("hybrid", "vector")):
                span = fresh[(2 * turn + at) * part : (2 * turn + at + 1) * part]
                seen = load.alone(port, [load.request({"query": q, "k": 100, "channel": channel}) for q in span])
                assert set(seen.status) == {200}, Counter(seen.status)
                found.setdefault(channel, []).append(load.percentiles(seen.of(200)))  # type: ignore[attr-defined]
        found["stages_mean_ms"] = stages(port)
    found["encoding"] = encoding(run, fresh)
    return found


def encoding(run: Path, asked: list[str]) -> dict[str, float]:
    """A query's embedding alone, in this process."""
    retriever = Retriever.open(run, edits=False)
    for query in asked[:50]:
        retriever.query_vectors([query])
    seconds = []
    for query in asked:
        start = time.perf_counter()
        retriever.query_vectors([query])
        seconds.append(time.perf_counter() - start)
    return load.percentiles(np.array(seconds) * 1000)


def stages(port: int) -> dict[str, float]:
    """The mean milliseconds of each stage, as the server's metrics have them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    sums = dict(re.findall(r'mmse_stage_seconds_sum\{stage="(\w+)"\} (\S+)', text))
    counts = dict(re.findall(r'mmse_stage_seconds_count\{stage="(\w+)"\} (\S+)', text))
    return {stage: round(1000 * float(sums[stage]) / max(float(n), 1), 3) for stage, n in counts.items()}


def throughput(run: Path, workers: int) -> dict[str, object]:
    asked = queries(run, 5_000)
    found: dict[str, list[object]] = {"bare": [], "hybrid": [], "vector": []}
    with server(run, workers) as ours, bare_server(run, workers) as plain:
        for turn in range(ROUNDS):
            for name, port in (("bare", plain), ("hybrid", ours), ("vector", ours)):
                extra = {} if name == "bare" else {"channel": name}
                ask = [load.request({"query": q, "k": 100} | extra) for q in asked[turn::ROUNDS]]
                seen = load.together(port, ask, callers=16, seconds=SECONDS)
                found[name].append(seen.said(SECONDS))
    rates = {name: [float(one["served_per_s"]) for one in turns] for name, turns in found.items()}  # type: ignore[index]
    ratios = {
        name: [round(ours / plain, 3) for ours, plain in zip(rates[name], rates["bare"], strict=True)]
        for name in ("hybrid", "vector")
    }
    return {"workers": workers, "callers": 16, "of_bare": ratios} | found


def overload(run: Path, workers: int) -> dict[str, object]:
    ask = [load.request({"query": q, "k": 100}) for q in queries(run, 5_000)]
    with server(run, workers) as port:
        load.together(port, ask, callers=4, seconds=3)
        able = len(load.together(port, ask, callers=8, seconds=SECONDS).of(200)) / SECONDS
        before = load.steady(port, ask, per_s=able * 0.5, seconds=5)
        memory = Memory(port)
        with memory, ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as aside:
            other = aside.submit(load.now_and_then, port, ask, every_s=0.05, seconds=55)
            start = time.perf_counter()
            under = load.steady(port, ask, per_s=able * 10, seconds=60)
            took_s = time.perf_counter() - start
            beside = other.result()
        over = time.perf_counter()
        calm, recovered_s = None, None
        while recovered_s is None and time.perf_counter() - over < 30:
            calm = load.steady(port, ask, per_s=able * 0.5, seconds=1)
            if set(calm.status) == {200} and not calm.failures:
                recovered_s = round(time.perf_counter() - over, 2)
        after = load.steady(port, ask, per_s=able * 0.5, seconds=5)
    return {
        "workers": workers,
        "deadline_ms": 1_000,
        "capacity_per_s": round(able, 1),
        "half_load_before": before.said(5),
        "offered_per_s": round(able * 10, 1),
        "took_s": round(took_s, 1),
        "ten_times_load": under.said(took_s),
        "caller_beside_it": beside.said(55) | {"refused": load.percentiles(beside.of(503))},
        "resident_mb": memory.said(),
        "recovered_after_s": recovered_s,
        "half_load_after": after.said(5),
    }


class Memory:
    """Resident memory of whoever listens on a port and of their children, twice a second while it is entered."""

    def __init__(self, port: int) -> None:
        command = ["pgrep", "-f", f"mmse serve .*--port {port}"]
        self._pids = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        self._seen: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def said(self) -> dict[str, float]:
        """Megabytes of their own: at the first look, at the last, and at most."""
        return {"first": self._seen[0], "last": self._seen[-1], "most": max(self._seen)}

    def _watch(self) -> None:
        while True:
            total = 0
            for pid in self._pids:
                text = Path(f"/proc/{pid}/status").read_text()
                total += int(re.findall(r"RssAnon:\s+(\d+)", text)[0])
            self._seen.append(round(total / 1024, 1))
            if self._over.wait(0.5):
                return


def swap(run: Path, other: Path, workers: int) -> dict[str, object]:
    asked = queries(run, 300)
    with tempfile.TemporaryDirectory(dir=run.parent) as folder:
        site = Path(folder) / "site"
        names = {publish(site, run): run, publish(site, other): other}
        right = {name: answers(path, asked) for name, path in names.items()}
        differ = float(np.mean([right[a][q] != right[b][q] for a, b in [sorted(names)] for q in asked]))
        ask = [load.request({"query": q, "k": 10}) for q in asked]
        moves: list[tuple[float, str]] = []
        with server(site, workers, "--waiting", "1000") as port:
            over = threading.Event()

            def mover() -> None:
                turn = 0
                while not over.wait(5):
                    name = sorted(names)[turn % 2]
                    command = [MMSE, "versions", "rollback", str(site), name]
                    subprocess.run(command, check=True, capture_output=True)
                    moves.append((time.time(), name))
                    turn += 1

            thread = threading.Thread(target=mover)
            thread.start()
            seen = load.together(port, ask, callers=8, seconds=60, keep=True)
            over.set()
            thread.join()
        wrong, served = 0, Counter[str]()
        for body, status in zip(seen.bodies, seen.status, strict=True):
            if status == 200:
                answer = json.loads(body)
                served[answer["version"]] += 1
                hits = [hit["item_id"] for hit in answer["hits"]]
                wrong += hits != right[answer["version"]][answer["query"]]
    return {
        "workers": workers,
        "callers": 8,
        "seconds": 60,
        "swaps": len(moves),
        "answers_by_version": dict(served),
        "queries_whose_answers_differ": round(differ, 3),
        "wrong_answers": wrong,
        "load": seen.said(60),
    }


def answers(run: Path, asked: list[str]) -> dict[str, list[str]]:
    retriever = Retriever.open(run, edits=False)
    return {query: [hit.item_id for hit in retriever.answer(Search(query, 10)).hits] for query in asked}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("latency", "throughput", "overload", "swap"))
    parser.add_argument("run", type=Path)
    parser.add_argument("other", type=Path, nargs="?")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    about: dict[str, object] = {"what": asked.what, "where": where(), "run": described(asked.run)}
    if asked.what == "latency":
        found = latency(asked.run)
    elif asked.what == "throughput":
        found = throughput(asked.run, asked.workers)
    elif asked.what == "overload":
        found = overload(asked.run, asked.workers)
    else:
        found = swap(asked.run, asked.other, asked.workers)
    keep(f"serve_{asked.what}", about | found)


def described(run: Path) -> dict[str, object]:
    counts = json.loads((run / "index" / "manifest.json").read_text())["counts"]
    return {name: counts[name] for name in ("items", "width", "lists", "probed") if name in counts}


if __name__ == "__main__":
    main()
