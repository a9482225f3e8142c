"""Makes every data set and cell of a grid that is not up to date, several cells at once if asked."""

from __future__ import annotations

import json
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
from mmse.core.artifact import Manifest, explain_os_errors
from mmse.core.errors import MmseError, OutputError
from mmse.core.locks import try_lock
from mmse.lab.compare import worker
from mmse.lab.compare.cells import KIND, Task, make_cell
from mmse.lab.compare.data import foreign_name
from mmse.lab.compare.grid import Cell, Grid, list_cells
from mmse.lab.compare.shops import MinedShop, make_shop
from mmse.pipeline import Listener

_STOP_TIMEOUT_S = 5.0
_LOG_LINES = 3


@dataclass(frozen=True)
class CellFailure:
    """Why a cell could not be made."""

    cause: str
    cure: str = ""


@dataclass(frozen=True)
class CellOutcome:
    """The result of a cell: its folder with its manifest, or the failure."""

    cell: Cell
    folder: Path
    manifest: Manifest | None
    failure: CellFailure | None = None


@dataclass(frozen=True)
class GridListener:
    """Callbacks of a grid: the number of cells, why each is made (None: up to date), its steps, and its outcome.

    `shop_listener` gets the steps of data sets, `data` their names. With several workers the calls come from several
    threads, one at a time.
    """

    shop_listener: Listener = field(default_factory=Listener)
    data: Callable[[str], None] = lambda name: None
    start: Callable[[int], None] = lambda cells: None
    cell: Callable[[Cell, str | None], None] = lambda cell, reason: None
    step: Callable[[Cell, str, int, int], None] = lambda cell, part, n_done, total: None
    finish: Callable[[CellOutcome], None] = lambda outcome: None


def run_grid(grid: Grid, folder: Path, workers: int = 1, listener: GridListener = GridListener()) -> list[CellOutcome]:
    """Makes what is missing of `grid` in `folder`; gives every cell's outcome, in the grid's order.

    A cell that fails has an outcome as well. Raises what making a data set raises, and `OutputError` where `folder`
    cannot be written or another process works in it.
    """
    with explain_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with try_lock(folder / "lock") as is_ours:
        if not is_ours:
            raise OutputError(f"Another `mmse compare` is at work in {folder}.", "Wait for it, or name another folder.")
        tasks: list[tuple[Cell, Task]] = []
        for data in grid.data:
            shops: dict[int | None, MinedShop] = {}
            for cell in list_cells(grid, data):
                if cell.world not in shops:
                    name = data.name if cell.world is None else f"{data.name}/world-{cell.world}"
                    listener.data(name)
                    target = folder / "data" / name
                    shops[cell.world] = make_shop(data, cell.world, target, grid.mine_config, listener.shop_listener)
                tasks.append((cell, _task(grid, cell, shops[cell.world], folder)))
        listener.start(len(tasks))
        return _make_all(tasks, workers, listener)


def _task(grid: Grid, cell: Cell, shop: MinedShop, folder: Path) -> Task:
    catalogues = cell.data.foreign_catalogues
    return Task(
        folder=folder / "cells" / cell.path,
        system=cell.system,
        dataset=shop.dataset,
        truth=shop.truth,
        train=None if cell.seed is None else grid.config(cell.data, cell.system, cell.seed),
        measure=grid.measure,
        grades=cell.data.grades,
        foreign_catalogues={foreign_name(name, cell.data.name): grades for name, grades in catalogues.items()},
        keep_model=grid.keep_models,
    )


def _make_all(tasks: Sequence[tuple[Cell, Task]], workers: int, listener: GridListener) -> list[CellOutcome]:
    runner = CellRunner(workers, listener)
    if workers == 1:
        return [runner.make(cell, task) for cell, task in tasks]
    pool = ThreadPoolExecutor(workers)
    try:
        futures = [pool.submit(runner.make, cell, task) for cell, task in tasks]
        return [future.result() for future in futures]
    finally:
        runner.close()
        pool.shutdown(cancel_futures=True)


