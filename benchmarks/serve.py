"""The HTTP server under load, on a run folder: latency, throughput, overload, and a swap of versions.

    python benchmarks/serve.py latency RUN     one caller, k = 100, fresh queries: the whole search, and its spans
    python benchmarks/serve.py throughput RUN  16 callers of this server and of a bare handler, in turns
    python benchmarks/serve.py overload RUN    ten times its capacity for a minute, then half of it; another process
                                               sends a few requests, because the generator itself is busy
    python benchmarks/serve.py again RUN       16 callers with the queries as the log has them, repeated ones too, of a
                                               server that keeps answers and one that keeps none, in turns
    python benchmarks/serve.py swap RUN OTHER  two versions swapped in turns under load; every answer is checked

Queries are those of the run's test window; fresh ones are sent once, and but for `again` no answers are kept, so that
no cache helps. Generator and server share the machine. Writes benchmarks/results/serve_WHAT.json, or
serve_WHAT_STORE.json where the vectors are in another store.
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

import bare_server
import load
import numpy as np
from machine import environment, write_result

from mmse.index.store import LOCAL, read_store_name
from mmse.retrieval.retriever import Retriever
from mmse.schema.search import Search
from mmse.serving.versions.publish import publish
from mmse.training.targets import read_logged_requests

SECONDS = 10.0
ROUNDS = 3
MMSE = str(Path(sys.executable).with_name("mmse"))


@contextlib.contextmanager
def run_server(path: Path, workers: int, *options: str) -> Iterator[int]:
    """A server of `path` in a process of its own; gives its port."""
    port = free_port()
    command = [MMSE, "serve", str(path), "--port", str(port), "--workers", str(workers)]
    command += ["--no-access-log", "--requests-per-s", "0", "--answer-cache", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_until_ready(port)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@contextlib.contextmanager
def run_bare_server(run: Path, workers: int) -> Iterator[int]:
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(target=bare_server.serve, args=(run, port, workers))
    process.start()
    try:
        wait_until_ready(port)
        yield port
    finally:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGTERM)
        process.join(30)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(port: int, patience_s: float = 120) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/health/ready", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def read_queries(run: Path, n: int) -> list[str]:
    """Distinct queries of the test window, in their order."""
    log = read_logged_requests(run / "dataset", "test", 10 * n, clicked_only=False)
    return list(dict.fromkeys(log.queries))[:n]


def measure_latency(run: Path) -> dict[str, object]:
    test_queries = read_queries(run, 3_000)
    warm, fresh = test_queries[:200], test_queries[200:]
    result: dict[str, object] = {"queries": len(fresh)}
    with run_server(run, 1) as port:
        load.send_one_by_one(port, [load.request({"query": q, "k": 100}) for q in warm])
        part = len(fresh) // (ROUNDS * 2)
        for turn in range(ROUNDS):
            for index, channel in enumerate(("hybrid", "vector")):
                span = fresh[(2 * turn + index) * part : (2 * turn + index + 1) * part]
                responses = load.send_one_by_one(
                    port, [load.request({"query": q, "k": 100, "channel": channel}) for q in span]
                )
                assert set(responses.status) == {200}, Counter(responses.status)
                result.setdefault(channel, []).append(load.percentiles(responses.milliseconds(200)))  # type: ignore[attr-defined]
        result["stages_mean_ms"] = read_span_means(port)
    result["encoding"] = measure_encoding(run, fresh)
    return result


def measure_encoding(run: Path, test_queries: list[str]) -> dict[str, float]:
    """A query's embedding alone, in this process."""
    retriever = Retriever.open(run, edits=False)
    for query in test_queries[:50]:
        retriever.query_vectors([query])
    seconds = []
    for query in test_queries:
        start = time.perf_counter()
        retriever.query_vectors([query])
        seconds.append(time.perf_counter() - start)
    return load.percentiles(np.array(seconds) * 1000)


