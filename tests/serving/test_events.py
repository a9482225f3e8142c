"""Events come in, are on the disk, and become the table that mining reads."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mmse.api import Click, Exposure, Order
from mmse.errors import OutputError, UsageError
from mmse.serving import events
from mmse.serving.events import EventLog, export


def shown(request: str, *items: str, at: float = 100.0, first: int = 1) -> Exposure:
    return Exposure(request_id=request, query="kettle", items=list(items), timestamp=at, first_position=first, arm="b")


def test_export_joins_what_was_shown_with_what_was_done(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events")
    log.append([shown("r1", "a", "b"), shown("r2", "c", at=50.0)])
    log.append([Click(request_id="r1", item_id="b"), Order(request_id="r2", item_id="c", price=9.5)])
    log.append([Click(request_id="r1", item_id="b"), Click(request_id="unknown", item_id="a")])
    log.close()
    assert export(tmp_path / "events", tmp_path / "out.parquet") == 3
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    said = [(r["request_id"], r["item_id"], r["position"], r["clicked"], r["ordered"], r["price"]) for r in rows]
    assert said == [
        ("r2", "c", 1, True, True, 9.5),  # whatever is ordered counts as clicked
        ("r1", "a", 1, False, False, None),
        ("r1", "b", 2, True, False, None),
    ]
    assert {row["arm"] for row in rows} == {"b"}
    assert rows[0]["timestamp"] == datetime(1970, 1, 1, 0, 0, 50)  # UTC, as the table has times without a zone


def test_pages_of_one_request_follow_one_another(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events")
    log.append([shown("r1", "a", "b"), shown("r1", "c", "a", at=110.0, first=3)])
    log.close()
    export(tmp_path / "events", tmp_path / "out.parquet")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["item_id"], row["position"]) for row in rows] == [("a", 1), ("b", 2), ("c", 3)]


def test_a_torn_line_of_a_killed_process_is_left_out(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events")
    log.append([shown("r1", "a")])
    log.close()
    (file,) = (tmp_path / "events").glob("*.jsonl")
    with file.open("ab") as handle:
        handle.write(b'{"type":"exposure","request_id":"r2","que')
    assert export(tmp_path / "events", tmp_path / "out.parquet") == 1


def test_an_event_without_a_time_gets_one(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events")
    log.append([Exposure(request_id="r", query="q", items=["a"])])
    log.close()
    (file,) = (tmp_path / "events").glob("*.jsonl")
    assert b'"timestamp":null' not in file.read_bytes()


def test_a_full_file_is_followed_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "ROTATE_BYTES", 100)
    log = EventLog(tmp_path / "events")
    for number in range(3):
        log.append([shown(f"r{number}", "a")])
    log.close()
    assert len(list((tmp_path / "events").glob("*.jsonl"))) == 3
    assert export(tmp_path / "events", tmp_path / "out.parquet") == 3


def test_what_the_disk_refuses_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = EventLog(tmp_path / "events")
    log.append([shown("r1", "a")])

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        with pytest.raises(OutputError, match="No space left"):
            log.append([shown("r2", "a")])
    log.append([shown("r3", "a")])
    log.close()
    export(tmp_path / "events", tmp_path / "out.parquet")
    assert [row["request_id"] for row in pq.read_table(tmp_path / "out.parquet").to_pylist()] == ["r1", "r3"]


def test_no_events_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no events"):
        export(tmp_path, tmp_path / "out.parquet")