class CellRunner:
    """Makes cells: with one worker in this process, otherwise each training in a process of its own."""

    def __init__(self, workers: int, listener: GridListener) -> None:
        self._workers, self._listener = workers, listener
        self._threads = max(1, len(os.sched_getaffinity(0)) // workers)
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[str]] = set()
        self._is_closed = False

    def make(self, cell: Cell, task: Task) -> CellOutcome:
        """Makes one cell unless it is up to date, and tells the listener."""
        reason = task.reason
        with self._lock:
            self._listener.cell(cell, reason)
        failure = None if reason is None else self._make(cell, task)
        manifest = artifact.read_manifest(task.folder, KIND) if failure is None else None
        outcome = CellOutcome(cell, task.folder, manifest, failure)
        with self._lock:
            self._listener.finish(outcome)
        return outcome

    def close(self) -> None:
        """Stops the running processes; no new one starts."""
        with self._lock:
            self._is_closed, processes = True, list(self._processes)
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(_STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()

    def _make(self, cell: Cell, task: Task) -> CellFailure | None:
        log = task.folder.parent / f"{task.folder.name}.log"
        with explain_os_errors(task.folder):
            task.folder.parent.mkdir(parents=True, exist_ok=True)
        in_process = self._workers == 1 or task.train is None  # a cell without training takes little time
        failure = self._make_here(cell, task, log) if in_process else self._make_in_process(cell, task, log)
        if failure is None:
            log.unlink(missing_ok=True)
        return failure

    def _make_here(self, cell: Cell, task: Task, log: Path) -> CellFailure | None:
        try:
            make_cell(task, lambda part, n_done, total: self._report_step(cell, part, n_done, total))
        except OutputError:
            raise
        except MmseError as error:
            return CellFailure(error.cause, error.cure)
        except Exception as error:  # one cell's fault must not stop the others
            log.write_text(traceback.format_exc(), "utf-8")
            return CellFailure(f"{type(error).__name__}: {error}", f"This is a fault of mmse: {log} has the traceback.")
        return None

    def _make_in_process(self, cell: Cell, task: Task, log: Path) -> CellFailure | None:
        """Makes the cell in a process of its own, whose diagnostics go to the file `log`."""
        task_file = task.folder.parent / f"{task.folder.name}.task.json"
        task_file.write_bytes(worker.encode_task(task))
        with log.open("w", encoding="utf-8") as log_file, self._lock:
            if self._is_closed:
                return CellFailure("it was not started: the grid was ended")
            process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-m", "mmse.lab.compare.worker", str(task_file), str(self._threads)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log_file,
                text=True,
                encoding="utf-8",
                start_new_session=True,  # Ctrl-C goes to this process alone, which then stops the others
            )
            self._processes.add(process)
        failure = self._follow(cell, process)
        with self._lock:
            self._processes.discard(process)
        task_file.unlink(missing_ok=True)
        return failure or explain_exit(process.returncode, log)

    def _follow(self, cell: Cell, process: subprocess.Popen[str]) -> CellFailure | None:
        """Reports the steps that `process` prints until it ends; gives the failure that it prints, if any."""
        failure = None
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                message = json.loads(line)
                if "failed" in message:
                    if message["disk"]:
                        process.wait()
                        raise OutputError(message["failed"], message["cure"])
                    failure = CellFailure(message["failed"], message["cure"])
                else:
                    self._report_step(cell, message["part"], message["done"], message["total"])
        process.wait()
        return failure

    def _report_step(self, cell: Cell, part: str, n_done: int, total: int) -> None:
        with self._lock:
            self._listener.step(cell, part, n_done, total)


def explain_exit(code: int, log: Path) -> CellFailure | None:
    """The failure that the exit code of a process means which printed none itself; None for 0."""
    if code == 0:
        return None
    if code < 0:
        memory = " (the system may have been short of memory: try fewer --workers)" if code == -9 else ""
        return CellFailure(f"its process was ended by signal {-code}{memory}", "Run the same command again.")
    lines = log.read_text("utf-8").strip().splitlines()[-_LOG_LINES:]
    return CellFailure(" ".join(lines)[-400:] or f"its process ended with code {code}", f"{log} has its whole output.")
