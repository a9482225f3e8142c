"""Edits carried over to step folders that were made again, or to those of another run; or dropped."""

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

from mmse.catalogue import layout, wal
from mmse.catalogue.edits import Change, Delete, Edit, Upsert, check_edits, id_of, merge_edits
from mmse.catalogue.wal import WalHeader
from mmse.core import artifact, locks
from mmse.core.errors import ArtifactError, UsageError
from mmse.core.run_folder import RunFolder
from mmse.dataset.serving_data import ITEMS
from mmse.index.base import damage_error

EDITS = "edits"
"""The file in a folded base with the net edits since the run itself, as the frames of a log."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TransferReport:
    """How many edited items were carried over, how many were left out, and the file that lists those, if any."""

    n_carried: int
    n_left_out: int
    rejects_file: Path | None


@dataclass(frozen=True)
class FittedEdits:
    """Edits as far as they fit a catalogue, and the rejected ones, each with the reason."""

    edits: list[Edit]
    rejects: list[dict[str, object]]


@final
class EditReceiver:
    """A run that takes over edits while nobody folds its own. See `open_receiver`."""

    def __init__(self, run: Path) -> None:
        self._run = run

    def take(self, edits: Iterable[Edit] = ()) -> TransferReport:
        """Applies the run's own net edits, and `edits` after them, to its step folders as they are now.

        Changes of items that do not exist, and values that do not fit the columns, are left out and written into
        `live/left-out-G.jsonl`. Processes that have the run open find the result in a new generation.
        """
        with layout.take_turn(self._run):
            number = layout.newest_generation(self._run)
            own = {} if number is None else generation_edits(self._run, number)
            items_file = RunFolder(self._run).serving / ITEMS
            fitted_edits = _fit_to_table(items_file, list(merge_edits([*own.values(), *edits]).values()))
            origin = layout.read_origin(self._run)
            if _is_up_to_date(self._run, number, origin, own, fitted_edits.edits):
                return TransferReport(0, 0, None)
            rejects_file = layout.live_folder(self._run) / f"left-out-{number or 0}.jsonl"
            _write_rejects(rejects_file, fitted_edits.rejects)
            _begin_generation(self._run, number, origin, fitted_edits.edits)
            n_rejects = len(fitted_edits.rejects)
            return TransferReport(len(fitted_edits.edits), n_rejects, rejects_file if n_rejects else None)


@contextlib.contextmanager
def open_receiver(run: Path) -> Iterator[EditReceiver]:
    """The run folder `run`, ready to take over edits; waits for a fold that is under way."""
    with _hold_fold_lock(run):
        yield EditReceiver(run)


def generation_edits(run: Path, number: int, end: int | None = None) -> dict[str, Edit]:
    """The net edits since the run itself, of a generation's base and of its log before byte `end`, by item id."""
    file = layout.wal_file(run, number)
    header, start = wal.read_header(file)
    base_calls = wal.read(layout.base_folder(run, number) / EDITS, 0).calls if header.base is not None else []
    calls = [*base_calls, *wal.read(file, start, end).calls]
    return merge_edits(edit for call in calls for edit in call)


def pending_edits(run: Path) -> dict[str, Edit]:
    """The net edits of `run` since its step folders were made, by item id; others may fold meanwhile.

    The step folders may be of an earlier schema, which this mmse cannot search.

    Raises `ArtifactError` where the edits belong to step folders that have been replaced.
    """
    layout.require_own_live_folder(run)
    while (number := layout.newest_generation(run)) is not None:
        try:
            edits = generation_edits(run, number)
            origin = wal.read_header(layout.wal_file(run, number))[0].origin
            if edits and origin != layout.read_origin(run, any_schema=True):
                raise stale_edits_error(run, len(edits))
            return edits
        except FileNotFoundError:
            if layout.newest_generation(run) == number:
                raise
    return {}


def stale_edits_error(run: Path, n: int) -> ArtifactError:
    """The error for `n` edited items that belong to step folders which have been replaced."""
    return ArtifactError(
        f"{n} edited items wait in {layout.live_folder(run)}, and the step folders of {run} were made again since.",
        "Carry them over to the new ones with `mmse items carry-over RUN`, or drop them: `mmse items discard RUN`.",
    )


def count_stale_edits(run: Path) -> int:
    """How many edited items of `run` belong to step folders that have been replaced."""
    number = layout.newest_generation(run)
    if number is None or wal.read_header(layout.wal_file(run, number))[0].origin == layout.read_origin(run):
        return 0
    return len(generation_edits(run, number))


