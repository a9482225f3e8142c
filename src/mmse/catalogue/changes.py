"""Edits worked out against a snapshot: which rows change, and what each holds afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, final

import numpy as np
import pyarrow as pa

from mmse.catalogue.delta import ChangedRows
from mmse.catalogue.edits import Change, Delete, Edit, Upsert, id_of
from mmse.catalogue.snapshot import Snapshot
from mmse.core.errors import UsageError


class Entry(NamedTuple):
    """What a row holds: an item or, where not `alive`, the item that was deleted."""

    item: dict[str, Any]
    alive: bool


@final
class Changes:
    """The changes of one or more calls on top of `snapshot`; each call counts whole or not at all."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._columns = [name for name in snapshot.base.schema.names if name != "item_row"]
        self._entries: dict[int, Entry] = {}
        self.added_rows: dict[str, int] = {}
        self.n_rows = snapshot.n_rows

    @property
    def rows(self) -> list[int]:
        """The rows that change."""
        return list(self._entries)

    def add_call(self, edits: Sequence[Edit]) -> None:
        """Adds the edits of one call, in order; they have passed `check_edits`.

        Raises `UsageError`, and adds none, where an edit changes or deletes an item that does not exist.
        """
        row_by_id, base_entries = self._look_up(edits)
        n_rows, added_rows, entries = self.n_rows, dict[str, int](), dict[int, Entry]()
        for edit in edits:
            item_id = id_of(edit)
            row = row_by_id[item_id]
            entry = entries.get(row) or base_entries.get(row)
            if isinstance(edit, Upsert):
                if row < 0:
                    row = row_by_id[item_id] = added_rows[item_id] = n_rows
                    n_rows += 1
                entries[row] = Entry({**dict.fromkeys(self._columns), **edit.item}, True)
            elif entry is None or not entry.alive:
                if isinstance(edit, Change) or not edit.missing_ok:
                    verb = "change" if isinstance(edit, Change) else "delete"
                    raise UsageError(
                        f"There is no item '{item_id}' to {verb}.", "Nothing was changed; upsert it, or leave that out."
                    )
            elif isinstance(edit, Change):
                entries[row] = Entry({**entry.item, **edit.values}, True)
            else:
                entries[row] = Entry(entry.item, False)
        self._entries.update(entries)
        self.added_rows.update(added_rows)
        self.n_rows = n_rows

    def table(self) -> ChangedRows:
        """All changed rows, as rows of the items table."""
        rows = np.array(sorted(self._entries), np.int64)
        entries = [self._entries[row] for row in rows.tolist()]
        schema = self._snapshot.base.schema
        items = pa.Table.from_pylist(
            [{**entry.item, "item_row": row} for row, entry in zip(rows.tolist(), entries, strict=True)], schema
        )
        if "first_seen" in schema.names:  # comes from the search log, no edit changes it
            base_rows = pa.array(rows, mask=rows >= len(self._snapshot.base))
            first_seen = self._snapshot.base.items["first_seen"].combine_chunks().take(base_rows)
            items = items.set_column(schema.get_field_index("first_seen"), schema.field("first_seen"), first_seen)
        return ChangedRows(rows, items, np.array([entry.alive for entry in entries], bool))

    def _look_up(self, edits: Sequence[Edit]) -> tuple[dict[str, int], dict[int, Entry]]:
        """The row of every item that `edits` name (-1: none yet), and the entries of the rows that are read."""
        ids = list(dict.fromkeys(map(id_of, edits)))
        row_by_id = dict(zip(ids, self._snapshot.rows_with_deleted(ids).tolist(), strict=True))
        row_by_id |= {item_id: self.added_rows[item_id] for item_id in ids if item_id in self.added_rows}
        entries = {row: self._entries[row] for row in row_by_id.values() if row in self._entries}
        read_rows = {row_by_id[edit.item_id] for edit in edits if isinstance(edit, (Change, Delete))}
        rows = np.array(sorted(read_rows - entries.keys() - {-1}), np.int64)
        contents = zip(rows.tolist(), self._snapshot.items(rows), self._snapshot.alive(rows).tolist(), strict=True)
        return row_by_id, entries | {row: Entry(item, alive) for row, item, alive in contents}
