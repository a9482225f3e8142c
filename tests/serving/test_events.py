"""Events come in, are on the disk, and become the table that mining reads."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmse.core.errors import OutputError, TableError, UsageError
from mmse.mining.mine import MineConfig, mine_log
from mmse.schema.http_events import Cart, Click, Exposure, Order
from mmse.schema.stages import Stage
from mmse.serving.events.export import export_table
from mmse.serving.events.log import EventLog
from mmse.serving.events.retention import prune
from mmse.serving.events.rows import SCHEMA, ExposureRecord
from mmse.serving.events.segments import OPEN_FOLDER, Segment, seal_orphans, sealed_files
from mmse.sources.tables import EventsConfig, ItemsConfig

SPRING_2025 = 1_741_000_000.0


def shown(request: str, *items: str, at: float = 100.0, first: int = 1) -> Exposure:
    return Exposure(request_id=request, query="kettle", items=list(items), timestamp=at, first_position=first, arm="b")


def test_export_joins_what_was_shown_with_what_was_done(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events")
    log.append([shown("r1", "a", "b"), shown("r2", "c", at=50.0)])
    log.append([Click(request_id="r1", item_id="b"), Order(request_id="r2", item_id="c", price=9.5)])
    log.append([Click(request_id="r1", item_id="b"), Click(request_id="unknown", item_id="a")])
    log.close()
    assert export_table(tmp_path / "events", tmp_path / "out.parquet") == 3
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
    export_table(tmp_path / "events", tmp_path / "out.parquet")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["item_id"], row["position"]) for row in rows] == [("a", 1), ("b", 2), ("c", 3)]


def of(folder: Path) -> list[str]:
    """The requests in the sealed files."""
    return [row["request_id"] for file in sealed_files(folder) for row in pq.read_table(file).to_pylist()]


def test_what_the_server_shows_is_told_with_all_that_is_known_of_it(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.record(
        ExposureRecord(
            "r1",
            100.0,
            "kettle 🫖",
            ["a", "b"],
            user_id="u",
            assignments={"try": "x"},
            explored=[False, True],
            propensities=[0.9, 0.01],
            teams=["a", "b"],
            ranks_a=[1, None],
            ranks_b=[2, 1],
        )
    )
    log.append([Cart(request_id="r1", item_id="b")])
    log.close()
    export_table(tmp_path, tmp_path / "out.parquet")
    first, second = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert (first["query"], first["propensity"], first["team"], first["rank_b"]) == ("kettle 🫖", 0.9, "a", 2)
    assert (second["explored"], second["rank_a"], second["carted"], second["clicked"]) == (True, None, True, True)
    assert second["assignments"] == [("try", "x")]


def test_an_event_without_a_time_gets_one(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.append([Exposure(request_id="r", query="q", items=["a"])])
    log.close()
    (file,) = sealed_files(tmp_path)
    assert pq.read_table(file).to_pylist()[0]["timestamp"].year > 2020


def test_a_full_segment_is_sealed_and_followed_by_another(tmp_path: Path) -> None:
    log = EventLog(tmp_path, seal_rows=2)
    for number in range(6):
        log.append([shown(f"r{number}", "a")])
    log.close()
    assert len(sealed_files(tmp_path)) == 3
    assert not list((tmp_path / OPEN_FOLDER).iterdir())
    assert export_table(tmp_path, tmp_path / "out.parquet") == 6


def test_what_is_not_sealed_yet_is_exported(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.append([shown("r1", "a")])
    assert not sealed_files(tmp_path)
    assert export_table(tmp_path, tmp_path / "out.parquet") == 1
    log.close()


def test_a_dead_process_s_segment_is_sealed_once_and_without_its_torn_end(tmp_path: Path) -> None:
    left = Segment(tmp_path, SCHEMA)
    for request in ("r1", "r2"):
        left.append(pa.RecordBatch.from_pylist([{"request_id": request}], schema=SCHEMA))
    assert seal_orphans(tmp_path, SCHEMA) == 0  # it lives
    left.close()
    with left.path.open("r+b") as file:
        file.truncate(left.path.stat().st_size - 7)
    again = left.path.read_bytes()
    assert seal_orphans(tmp_path, SCHEMA) == 1
    left.path.write_bytes(again)  # as if it had been killed before the segment was removed
    assert seal_orphans(tmp_path, SCHEMA) == 1
    assert of(tmp_path) == ["r1"]


def fix_clock_and_pid(patch: pytest.MonkeyPatch) -> None:
    """As two servers in containers are: one moment, one process id."""
    patch.setattr(os, "getpid", lambda: 3)
    patch.setattr(time, "strftime", lambda *_: "20261126T101500")


def test_servers_with_one_pid_at_one_moment_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fix_clock_and_pid(monkeypatch)
    script = (
        "import os, sys, time; from pathlib import Path\n"
        "os.getpid = lambda: 3; time.strftime = lambda *_: '20261126T101500'\n"
        "from mmse.schema.http_events import Click; from mmse.serving.events.log import EventLog\n"
        "log = EventLog(Path(sys.argv[1])); log.append([Click(request_id=sys.argv[2], item_id='a')])\n"
        "print('acknowledged', flush=True); sys.stdin.read(); os._exit(0)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    servers = [subprocess.Popen([*command, f"r{n}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for n in range(2)]
    for server in servers:
        assert server.stdout is not None
        assert server.stdout.readline() == b"acknowledged\n"
    assert len(list((tmp_path / OPEN_FOLDER).iterdir())) == 2
    for server in servers:
        server.communicate()
    assert seal_orphans(tmp_path, SCHEMA) == 2
    assert sorted(of(tmp_path)) == ["r0", "r1"]


@pytest.mark.parametrize("content", [b"", b"no Parquet", None])
def test_a_segment_whose_name_is_taken_is_sealed_under_another(tmp_path: Path, content: bytes | None) -> None:
    segment = Segment(tmp_path, SCHEMA)
    segment.append(pa.RecordBatch.from_pylist([{"request_id": "r1"}], schema=SCHEMA))
    segment.close()
    day = segment.path.stem[:8]
    taken = tmp_path / f"{day[:4]}-{day[4:6]}-{day[6:]}" / f"{segment.path.stem}.parquet"
    taken.parent.mkdir()
    if content is None:
        pq.write_table(pa.Table.from_pylist([{"request_id": "r0"}], schema=SCHEMA), taken)
    else:
        taken.write_bytes(content)
    former = taken.read_bytes()
    assert seal_orphans(tmp_path, SCHEMA) == 1
    assert taken.read_bytes() == former
    (sealed,) = [file for file in sealed_files(tmp_path) if file != taken]
    assert pq.read_table(sealed)["request_id"].to_pylist() == ["r1"]


def test_a_segment_whose_process_was_killed_before_it_began_is_removed(tmp_path: Path) -> None:
    (tmp_path / OPEN_FOLDER).mkdir()
    (tmp_path / OPEN_FOLDER / "20261126T101500-0.arrows").touch()
    assert seal_orphans(tmp_path, SCHEMA) == 1
    assert not list((tmp_path / OPEN_FOLDER).iterdir())
    assert not sealed_files(tmp_path)


def test_what_the_disk_refuses_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = EventLog(tmp_path)
    log.append([shown("r1", "a")])

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        with pytest.raises(OutputError, match="No space left"):
            log.append([shown("r2", "a")])
        log.record(ExposureRecord("r3", 1.0, "q", ["a"]))
        with pytest.raises(OutputError, match="No space left"):
            log.append([shown("r4", "a")])
        assert "1 exposures or more could not be logged" in log.problem
    log.append([shown("r5", "a")])
    assert not log.problem
    log.close()
    assert of(tmp_path) == ["r1", "r5"]


def test_lists_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    for wrong, said in (
        ({"propensities": [0.5]}, "'propensities' has 1 entries"),
        ({"explored": [2]}, "names place 2"),
    ):
        with pytest.raises(UsageError, match=rf"events\[1\]: .*{said}"):
            log.append([shown("r", "a"), Exposure(request_id="r", query="q", items=["a", "b"], **wrong)])
    for never in ({"propensities": [0.5, 0.0]}, {"teams": ["a", "c"]}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"type": "exposure", "request_id": "r", "query": "q", "items": ["a"], **never}, Exposure)


def mined(folder: Path, **events: Any) -> tuple[dict[str, Any], list[tuple[Any, ...]]]:
    """What mining makes of the log in `folder / "events"`: its counts, and (request, query, position, stage)."""
    items = [{"item_id": item_id, "title": f"kettle {item_id}"} for item_id in "abc"]
    pq.write_table(pa.Table.from_pylist(items), folder / "items.parquet")
    table, config = ItemsConfig("items.parquet"), MineConfig(valid_share=0.0, test_share=0.0, periods=1)
    manifest = mine_log(table, EventsConfig("events", **events), config, folder / "dataset", base=folder)
    rows = pq.read_table(folder / "dataset" / "train" / "period=00").to_pylist()
    return dict(manifest.counts), [(r["request_id"], r["query"], r["position"], Stage(r["stage"]).name) for r in rows]


def test_mining_reads_the_log_as_it_is(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events", seal_rows=3)
    log.append([shown("r1", "a", "b", "c", at=SPRING_2025)])
    later = shown("r2", "a", at=SPRING_2025 + 60)
    log.append([Click(request_id="r1", item_id="b"), Cart(request_id="r1", item_id="c"), later])
    log.append([Order(request_id="r2", item_id="a", price=3.0)])
    log.close()
    counts, rows = mined(tmp_path)
    assert rows == [
        ("r1", "kettle", 1, "UNCLICKED"),
        ("r1", "kettle", 2, "CLICKED"),
        ("r1", "kettle", 3, "CARTED"),
        ("r2", "kettle", 1, "ORDERED"),
    ]
    assert (counts["taken_without_page"], counts["duplicates_merged"]) == (0, 3)


def test_what_was_taken_and_never_shown_is_left_out_and_counted(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events")
    log.append([shown("r1", "a", at=SPRING_2025)])
    log.append([Click(request_id="r1", item_id="b"), Order(request_id="unknown", item_id="c")])
    log.close()
    counts, rows = mined(tmp_path, max_rejected_share=0.9)
    assert rows == [("r1", "kettle", 1, "UNCLICKED")]
    assert counts["taken_without_page"] == 2
    with pytest.raises(TableError, match=r"2 of 3 rows of the events table .* that no row of their request shows"):
        mined(tmp_path)


def test_no_events_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no events"):
        export_table(tmp_path, tmp_path / "out.parquet")


def test_old_events_are_pruned_by_whole_files(tmp_path: Path) -> None:
    day = 86_400.0
    for name, times in (("old", (1 * day, 2 * day)), ("mixed", (2 * day, 9 * day)), ("new", (9 * day, 9 * day))):
        log = EventLog(tmp_path)
        log.append([shown(f"{name}-{n}", "a", at=at) for n, at in enumerate(times)])
        log.close()
    assert len(sealed_files(tmp_path)) == 3
    report = prune(tmp_path, keep_days=7.0, now=datetime.fromtimestamp(10 * day, UTC))
    assert (report.n_files, report.n_rows) == (1, 2)
    assert export_table(tmp_path, tmp_path / "out.parquet") == 4
    assert prune(tmp_path, keep_days=0.5, now=datetime.fromtimestamp(10 * day, UTC)).n_files == 2
    assert sealed_files(tmp_path) == []
    assert not [path for path in tmp_path.iterdir() if path.name[:2] == "20"]
