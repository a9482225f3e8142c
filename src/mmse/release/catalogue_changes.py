"""The new catalogue against the one that is served: what is gone, repriced, renamed or emptied."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from mmse.catalogue.edits import Change, Delete, Edit
from mmse.core.findings import Finding, Severity, share
from mmse.core.run_folder import RunFolder
from mmse.dataset.folder import DatasetFolder
from mmse.dataset.serving_data import ITEMS
from mmse.release.config import ReleaseConfig
from mmse.sources.sql import identifier, literal

PRICE_RATIO = 3.0
"""A price that is so many times another one, or that small a part of it, is another price altogether."""
MIN_ITEMS = 20
"""Of fewer items no share is judged."""


def compare_catalogues(current: Path, dataset: Path, edits: Mapping[str, Edit], config: ReleaseConfig) -> list[Finding]:
    """Compares the items of `dataset` with those of the version in the run folder `current`, with its `edits` by id.

    A finding of severity `blocks` for each limit that is passed; else one that says what has changed.
    """
    served_items, items = RunFolder(current).serving / ITEMS, DatasetFolder(dataset).items
    with duckdb.connect() as database:
        database.register("edit", _edit_table(edits))
        database.execute(f"""
            CREATE VIEW fresh AS SELECT * FROM read_parquet({literal(str(items))});
            CREATE TABLE served AS
            SELECT item.* FROM read_parquet({literal(str(served_items))}) AS item
              LEFT JOIN edit USING (item_id) WHERE NOT coalesce(edit.is_gone, false)""")
        n_served = _count(database, "FROM served")
        if n_served < MIN_ITEMS:
            return []
        findings = [
            *_check_gone(database, n_served, config),
            *_check_prices(database, config),
            *_check_titles(database, config),
            *_check_columns(database, pq.read_schema(served_items), pq.read_schema(items), config),
        ]
    return findings


def _edit_table(edits: Mapping[str, Edit]) -> pa.Table:
    """A row for each edited item: whether it is gone, and its price where that was edited."""
    values = [_values_of(edit) for edit in edits.values()]
    columns = {
        "item_id": list(edits),
        "is_gone": [isinstance(edit, Delete) for edit in edits.values()],
        "price": [float(value["price"]) if isinstance(value.get("price"), int | float) else None for value in values],
    }
    schema = pa.schema([("item_id", pa.string()), ("is_gone", pa.bool_()), ("price", pa.float64())])
    return pa.table(columns, schema=schema)


def _values_of(edit: Edit) -> Mapping[str, Any]:
    return {} if isinstance(edit, Delete) else edit.values if isinstance(edit, Change) else edit.item


def _check_gone(database: duckdb.DuckDBPyConnection, n_served: int, config: ReleaseConfig) -> list[Finding]:
    n_gone = _count(database, "FROM served ANTI JOIN fresh USING (item_id)")
    n_new = _count(database, "FROM fresh ANTI JOIN served USING (item_id)")
    n_sold_out = _count(
        database, "FROM served JOIN fresh USING (item_id) WHERE served.available AND fresh.available = false"
    )
    n_available = _count(database, "FROM served WHERE available")
    findings = [
        Finding(
            "items_new",
            _severity(n_new, n_served, config.max_items_new),
            f"{n_new:,} items are new, beside {n_served:,} served ones.",
            "Look whether the items table has other things than items, or whether its ids have changed.",
            numbers={"new": n_new, "of_items": n_served, "limit": config.max_items_new},
        ),
        Finding(
            "items_gone",
            _severity(n_gone, n_served, config.max_items_gone),
            f"{n_gone:,} of {n_served:,} served items ({share(n_gone, n_served)}) are gone from the catalogue.",
            "Look whether the items table is whole.",
            numbers={"gone": n_gone, "of_items": n_served, "limit": config.max_items_gone},
        ),
    ]
    if n_available >= MIN_ITEMS:
        findings.append(
            Finding(
                "items_unavailable",
                _severity(n_sold_out, n_available, config.max_items_gone),
                f"{n_sold_out:,} of {n_available:,} available items ({share(n_sold_out, n_available)}) have become "
                "unavailable.",
                "Look at the column available of the items table.",
                numbers={"unavailable": n_sold_out, "of_items": n_available, "limit": config.max_items_gone},
            )
        )
    return findings


def _check_prices(database: duckdb.DuckDBPyConnection, config: ReleaseConfig) -> list[Finding]:
    database.execute(f"""
        CREATE TEMP TABLE price AS
        SELECT item_id, coalesce(edit.price, served.price) AS former, fresh.price AS price,
               NOT fresh.price / former BETWEEN {1 / PRICE_RATIO} AND {PRICE_RATIO} AS is_other  -- a price of 0, too
          FROM served JOIN fresh USING (item_id) LEFT JOIN edit USING (item_id)
         WHERE former > 0 AND fresh.price IS NOT NULL""")
    n, n_others = _count(database, "FROM price"), _count(database, "FROM price WHERE is_other")
    if n < MIN_ITEMS:
        return []
    row = database.execute("SELECT item_id, former, price FROM price WHERE is_other LIMIT 1").fetchone()
    (ratio,) = database.execute("SELECT median(price / former) FROM price").fetchone() or (1.0,)
    return [
        Finding(
            "prices",
            _severity(n_others, n, config.max_repriced),
            f"{n_others:,} of {n:,} items ({share(n_others, n)}) cost more than {PRICE_RATIO:g} times or less than a "
            f"third of what they cost; the median price is {ratio:.3g} times the former.",
            "Look at the column price of the items table: its unit, its currency, its decimal mark.",
            example=f"{row[0]}: {row[1]:g} → {row[2]:g}" if row else "",
            numbers={"items": n_others, "of_items": n, "limit": config.max_repriced},
        )
    ]


def _check_titles(database: duckdb.DuckDBPyConnection, config: ReleaseConfig) -> list[Finding]:
    common = "FROM served JOIN fresh USING (item_id)"
    n = _count(database, common)
    if n < MIN_ITEMS:
        return []
    changes = f"{common} WHERE served.title IS DISTINCT FROM fresh.title"
    n_changes = _count(database, changes)
    row = database.execute(f"SELECT item_id, served.title, fresh.title {changes} LIMIT 1").fetchone()
    return [
        Finding(
            "titles",
            _severity(n_changes, n, config.max_retitled),
            f"{n_changes:,} of {n:,} items ({share(n_changes, n)}) have another title.",
            "Look at the column title of the items table: its encoding, its language, and whether ids were reused.",
            example=f"{row[0]}: {row[1]} → {row[2]}" if row else "",
            numbers={"items": n_changes, "of_items": n, "limit": config.max_retitled},
        )
    ]


def _check_columns(
    database: duckdb.DuckDBPyConnection, former: pa.Schema, schema: pa.Schema, config: ReleaseConfig
) -> list[Finding]:
    """A finding for each column of which so many items have lost the value; none where nothing is wrong."""
    findings = []
    for name in former.names:
        former_share = _filled_share(database, "served", name)
        new_share = _filled_share(database, "fresh", name) if name in schema.names else 0.0
        if former_share - new_share > config.max_emptied:
            findings.append(
                Finding(
                    f"column_{name}",
                    "blocks",
                    f"{share(new_share, 1)} of the items have a value of {name}, {share(former_share, 1)} had one.",
                    f"Look at the column {name} of the items table.",
                    numbers={"former": former_share, "new": new_share, "limit": config.max_emptied},
                )
            )
    return findings


def _filled_share(database: duckdb.DuckDBPyConnection, table: str, name: str) -> float:
    row = database.execute(f"SELECT count({identifier(name)}) / greatest(count(*), 1) FROM {table}").fetchone()
    assert row is not None
    return float(row[0])


def _count(database: duckdb.DuckDBPyConnection, rows: str) -> int:
    row = database.execute(f"SELECT count(*) {rows}").fetchone()
    assert row is not None
    return int(row[0])


def _severity(part: int, whole: int, limit: float) -> Severity:
    return "blocks" if part > limit * whole else "notes"
