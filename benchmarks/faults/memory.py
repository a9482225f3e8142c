"""A group of processes with a limit of memory, where the system ends one that wants more, as containers do.

A server is used under limits around what it needs: its worker or the whole of it is ended, and what was acknowledged is
there. `mmse run` from nothing under such limits ends well, or is ended; without a limit the same work then ends well.
The group is made below that of this process, so the right to do so is needed.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from faults import bases, children, judges
from faults.children import Report
from faults.kills_of_runs import SHOP
from faults.kills_of_servers import SLOWEST_START_S, TOKEN, free_port, judge_server, publish_trial, use

from mmse.pipeline import run

GROUPS = Path("/sys/fs/cgroup")
SERVER_MB, RUN_MB = (420, 900), (250, 700)
"""Limits around what a server of one worker, and a run of the small shop, need."""
USE_S, RUN_LIMIT_S = 12.0, 600.0


def own_group() -> tuple[Path, str] | None:
    """The group of memory that this process is in, and the name of its limit; None where there is none to be had."""
    for line in Path("/proc/self/cgroup").read_text("ascii").splitlines():
        _, controllers, path = line.split(":", 2)
        for root, limit in ((GROUPS / "memory", "memory.limit_in_bytes"), (GROUPS, "memory.max")):
            is_here = controllers == "memory" if limit.endswith("bytes") else not controllers
            group = root / path.lstrip("/")
            if is_here and os.access(group, os.W_OK) and (limit.endswith("bytes") or _controls(group)):
                return group, limit
    return None


def _controls(group: Path) -> bool:
    file = group / "cgroup.subtree_control"
    return file.is_file() and "memory" in file.read_text("ascii").split()


@contextlib.contextmanager
def limit_memory(mb: int) -> Iterator[Path]:
    """A group of that limit, to whose `cgroup.procs` a process writes itself; its processes have ended afterwards."""
    found = own_group()
    assert found is not None
    parent, limit = found
    group = parent / f"mmse-{os.getpid()}"
    group.mkdir()
    try:
        (group / limit).write_text(str(mb << 20), "ascii")
        yield group
    finally:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                group.rmdir()
            except OSError:
                time.sleep(0.05)
            else:
                break


def run_limits(base: Path, work: Path, seed: int, n: int, n_runs: int) -> list[dict[str, Any]]:
    """Two rows: `n` servers and `n_runs` runs, each under a limit of its own."""
    if own_group() is None:
        print("No group of memory can be made: left out.", flush=True)
        return []
    rng = random.Random(f"{seed} memory")
    return [_limit_servers(base, work, rng, n), _limit_runs(base, work, rng, n_runs)]


def _limit_servers(base: Path, work: Path, rng: random.Random, n: int) -> dict[str, Any]:
    site = publish_trial(base, work)
    counts, faults, lines = Counter[str](), list[str](), list[str]()
    for number in range(n):
        mb, port = rng.randrange(*SERVER_MB), free_port()
        with limit_memory(mb) as group:
            server = children.start(_join(group, partial(_exec_server, site, port)))
            client = children.start(partial(use, port, number))
            deadline = time.monotonic() + SLOWEST_START_S
            while not client.lines and time.monotonic() < deadline and _lives(server.pid):
                client.read(0.1)
            client.read(USE_S if client.lines else 0.0)
            n_killed = _count_killed(group)
            is_alive = _lives(server.pid)
            client.kill()
            server.kill()
        counts["served to the end" if is_alive and client.lines else "ended by the limit"] += 1
        counts["processes ended by the system"] += n_killed
        lines += client.lines
        counts["acknowledged"] += sum(line.startswith(("edit ", "event ")) for line in client.lines)
        faults += [f"trial {number}, {mb} MB: {problem}" for problem in _judge(partial(judge_server, site, lines))]
    row = {"fault": "a limit of memory: mmse serve, under edits and events", "trials": n, **counts, "faults": faults}
    print(row, flush=True)
    return row


def _limit_runs(base: Path, work: Path, rng: random.Random, n: int) -> dict[str, Any]:
    counts, faults = Counter[str](), list[str]()
    trial = work / "trial"
    for number in range(n):
        shutil.rmtree(trial, ignore_errors=True)
        trial.mkdir(parents=True)
        bases.link_tree(base / "shop", trial / "shop")
        mb = rng.randrange(*RUN_MB)
        with limit_memory(mb) as group:
            child = children.start(_join(group, partial(_exec_run, trial)))
            code = child.wait(RUN_LIMIT_S)
        outcomes = {0: "done", -9: "ended by the limit"}
        counts[outcomes.get(code, "refused in words")] += 1
        output = (trial / "output").read_text("utf-8")
        if code not in outcomes and ("Traceback" in output or "fault of mmse" in output):
            faults.append(f"trial {number}, {mb} MB: {output[-500:]}")
        problems = _judge(partial(_run_again, trial))
        faults += [f"trial {number}, {mb} MB: {problem}" for problem in problems]
    row = {"fault": "a limit of memory: mmse run, and again without it", "trials": n, **counts, "faults": faults}
    print(row, flush=True)
    return row


def _run_again(trial: Path) -> list[str]:
    """What is wrong after the same work without a limit."""
    run(trial / SHOP, trial / "run")
    return judges.folder_damages(trial / "run") + judges.litter(trial)


def _judge(look: Callable[[], list[str]]) -> list[str]:
    try:
        return children.call(look, RUN_LIMIT_S)
    except children.ChildFailure as failure:
        return [str(failure)]


def _join(group: Path, work: Callable[[], object]) -> Callable[[Report], object]:
    """Work in the group."""

    def join(report: Report) -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()), "ascii")
        work()

    return join


def _exec_server(site: Path, port: int) -> None:
    command = [sys.executable, "-m", "mmse", "serve", str(site), "--port", str(port), "--requests-per-s", "0"]
    os.execve(sys.executable, command, os.environ | {"MMSE_TOKEN": TOKEN})


def _exec_run(trial: Path) -> None:
    output = os.open(trial / "output", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    command = [sys.executable, "-m", "mmse", "run", str(trial / SHOP), "--out", str(trial / "run")]
    os.execv(sys.executable, command)


def _lives(pid: int) -> bool:
    """Whether a child has not ended yet."""
    return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[0] != "Z"


def _count_killed(group: Path) -> int:
    """How many processes of the group the system has ended for their memory."""
    for name in ("memory.oom_control", "memory.events"):
        if (group / name).is_file():
            fields = dict(line.split() for line in (group / name).read_text("ascii").splitlines())
            return int(fields.get("oom_kill", 0))
    return 0
