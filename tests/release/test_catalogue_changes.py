"""The new catalogue against the one that is served: what shops change passes, what breaks a shop does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmse.catalogue.edits import Change, Delete, Edit, Upsert
from mmse.core.findings import Finding
from mmse.release.catalogue_changes import compare_catalogues
from mmse.release.config import ReleaseConfig

N = 100
SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("brand", pa.string()),
        ("price", pa.float64()),
        ("available", pa.bool_()),
    ]
)
Row = dict[str, Any]


def catalogue() -> list[Row]:
    return [
        {"item_id": f"i{n}", "title": f"Thing {n}", "brand": "Acme", "price": 10.0 + n, "available": True}
        for n in range(N)
    ]


def compare(folder: Path, rows: list[Row], edits: dict[str, Edit] | None = None) -> dict[str, Finding]:
    """What is found where `rows` are to follow the catalogue."""
    for path, items in ((folder / "served" / "serving", catalogue()), (folder / "dataset", rows)):
        path.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(items, SCHEMA), path / "items.parquet")
    findings = compare_catalogues(folder / "served", folder / "dataset", edits or {}, ReleaseConfig())
    return {finding.name: finding for finding in findings}


FAULTS: dict[str, tuple[Callable[[list[Row]], list[Row]], str]] = {
    "items_gone": (lambda rows: rows[:50], "50 of 100 served items (50%) are gone from the catalogue."),
    "items_new": (
        lambda rows: rows + [row | {"item_id": f"{row['item_id']}-{n}"} for row in rows for n in range(3)],
        "300 items are new, beside 100 served ones.",
    ),
    "items_unavailable": (
        lambda rows: [row | {"available": False} for row in rows],
        "100 of 100 available items (100%) have become unavailable.",
    ),
    "prices": (
        lambda rows: [row | {"price": 100 * row["price"]} for row in rows],
        "100 of 100 items (100%) cost more than 3 times or less than a third of what they cost; the median price is "
        "100 times the former.",
    ),
    "titles": (
        lambda rows: [row | {"title": row["title"].replace("T", "\ufffd")} for row in rows],
        "100 of 100 items (100%) have another title.",
    ),
    "column_brand": (
        lambda rows: [row | {"brand": None} for row in rows],
        "0% of the items have a value of brand, 100% had one.",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_breaks_a_shop_is_named(tmp_path: Path, name: str) -> None:
    change, cause = FAULTS[name]
    findings = compare(tmp_path, change(catalogue()))
    assert {name for name, finding in findings.items() if finding.severity == "blocks"} == {name}
    assert findings[name].cause == cause


def test_a_price_of_nothing_is_another_price(tmp_path: Path) -> None:
    findings = compare(tmp_path, [row | {"price": 0.0} for row in catalogue()])
    assert findings["prices"].severity == "blocks"


def test_a_day_of_a_shop_passes(tmp_path: Path) -> None:
    rows = [row | {"price": 0.8 * row["price"]} for row in catalogue()[5:]]
    rows += [{"item_id": "new", "title": "New", "brand": None, "price": None, "available": True}]
    findings = compare(tmp_path, rows)
    assert all(finding.severity == "notes" for finding in findings.values())
    assert findings["items_gone"].cause == "5 of 100 served items (5%) are gone from the catalogue."
    assert findings["items_new"].cause == "1 items are new, beside 100 served ones."


def test_what_was_deleted_or_repriced_by_edits_is_no_loss(tmp_path: Path) -> None:
    edits: dict[str, Edit] = {f"i{n}": Delete(f"i{n}") for n in range(50)}
    edits |= {f"i{n}": Change(f"i{n}", {"price": 1000.0}) for n in range(50, 80)}
    edits |= {f"i{n}": Upsert({"item_id": f"i{n}", "title": f"Thing {n}", "price": 1000.0}) for n in range(80, N)}
    rows = [row | {"price": 1000.0} for row in catalogue()[50:]]
    findings = compare(tmp_path, rows, edits)
    assert findings["items_gone"].cause == "0 of 50 served items (0%) are gone from the catalogue."
    assert findings["prices"].numbers == {"items": 0, "of_items": 50, "limit": 0.1}


def test_of_a_handful_of_items_nothing_is_judged(tmp_path: Path) -> None:
    edits: dict[str, Edit] = {f"i{n}": Delete(f"i{n}") for n in range(90)}
    assert compare(tmp_path, catalogue()[95:], edits) == {}
