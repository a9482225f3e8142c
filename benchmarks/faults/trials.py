"""A target of kills, and its trials: work is killed at a file operation, or at a moment, and what it left is judged."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from faults import children
from faults.children import Report

Judge = Callable[[Path, list[str]], list[str]]


@dataclass(frozen=True)
class Target:
    """Work to be killed, in a folder of its own.

    `prepare` makes what it begins with. `judge` gets what was reported up to the kill and gives the problems that it
    finds; it does the same work again, to its end, and looks once more. With `keeps` the trials go on in one folder,
    and `judge` gets the reports of all of them. Without `by_operation` kills come at random moments alone.
    """

    name: str
    prepare: Callable[[Path], object]
    work: Callable[[Path, Report], object]
    judge: Judge
    keeps: bool = False
    by_operation: bool = True


def run_trials(target: Target, work: Path, seed: int, n: int) -> dict[str, Any]:
    """A row: `n` kills of a target and what was wrong after them."""
    rng = random.Random(f"{seed} {target.name}")
    counts, faults = Counter[str](), []
    folder = _prepare(target, work)
    n_operations, seconds = _measure(target, folder)
    faults += [f"without a kill: {problem}" for problem in children.call(partial(target.judge, folder, []))]
    folder = _prepare(target, work)
    lines: list[str] = []
    for number in range(n):
        if not target.keeps:
            folder, lines = _prepare(target, work), []
        child, where = _start(target, folder, rng, n_operations, seconds, by_time=number % 2 == 1)
        counts["killed at work"] += child.kill() if child.code is None else child.code == -9
        lines += child.lines
        counts["acknowledged"] += sum(line.startswith(("edit ", "event ", "done ")) for line in child.lines)
        try:
            problems = children.call(partial(target.judge, folder, lines))
        except children.ChildFailure as failure:
            problems = [f"the judge fails: {failure}"]
        counts["lost or corrupt"] += bool(problems)
        for problem in problems:
            faults.append(f"trial {number}, {where}: {problem}")
            print(target.name, faults[-1], flush=True)
    row = {"fault": f"kill -9: {target.name}", "trials": n, "seconds": round(seconds, 2), "operations": n_operations}
    print(row | dict(counts), flush=True)
    return row | dict(counts) | {"faults": faults}


def _measure(target: Target, folder: Path) -> tuple[int, float]:
    """How many operations on files the work does, and its seconds; it is done, and reports into nothing."""
    start = time.monotonic()
    n_operations = children.count_operations(partial(target.work, folder)) if target.by_operation else 0
    if not target.by_operation:
        children.call(lambda: target.work(folder, lambda line: None) and None)
    return n_operations, time.monotonic() - start


def _start(
    target: Target, folder: Path, rng: random.Random, n_operations: int, seconds: float, *, by_time: bool
) -> tuple[children.Child, str]:
    """The work, begun and killed at an operation, or at a moment; and where that was."""
    work = partial(target.work, folder)
    if target.by_operation and not by_time and n_operations:
        operation = rng.randrange(n_operations)
        child = children.start_killed_at(work, operation)
        child.wait()
        return child, f"operation {operation} of {n_operations}"
    child, limit_s = children.start(work), rng.uniform(0, seconds)
    child.read(limit_s)
    return child, f"after {limit_s:.3f} s of {seconds:.3f}"


def _prepare(target: Target, work: Path) -> Path:
    folder = work / "trial"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    children.call(lambda: target.prepare(folder) and None)
    return folder
