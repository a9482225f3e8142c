"""A process that makes one cell: `python -m mmse.lab.compare.worker TASK.json THREADS`; prints JSON lines."""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path

import msgspec

from mmse.core.errors import MmseError, OutputError
from mmse.lab.compare.cells import Task, make_cell

REPORT_INTERVAL_S = 0.3


def encode_task(task: Task) -> bytes:
    """A task as JSON."""
    return msgspec.json.encode(task, enc_hook=str)


def read_task(path: Path) -> Task:
    """The task in the file `path`."""
    return msgspec.json.decode(path.read_bytes(), type=Task, dec_hook=lambda kind, value: kind(value))


def main(path: Path, threads: int) -> int:
    """Makes the cell of the task in `path`; gives the exit code: 0 if it is made, 1 if it failed and printed why."""
    import torch
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(threads)
    report_time = 0.0

    def report(part: str, done: int, total: int) -> None:
        nonlocal report_time
        time_s = time.monotonic()
        if done == total or time_s - report_time >= REPORT_INTERVAL_S:
            report_time = time_s
            _print_json(part=part, done=done, total=total)

    try:
        with threadpool_limits(threads):
            make_cell(read_task(path), report)
    except MmseError as error:
        _print_json(failed=error.cause, cure=error.cure, disk=isinstance(error, OutputError))
        return 1
    return 0


def _print_json(**message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
