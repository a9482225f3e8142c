"""Processes that edit and fold one catalogue at once, one of which is killed; prints what each acknowledged and sees.

    python worker_script.py RUN CALLS KILL_AFTER

Each worker makes `CALLS` calls. The first is killed once it has acknowledged `KILL_AFTER`, and another takes over.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import torch

from catalogue.kill_script import worker_calls
from mmse.catalogue import Edit, LiveCatalogue, LiveConfig, Upsert
from mmse.model.encoder import Encoder

WORKERS = 3
SHARED_ID = "shared"


def shared_calls(worker: int, start: int, n: int) -> list[list[Edit]]:
    """`n` calls of a worker: on items of its own, and on one that all edit."""
    return [
        [*call, Upsert({"item_id": SHARED_ID, "title": "quevo", "price": float(1_000 * worker + number)})]
        for number, call in enumerate(worker_calls(worker, start, n), start)
    ]


def content_digest(catalogue: LiveCatalogue) -> str:
    """A digest of a catalogue's items, row by row."""
    snapshot = catalogue.snapshot()
    rows = np.flatnonzero(snapshot.alive(np.arange(snapshot.n_rows)))
    return hashlib.blake2b(json.dumps(snapshot.items(rows), default=str).encode()).hexdigest()


def run_worker(
    run: Path, encoder: Encoder, worker: int, start: int, n: int, report: IO[str], go_signal: IO[str]
) -> None:
    """Edits from call `start` on; then, on the signal that all are done, reports what it sees."""
    config = LiveConfig(fold_rows=8, fold_share=0.0)
    with LiveCatalogue.open(run, writable=True, encoder=encoder, config=config) as catalogue:
        for number, call in enumerate(shared_calls(worker, start, n - start), start):
            report.write(f"{json.dumps([catalogue.apply(call), worker, number])}\n")
        report.write("done\n")
        go_signal.readline()
        report.write(f"{json.dumps([catalogue.refresh(), content_digest(catalogue)])}\n")


class Worker:
    """A forked process at work, and the lines that it wrote."""

    def __init__(self, work: Callable[[IO[str], IO[str]], None]) -> None:
        (self.output, writer), (reader, self.go_signal) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            with os.fdopen(writer, "w", buffering=1) as report, os.fdopen(reader, "r") as go_signal:
                work(report, go_signal)
            os._exit(0)
        os.close(writer)
        os.close(reader)
        self.text = ""

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines() if self.text.endswith("\n") else self.text.splitlines()[:-1]

    def read_output(self) -> bool:
        """Reads what the process wrote; false where it has ended."""
        chunk = os.read(self.output, 65_536)
        self.text += chunk.decode()
        return bool(chunk)


def main(run: Path, n: int, kill_after: int) -> None:
    encoder = Encoder.open(run / "model")

    def start_worker(number: int, start: int) -> Worker:
        return Worker(lambda report, go_signal: run_worker(run, encoder, number, start, n, report, go_signal))

    workers = [start_worker(number, 0) for number in range(WORKERS)]
    killed_lines: list[str] = []
    while not all(worker.lines[-1:] == ["done"] for worker in workers):
        ready = select.select([worker.output for worker in workers], [], [])[0]
        for number, worker in enumerate(workers):
            if worker.output in ready and not worker.read_output():
                for sibling in workers:
                    os.kill(sibling.pid, signal.SIGKILL)  # they would wait for ever
                raise AssertionError(f"worker {number} has failed")
        if not killed_lines and len(workers[0].lines) >= kill_after:
            os.kill(workers[0].pid, signal.SIGKILL)
            os.waitpid(workers[0].pid, 0)
            while workers[0].read_output():
                pass
            killed_lines = workers[0].lines
            workers[0] = start_worker(0, len(killed_lines) + 1)  # without the call that was interrupted
    views = []
    for worker in workers:
        os.write(worker.go_signal, b"on\n")
        while worker.read_output():
            pass
        os.waitpid(worker.pid, 0)
        views.append(json.loads(worker.lines[-1]))
    acknowledgements = [json.loads(line) for worker in workers for line in worker.lines[: worker.lines.index("done")]]
    acknowledgements += [json.loads(line) for line in killed_lines]
    outcome = {"acknowledged": acknowledgements, "views": views, "interrupted": [0, len(killed_lines)]}
    sys.stdout.write(json.dumps(outcome) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
