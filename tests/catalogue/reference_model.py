"""The content that a live catalogue should have, as a dictionary, and the comparison of a snapshot with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from catalogue.live_runs import BOOSTS
from mmse.catalogue import Change, Edit, Snapshot, Upsert
from mmse.catalogue.edits import id_of
from mmse.schema.filters import Filter, parse_filter
from mmse.text.normalise import words as title_words

Items = dict[str, dict[str, Any]]
DERIVED_COLUMNS = ("item_row", "first_seen")
FILTERS: tuple[dict[str, Any], ...] = (
    {"available": True},
    {"price": {"from": 5, "to": 20}},
    {"brand": ["zorbak", "fimtul"]},
    {"category": "Zone > A"},
    {"not": {"brand": "zorbak"}, "price": {"to": 15}},
)


def read_items(run: Path) -> Items:
    """The items of a run as its step folders have them."""
    items = pq.read_table(run / "dataset" / "items.parquet").drop_columns(list(DERIVED_COLUMNS)).to_pylist()
    return {item["item_id"]: item for item in items}


def apply_edits(items: Items, edits: Iterable[Edit], columns: Sequence[str]) -> Items:
    """`items` after `edits`, which fit."""
    result = dict(items)
    for edit in edits:
        if isinstance(edit, Upsert):
            result[id_of(edit)] = {**dict.fromkeys(columns), **edit.item}
        elif isinstance(edit, Change):
            result[edit.item_id] = {**result[edit.item_id], **edit.values}
        else:
            result.pop(edit.item_id, None)
    return result


def matches(item: dict[str, Any], filter_terms: dict[str, Any]) -> bool:
    """Whether `item` matches a filter of `FILTERS`, read by its keys."""
    for key, value in filter_terms.items():
        actual = item.get(key)
        if key == "not":
            is_match = not matches(item, value)
        elif key == "price":
            is_match = actual is not None and value.get("from", -1e300) <= actual <= value.get("to", 1e300)
        elif key == "category":
            is_match = actual is not None and f"{actual} > ".startswith(f"{value} > ")
        elif key == "available":
            is_match = actual is value
        else:
            is_match = actual in ([value] if isinstance(value, str) else value)
        if not is_match:
            return False
    return True


@cache
def _title_words(title: str) -> frozenset[str]:
    return frozenset(title_words(title))


def check_snapshot(snapshot: Snapshot, items: Items, words: Sequence[str], *, deleted_ids: Iterable[str] = ()) -> None:
    """Compares `snapshot` with `items`: content, both channels for each of `words`, and every filter.

    `deleted_ids` are ids that must not be found, except where `items` has them.
    """
    ids = list(items)
    rows = snapshot.rows(ids)
    assert len(snapshot) == len(ids)
    assert (rows >= 0).all(), [ids[index] for index in np.flatnonzero(rows < 0)[:3]]
    assert len(set(rows.tolist())) == len(rows)
    assert (snapshot.rows([item_id for item_id in deleted_ids if item_id not in items]) == -1).all()
    contents = [{k: v for k, v in item.items() if k not in DERIVED_COLUMNS} for item in snapshot.items(rows)]
    assert contents == [items[item_id] for item_id in ids]
    mask = snapshot.mask()
    assert set(rows.tolist()) == set(np.flatnonzero(np.ones(snapshot.n_rows, bool) if mask is None else mask).tolist())
    check_vectors(snapshot, rows)
    id_by_row = dict(zip(rows.tolist(), ids, strict=True))
    check_words(snapshot, items, id_by_row, words, None, {})
    for filter_terms in FILTERS:
        filter = parse_filter(filter_terms, snapshot.kinds)
        expected_ids = {item_id for item_id in ids if matches(items[item_id], filter_terms)}
        filter_mask = snapshot.mask(filter)
        assert filter_mask is not None
        assert {id_by_row[row] for row in np.flatnonzero(filter_mask).tolist()} == expected_ids, filter_terms
        assert (snapshot.match_filter(filter, rows) == [item_id in expected_ids for item_id in ids]).all()
        hits = snapshot.search_vectors(snapshot.vectors(rows[:1]), len(ids), filter).ids[0]
        assert {id_by_row[row] for row in hits[hits >= 0].tolist()} == expected_ids, filter_terms
        check_words(snapshot, items, id_by_row, words[:1], filter, filter_terms)


def check_vectors(snapshot: Snapshot, rows: np.ndarray) -> None:
    """Every item, and no other, is found by vector, with the scores that comparing all of them gives."""
    vectors = snapshot.vectors(rows)
    queries = vectors[:: max(1, len(rows) // 5)]
    neighbours = snapshot.search_vectors(queries, len(rows) + 3)
    assert (neighbours.ids[:, len(rows) :] == -1).all()
    truth = -np.sort(-(queries @ vectors.T), axis=1)
    assert np.allclose(neighbours.scores[:, : len(rows)], truth, atol=1e-5)
    assert all(set(ids.tolist()) == set(rows.tolist()) for ids in neighbours.ids[:, : len(rows)])
    nearest = snapshot.search_vectors(queries, 3)
    assert (nearest.ids >= 0).all()
    assert np.allclose(nearest.scores[:, 0], truth[:, 0], atol=1e-5), "an item is its own best match"


def check_words(
    snapshot: Snapshot,
    items: Items,
    id_by_row: dict[int, str],
    words: Sequence[str],
    filter: Filter | None,
    filter_terms: dict[str, Any],
) -> None:
    """For each word, the items whose title has it, and no other, are found."""
    lexical = snapshot.lexical
    for word in words:
        hits = lexical.search(lexical.parse(word, BOOSTS), len(items) + 3, filter).rows.tolist()
        expected_ids = {
            item_id
            for item_id, item in items.items()
            if word in _title_words(item["title"]) and matches(item, filter_terms)
        }
        assert {id_by_row.get(row) for row in hits} == expected_ids, (word, filter_terms)
