"""Disks that are full at a random byte, may not be written, or lose folders while they are in use.

Each trial is in a small disk of its own (a tmpfs), so these need the right to mount. What is refused must be refused in
words; nothing that was acknowledged is lost; searches go on; and with room again, the same work ends well.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from faults import bases, children, judges
from faults.children import Report
from faults.kills_of_events import forget_in_log, judge_events, judge_forgotten_log, prune_log, record_events, write_log
from faults.kills_of_runs import SHOP
from faults.kills_of_sites import (
    change_experiments,
    edit_and_fold,
    judge_edits,
    judge_experiments,
    judge_publish,
    judge_rules,
    publish_rules,
    publish_under_edits,
)

from mmse.core.errors import MmseError
from mmse.core.run_folder import INPUTS
from mmse.cycle.loop import CycleOptions, run_cycle
from mmse.pipeline import make
from mmse.retrieval.retriever import Retriever
from mmse.serving.versions.site import Site
from mmse.shop import shop_of

DISK_MB = 64
MIN_SPARE = 16_384
Judge = Callable[[Path, list[str]], list[str]]


@dataclass(frozen=True)
class DiskWork:
    """Work on a disk, what it begins with (`folders` of the base, copied), and how its end is judged."""

    name: str
    folders: tuple[str, ...]
    work: Callable[[Path, Report], object]
    judge: Judge


def can_mount(work: Path) -> bool:
    """Whether this process may mount a disk."""
    disk = work / "disk"
    if os.geteuid() != 0 or not mount(disk, 1):
        return False
    unmount(disk)
    return True


def mount(disk: Path, size_mb: int) -> bool:
    """Mounts an empty disk at a folder, which is made; gives whether that was allowed."""
    disk.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(disk)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def unmount(disk: Path) -> None:
    """Takes a disk away."""
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path, spare: int) -> None:
    """Leaves about `spare` bytes free on a disk."""
    with (disk / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(_free_bytes(disk) - spare, 1))


def run_full_disks(base: Path, work: Path, seed: int, n: int, works: list[DiskWork]) -> list[dict[str, Any]]:
    """A row for each work: `n` trials of a disk that is full at a random byte."""
    rng = random.Random(f"{seed} disks")
    return [_run(disk_work, base, work, rng, n) for disk_work in works]


def steps() -> list[DiskWork]:
    """Each step of a run."""
    return [DiskWork(f"step {kind}", ("run",), partial(_make, kind), _judge_run) for kind in INPUTS]


def works() -> list[DiskWork]:
    """All other work."""
    run, site = ("run",), ("run", "site")
    return [
        DiskWork("edits, folded meanwhile", run, edit_and_fold, judge_edits),
        DiskWork("publish, with edits meanwhile", site, publish_under_edits, judge_publish),
        DiskWork("an experiment's start, ramp and stop", ("site",), change_experiments, judge_experiments),
        DiskWork("publishing of rules", ("site",), publish_rules, judge_rules),
        DiskWork("event recording and sealing", (), record_events, _judge_recorded),
        DiskWork("mmse events prune", ("rich",), _prune, lambda trial, _: judges.damages(trial / "rich")),
        DiskWork("mmse forget, in a log", ("log",), forget_in_log, judge_forgotten_log),
        DiskWork("mmse cycle", ("shop", "site"), _cycle, _judge_cycle),
    ]


def _run(disk_work: DiskWork, base: Path, work: Path, rng: random.Random, n: int) -> dict[str, Any]:
    counts, faults, disk = Counter[str](), list[str](), work / "disk"
    most = _measure(disk_work, base, disk)
    for number in range(n):
        assert mount(disk, DISK_MB)
        try:
            children.call(partial(_prepare, disk_work, base, disk))
            spare = int(most * rng.random() ** 2)
            fill(disk, spare)
            child = children.start(partial(_work, disk_work, disk))
            code = child.wait()
            refused = [line for line in child.lines if line.startswith("refused ")]
            counts["refused in words" if refused else "done" if code == 0 else "raw failure"] += 1
            problems = [f"raw failure {code}: {' | '.join(child.lines[-3:])}"] if code else []
            problems += children.call(partial(_searches, disk_work, disk))
            (disk / "filler").unlink()
            lines = [line for line in child.lines if not line.startswith("refused ")]
            problems += children.call(partial(disk_work.judge, disk, lines))
        except children.ChildFailure as failure:
            problems = [f"the judge fails: {failure}"]
        finally:
            unmount(disk)
        counts["lost or corrupt"] += bool(problems)
        for problem in problems:
            faults.append(f"trial {number}, {spare} bytes free: {problem}")
            print(disk_work.name, faults[-1], flush=True)
    row = {"fault": f"disk full: {disk_work.name}", "trials": n, **counts, "faults": faults}
    print(row, flush=True)
    return row


def _measure(disk_work: DiskWork, base: Path, disk: Path) -> int:
    """The bytes that a work takes on a disk with room, and somewhat more: the most that a trial leaves free."""
    assert mount(disk, DISK_MB)
    try:
        children.call(partial(_prepare, disk_work, base, disk))
        former = _free_bytes(disk)
        children.start(partial(_work, disk_work, disk)).wait()
        return max((former - _free_bytes(disk)) * 5 // 4, MIN_SPARE)
    finally:
        unmount(disk)


def _free_bytes(disk: Path) -> int:
    stat = os.statvfs(disk)
    return stat.f_bavail * stat.f_frsize


def _prepare(disk_work: DiskWork, base: Path, disk: Path) -> None:
    for name in disk_work.folders:
        if name == "log":
            write_log(disk)
        else:
            shutil.copytree(base / name, disk / name, symlinks=True)
    if disk_work.name.startswith("step "):
        shutil.rmtree(disk / "run" / disk_work.name.removeprefix("step "))
    if disk_work.work is _cycle:
        bases.add_day(disk / "shop")


def _work(disk_work: DiskWork, disk: Path, report: Report) -> None:
    try:
        disk_work.work(disk, report)
    except MmseError as error:
        report(f"refused {type(error).__name__}: {error.cause}")


def _searches(disk_work: DiskWork, disk: Path) -> list[str]:
    """What is wrong with a search on the full disk, where there is something to search."""
    path = next((disk / name for name in ("site", "rich") if name in disk_work.folders), None)
    if path is None:
        return []
    hits = Retriever.open(Site.open(path).state().live.run).search("mug", 5)
    return [] if hits else ["nothing is found on the full disk"]


def _make(kind: str, disk: Path, report: Report) -> None:
    make(kind, shop_of(disk / "run"), disk / "run")


def _judge_run(disk: Path, lines: list[str]) -> list[str]:
    problems = judges.folder_damages(disk / "run")
    for kind in INPUTS:
        make(kind, shop_of(disk / "run"), disk / "run")
    return problems + judges.damages(disk / "run") + judges.litter(disk)


def _judge_recorded(disk: Path, lines: list[str]) -> list[str]:
    record_events(disk, lines.append)
    return judge_events(disk, lines)


def _prune(disk: Path, report: Report) -> None:
    prune_log(disk / "rich", report)


def _cycle(disk: Path, report: Report) -> None:
    record = run_cycle(disk / "site", disk / SHOP, CycleOptions())
    if record.outcome == "failed":
        report(f"refused {record.summary}")


def _judge_cycle(disk: Path, lines: list[str]) -> list[str]:
    problems = judges.damages(disk / "site")
    record = run_cycle(disk / "site", disk / SHOP, CycleOptions())
    if record.outcome not in ("published", "unchanged"):
        problems.append(f"the next cycle: {record.outcome}: {record.summary}")
    return problems + judges.damages(disk / "site") + judges.litter(disk)
