"""A whole grid: every data set and cell that is not up to date is made, several at once where asked, and counted."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mmse.core import artifact
from mmse.core.artifact import Manifest, writable
from mmse.core.errors import MmseError, OutputError
from mmse.core.locks import if_free
from mmse.lab.compare import worker
from mmse.lab.compare.cells import KIND, Task, make_cell
from mmse.lab.compare.data import other_name
from mmse.lab.compare.grid import Cell, Grid, cells_of
from mmse.lab.compare.shops import Made, make_shop
from mmse.pipeline import Listener

log = logging.getLogger(__name__)
_ENDING_S = 5.0
_LAST_WORDS = 3


@dataclass(frozen=True)
class Failed:
    """Why a cell could not be made."""

    cause: str
    cure: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a cell: its manifest and folder, or why there is none."""

    cell: Cell
    folder: Path
    manifest: Manifest | None
    failed: Failed | None = None


@dataclass(frozen=True)
class Watcher:
    """Who hears of a grid: how many cells there are, why each is made or not, its steps, and what became of it.

    `listener` hears of the stages of data sets. With several workers the calls come from several threads, one
    at a time.
    """

    listener: Listener = field(default_factory=Listener)
    data: Callable[[str], None] = lambda name: None
    begun: Callable[[int], None] = lambda cells: None
    cell: Callable[[Cell, str | None], None] = lambda cell, why: None
    step: Callable[[Cell, str, int, int], None] = lambda cell, what, done, total: None
    done: Callable[[Outcome], None] = lambda outcome: None


def run_grid(grid: Grid, out: Path, workers: int = 1, watcher: Watcher = Watcher()) -> list[Outcome]:
    """Makes what is missing of `grid` in the folder `out`; gives every cell's outcome, in the grid's order.

    A cell that fails is an outcome like another. Raises what making a data set raises, and `OutputError` where `out`
    cannot be written or another process works on it.
    """
    with writable(out):
        out.mkdir(parents=True, exist_ok=True)
    with if_free(out / "lock") as ours:
        if not ours:
            raise OutputError(f"Another `mmse compare` is at work in {out}.", "Wait for it, or name another folder.")
        tasks: list[tuple[Cell, Task]] = []
        for data in grid.data:
            made: dict[int | None, Made] = {}
            for cell in cells_of(grid, data):
                if cell.world not in made:
                    place = data.name if cell.world is None else f"{data.name}/world-{cell.world}"
                    watcher.data(place)
                    made[cell.world] = make_shop(data, cell.world, out / "data" / place, grid.mine, watcher.listener)
                tasks.append((cell, _task(grid, cell, made[cell.world], out)))
        watcher.begun(len(tasks))
        return _all(tasks, workers, watcher)


def _task(grid: Grid, cell: Cell, made: Made, out: Path) -> Task:
    return Task(
        out=out / "cells" / cell.place,
        system=cell.system,
        dataset=made.dataset,
        truth=made.truth,
        train=None if cell.seed is None else grid.config(cell.data, cell.system, cell.seed),
        measure=grid.measure,
        grades=cell.data.grades,
        others={other_name(name, cell.data.name): grades for name, grades in cell.data.others.items()},
        keep_model=grid.keep_models,
    )


def _all(tasks: Sequence[tuple[Cell, Task]], workers: int, watcher: Watcher) -> list[Outcome]:
    hall = _Hall(workers, watcher)
    if workers == 1:
        return [hall.make(cell, task) for cell, task in tasks]
    pool = ThreadPoolExecutor(workers)
    try:
        waiting = [pool.submit(hall.make, cell, task) for cell, task in tasks]
        return [one.result() for one in waiting]
    finally:
        hall.close()
        pool.shutdown(cancel_futures=True)


