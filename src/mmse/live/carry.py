"""Edits whose stage folders were made again: carried over to the new ones by what they say, or dropped."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow as pa

from mmse import artifact
from mmse.errors import UsageError
from mmse.live import journal, places
from mmse.live.base import open_run
from mmse.live.edits import Change, Delete, Edit, Upsert, checked, id_of, net
from mmse.live.journal import Header

EDITS = "edits"
"""In a folded base, the net edits since the run itself, as the frames of a journal."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Carried:
    """How many edited items were carried over, and how many were left out, which stand in the file `aside`."""

    carried: int
    left_out: int
    aside: Path | None


def waiting(run: Path, number: int, end: int | None = None) -> dict[str, Edit]:
    """The net edits of a generation since the run itself, of its journal those before byte `end`, by item id."""
    file = places.journal(run, number)
    header, start = journal.read_header(file)
    folded = journal.read(places.base(run, number) / EDITS, 0).calls if header.base is not None else []
    calls = [*folded, *journal.read(file, start, end).calls]
    return net(edit for call in calls for edit in call)


def carry_over(run: Path) -> Carried:
    """Puts the edits that wait for former stage folders of `run` on top of the present ones.

    Left out, and kept aside in `live/left-out-G.jsonl`, are changes of items that are there no more, and values that
    do not fit the present columns. Raises `UsageError` where the catalogue is open for writing.
    """
    with places.lock(run):
        number, now = places.newest(run), places.origin(run)
        if number is None or journal.read_header(places.journal(run, number))[0].origin == now:
            return Carried(0, 0, None)
        base = open_run(run)
        edits = list(waiting(run, number).values())
        known = (base.ids.rows([id_of(edit) for edit in edits]) >= 0).tolist()
        kept, left = list[Edit](), list[dict[str, object]]()
        for edit, there in zip(edits, known, strict=True):
            fitting, why = _fitting(edit, there, base.schema)
            kept += fitting
            if why:
                left.append({"why": why, "edit": edit})
        aside = _kept_aside(places.live(run) / f"left-out-{number}.jsonl", left)
        _begin(run, number, now, kept)
        return Carried(len(kept), len(left), aside)


def discard(run: Path) -> int:
    """Drops every edit of the live catalogue of `run`, folded ones as well, and gives how many items had any."""
    with places.lock(run):
        number = places.newest(run)
        if number is None:
            return 0
        edits = waiting(run, number)
        _begin(run, number, places.origin(run), [])
        return len(edits)


def _begin(run: Path, number: int, origin: str, edits: Sequence[Edit]) -> None:
    """A generation after `number` on top of the run itself."""
    file = places.journal(run, number)
    header, start = journal.read_header(file)
    version = header.version + len(journal.read(file, start).calls)
    fresh = Header(journal.SCHEMA_VERSION, number + 1, origin, None, version)
    journal.create(places.journal(run, number + 1), fresh, journal.frames(edits)).close()
    places.sweep(run, number + 1)


def _fitting(edit: Edit, known: bool, schema: pa.Schema) -> tuple[list[Edit], str]:
    """What of `edit` can be carried over, and why not all of it."""
    if isinstance(edit, Delete):
        return ([edit], "") if known else ([], "")
    if isinstance(edit, Change) and not known:
        return [], "the item is there no more"
    values = edit.item if isinstance(edit, Upsert) else edit.values
    strange = [name for name in values if name not in schema.names]
    values = {name: value for name, value in values.items() if name not in strange}
    why = f"no column {', '.join(strange)}" if strange else ""
    if isinstance(edit, Change) and not values:
        return [], why
    try:
        return checked([Upsert(values) if isinstance(edit, Upsert) else Change(edit.item_id, values)], schema), why
    except UsageError as error:
        return [], error.cause


def _kept_aside(path: Path, left: list[dict[str, object]]) -> Path | None:
    if not left:
        return None
    with artifact.writable(path):
        path.write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in left))
    log.warning("%d edits were not carried over in full, see %s", len(left), path)
    return path
