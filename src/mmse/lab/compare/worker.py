"""A process that makes one cell: `python -m mmse.lab.compare.worker TASK.json THREADS`, progress as lines of JSON."""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path

import msgspec

from mmse.core.errors import MmseError, OutputError
from mmse.lab.compare.cells import Task, make_cell

SAY_EVERY_S = 0.3


def written(task: Task) -> bytes:
    """A task as JSON."""
    return msgspec.json.encode(task, enc_hook=str)


def read(path: Path) -> Task:
    """The task in the file `path`."""
    return msgspec.json.decode(path.read_bytes(), type=Task, dec_hook=lambda kind, value: kind(value))


def main(path: Path, threads: int) -> int:
    """Makes the cell of the task in `path`; gives the exit code: 0 made, 1 failed and said why."""
    import torch
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(threads)
    last = 0.0

    def step(what: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done == total or now - last >= SAY_EVERY_S:
            last = now
            _say(what=what, done=done, total=total)

    try:
        with threadpool_limits(threads):
            make_cell(read(path), step)
    except MmseError as error:
        _say(failed=error.cause, cure=error.cure, disk=isinstance(error, OutputError))
        return 1
    return 0


def _say(**said: object) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
