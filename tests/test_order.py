"""The order of the test files names files that there are."""

from __future__ import annotations

from pathlib import Path

from order import LONGEST, rank


def test_every_long_file_is_there_once() -> None:
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert [names.count(name) for name in LONGEST] == [1] * len(LONGEST)


def test_long_files_come_first_in_their_order() -> None:
    assert sorted(["test_order.py", *reversed(LONGEST)], key=rank) == [*LONGEST, "test_order.py"]
