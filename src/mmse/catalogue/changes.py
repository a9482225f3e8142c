"""Edits worked out against a snapshot: which rows change, and what each holds afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, final

import numpy as np
import pyarrow as pa

from mmse.catalogue.delta import Table
from mmse.catalogue.edits import Change, Delete, Edit, Upsert, id_of
from mmse.catalogue.snapshot import Snapshot
from mmse.core.errors import UsageError


class Entry(NamedTuple):
    """What a row holds: an item, or where not `alive` what it last was."""

    item: dict[str, Any]
    alive: bool


@final
class Changes:
    """The changes of one or more calls on top of `snapshot`, each taken whole or not at all."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._columns = [name for name in snapshot.base.schema.names if name != "item_row"]
        self._entries: dict[int, Entry] = {}
        self.added: dict[str, int] = {}
        self.n_rows = snapshot.n_rows

    @property
    def rows(self) -> list[int]:
        """The rows that change."""
        return list(self._entries)

    def take(self, edits: Sequence[Edit]) -> None:
        """Takes in the edits of one call, one after the other; they were `checked`.

        Raises `UsageError`, and takes in none, where one changes or deletes an item that is not there.
        """
        slots, held = self._looked_up(edits)
        n_rows, added, changed = self.n_rows, dict[str, int](), dict[int, Entry]()
        for edit in edits:
            item_id = id_of(edit)
            row = slots[item_id]
            before = changed.get(row) or held.get(row)
            if isinstance(edit, Upsert):
                if row < 0:
                    row = slots[item_id] = added[item_id] = n_rows
                    n_rows += 1
                changed[row] = Entry({**dict.fromkeys(self._columns), **edit.item}, True)
            elif before is None or not before.alive:
                if isinstance(edit, Change) or not edit.missing_ok:
                    verb = "change" if isinstance(edit, Change) else "delete"
                    raise UsageError(
                        f"There is no item '{item_id}' to {verb}.", "Nothing was changed; upsert it, or leave that out."
                    )
            elif isinstance(edit, Change):
                changed[row] = Entry({**before.item, **edit.values}, True)
            else:
                changed[row] = Entry(before.item, False)
        self._entries.update(changed)
        self.added.update(added)
        self.n_rows = n_rows

    def table(self) -> Table:
        """All that changed, as rows of the items table."""
        rows = np.array(sorted(self._entries), np.int64)
        entries = [self._entries[row] for row in rows.tolist()]
        schema = self._snapshot.base.schema
        items = pa.Table.from_pylist(
            [{**entry.item, "item_row": row} for row, entry in zip(rows.tolist(), entries, strict=True)], schema
        )
        if "first_seen" in schema.names:  # the log's own, which no edit changes
            known = pa.array(rows, mask=rows >= len(self._snapshot.base))
            first_seen = self._snapshot.base.items["first_seen"].combine_chunks().take(known)
            items = items.set_column(schema.get_field_index("first_seen"), schema.field("first_seen"), first_seen)
        return Table(rows, items, np.array([entry.alive for entry in entries], bool))

    def _looked_up(self, edits: Sequence[Edit]) -> tuple[dict[str, int], dict[int, Entry]]:
        """The row of every item that `edits` name (-1: none yet), and what these rows hold where that will matter."""
        ids = list(dict.fromkeys(map(id_of, edits)))
        slots = dict(zip(ids, self._snapshot.slots(ids).tolist(), strict=True))
        slots |= {item_id: self.added[item_id] for item_id in ids if item_id in self.added}
        entries = {row: self._entries[row] for row in slots.values() if row in self._entries}
        missing = {slots[edit.item_id] for edit in edits if isinstance(edit, (Change, Delete))} - entries.keys() - {-1}
        rows = np.array(sorted(missing), np.int64)
        found = zip(rows.tolist(), self._snapshot.items(rows), self._snapshot.alive(rows).tolist(), strict=True)
        return slots, entries | {row: Entry(item, alive) for row, item, alive in found}