def carry_over(run: Path) -> TransferReport:
    """Applies the edits that were made on former step folders of `run` to the present ones, as `EditReceiver.take`.

    Processes that have the catalogue open must open it again.
    """
    number = layout.newest_generation(run)
    if number is None or wal.read_header(layout.wal_file(run, number))[0].origin == layout.read_origin(run):
        return TransferReport(0, 0, None)
    with open_receiver(run) as receiver:
        return receiver.take()


def discard(run: Path) -> int:
    """Drops every edit of the live catalogue of `run`, folded ones too; returns the number of edited items."""
    number = layout.newest_generation(run)
    if number is None:
        return 0
    with _hold_fold_lock(run), layout.take_turn(run):
        number = layout.newest_generation(run)
        assert number is not None, "a log is only ever replaced by a newer one"
        edits = generation_edits(run, number)
        _begin_generation(run, number, layout.read_origin(run), [])
        return len(edits)


def fit_edits(edits: Sequence[Edit], known_ids: set[str], schema: pa.Schema) -> FittedEdits:
    """`edits` as far as they fit a catalogue with the columns of `schema`.

    `known_ids` are the ids of the edited items that the catalogue has. Deleting an unknown item fits and does nothing.
    """
    known_ids = set(known_ids)
    result = FittedEdits([], [])
    for edit in edits:
        item_id = id_of(edit)
        fitting_edits, reason = _fit_edit(edit, item_id in known_ids, schema)
        result.edits.extend(fitting_edits)
        if reason:
            result.rejects.append({"why": reason, "edit": edit})
        if isinstance(edit, Delete):
            known_ids.discard(item_id)
        elif fitting_edits:
            known_ids.add(item_id)
    return result


def _fit_to_table(items_file: Path, edits: Sequence[Edit]) -> FittedEdits:
    """`edits`, one for an item, as far as they fit a table of items."""
    ids = pa.array([id_of(edit) for edit in edits], pa.string())
    try:
        schema = pq.read_schema(items_file)
        table = pq.read_table(items_file, columns=["item_id"], filters=pc.field("item_id").isin(ids))
    except (OSError, pa.ArrowException) as error:
        raise damage_error(items_file, error) from error
    return fit_edits(edits, set(table["item_id"].to_pylist()), schema)


def _is_up_to_date(run: Path, number: int | None, origin: str, own: dict[str, Edit], edits: list[Edit]) -> bool:
    """Whether a run already has `edits`, and no others."""
    if number is None:
        return not edits
    return own == merge_edits(edits) and wal.read_header(layout.wal_file(run, number))[0].origin == origin


def _begin_generation(run: Path, number: int | None, origin: str, edits: Sequence[Edit]) -> None:
    """Begins the generation after `number` on the run itself; its version is higher than any of the former one."""
    version = 0
    if number is not None:
        header, start = wal.read_header(layout.wal_file(run, number))
        version = header.version + len(wal.read(layout.wal_file(run, number), start).calls) + 1
    header = WalHeader(wal.SCHEMA_VERSION, 0 if number is None else number + 1, origin, None, version)
    wal.create(layout.wal_file(run, header.generation), header, wal.encode_frames(edits))
    layout.sweep(run)


@contextlib.contextmanager
def _hold_fold_lock(run: Path) -> Iterator[None]:
    layout.make_live_folder(run)
    with locks.lock(layout.live_folder(run) / layout.FOLD_LOCK):
        yield


def _fit_edit(edit: Edit, is_known: bool, schema: pa.Schema) -> tuple[list[Edit], str]:
    """The part of `edit` that can be carried over, and the reason where that is not all of it."""
    if isinstance(edit, Delete):
        return ([Delete(edit.item_id, missing_ok=True)], "") if is_known else ([], "")
    if isinstance(edit, Change) and not is_known:
        return [], "the item no longer exists"
    values = edit.item if isinstance(edit, Upsert) else edit.values
    unknown_columns = [name for name in values if name not in schema.names]
    values = {name: value for name, value in values.items() if name not in unknown_columns}
    reason = f"no column {', '.join(unknown_columns)}" if unknown_columns else ""
    if isinstance(edit, Change) and not values:
        return [], reason
    reduced_edit = Upsert(values) if isinstance(edit, Upsert) else Change(edit.item_id, values)
    try:
        return check_edits([reduced_edit], schema), reason
    except UsageError as error:
        return [], error.cause


def _write_rejects(path: Path, rejects: list[dict[str, object]]) -> None:
    if rejects:
        artifact.write_file(path, b"".join(msgspec.json.encode(reject) + b"\n" for reject in rejects))
        log.warning("%d edits were not carried over in full, see %s", len(rejects), path)