def read_span_means(port: int) -> dict[str, float]:
    """The mean milliseconds of each span, from the server's metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    sums = dict(re.findall(r'mmse_stage_seconds_sum\{stage="(\w+)"\} (\S+)', text))
    counts = dict(re.findall(r'mmse_stage_seconds_count\{stage="(\w+)"\} (\S+)', text))
    return {stage: round(1000 * float(sums[stage]) / max(float(n), 1), 3) for stage, n in counts.items()}


def measure_throughput(run: Path, workers: int) -> dict[str, object]:
    test_queries = read_queries(run, 5_000)
    result: dict[str, list[object]] = {"bare": [], "hybrid": [], "vector": []}
    with run_server(run, workers) as mmse_port, run_bare_server(run, workers) as bare_port:
        for turn in range(ROUNDS):
            for name, port in (("bare", bare_port), ("hybrid", mmse_port), ("vector", mmse_port)):
                extra = {} if name == "bare" else {"channel": name}
                requests = [load.request({"query": q, "k": 100} | extra) for q in test_queries[turn::ROUNDS]]
                responses = load.send_parallel(port, requests, callers=16, seconds=SECONDS)
                result[name].append(responses.summary(SECONDS))
    rates = {name: [float(turn["served_per_s"]) for turn in turns] for name, turns in result.items()}  # type: ignore[index]
    ratios = {
        name: [round(rate / bare_rate, 3) for rate, bare_rate in zip(rates[name], rates["bare"], strict=True)]
        for name in ("hybrid", "vector")
    }
    return {"workers": workers, "callers": 16, "of_bare": ratios} | result


def measure_again(run: Path, workers: int) -> dict[str, object]:
    log = read_logged_requests(run / "dataset", "test", 20_000, clicked_only=False)
    queries = log.queries[: len(log.queries) // ROUNDS * ROUNDS]
    requests = [load.request({"query": query, "k": 24}) for query in queries]
    result: dict[str, object] = {"kept": [], "not_kept": []}
    part = len(requests) // ROUNDS
    with run_server(run, workers, "--answer-cache", "64") as kept_port, run_server(run, workers) as port:
        for turn in range(ROUNDS):
            for name, own_port in (("kept", kept_port), ("not_kept", port)):
                span = requests[turn * part : (turn + 1) * part]
                responses, seconds = load.send_each(own_port, span, callers=16)
                result[name].append(responses.summary(seconds))  # type: ignore[attr-defined]
        counts = read_counts(kept_port, "mmse_answer_cache_total")
    shares = {"hit_share": counts["hit"] / sum(counts.values()), "different": len(set(queries)) / len(queries)}
    result |= {name: round(share, 3) for name, share in shares.items()}
    return {"workers": workers, "callers": 16, "requests": len(queries)} | result


def read_counts(port: int, metric: str) -> dict[str, float]:
    """The values of a metric with one label, by label."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    return {label: float(value) for label, value in re.findall(metric + r'\{\w+="(\w+)"\} (\S+)', text)}


def measure_overload(run: Path, workers: int) -> dict[str, object]:
    requests = [load.request({"query": q, "k": 100}) for q in read_queries(run, 5_000)]
    with run_server(run, workers) as port:
        load.send_parallel(port, requests, callers=4, seconds=3)
        capacity = len(load.send_parallel(port, requests, callers=8, seconds=SECONDS).milliseconds(200)) / SECONDS
        half_load_before = load.send_at_rate(port, requests, per_s=capacity * 0.5, seconds=5)
        memory = MemoryMonitor(port)
        with memory, ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
            caller = executor.submit(load.send_occasionally, port, requests, every_s=0.05, seconds=55)
            start = time.perf_counter()
            overload_responses = load.send_at_rate(port, requests, per_s=capacity * 10, seconds=60)
            took_s = time.perf_counter() - start
            caller_responses = caller.result()
        end = time.perf_counter()
        recovery_responses, recovered_s = None, None
        while recovered_s is None and time.perf_counter() - end < 30:
            recovery_responses = load.send_at_rate(port, requests, per_s=capacity * 0.5, seconds=1)
            if set(recovery_responses.status) == {200} and not recovery_responses.failures:
                recovered_s = round(time.perf_counter() - end, 2)
        half_load_after = load.send_at_rate(port, requests, per_s=capacity * 0.5, seconds=5)
    return {
        "workers": workers,
        "deadline_ms": 1_000,
        "capacity_per_s": round(capacity, 1),
        "half_load_before": half_load_before.summary(5),
        "offered_per_s": round(capacity * 10, 1),
        "took_s": round(took_s, 1),
        "ten_times_load": overload_responses.summary(took_s),
        "caller_beside_it": caller_responses.summary(55)
        | {"refused": load.percentiles(caller_responses.milliseconds(503))},
        "resident_mb": memory.summary(),
        "recovered_after_s": recovered_s,
        "half_load_after": half_load_after.summary(5),
    }


