"""What a live catalogue should hold, as a dictionary, and the comparison of a snapshot with it over both channels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from catalogue.live_shop import BOOSTS
from mmse.catalogue import Change, Edit, Snapshot, Upsert
from mmse.catalogue.edits import id_of
from mmse.schema.filters import Filter, parse_filter
from mmse.text.bm25 import words

Items = dict[str, dict[str, Any]]
OURS = ("item_row", "first_seen")
FILTERS: tuple[dict[str, Any], ...] = (
    {"available": True},
    {"price": {"from": 5, "to": 20}},
    {"brand": ["zorbak", "fimtul"]},
    {"category": "Zone > A"},
    {"not": {"brand": "zorbak"}, "price": {"to": 15}},
)


def read_items(run: Path) -> Items:
    """The items of a run as its stage folders have them."""
    found = pq.read_table(run / "dataset" / "items.parquet").drop_columns(list(OURS)).to_pylist()
    return {item["item_id"]: item for item in found}


def applied(items: Items, edits: Iterable[Edit], columns: Sequence[str]) -> Items:
    """`items` after `edits`, which fit."""
    after = dict(items)
    for edit in edits:
        if isinstance(edit, Upsert):
            after[id_of(edit)] = {**dict.fromkeys(columns), **edit.item}
        elif isinstance(edit, Change):
            after[edit.item_id] = {**after[edit.item_id], **edit.values}
        else:
            after.pop(edit.item_id, None)
    return after


def meets(item: dict[str, Any], said: dict[str, Any]) -> bool:
    """Whether `item` meets a filter of `FILTERS`, read by its keys."""
    for key, value in said.items():
        held = item.get(key)
        if key == "not":
            met = not meets(item, value)
        elif key == "price":
            met = held is not None and value.get("from", -1e300) <= held <= value.get("to", 1e300)
        elif key == "category":
            met = held is not None and f"{held} > ".startswith(f"{value} > ")
        elif key == "available":
            met = held is value
        else:
            met = held in ([value] if isinstance(value, str) else value)
        if not met:
            return False
    return True


@cache
def _words(title: str) -> frozenset[str]:
    return frozenset(words(title))


def check(snapshot: Snapshot, items: Items, asked: Sequence[str], *, gone: Iterable[str] = ()) -> None:
    """Holds `snapshot` against `items`: content, both channels for the words `asked`, and every filter."""
    ids = list(items)
    rows = snapshot.rows(ids)
    assert len(snapshot) == len(ids)
    assert (rows >= 0).all(), [ids[place] for place in np.flatnonzero(rows < 0)[:3]]
    assert len(set(rows.tolist())) == len(rows)
    assert (snapshot.rows([one for one in gone if one not in items]) == -1).all()
    held = [{k: v for k, v in item.items() if k not in OURS} for item in snapshot.items(rows)]
    assert held == [items[one] for one in ids]
    mask = snapshot.mask()
    assert set(rows.tolist()) == set(np.flatnonzero(np.ones(snapshot.n_rows, bool) if mask is None else mask).tolist())
    check_vectors(snapshot, rows)
    id_at = dict(zip(rows.tolist(), ids, strict=True))
    check_words(snapshot, items, id_at, asked, None, {})
    for said in FILTERS:
        only = parse_filter(said, snapshot.kinds)
        wanted = {one for one in ids if meets(items[one], said)}
        filtered = snapshot.mask(only)
        assert filtered is not None
        assert {id_at[row] for row in np.flatnonzero(filtered).tolist()} == wanted, said
        assert (snapshot.holds(only, rows) == [one in wanted for one in ids]).all()
        found = snapshot.search_vectors(snapshot.vectors(rows[:1]), len(ids), only).ids[0]
        assert {id_at[row] for row in found[found >= 0].tolist()} == wanted, said
        check_words(snapshot, items, id_at, asked[:1], only, said)


def check_vectors(snapshot: Snapshot, rows: np.ndarray) -> None:
    """Every item, and no other, is found by vector, with the scores that comparing all of them gives."""
    vectors = snapshot.vectors(rows)
    queries = vectors[:: max(1, len(rows) // 5)]
    every = snapshot.search_vectors(queries, len(rows) + 3)
    assert (every.ids[:, len(rows) :] == -1).all()
    truth = -np.sort(-(queries @ vectors.T), axis=1)
    assert np.allclose(every.scores[:, : len(rows)], truth, atol=1e-5)
    assert all(set(found.tolist()) == set(rows.tolist()) for found in every.ids[:, : len(rows)])
    few = snapshot.search_vectors(queries, 3)
    assert (few.ids >= 0).all()
    assert np.allclose(few.scores[:, 0], truth[:, 0], atol=1e-5), "an item is its own best match"


def check_words(
    snapshot: Snapshot,
    items: Items,
    id_at: dict[int, str],
    asked: Sequence[str],
    only: Filter | None,
    said: dict[str, Any],
) -> None:
    """For each word, the items whose title has it, and no other."""
    for word in asked:
        found = snapshot.lexical.search(snapshot.lexical.ask(word, BOOSTS), len(items) + 3, only).rows.tolist()
        wanted = {one for one, item in items.items() if word in _words(item["title"]) and meets(item, said)}
        assert {id_at.get(row) for row in found} == wanted, (word, said)
