"""Kills the removal of a person from an event log at each of its syncs in turn, and finishes it with a second one.

Run as a process of its own: it forks, which must not happen where threads of a library have begun. It prints how many
kills there were and what is left of the person, "0" where nothing is.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq

from mmse.schema.http_events import Click, Exposure
from mmse.serving.events import segments
from mmse.serving.events.erasure import erase_from_events
from mmse.serving.events.rows import SCHEMA, build_batch
from mmse.serving.events.segments import Segment

KILLED = 9


def fork(work: Callable[[], None]) -> int:
    """Does `work` in a child; gives its exit code."""
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def write_log(folder: Path) -> None:
    """Two segments, the last one of a process that was killed; clicks come in later segments than what was shown."""
    for number in range(2):
        segment = Segment(folder, SCHEMA)
        for user in ("ann", "bob"):
            shown = Exposure(request_id=f"{user}{number}", query="red", items=["a", "b"], user_id=user)
            clicks = [Click(request_id=f"{user}{earlier}", item_id="a") for earlier in range(number + 1)]
            segment.append(build_batch([shown, *clicks]))
        segment.close()
        if number < 1:
            segments.seal_orphans(folder, SCHEMA)


def erase(folder: Path, n_syncs: int) -> None:
    """Removes ann, and is killed at the sync of that number."""
    sync, count = os.fsync, 0

    def count_syncs(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count == n_syncs:
            os._exit(KILLED)
        sync(descriptor)

    os.fsync = count_syncs  # type: ignore[assignment]
    erase_from_events(folder, "ann")


def check(folder: Path) -> None:
    """Ends with the number of traces of ann, and with 100 where rows of bob are missing."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    tables = [pq.read_table(path, partitioning=None) for path in files if path.parent.name != segments.OPEN_FOLDER]
    rows = [row for table in tables for row in table.to_pylist()]
    n_left = sum("ann" in json.dumps(row, default=str) for row in rows)
    n_left += sum(b"ann" in path.read_bytes() for path in files)
    n_bob = sum(row["request_id"].startswith("bob") for row in rows)
    os._exit(n_left if n_bob == 2 * 2 + 1 + 2 else 100)


def main(folder: Path) -> None:
    """Prints a line of JSON."""
    n_kills, outcomes, code = 0, [], KILLED
    assert fork(partial(write_log, folder / "whole")) == 0
    while code == KILLED:
        log = folder / f"log{n_kills}"
        shutil.copytree(folder / "whole", log)
        code = fork(partial(erase, log, n_kills + 1))
        n_kills += code == KILLED
        assert fork(partial(erase, log, 0)) == 0
        outcomes.append(fork(partial(check, log)))
        shutil.rmtree(log)
    sys.stdout.write(json.dumps({"kills": n_kills, "left": max(outcomes)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
