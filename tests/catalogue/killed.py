"""Processes that edit a catalogue and are killed: at a chosen file operation, or from outside while they are busy.

    python killed.py points RUN OUT       every kind of file operation of a scripted run, killed at in turn
    python killed.py busy RUN KILLS       threads that edit and fold, killed after some acknowledgements, again

Runs as a process of its own that loads the model once and forks, so that a kill costs no start of an interpreter.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from catalogue.live_shop import copy_run
from mmse.catalogue import Catalogue, Change, Delete, Edit, LiveConfig, Upsert
from mmse.catalogue import live_catalogue as module
from mmse.model.encoder import Encoder

WORKERS = 3
WORDS = ("zorbak", "fimtul", "quevo", "yandle")
MANUAL = LiveConfig(automatic=False)


def scripted() -> list[list[Edit]]:
    """The calls of the scripted run, in order; `TAIL` comes while its first folding is under way."""
    return [
        [Upsert({"item_id": "n1", "title": "zorbak fimtul", "price": 5.0}), Delete("i00000001")],
        [Change("i00000002", {"price": 7.0, "available": False}), Upsert({"item_id": "n2", "title": "quevo"})],
        [Delete("n1"), Upsert({"item_id": "i00000003", "title": "yandle", "brand": "zorbak"})],
        [Upsert({"item_id": "n1", "title": "zorbak " * 200}), Upsert({"item_id": "n3", "title": "yandle quevo"})],
        [Delete("n2"), Change("n3", {"price": 1.0})],
    ]


TAIL, FOLD_AFTER = 2, (1, 3)


def work_through(run: Path, encoder: Encoder, told: Callable[[int], object]) -> None:
    """The scripted run: five calls, two foldings, one call during the first of them."""
    calls = scripted()
    fold = vars(module)["fold"]
    with Catalogue.open(run, writable=True, encoder=encoder, config=MANUAL) as catalogue:

        def fold_and_apply(*given: Any) -> None:
            fold(*given)
            if catalogue.snapshot().version == TAIL:
                told(catalogue.apply(calls[TAIL]))

        vars(module)["fold"] = fold_and_apply
        for place, call in enumerate(calls):
            if place != TAIL:
                told(catalogue.apply(call))
            if place in FOLD_AFTER:
                catalogue.compact()


class Killer:
    """Stands in for the system's file operations; kills its process at the `at`-th, halfway through if it writes."""

    def __init__(self, at: int | None, tell: Callable[[str], object]) -> None:
        self.count, self.at, self.tell = 0, at, tell
        self.write = os.write
        for name in ("write", "fsync", "ftruncate", "rename", "unlink", "link"):
            setattr(os, name, self.around(name, getattr(os, name)))
        shutil.rmtree = self.around("rmtree", shutil.rmtree)  # type: ignore[assignment]

    def around(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*given: Any, **named: Any) -> Any:
            if self.at is None:
                self.tell(f"{name} {self.what(given)}")
            elif self.count == self.at:
                if name == "write":
                    self.write(given[0], given[1][: len(given[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            self.count += 1
            return real(*given, **named)

        return operation

    def what(self, given: tuple[Any, ...]) -> str:
        """What lies in the live folder that an operation is about, without its numbers."""
        parts = (Path(f"/proc/self/fd/{given[0]}").readlink() if isinstance(given[0], int) else Path(given[0])).parts
        below = parts[parts.index("live") :] if "live" in parts else ("…", *parts[-1:])
        return re.sub(r"(?<=scratch-)\w+|[0-9]+", "N", below[1] if below[0] == "live" and len(below) > 1 else below[0])


def points(run: Path, out: Path) -> None:
    """Kills the scripted run at the first operation of every kind, and at the last; tells how far each had come.

    A catalogue that was open meanwhile then takes in what was written, and goes on from there with the rest; what the
    killed process left is kept in a copy before.
    """
    encoder = Encoder.open(run / "model")
    operations = forked(lambda tell: traced(copy_run(run, out / "traced"), encoder, tell))
    first = {name: place for place, name in reversed([*enumerate(operations)])}
    last = {name: place for place, name in enumerate(operations)}
    lasting = {place for name, place in last.items() if name.split()[0] in ("write", "rename", "unlink")}
    for at in sorted({*first.values(), *lasting}):
        there = copy_run(run, out / f"at-{at}")

        def work(tell: Callable[[str], object], at: int = at, there: Path = there) -> None:
            Killer(at, tell)
            work_through(there, encoder, lambda version: tell(str(version)))

        with Catalogue.open(there, writable=True, encoder=encoder, config=MANUAL) as beside:
            told = forked(work)
            left = copy_run(there, out / f"left-{at}")
            seen = beside.refresh()
            versions = [beside.apply(call) for call in scripted()[seen:]]
            assert versions == list(range(seen + 1, len(scripted()) + 1)), versions
        said = {"run": str(there), "left": str(left), "operation": operations[at], "acknowledged": len(told)}
        sys.stdout.write(json.dumps(said | {"seen": seen}) + "\n")


def traced(run: Path, encoder: Encoder, tell: Callable[[str], object]) -> None:
    Killer(None, tell)
    work_through(run, encoder, lambda version: None)


def busy_script(worker: int, start: int, n: int) -> list[list[Edit]]:
    """`n` calls of a worker from its `start`-th on, on items of its own."""
    own = [*(f"w{worker}-{item}" for item in range(6)), *(f"i{6 * worker + row:08d}" for row in range(6))]
    calls: list[list[Edit]] = []
    for number in range(start, start + n):
        rng = np.random.default_rng([worker, number])
        call: list[Edit] = []
        for item_id in rng.choice(own, 3, replace=False).tolist():
            title = " ".join(rng.choice(WORDS, 2).tolist())
            if rng.random() < 0.3:
                call.append(Delete(item_id, missing_ok=True))
            else:
                call.append(Upsert({"item_id": item_id, "title": title, "price": float(number)}))
        calls.append(call)
    return calls


def busy(run: Path, kills: int) -> None:
    """Starts workers, kills them once so many calls were acknowledged, and starts them again where each stood."""
    encoder = Encoder.open(run / "model")
    rng = np.random.default_rng(5)
    reached = [0] * WORKERS
    for _ in range(kills):
        starts = list(reached)
        told = forked(partial(work_busily, run, encoder, starts), kill_after=int(rng.integers(3, 40)))
        for line in told:
            worker, number = map(int, line.split())
            reached[worker] = max(reached[worker], number + 1)
        sys.stdout.write(json.dumps({"acknowledged": reached}) + "\n")
        sys.stdout.flush()
        if sys.stdin.readline() == "":
            return
        reached = json.loads(sys.stdin.readline())


def work_busily(run: Path, encoder: Encoder, starts: list[int], tell: Callable[[str], object]) -> None:
    catalogue = Catalogue.open(run, writable=True, encoder=encoder, config=LiveConfig(fold_rows=8, fold_share=0.0))

    def edit(worker: int) -> None:
        for place, call in enumerate(busy_script(worker, starts[worker], 1_000)):
            catalogue.apply(call)
            tell(f"{worker} {starts[worker] + place}")

    threads = [threading.Thread(target=edit, args=(worker,)) for worker in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def forked(work: Callable[[Callable[[str], object]], None], kill_after: int | None = None) -> list[str]:
    """The lines that `work` told in a process of its own, which may be killed; after `kill_after` lines it is."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        with os.fdopen(write, "w", buffering=1) as telling:  # writes in C: no operation that a killer counts
            work(lambda line: telling.write(f"{line}\n"))
        os._exit(0)
    os.close(write)
    told = b""
    while select.select([read], [], [])[0] and (more := os.read(read, 65_536)):
        told += more
        if kill_after is not None and told.count(b"\n") >= kill_after:
            os.kill(child, signal.SIGKILL)
            kill_after = None
    os.close(read)
    os.waitpid(child, 0)
    return told.decode().splitlines()


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "points":
        points(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        busy(Path(sys.argv[2]), int(sys.argv[3]))