class MemoryMonitor:
    """Resident memory of the server's processes, measured twice a second within the `with` block."""

    def __init__(self, port: int) -> None:
        command = ["pgrep", "-f", f"mmse serve .*--port {port}"]
        self._pids = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        self._megabytes: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def summary(self) -> dict[str, float]:
        """Megabytes of anonymous memory: the first, the last and the highest measurement."""
        return {"first": self._megabytes[0], "last": self._megabytes[-1], "most": max(self._megabytes)}

    def _watch(self) -> None:
        while True:
            total = 0
            for pid in self._pids:
                text = Path(f"/proc/{pid}/status").read_text()
                total += int(re.findall(r"RssAnon:\s+(\d+)", text)[0])
            self._megabytes.append(round(total / 1024, 1))
            if self._stop.wait(0.5):
                return


def measure_swap(run: Path, other_run: Path, workers: int) -> dict[str, object]:
    test_queries = read_queries(run, 300)
    with tempfile.TemporaryDirectory(dir=run.parent) as folder:
        site = Path(folder) / "site"
        names = {publish(site, run): run, publish(site, other_run): other_run}
        expected_hits = {name: expected_answers(path, test_queries) for name, path in names.items()}
        first, second = (expected_hits[name] for name in sorted(names))
        differ = float(np.mean([first.get(query) != second.get(query) for query in test_queries]))
        requests = [load.request({"query": q, "k": 10}) for q in test_queries]
        moves: list[tuple[float, str]] = []
        with run_server(site, workers, "--waiting", "1000") as port:
            stop = threading.Event()

            def mover() -> None:
                turn = 0
                while not stop.wait(5):
                    name = sorted(names)[turn % 2]
                    command = [MMSE, "versions", "rollback", str(site), name]
                    subprocess.run(command, check=True, capture_output=True)
                    moves.append((time.time(), name))
                    turn += 1

            thread = threading.Thread(target=mover)
            thread.start()
            responses = load.send_parallel(port, requests, callers=8, seconds=60, keep=True)
            stop.set()
            thread.join()
        n_wrong, by_version = 0, Counter[str]()
        for body, status in zip(responses.bodies, responses.status, strict=True):
            if status == 200:
                answer = json.loads(body)
                by_version[answer["version"]] += 1
                hits = [hit["item_id"] for hit in answer["hits"]]
                n_wrong += hits != expected_hits[answer["version"]][answer["query"]]
    return {
        "workers": workers,
        "callers": 8,
        "seconds": 60,
        "swaps": len(moves),
        "answers_by_version": dict(by_version),
        "queries_whose_answers_differ": round(differ, 3),
        "wrong_answers": n_wrong,
        "load": responses.summary(60),
    }


def expected_answers(run: Path, test_queries: list[str]) -> dict[str, list[str]]:
    retriever = Retriever.open(run, edits=False)
    answers = [retriever.answer(Search(query, 10)) for query in test_queries]
    return {answer.query: [hit.item_id for hit in answer.hits] for answer in answers}  # maybe with another spelling


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("latency", "throughput", "again", "overload", "swap"))
    parser.add_argument("run", type=Path)
    parser.add_argument("other", type=Path, nargs="?")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    header: dict[str, object] = {"what": options.what, "where": environment(), "run": describe_index(options.run)}
    if options.what == "latency":
        result = measure_latency(options.run)
    elif options.what == "throughput":
        result = measure_throughput(options.run, options.workers)
    elif options.what == "again":
        result = measure_again(options.run, options.workers)
    elif options.what == "overload":
        result = measure_overload(options.run, options.workers)
    else:
        result = measure_swap(options.run, options.other, options.workers)
    store = read_store_name(options.run / "index")
    write_result(f"serve_{options.what}" + ("" if store == LOCAL else f"_{store}"), header | result)


def describe_index(run: Path) -> dict[str, object]:
    counts = json.loads((run / "index" / "manifest.json").read_text())["counts"]
    return {name: counts[name] for name in ("items", "width", "lists", "probed", "nprobe", "recall") if name in counts}


if __name__ == "__main__":
    main()
