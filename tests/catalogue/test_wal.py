"""The journal keeps what it acknowledged, drops what it did not, and says where it is damaged."""

import os
from pathlib import Path

import pytest

from mmse.catalogue import Delete, Edit, Upsert
from mmse.catalogue import wal as journal
from mmse.catalogue.wal import Header
from mmse.core import locks
from mmse.core.errors import ArtifactError, OutputError

HEADER = Header(journal.SCHEMA_VERSION, 3, "origin", None, 5)
CALLS: list[list[Edit]] = [
    [Upsert({"item_id": f"i{n}", "title": "x" * 700 * n, "price": 1.5}), *[Delete("gone")] * n] for n in range(4)
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal-3"


def written(path: Path) -> list[int]:
    """A journal with one commit for each of `CALLS`; where each begins, and the end."""
    ends = [journal.create(path, HEADER)]
    for call in CALLS:
        ends.append(append(path, ends[-1], call))
    return ends


def append(path: Path, end: int, call: list[Edit]) -> int:
    with journal.appended(path, end, [call]) as after:
        return after


def test_what_was_appended_is_read_back(path: Path) -> None:
    ends = written(path)
    header, start = journal.read_header(path)
    assert (header, start) == (HEADER, ends[0])
    read = journal.read(path, start)
    assert (read.calls, read.end) == (CALLS, ends[-1])
    assert journal.read(path, ends[1], ends[3]).calls == CALLS[1:3]
    assert [file.name for file in path.parent.iterdir()] == ["journal-3"]


def test_every_way_of_cutting_the_last_commit_short_drops_it_alone(path: Path) -> None:
    ends = written(path)
    whole = path.read_bytes()
    for size in [*range(ends[-2], ends[-2] + 40), *range(ends[-2] + 40, ends[-1], 101)]:
        path.write_bytes(whole[:size])
        assert journal.read(path, ends[0]).calls == CALLS[:-1]
        assert journal.read(path, ends[0]).end == ends[-2]
    path.write_bytes(whole[: ends[-2] + 1024] + bytes(512) + whole[ends[-2] + 1536 :])  # a sector the power cut took
    append(path, journal.read(path, ends[0]).end, CALLS[3])
    assert path.read_bytes()[: ends[-2]] == whole[: ends[-2]]
    assert journal.read(path, ends[0]).calls == CALLS


def test_a_flipped_byte_is_damage_and_is_named_with_its_place(path: Path) -> None:
    ends = written(path)
    whole = bytearray(path.read_bytes())
    for place, begin in (
        (ends[1] + 1, ends[1]),
        (ends[1] + 6, ends[1]),
        (ends[2] + 100, ends[2]),
        (ends[4] - 1, ends[3]),
    ):
        damaged = whole.copy()
        damaged[place] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError, match=f"journal-3 is damaged at byte {begin}.*\n.*truncate -s {begin}"):
            journal.read(path, ends[0])


@pytest.mark.parametrize("content", [b"", b"abc", b"\xf5mj\n" + bytes(12), bytes(600)])
def test_a_damaged_header_is_named(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="journal-3 is damaged at byte 0"):
        journal.read_header(path)


def test_another_schema_is_refused(path: Path) -> None:
    journal.create(path, Header(99, 0, "o", None, 0))
    with pytest.raises(ArtifactError, match="schema version 99"):
        journal.read_header(path)


def test_a_full_disk_leaves_the_journal_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = written(path)
    real = os.fsync
    for name in ("fsync", "write"):

        def full(file: int, *_: object, name: str = name) -> int:
            if name == "write":
                real(file)
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, name, full)
            with pytest.raises(OutputError, match="No space left"):
                append(path, ends[-1], CALLS[0])
        assert journal.read(path, ends[0]).calls == CALLS
    append(path, ends[-1], CALLS[1])
    assert journal.read(path, ends[0]).calls == [*CALLS, CALLS[1]]


def test_what_is_being_appended_is_seen_by_nobody_until_it_is_certain(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = written(path)
    monkeypatch.setattr(locks, "LIMIT_S", 0.01)

    def interrupted() -> None:
        with journal.appended(path, ends[-1], [CALLS[1]]) as end:
            assert path.stat().st_size == end
            with pytest.raises(OutputError, match="Another process has kept"):
                journal.read(path, ends[0])
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert journal.read(path, ends[0]).calls == CALLS
