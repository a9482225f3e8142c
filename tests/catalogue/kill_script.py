"""Processes that edit a catalogue and are killed: at a chosen file operation, or from outside while they are busy.

    python kill_script.py points RUN FOLDER     a scripted run, killed at every kind of file operation in turn
    python kill_script.py busy RUN KILLS        threads that edit and fold, killed again and again

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

from catalogue.live_runs import copy_run
from mmse.catalogue import Change, Delete, Edit, LiveCatalogue, LiveConfig, Upsert, live_catalogue
from mmse.model.encoder import Encoder

Report = Callable[[str], object]

WORKERS = 3
WORDS = ("zorbak", "fimtul", "quevo", "yandle")
MANUAL = LiveConfig(automatic=False)


def scripted_calls() -> list[list[Edit]]:
    """The calls of the scripted run, in order; call `FOLD_CALL` comes while the first fold is under way."""
    return [
        [Upsert({"item_id": "n1", "title": "zorbak fimtul", "price": 5.0}), Delete("i00000001")],
        [Change("i00000002", {"price": 7.0, "available": False}), Upsert({"item_id": "n2", "title": "quevo"})],
        [Delete("n1"), Upsert({"item_id": "i00000003", "title": "yandle", "brand": "zorbak"})],
        [Upsert({"item_id": "n1", "title": "zorbak " * 200}), Upsert({"item_id": "n3", "title": "yandle quevo"})],
        [Delete("n2"), Change("n3", {"price": 1.0})],
    ]


KINDS = ("write journal-N", "fsync journal-N", "replace .journal-N", "rename .base-N", "unlink journal-N")
"""Parts of the names of operations at which the script is killed in any case."""
FOLD_CALL, FOLD_AFTER = 2, (1, 3)


def run_script(run: Path, encoder: Encoder, report: Callable[[int], object]) -> None:
    """The scripted run: five calls, two folds, one of the calls during the first fold."""
    calls = scripted_calls()
    write_base = vars(live_catalogue)["write_base"]
    with LiveCatalogue.open(run, writable=True, encoder=encoder, config=MANUAL) as catalogue:

        def write_base_and_apply(*args: Any) -> None:
            write_base(*args)
            if catalogue.snapshot().version == FOLD_CALL:
                report(catalogue.apply(calls[FOLD_CALL]))

        vars(live_catalogue)["write_base"] = write_base_and_apply
        for number, call in enumerate(calls):
            if number != FOLD_CALL:
                report(catalogue.apply(call))
            if number in FOLD_AFTER:
                catalogue.compact()


class Killer:
    """Wraps the system's file operations; kills its process at operation `kill_at`, a write halfway through.

    Where `kill_at` is None it reports the name of each operation instead.
    """

    def __init__(self, kill_at: int | None, report: Report) -> None:
        self.count, self.kill_at, self.report = 0, kill_at, report
        self.write = os.write
        for name in ("write", "fsync", "ftruncate", "rename", "replace", "unlink", "link"):
            setattr(os, name, self.wrap(name, getattr(os, name)))
        shutil.rmtree = self.wrap("rmtree", shutil.rmtree)  # type: ignore[assignment]

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any, **kwargs: Any) -> Any:
            if self.kill_at is None:
                self.report(f"{name} {self.describe(args)}")
            elif self.count == self.kill_at:
                if name == "write":
                    self.write(args[0], args[1][: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            self.count += 1
            return function(*args, **kwargs)

        return operation

    def describe(self, args: tuple[Any, ...]) -> str:
        """The name in the live folder that an operation is about, without its numbers."""
        parts = (Path(f"/proc/self/fd/{args[0]}").readlink() if isinstance(args[0], int) else Path(args[0])).parts
        names = parts[parts.index("live") :] if "live" in parts else ("…", *parts[-1:])
        return re.sub(r"(?<=scratch-)\w+|[0-9]+", "N", names[1] if names[0] == "live" and len(names) > 1 else names[0])


def kill_at_points(run: Path, folder: Path) -> None:
    """Kills the scripted run at the first operation of every second kind, and of `KINDS`; reports each outcome.

    A catalogue that was open meanwhile then reads what was written, and makes the remaining calls. What the killed
    process left is copied before that.
    """
    encoder = Encoder.open(run / "model")
    operations = run_forked(lambda report: trace(copy_run(run, folder / "traced"), encoder, report))
    first_index = {name: index for index, name in reversed([*enumerate(operations)])}
    points = sorted(first_index.values())
    certain_points = [point for point in points if any(kind in operations[point] for kind in KINDS)]
    for index in sorted({*points[::2], *certain_points}):
        point = partial(kill_at, run, folder, encoder, index, operations[index])
        (outcome,) = run_forked(lambda report, point=point: report(json.dumps(point())))  # type: ignore[misc]
        sys.stdout.write(outcome + "\n")


def kill_at(run: Path, folder: Path, encoder: Encoder, index: int, operation: str) -> dict[str, object]:
    """Kills the scripted run at its operation `index`, beside a catalogue that is open meanwhile.

    Is itself a process of its own, which forks before it opens anything: a fork of a process with threads may hang.
    """
    killed_run, observers = copy_run(run, folder / f"at-{index}"), list[LiveCatalogue]()

    def work(report: Report) -> None:
        Killer(index, report)
        run_script(killed_run, encoder, lambda acknowledged_version: report(str(acknowledged_version)))

    def open_observer() -> None:
        observers.append(LiveCatalogue.open(killed_run, writable=True, encoder=encoder, config=MANUAL))

    lines = run_forked(work, before=open_observer)
    with observers[0] as observer:
        left_run = copy_run(killed_run, folder / f"left-{index}")
        version = observer.refresh()
        versions = [observer.apply(call) for call in scripted_calls()[version:]]
        assert versions == list(range(version + 1, len(scripted_calls()) + 1)), versions
    return {
        "run": str(killed_run),
        "left": str(left_run),
        "operation": operation,
        "acknowledged": len(lines),
        "version": version,
    }


def trace(run: Path, encoder: Encoder, report: Report) -> None:
    Killer(None, report)
    run_script(run, encoder, lambda version: None)


def worker_calls(worker: int, start: int, n: int) -> list[list[Edit]]:
    """`n` calls of a worker from number `start` on, on items of its own."""
    own_ids = [*(f"w{worker}-{item}" for item in range(6)), *(f"i{6 * worker + row:08d}" for row in range(6))]
    calls: list[list[Edit]] = []
    for number in range(start, start + n):
        rng = np.random.default_rng([worker, number])
        call: list[Edit] = []
        for item_id in rng.choice(own_ids, 3, replace=False).tolist():
            title = " ".join(rng.choice(WORDS, 2).tolist())
            if rng.random() < 0.3:
                call.append(Delete(item_id, missing_ok=True))
            else:
                call.append(Upsert({"item_id": item_id, "title": title, "price": float(number)}))
        calls.append(call)
    return calls


def kill_busy(run: Path, kills: int) -> None:
    """Starts workers, kills them after some acknowledgements, and starts them again where each stood."""
    encoder = Encoder.open(run / "model")
    rng = np.random.default_rng(5)
    counts = [0] * WORKERS
    for _ in range(kills):
        starts = list(counts)
        lines = run_forked(partial(run_workers, run, encoder, starts), kill_after=int(rng.integers(3, 40)))
        for line in lines:
            worker, number = map(int, line.split())
            counts[worker] = max(counts[worker], number + 1)
        sys.stdout.write(json.dumps({"acknowledged": counts}) + "\n")
        sys.stdout.flush()
        if sys.stdin.readline() == "":
            return
        counts = json.loads(sys.stdin.readline())


def run_workers(run: Path, encoder: Encoder, starts: list[int], report: Report) -> None:
    catalogue = LiveCatalogue.open(run, writable=True, encoder=encoder, config=LiveConfig(fold_rows=8, fold_share=0.0))

    def edit(worker: int) -> None:
        for number, call in enumerate(worker_calls(worker, starts[worker], 1_000), starts[worker]):
            catalogue.apply(call)
            report(f"{worker} {number}")

    threads = [threading.Thread(target=edit, args=(worker,)) for worker in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def run_forked(
    work: Callable[[Report], object], kill_after: int | None = None, before: Callable[[], None] = lambda: None
) -> list[str]:
    """The lines that `work` reports in a process of its own, which is killed after `kill_after` lines.

    This process does what is to be done `before` when the other is there and waits.
    """
    (reader, writer), (signal_reader, signal_writer) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.close(signal_writer)
        os.read(signal_reader, 1)  # ends when the other end is closed
        with os.fdopen(writer, "w", buffering=1) as pipe:  # writes in C: no operation that a killer counts
            work(lambda line: pipe.write(f"{line}\n"))
        os._exit(0)
    os.close(writer)
    os.close(signal_reader)
    before()
    os.close(signal_writer)
    output = b""
    while select.select([reader], [], [])[0] and (chunk := os.read(reader, 65_536)):
        output += chunk
        if kill_after is not None and output.count(b"\n") >= kill_after:
            os.kill(child, signal.SIGKILL)
            kill_after = None
    os.close(reader)
    os.waitpid(child, 0)
    return output.decode().splitlines()


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "points":
        kill_at_points(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        kill_busy(Path(sys.argv[2]), int(sys.argv[3]))
