"""Processes that edit and fold one catalogue at once, one of which is killed; told what was acknowledged and is seen.

    python several.py RUN CALLS KILL_AFTER

Each worker makes `CALLS` calls; the first is killed once it has told of `KILL_AFTER`, and another goes on in its place.
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

from catalogue.killed import busy_script
from mmse.catalogue import Catalogue, Edit, LiveConfig, Upsert
from mmse.model.encoder import Encoder

WORKERS = 3
SHARED = "shared"


def calls_of(worker: int, start: int, n: int) -> list[list[Edit]]:
    """`n` calls of a worker: on items of its own, and on one that all edit."""
    return [
        [*call, Upsert({"item_id": SHARED, "title": "quevo", "price": float(1_000 * worker + start + place)})]
        for place, call in enumerate(busy_script(worker, start, n))
    ]


def digest(catalogue: Catalogue) -> str:
    """What a catalogue holds, row by row."""
    now = catalogue.snapshot()
    rows = np.flatnonzero(now.alive(np.arange(now.n_rows)))
    return hashlib.blake2b(json.dumps(now.items(rows), default=str).encode()).hexdigest()


def work(run: Path, encoder: Encoder, worker: int, start: int, n: int, told: IO[str], go: IO[str]) -> None:
    """Edits from the `start`-th call on; then, when all are done, says what it sees."""
    config = LiveConfig(fold_rows=8, fold_share=0.0)
    with Catalogue.open(run, writable=True, encoder=encoder, config=config) as catalogue:
        for place, call in enumerate(calls_of(worker, start, n - start)):
            told.write(f"{json.dumps([catalogue.apply(call), worker, start + place])}\n")
        told.write("done\n")
        go.readline()
        told.write(f"{json.dumps([catalogue.refresh(), digest(catalogue)])}\n")


class Worker:
    """A forked process at work, and the lines that it told."""

    def __init__(self, do: Callable[[IO[str], IO[str]], None]) -> None:
        (self.read, write), (wait, self.go) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            with os.fdopen(write, "w", buffering=1) as told, os.fdopen(wait, "r") as go:
                do(told, go)
            os._exit(0)
        os.close(write)
        os.close(wait)
        self.text = ""

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines() if self.text.endswith("\n") else self.text.splitlines()[:-1]

    def hear(self) -> bool:
        """Takes in what it told; false where it has ended."""
        more = os.read(self.read, 65_536)
        self.text += more.decode()
        return bool(more)


def main(run: Path, n: int, kill_after: int) -> None:
    encoder = Encoder.open(run / "model")

    def started(worker: int, start: int) -> Worker:
        return Worker(lambda told, go: work(run, encoder, worker, start, n, told, go))

    workers = [started(number, 0) for number in range(WORKERS)]
    killed: list[str] = []
    while not all(worker.lines[-1:] == ["done"] for worker in workers):
        ready = select.select([worker.read for worker in workers], [], [])[0]
        for number, worker in enumerate(workers):
            if worker.read in ready and not worker.hear():
                for one in workers:
                    os.kill(one.pid, signal.SIGKILL)  # they would wait for ever
                raise AssertionError(f"worker {number} has failed")
        if not killed and len(workers[0].lines) >= kill_after:
            os.kill(workers[0].pid, signal.SIGKILL)
            os.waitpid(workers[0].pid, 0)
            while workers[0].hear():
                pass
            killed = workers[0].lines
            workers[0] = started(0, len(killed) + 1)  # not again the call that it was at
    ends = []
    for worker in workers:
        os.write(worker.go, b"on\n")
        while worker.hear():
            pass
        os.waitpid(worker.pid, 0)
        ends.append(json.loads(worker.lines[-1]))
    acknowledged = [json.loads(line) for worker in workers for line in worker.lines[: worker.lines.index("done")]]
    acknowledged += [json.loads(line) for line in killed]
    sys.stdout.write(json.dumps({"acknowledged": acknowledged, "ends": ends, "unheard": [0, len(killed)]}) + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
