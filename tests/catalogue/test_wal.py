"""The log of edits keeps what was acknowledged, drops what was not, and names the byte where it is damaged."""

import os
from pathlib import Path

import pytest

from mmse.catalogue import Delete, Edit, Upsert, wal
from mmse.catalogue.wal import WalHeader
from mmse.core import locks
from mmse.core.errors import ArtifactError, OutputError, UsageError
from mmse.core.frames import encode_frame

HEADER = WalHeader(wal.SCHEMA_VERSION, 3, "origin", None, 5)
CALLS: list[list[Edit]] = [
    [Upsert({"item_id": f"i{n}", "title": "x" * 700 * n, "price": 1.5}), *[Delete("gone")] * n] for n in range(4)
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal-3"


def write_log(path: Path) -> list[int]:
    """Writes a log with one commit for each of `CALLS`; returns the byte where each begins, and the end."""
    ends = [wal.create(path, HEADER)]
    for call in CALLS:
        ends.append(append(path, ends[-1], call))
    return ends


def append(path: Path, end: int, call: list[Edit]) -> int:
    with wal.append(path, end, [call]) as new_end:
        return new_end


def test_what_was_appended_is_read_back(path: Path) -> None:
    ends = write_log(path)
    header, start = wal.read_header(path)
    assert (header, start) == (HEADER, ends[0])
    log = wal.read(path, start)
    assert (log.calls, log.end) == (CALLS, ends[-1])
    assert wal.read(path, ends[1], ends[3]).calls == CALLS[1:3]
    assert [file.name for file in path.parent.iterdir()] == ["journal-3"]


def test_every_way_of_cutting_the_last_commit_short_drops_it_alone(path: Path) -> None:
    ends = write_log(path)
    whole = path.read_bytes()
    for size in [*range(ends[-2], ends[-2] + 40), *range(ends[-2] + 40, ends[-1], 101)]:
        path.write_bytes(whole[:size])
        assert wal.read(path, ends[0]).calls == CALLS[:-1]
        assert wal.read(path, ends[0]).end == ends[-2]
    path.write_bytes(whole[: ends[-2] + 1024] + bytes(512) + whole[ends[-2] + 1536 :])  # a sector the power cut took
    append(path, wal.read(path, ends[0]).end, CALLS[3])
    assert path.read_bytes()[: ends[-2]] == whole[: ends[-2]]
    assert wal.read(path, ends[0]).calls == CALLS


def test_a_flipped_byte_is_damage_and_its_commit_is_named(path: Path) -> None:
    ends = write_log(path)
    whole = bytearray(path.read_bytes())
    for offset, begin in (
        (ends[1] + 1, ends[1]),
        (ends[1] + 6, ends[1]),
        (ends[2] + 100, ends[2]),
        (ends[4] - 1, ends[3]),
    ):
        content = whole.copy()
        content[offset] ^= 4
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match=f"journal-3 is damaged at byte {begin}.*\n.*truncate -s {begin}"):
            wal.read(path, ends[0])


@pytest.mark.parametrize("content", [b"", b"abc", b"\xf5mj\n" + bytes(12), bytes(600)])
def test_a_damaged_header_is_named(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="journal-3 is damaged at byte 0"):
        wal.read_header(path)


def test_another_schema_is_refused(path: Path) -> None:
    wal.create(path, WalHeader(99, 0, "o", None, 0))
    with pytest.raises(ArtifactError, match="schema version 99"):
        wal.read_header(path)


def test_a_full_disk_leaves_the_log_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = write_log(path)
    real_fsync = os.fsync
    for name in ("fsync", "write"):

        def full(file: int, *_: object, name: str = name) -> int:
            if name == "write":
                real_fsync(file)
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(OutputError, match="No space left"):
                append(path, ends[-1], CALLS[0])
        assert wal.read(path, ends[0]).calls == CALLS
    append(path, ends[-1], CALLS[1])
    assert wal.read(path, ends[0]).calls == [*CALLS, CALLS[1]]


def test_what_is_being_appended_is_seen_by_nobody_until_it_is_certain(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = write_log(path)
    monkeypatch.setattr(locks, "LIMIT_S", 0.01)

    def read_and_fail_while_appending() -> None:
        with wal.append(path, ends[-1], [CALLS[1]]) as end:
            assert path.stat().st_size == end
            with pytest.raises(OutputError, match="Another process has kept"):
                wal.read(path, ends[0])
            raise KeyError

    with pytest.raises(KeyError):
        read_and_fail_while_appending()
    assert wal.read(path, ends[0]).calls == CALLS


def test_a_torn_end_is_cut_off_said_and_kept(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ends = write_log(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    end = append(path, ends[-2], CALLS[1])
    assert wal.read(path, ends[0]).calls == [*CALLS[:-1], CALLS[1]]
    assert path.stat().st_size == end
    kept_file = path.parent / f"torn-journal-3-{ends[-2]}"
    assert kept_file.read_bytes() == whole[ends[-2] : -9]
    assert caplog.messages == [
        f"{wal.torn_problem(path, ends[-2], len(whole) - 9 - ends[-2])} They are cut off, and kept in {kept_file}."
    ]
    append(path, end, CALLS[1])
    assert len(caplog.messages) == 1, "nothing was torn"


def test_edits_written_in_one_go_are_read_as_parts(path: Path) -> None:
    edits = [Delete(f"i{n}") for n in range(5)]
    start = wal.create(path, HEADER, wal.encode_frames(edits, per_frame=2))
    assert wal.read(path, len(path.read_bytes()) - len(wal.encode_frames(edits, 2))).calls == [
        edits[:2],
        edits[2:4],
        edits[4:],
    ]
    assert start == path.stat().st_size


def test_a_frame_of_something_else_is_damage_at_its_byte(path: Path) -> None:
    ends = write_log(path)
    with path.open("ab") as file:
        file.write(encode_frame(b"no commit"))
    with pytest.raises(ArtifactError, match=rf"damaged at byte {ends[-1]}: ") as error_info:
        wal.read(path, ends[0])
    assert f"truncate -s {ends[-1]} {path}" in error_info.value.cure


def test_edits_beyond_a_frame_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = write_log(path)
    monkeypatch.setattr(wal, "MAX_BYTES", 100)
    with pytest.raises(UsageError, match=r"These edits take .* bytes, at most 100\.") as error_info:
        append(path, ends[-1], CALLS[1])
    assert error_info.value.cure == "Apply them in parts."
