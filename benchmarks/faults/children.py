"""Work in processes of its own, forked from one that has the libraries loaded, so that a trial costs no start.

The process that forks must not begin threads: it works in children alone, also where it looks at what they left.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

T = TypeVar("T")
Report = Callable[[str], object]
"""Tells the parent a line at once: what was acknowledged."""
Work = Callable[[Report], object]

LIMIT_S = 300.0
OPERATIONS = ("write", "fsync", "ftruncate", "rename", "replace", "unlink", "link", "mkdir", "rmdir")
"""The operations on files that Python code calls; those of libraries are met by kills at random times."""


class ChildFailure(Exception):
    """A child ended with an exception or by a signal, or did not end; the text says which."""


@dataclass
class Child:
    """A process at work, the first of a group. `lines` are what it has reported up to the last `read`."""

    pid: int
    pipe: int
    lines: list[str] = field(default_factory=list)
    code: int | None = None
    _tail: bytes = b""

    def read(self, limit_s: float) -> bool:
        """Takes in reports for `limit_s`, or until the child ends; gives whether it still works."""
        deadline = time.monotonic() + limit_s
        while select.select([self.pipe], [], [], max(deadline - time.monotonic(), 0.0))[0]:
            data = os.read(self.pipe, 65_536)
            if not data:
                return False
            *lines, self._tail = (self._tail + data).split(b"\n")
            self.lines += [line.decode() for line in lines]
        return True

    def kill(self) -> bool:
        """Ends it and its children by SIGKILL; gives whether it was still at work."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self.wait() == -signal.SIGKILL

    def wait(self, limit_s: float = LIMIT_S) -> int:
        """Its exit code, negative for a signal; raises `ChildFailure` where it does not end in time."""
        if self.code is None:
            is_late = self.read(limit_s)
            if is_late:
                os.killpg(self.pid, signal.SIGKILL)
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self.pipe)
            if is_late:
                raise ChildFailure(f"It did not end within {limit_s:.0f} s.")
        return self.code


def start(work: Work) -> Child:
    """Begins `work` in a child. What it prints is dropped; an exception ends it with code 1 and is its last line."""
    reader, writer = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        os.close(writer)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        return Child(pid, reader)
    code = 1
    try:
        os.close(reader)
        os.setpgid(0, 0)
        _silence()
        pipe = os.fdopen(writer, "wb", buffering=0)  # writes in C: no operation that a killer counts
        try:
            work(lambda line: pipe.write(f"{line}\n".encode()))
            code = 0
        except BaseException:
            pipe.write(traceback.format_exc().encode())
            pipe.write(b"\n")
    finally:
        os._exit(code)


def call(work: Callable[[], T], limit_s: float = LIMIT_S) -> T:
    """What `work` gives in a child; raises `ChildFailure` where it raises, dies or hangs."""
    child = start(lambda report: report(pickle.dumps(work()).hex()))
    if child.wait(limit_s) != 0:
        raise ChildFailure(f"exit code {child.code}: " + "\n".join(child.lines[-12:]))
    return cast(T, pickle.loads(bytes.fromhex(child.lines[-1])))


def run_threads(*works: Callable[[], object]) -> None:
    """Does each of `works` in a thread of this process; raises what one of them raised."""
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def count_operations(work: Work) -> int:
    """How many operations on files `work` does; it is done."""
    killer = call(lambda: _count(work))
    return killer


def _count(work: Work) -> int:
    killer = Killer(None)
    work(lambda line: None)
    return killer.count


def start_killed_at(work: Work, operation: int) -> Child:
    """Begins `work` in a child that is killed at the operation of that number; a write is done by half."""

    def killed_work(report: Report) -> None:
        Killer(operation)
        work(report)

    return start(killed_work)


class Killer:
    """Counts operations on files, from threads too, and kills its process at the one of number `kill_at`."""

    def __init__(self, kill_at: int | None) -> None:
        self.count, self.kill_at = 0, kill_at
        self._write = os.write
        for name in OPERATIONS:
            setattr(os, name, self._wrap(name, getattr(os, name)))
        vars(shutil)["rmtree"] = self._wrap("rmtree", shutil.rmtree)

    def _wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            self.count += 1
            if self.count - 1 == self.kill_at:
                if name == "write":
                    self._write(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return operation


def _silence() -> None:
    """Sends what this process prints, or a library, into nothing."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    Path("/proc/self/oom_score_adj").write_text("500", "ascii")
