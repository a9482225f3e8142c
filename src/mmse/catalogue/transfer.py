"""Edits taken over by what they say: to stage folders that were made again, or to those of another run; or dropped."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmse.catalogue import layout as places
from mmse.catalogue import wal as journal
from mmse.catalogue.base import ITEMS
from mmse.catalogue.edits import Change, Delete, Edit, Upsert, checked, id_of, net
from mmse.catalogue.wal import Header
from mmse.core import artifact, locks
from mmse.core.errors import ArtifactError, UsageError
from mmse.index.base import damaged

EDITS = "edits"
"""In a folded base, the net edits since the run itself, as the frames of a journal."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Carried:
    """How many edited items were carried over, and how many were left out, which stand in the file `aside`."""

    carried: int
    left_out: int
    aside: Path | None


@dataclass(frozen=True)
class Fitted:
    """Edits as far as they fit a catalogue, and those that do not, with the reason and what of them was kept out."""

    kept: list[Edit]
    left: list[dict[str, object]]


@final
class Receiver:
    """A run that takes over edits; nobody folds its own meanwhile. See `receiving`."""

    def __init__(self, run: Path) -> None:
        self._run = run

    def take(self, edits: Iterable[Edit] = ()) -> Carried:
        """Puts the run's own net edits, and `edits` on top of them, onto its stage folders as they are.

        Left out, and kept aside in `live/left-out-G.jsonl`, are changes of items that are not there, and values that
        do not fit the columns. Processes that have the run open find what they know in a new generation.
        """
        with places.turn(self._run):
            number = places.newest(self._run)
            own = {} if number is None else waiting(self._run, number)
            found = _fitted_to(self._run / "dataset" / ITEMS, list(net([*own.values(), *edits]).values()))
            origin = places.origin(self._run)
            if _is_so(self._run, number, origin, own, found.kept):
                return Carried(0, 0, None)
            aside = _kept_aside(places.live(self._run) / f"left-out-{number or 0}.jsonl", found.left)
            _begin(self._run, number, origin, found.kept)
            return Carried(len(found.kept), len(found.left), aside)


@contextlib.contextmanager
def receiving(run: Path) -> Iterator[Receiver]:
    """The run folder `run`, ready to take over edits; waits for a folding that is under way."""
    with _nobody_folds(run):
        yield Receiver(run)


def waiting(run: Path, number: int, end: int | None = None) -> dict[str, Edit]:
    """The net edits of a generation since the run itself, of its journal those before byte `end`, by item id."""
    file = places.journal(run, number)
    header, start = journal.read_header(file)
    folded = journal.read(places.base(run, number) / EDITS, 0).calls if header.base is not None else []
    calls = [*folded, *journal.read(file, start, end).calls]
    return net(edit for call in calls for edit in call)


def pending(run: Path) -> dict[str, Edit]:
    """The net edits of `run` since its stage folders were made, by item id, whatever is folded meanwhile.

    Raises `ArtifactError` where they belong to stage folders that are there no more.
    """
    while (number := places.newest(run)) is not None:
        try:
            edits = waiting(run, number)
            if edits and journal.read_header(places.journal(run, number))[0].origin != places.origin(run):
                raise unfit(run, len(edits))
            return edits
        except FileNotFoundError:
            if places.newest(run) == number:
                raise
    return {}


def unfit(run: Path, n: int) -> ArtifactError:
    """What is said where `n` edited items wait for stage folders that are there no more."""
    return ArtifactError(
        f"{n} edited items wait in {places.live(run)}, and the stage folders of {run} have been made again since.",
        "Carry them over to the new ones with `mmse items carry-over RUN`, or drop them: `mmse items discard RUN`.",
    )


def carry_over(run: Path) -> Carried:
    """Puts the edits that wait for former stage folders of `run` on top of the present ones, as `Receiver.take` does.

    Processes that have the catalogue open must open it again.
    """
    number = places.newest(run)
    if number is None or journal.read_header(places.journal(run, number))[0].origin == places.origin(run):
        return Carried(0, 0, None)
    with receiving(run) as receiver:
        return receiver.take()


def discard(run: Path) -> int:
    """Drops every edit of the live catalogue of `run`, folded ones as well, and gives how many items had any."""
    number = places.newest(run)
    if number is None:
        return 0
    with _nobody_folds(run), places.turn(run):
        number = places.newest(run)
        assert number is not None, "journals only give way to newer ones"
        edits = waiting(run, number)
        _begin(run, number, places.origin(run), [])
        return len(edits)


def fitted(edits: Sequence[Edit], there: set[str], schema: pa.Schema) -> Fitted:
    """`edits` as far as they fit a catalogue with the columns of `schema`, which has the items `there` of their items.

    To delete what is not there fits, and is nothing.
    """
    there = set(there)
    found = Fitted([], [])
    for edit in edits:
        item_id = id_of(edit)
        fitting, why = _fitting(edit, item_id in there, schema)
        found.kept.extend(fitting)
        if why:
            found.left.append({"why": why, "edit": edit})
        if isinstance(edit, Delete):
            there.discard(item_id)
        elif fitting:
            there.add(item_id)
    return found


def _fitted_to(items: Path, edits: Sequence[Edit]) -> Fitted:
    """`edits`, one for an item, as far as they fit a table of items."""
    ids = [id_of(edit) for edit in edits]
    try:
        schema = pq.read_schema(items)
        known = pq.read_table(items, columns=["item_id"], filters=pc.field("item_id").isin(pa.array(ids, pa.string())))
    except (OSError, pa.ArrowException) as error:
        raise damaged(items, error) from error
    return fitted(edits, set(known["item_id"].to_pylist()), schema)


def _is_so(run: Path, number: int | None, origin: str, own: dict[str, Edit], wanted: list[Edit]) -> bool:
    """Whether a run has the edits `wanted` already, and no others."""
    if number is None:
        return not wanted
    return own == net(wanted) and journal.read_header(places.journal(run, number))[0].origin == origin


def _begin(run: Path, number: int | None, origin: str, edits: Sequence[Edit]) -> None:
    """A generation after `number` on top of the run itself; who has the former one open finds a later version."""
    version = 0
    if number is not None:
        header, start = journal.read_header(places.journal(run, number))
        version = header.version + len(journal.read(places.journal(run, number), start).calls) + 1
    fresh = Header(journal.SCHEMA_VERSION, 0 if number is None else number + 1, origin, None, version)
    journal.create(places.journal(run, fresh.generation), fresh, journal.frames(edits))
    places.sweep(run)


@contextlib.contextmanager
def _nobody_folds(run: Path) -> Iterator[None]:
    places.make(run)
    with locks.alone(places.live(run) / places.FOLDING):
        yield


def _fitting(edit: Edit, known: bool, schema: pa.Schema) -> tuple[list[Edit], str]:
    """What of `edit` can be carried over, and why not all of it."""
    if isinstance(edit, Delete):
        return ([Delete(edit.item_id, missing_ok=True)], "") if known else ([], "")
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
