"""What a power cut or a disk does to the log of events: it is found, named, and costs no row but those it hits."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmse.core.errors import ArtifactError
from mmse.core.frames import encode_frame
from mmse.schema.http_events import Click, Exposure
from mmse.serving.events.erasure import erase_from_events
from mmse.serving.events.inspection import inspect_log
from mmse.serving.events.log import EventLog
from mmse.serving.events.retention import prune
from mmse.serving.events.rows import SCHEMA, build_batch
from mmse.serving.events.segments import OPEN_FOLDER, Segment, seal_orphans, sealed_files, torn_files
from mmse.serving.events.stream import StreamGap, decode, decode_arrow, encode_batch, encode_schema

BATCHES = [
    build_batch(
        [Exposure(f"r{n}", "kettle", ["a", "b"], user_id="ann", timestamp=50.0), Click(f"r{n}", "b", timestamp=50.0)]
    )
    for n in range(4)
]
STREAM = encode_schema(SCHEMA) + b"".join(map(encode_batch, BATCHES))
STARTS = [len(encode_schema(SCHEMA)) + sum(len(encode_batch(batch)) for batch in BATCHES[:n]) for n in range(5)]


def requests(batches: list[pa.RecordBatch]) -> list[str]:
    return [batch["request_id"][0].as_py() for batch in batches]


def write_segment(folder: Path, data: bytes) -> Path:
    segment = Segment(folder, SCHEMA)
    segment.close()
    segment.path.write_bytes(data)
    return segment.path


def test_a_whole_segment_and_one_of_an_earlier_mmse(tmp_path: Path) -> None:
    assert decode(STREAM, SCHEMA).batches == BATCHES
    assert decode(b"", SCHEMA).batches == []
    stream = SCHEMA.serialize().to_pybytes() + b"".join(batch.serialize().to_pybytes() for batch in BATCHES)
    (tmp_path / OPEN_FOLDER).mkdir()
    (tmp_path / OPEN_FOLDER / "20261201T092942-dfc46d040b668922.arrows").write_bytes(stream[:-9])
    assert seal_orphans(tmp_path, SCHEMA) == 1
    (file,) = sealed_files(tmp_path)
    assert pq.read_table(file)["request_id"].to_pylist() == ["r0"] * 3 + ["r1"] * 3 + ["r2"] * 3
    assert len(torn_files(tmp_path)) == 1


@given(st.integers(0, len(STREAM) * 8 - 1))
@settings(max_examples=100, deadline=None)
def test_a_flipped_bit_costs_the_rows_of_its_batch_alone(bit: int) -> None:
    data = bytearray(STREAM)
    data[bit // 8] ^= 1 << bit % 8
    content = decode(bytes(data), SCHEMA)
    own = next((n for n in range(4) if STARTS[n] <= bit // 8 < STARTS[n + 1]), None)
    intact = [f"r{n}" for n in range(4) if n != own]
    assert [name for name in requests(content.batches) if name != f"r{own}"] == intact
    assert all(batch in BATCHES for batch in content.batches), "no row has other values"
    assert len(content.batches) == 4 - (own is not None)
    assert content.gaps


@given(st.integers(0, len(STREAM)), st.booleans())
@settings(max_examples=80, deadline=None)
def test_every_prefix_and_what_a_power_cut_leaves_of_the_last_write(end: int, has_zeros: bool) -> None:
    data = STREAM[:end] + bytes(STARTS[-1] - STARTS[-2]) * has_zeros
    content = decode(data, SCHEMA)
    n = sum(start <= end for start in STARTS[1:])
    assert content.batches in (BATCHES[:n], BATCHES[: n + has_zeros]), "what was cut may have been zeros"
    assert all(gap.is_torn for gap in content.gaps)


def test_rows_that_cannot_be_read_are_kept_until_a_person_is_forgotten_or_they_are_old(tmp_path: Path) -> None:
    for forgets in (True, False):
        data = bytearray(STREAM)
        data[(STARTS[1] + STARTS[2]) // 2] ^= 4
        write_segment(tmp_path, bytes(data))
        (damage,) = inspect_log(tmp_path)
        assert f"is damaged from byte {STARTS[1]} to {STARTS[2]}" in damage.cause
        assert seal_orphans(tmp_path, SCHEMA) == 1
        (torn_file,) = torn_files(tmp_path)
        assert b"r1" in torn_file.read_bytes()
        rows = pq.read_table(sealed_files(tmp_path)[-1])
        assert rows["request_id"].to_pylist() == ["r0"] * 3 + ["r2"] * 3 + ["r3"] * 3
        if forgets:
            erase_from_events(tmp_path, "bob")
        else:
            assert prune(tmp_path, 1.0, datetime.now(UTC)).n_files == 2
            assert torn_files(tmp_path), "they are young"
            os.utime(torn_file, (0, time.time() - 100_000))
            prune(tmp_path, 1.0, datetime.now(UTC))
        assert not torn_files(tmp_path)


def test_every_flipped_bit_and_cut_of_a_sealed_file_is_found_before_it_is_parsed(tmp_path: Path) -> None:
    write_segment(tmp_path, STREAM)
    seal_orphans(tmp_path, SCHEMA)
    (file,) = sealed_files(tmp_path)
    assert not list(inspect_log(tmp_path))
    whole, rows = file.read_bytes(), pq.read_table(file)
    assert duckdb.read_parquet(str(file)).fetchall() == [tuple(row.values()) for row in rows.to_pylist()]
    n_harmless = 0
    for byte in range(0, len(whole), 13):
        data = bytearray(whole)
        data[byte] ^= 1 << byte % 8
        file.write_bytes(data if byte % 2 else whole[:byte])
        damages = list(inspect_log(tmp_path))
        if not damages:
            assert byte % 2
            assert pq.read_table(file).equals(rows), f"byte {byte} of {len(whole)}"
            n_harmless += 1
            continue
        assert str(file) in damages[0].cause
        for read in (prune_all, partial(erase_from_events, user_id="ann", dry_run=True)):
            with contextlib.suppress(ArtifactError):
                read(tmp_path)
    assert n_harmless <= 1, "in the mark itself"


def prune_all(folder: Path) -> None:
    prune(folder, 1e5, datetime.now(UTC))


def test_a_file_of_an_earlier_mmse_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "2026-11-26").mkdir()
    pq.write_table(pa.Table.from_batches(BATCHES), tmp_path / "2026-11-26" / "former.parquet")
    assert not list(inspect_log(tmp_path))
    assert prune(tmp_path, 1.0, datetime.now(UTC)).n_rows == 12


def test_a_log_whose_folder_is_removed_loses_no_later_event(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = EventLog(tmp_path)
    log.append([Click("former", "a")])
    for path in (tmp_path / OPEN_FOLDER).iterdir():
        path.unlink()
    with caplog.at_level(logging.ERROR):
        log.append([Click("later", "a")])
    log.close()
    (file,) = sealed_files(tmp_path)
    assert pq.read_table(file)["request_id"].to_pylist() == ["later"]
    assert "is gone" in caplog.text


def test_a_torn_end_is_said_of_a_dead_process_and_not_of_a_living_one(tmp_path: Path) -> None:
    path = write_segment(tmp_path, STREAM[:-9])
    (damage,) = inspect_log(tmp_path)
    assert f"no whole rows from byte {STARTS[3]} on" in damage.cause
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not list(inspect_log(tmp_path)), "it is just being written"


def test_a_segment_of_an_earlier_mmse_is_read_up_to_where_it_is_torn() -> None:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        for batch in BATCHES:
            writer.write_batch(batch)
    data = sink.getvalue().to_pybytes()
    assert decode_arrow(data).batches == BATCHES
    content = decode_arrow(data[:-100])
    assert content.batches == BATCHES[:3]
    (gap,) = content.gaps
    assert (gap.end, gap.is_torn) == (len(data) - 100, True)
    assert 0 < gap.start < gap.end
    assert decode_arrow(b"").gaps == []
    assert decode_arrow(b"no stream").gaps == [StreamGap(0, 9, is_torn=True)]


@pytest.mark.parametrize("body", [b"", b"abc", b"\xff\xff\xff\xff\0\0\0\0", bytes(40)])
def test_a_whole_frame_of_something_else_costs_itself_alone(body: bytes) -> None:
    frame = encode_frame(body)
    data = STREAM[: STARTS[2]] + frame + STREAM[STARTS[2] :]
    content = decode(data, SCHEMA)
    assert content.batches == BATCHES
    assert content.gaps == [StreamGap(STARTS[2], STARTS[2] + len(frame), is_torn=False)]
