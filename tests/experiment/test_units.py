"""An exposure table into units, held against what was put in."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmse.core.errors import TableError, UsageError
from mmse.experiment.units import Window, read_units
from mmse.sources.tables import EventsConfig

START = datetime(2026, 3, 1)
Row = dict[str, Any]


def row(request: str, user: str | None, day: float, arm: str | None, item: str = "i", **changes: object) -> Row:
    values = {
        "request_id": request,
        "timestamp": START + timedelta(days=day),
        "query": "q",
        "item_id": item,
        "position": 1,
        "clicked": False,
        "ordered": False,
        "user_id": user,
        "arm": arm,
        "price": None,
        "device": "phone",
    }
    return values | changes


ROWS = [
    row("p1", "u1", -3, None, ordered=True, price=5.0),  # u1's past
    row("p0", "u1", -30, None, ordered=True, price=99.0),  # before that
    row("r1", "u1", 0, "a", clicked=True),
    row("r1", "u1", 0, "a", "j"),
    {**row("r1", None, 0.1, None, "j", ordered=True, price=7.5), "position": None, "query": None},  # a row of its own
    row("r2", "u1", 2.5, "a"),
    row("r3", "u2", 1, "b", ordered=True, price=2.0, device="desk"),
    row("r4", "u3", 1, "a"),
    row("r5", "u3", 2, "b"),  # in both arms
    row("r6", "u4", 1, None),  # in none
    row("r7", "u5", 9, "b"),
]


def table(folder: Path, rows: list[Row] = ROWS, **columns: object) -> EventsConfig:
    pq.write_table(pa.Table.from_pylist([values | columns for values in rows]), folder / "t.parquet")
    return EventsConfig(str(folder / "t.parquet"))


def test_units_are_what_was_put_in(tmp_path: Path) -> None:
    window = Window(past_start=START - timedelta(days=10), end=START + timedelta(days=5))
    units = read_units(table(tmp_path), tmp_path, "user", window, ["device"])
    assert (list(units.arms), units.n_leaks, units.leak_examples) == (["a", "b"], 1, ("u3",))
    columns = {name: values.tolist() for name, values in units.columns.items()}
    assert columns["requests"] == [2, 1]
    assert columns["buying_requests"] == [1, 1]
    assert columns["shown"] == [3, 1]
    assert columns["clicks"] == [2, 1]  # what is ordered was clicked
    assert columns["orders"] == [1, 1]
    assert columns["revenue"] == [7.5, 2.0]
    assert columns["converted"] == [1, 1]
    assert units.gaps.silent_days == 1.0
    assert columns["before_orders"] == [1, 0]
    assert columns["before_revenue"] == [5.0, 0]
    assert units.slices["device"].tolist() == ["phone", "desk"]
    daily = sorted(zip(*(units.daily[name].tolist() for name in ("unit_index", "day", "age", "orders")), strict=True))
    assert daily == [(0, 0, 0, 1), (0, 2, 2, 0), (1, 1, 0, 1)]


def test_a_unit_counts_from_its_first_assignment(tmp_path: Path) -> None:
    rows = [*ROWS, row("r8", "u4", 3, "b", clicked=True), row("r9", "u4", 4, None, ordered=True, price=3.0)]
    units = read_units(table(tmp_path, rows), tmp_path, "user", Window(past_start=START - timedelta(days=10)))
    assert units.arms.tolist() == ["a", "b", "b", "b"]
    unit_index = 2  # u1, u2, u4, u5
    columns = {name: float(values[unit_index]) for name, values in units.columns.items()}
    assert (columns["requests"], columns["clicks"], columns["orders"]) == (2, 2, 1)  # not r6, which came before
    assert sorted(units.daily["age"][units.daily["unit_index"] == unit_index].tolist()) == [0, 1]


def test_by_request_nobody_leaks_and_csv_reads_alike(tmp_path: Path) -> None:
    by_request = read_units(table(tmp_path), tmp_path, "request", Window())
    assert (len(by_request), by_request.n_leaks) == (6, 0)
    header = "request_id,timestamp,query,item_id,position,clicked,ordered,user_id,arm\n"
    (tmp_path / "t.csv").write_text(header + "r,2026-03-01T10:00:00,q,i,1,0,1,u,🅰\n", "utf-8")
    units = read_units(EventsConfig(str(tmp_path / "t.csv")), tmp_path, "user", Window())
    assert (units.arms.tolist(), units.columns["orders"].tolist()) == (["🅰"], [1])


def test_an_experiment_among_several(tmp_path: Path) -> None:
    rows = [values | {"assignments": [("x", values["arm"])] if values["arm"] else []} for values in ROWS]
    schema = pa.schema([*pa.Table.from_pylist(ROWS).schema, pa.field("assignments", pa.map_(pa.string(), pa.string()))])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "t.parquet")
    config = EventsConfig(str(tmp_path / "t.parquet"))
    assert len(read_units(config, tmp_path, "user", Window("x"))) == 3
    with pytest.raises(UsageError, match=r"No request of .* is in 'y'") as caught:
        read_units(config, tmp_path, "user", Window("y"))
    assert "Experiments in it: x" in caught.value.cure


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS).slice(0, 0), tmp_path / "e.parquet")
    with pytest.raises(TableError, match="has no rows"):
        read_units(EventsConfig(str(tmp_path / "e.parquet")), tmp_path, "user", Window())
    bare = [{k: v for k, v in values.items() if k not in ("user_id", "arm")} for values in ROWS]
    with pytest.raises(TableError, match="has no column 'user_id'"):
        read_units(table(tmp_path, bare), tmp_path, "user", Window("x"))
    bad = [values | {"position": 0} for values in ROWS]
    with pytest.raises(TableError, match=r"11 of 11 rows .* are bad: 10 × position is below 1"):
        read_units(table(tmp_path, bad), tmp_path, "user", Window())
    (tmp_path / "t.parquet").write_bytes((tmp_path / "t.parquet").read_bytes()[:-100])
    with pytest.raises(TableError, match="cannot be read"):
        read_units(EventsConfig(str(tmp_path / "t.parquet")), tmp_path, "user", Window())


def test_a_nan_price_is_a_bad_row(tmp_path: Path) -> None:
    rows = [*ROWS * 10, row("n", "u9", 1, "a", ordered=True, price=np.nan)]
    assert read_units(table(tmp_path, rows), tmp_path, "user", Window()).rejections == {"price is not a number": 1}