class _Hall:
    """Where cells are made: in this process, or the trained ones each in its own; those at work are known here."""

    def __init__(self, workers: int, watcher: Watcher) -> None:
        self._workers, self._watcher = workers, watcher
        self._threads = max(1, len(os.sched_getaffinity(0)) // workers)
        self._lock = threading.Lock()
        self._at_work: set[subprocess.Popen[str]] = set()
        self._closed = False

    def make(self, cell: Cell, task: Task) -> Outcome:
        """Makes one cell unless it is up to date, and tells the watcher."""
        why = task.why
        with self._lock:
            self._watcher.cell(cell, why)
        failed = None if why is None else self._made(cell, task)
        manifest = artifact.read_manifest(task.out, KIND) if failed is None else None
        outcome = Outcome(cell, task.out, manifest, failed)
        with self._lock:
            self._watcher.done(outcome)
        return outcome

    def close(self) -> None:
        """Ends the processes at work; no other begins."""
        with self._lock:
            self._closed, at_work = True, list(self._at_work)
        for process in at_work:
            process.terminate()
        for process in at_work:
            try:
                process.wait(_ENDING_S)
            except subprocess.TimeoutExpired:
                process.kill()

    def _made(self, cell: Cell, task: Task) -> Failed | None:
        said = task.out.parent / f"{task.out.name}.log"
        with writable(task.out):
            task.out.parent.mkdir(parents=True, exist_ok=True)
        here = self._workers == 1 or task.train is None  # what is not trained is soon done
        failed = self._here(cell, task, said) if here else self._apart(cell, task, said)
        if failed is None:
            said.unlink(missing_ok=True)
        return failed

    def _here(self, cell: Cell, task: Task, said: Path) -> Failed | None:
        try:
            make_cell(task, lambda what, done, total: self._heard_step(cell, what, done, total))
        except OutputError:
            raise
        except MmseError as error:
            return Failed(error.cause, error.cure)
        except Exception as error:  # one cell's fault must not cost the others
            said.write_text(traceback.format_exc(), "utf-8")
            return Failed(f"{type(error).__name__}: {error}", f"This is a fault of mmse: {said} has the traceback.")
        return None

    def _apart(self, cell: Cell, task: Task, said: Path) -> Failed | None:
        """Makes the cell in a process of its own, whose diagnostics go to the file `said`."""
        order = task.out.parent / f"{task.out.name}.task.json"
        order.write_bytes(worker.written(task))
        with said.open("w", encoding="utf-8") as log_file, self._lock:
            if self._closed:
                return Failed("it was not begun: the grid was ended")
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", "mmse.lab.compare.worker", str(order), str(self._threads)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log_file,
                text=True,
                encoding="utf-8",
                start_new_session=True,  # Ctrl-C is for this process, which then ends the others
            )
            self._at_work.add(process)
        failed = self._heard(cell, process)
        with self._lock:
            self._at_work.discard(process)
        order.unlink(missing_ok=True)
        return failed or _left(process.returncode, said)

    def _heard(self, cell: Cell, process: subprocess.Popen[str]) -> Failed | None:
        failed = None
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                one = json.loads(line)
                if "failed" in one:
                    if one["disk"]:
                        process.wait()
                        raise OutputError(one["failed"], one["cure"])
                    failed = Failed(one["failed"], one["cure"])
                else:
                    self._heard_step(cell, one["what"], one["done"], one["total"])
        process.wait()
        return failed

    def _heard_step(self, cell: Cell, what: str, done: int, total: int) -> None:
        with self._lock:
            self._watcher.step(cell, what, done, total)


def _left(code: int, said: Path) -> Failed | None:
    """What the exit code of a process that said nothing of a failure means."""
    if code == 0:
        return None
    if code < 0:
        memory = " (the system may have been short of memory: try fewer --workers)" if code == -9 else ""
        return Failed(f"its process was ended by signal {-code}{memory}", "Run the same command again.")
    words = said.read_text("utf-8").strip().splitlines()[-_LAST_WORDS:]
    return Failed(" ".join(words)[-400:] or f"its process left with code {code}", f"{said} has all that it said.")
