"""One person taken out of the log of events: their rows leave the sealed files, which are replaced one by one.

What is open is sealed first. Clicks and orders have no `user_id`: they belong to the request that showed the item, and
go before the rows that name the person. So, whenever this is killed, the next one finds what is left.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmse.core.artifact import explain_os_errors
from mmse.core.drafts import sync
from mmse.serving.events import segments
from mmse.serving.events.inspection import require_whole_log
from mmse.serving.events.rows import SCHEMA
from mmse.serving.events.sealed_file import explain_damage, write_sealed

SEAL_LIMIT_S = 10.0
"""How long to wait for servers to close their segments; they look every second."""
_LOOK_EVERY_S = 0.05
_DRAFT = ".forgetting"
_NAMES = ["user_id", "request_id", "query"]


@dataclass(frozen=True)
class EventTraces:
    """The rows of a person in the log, what they asked, and how many of the rows are in segments that stay open."""

    n_rows: int
    queries: frozenset[str]
    n_open_rows: int = 0


def erase_from_events(folder: Path, user_id: str, *, dry_run: bool = False) -> EventTraces:
    """Removes a person from the log in `folder`; gives what there was. For one process at a time.

    Servers may go on; what they log from now on stays. Raises `ArtifactError` for a file that cannot be read, and
    `OutputError` where the disk refuses.
    """
    if not dry_run:
        _seal(folder)
        _remove_drafts(folder)
    require_whole_log(folder)
    open_rows = pa.Table.from_batches(segments.read_open_batches(folder, SCHEMA), SCHEMA)
    request_ids: set[str] = set()
    queries: set[str] = set()
    for rows in (open_rows, *map(_read_names, segments.sealed_files(folder))):
        named_rows = rows.filter(_is_named(rows, user_id))
        request_ids.update(id_ for id_ in named_rows["request_id"].to_pylist() if id_)
        queries.update(query for query in named_rows["query"].to_pylist() if query)
    id_array = pa.array(sorted(request_ids), pa.string())
    masks = (partial(_is_action, request_ids=id_array), partial(_is_named, user_id=user_id))
    n_sealed = sum(_remove_rows(folder, mask, dry_run=dry_run) for mask in masks)
    n_open = sum(int(pc.sum(mask(open_rows)).as_py() or 0) for mask in masks)
    return EventTraces(n_sealed + n_open, frozenset(queries), n_open)


def _seal(folder: Path) -> None:
    """Seals what is open now, or as much of it as servers close in time."""
    former_segments = set(segments.open_segments(folder))
    if not former_segments:
        return
    segments.request_seal(folder)
    deadline_s = time.monotonic() + SEAL_LIMIT_S
    while True:
        segments.seal_orphans(folder, SCHEMA)
        if former_segments.isdisjoint(segments.open_segments(folder)) or time.monotonic() > deadline_s:
            return
        time.sleep(_LOOK_EVERY_S)


def _remove_rows(folder: Path, mask_of: Callable[[pa.Table], pa.ChunkedArray], *, dry_run: bool) -> int:
    """Replaces each sealed file that has such rows by one without them; gives how many rows there were.

    A file that has no others is removed.
    """
    n_rows = 0
    for file in segments.sealed_files(folder):
        mask = mask_of(_read_names(file))
        n_found = int(pc.sum(mask).as_py() or 0)
        n_rows += n_found
        if n_found and not dry_run:
            with explain_os_errors(file):
                _write_rows(file, pc.invert(mask))
    return n_rows


def _write_rows(file: Path, mask: pa.ChunkedArray) -> None:
    """Replaces a sealed file by its rows in `mask`."""
    rows = _read(file, None).filter(mask)
    if not len(rows):
        file.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it is not empty
            file.parent.rmdir()
        return
    draft = file.with_name(f".{file.stem}{_DRAFT}")
    try:
        write_sealed(rows, draft)
        if file.exists():  # nobody has pruned it
            draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    sync(file.parent)


def _read_names(file: Path) -> pa.Table:
    """What tells whose the rows of a sealed file are."""
    return _read(file, _NAMES)


def _read(file: Path, columns: list[str] | None) -> pa.Table:
    with explain_damage(file):
        return pq.read_table(file, columns=columns, partitioning=None)


def _is_named(rows: pa.Table, user_id: str) -> pa.ChunkedArray:
    """The rows that name the person."""
    return pc.fill_null(pc.equal(rows["user_id"], user_id), False)


def _is_action(rows: pa.Table, request_ids: pa.Array) -> pa.ChunkedArray:
    """The rows that name nobody, and belong to one of the requests."""
    return pc.and_(pc.is_null(rows["user_id"]), pc.is_in(rows["request_id"], request_ids))


def _remove_drafts(folder: Path) -> None:
    """Removes what killed processes began to write: of this module, and of segments that are sealed by now.

    What was kept of torn segments goes whole, since nobody can tell whose it is.
    """
    for file in segments.torn_files(folder):
        file.unlink(missing_ok=True)
    open_names = {segment.stem for segment in segments.open_segments(folder)}
    for draft in folder.glob("*/.*"):
        is_left = draft.suffix == segments.DRAFT and draft.stem[1:].rpartition("-")[0] not in open_names
        if is_left or draft.suffix == _DRAFT:
            draft.unlink(missing_ok=True)
