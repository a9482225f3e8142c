"""Whatever ends `mine` early leaves its target whole or absent, and the next run sweeps what was left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from mining.toy import log, mine_shop, write_shop
from mmse.core.artifact import verify
from mmse.core.errors import OutputError, TableError
from mmse.sources.duckdb_session import Session

CHILD = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from mining.toy import mine_log, MineConfig, ItemsConfig, EventsConfig

def progress(part, n_done, n_total):
    if part == {part!r}:
        os.kill(os.getpid(), signal.{signal})

shop = Path({shop!r})
config = MineConfig(shards=2)
mine_log(ItemsConfig(), EventsConfig("events.parquet"), config, shop / "dataset", base=shop, progress=progress)
"""


def run_child(shop: Path, part: str, name: str) -> int:
    code = CHILD.format(tests=str(Path(__file__).parents[1]), part=part, signal=name, shop=str(shop))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode


def list_others(shop: Path) -> list[str]:
    return sorted(path.name for path in shop.iterdir() if path.name not in ("events.parquet", "items.parquet"))


@pytest.mark.parametrize("part", ["events", "dataset"])
def test_killed(tmp_path: Path, part: str) -> None:
    write_shop(tmp_path, log())
    assert run_child(tmp_path, part, "SIGKILL") == -signal.SIGKILL
    assert not (tmp_path / "dataset").exists()
    mine_shop(tmp_path)
    verify(tmp_path / "dataset", "dataset")
    assert list_others(tmp_path) == ["dataset"]


def test_interrupted_with_a_former_result(tmp_path: Path) -> None:
    write_shop(tmp_path, log())
    former = mine_shop(tmp_path).fingerprint
    assert run_child(tmp_path, "requests", "SIGINT") != 0
    assert verify(tmp_path / "dataset", "dataset").fingerprint == former
    assert list_others(tmp_path) == ["dataset"]


def test_ctrl_c_stops_a_running_query(tmp_path: Path) -> None:
    """The query alone would run for minutes."""
    code = """
import os, signal, threading
from mmse.sources.duckdb_session import Session
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
Session(memory_limit="500MB", threads=1).run("SELECT sum(hash(range)) FROM range(1_000_000_000_000)")
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=60)
    assert b"KeyboardInterrupt" in process.stderr


def test_an_output_folder_that_cannot_be_made(tmp_path: Path) -> None:
    write_shop(tmp_path, log())
    with pytest.raises(OutputError, match="Cannot write"):
        mine_shop(tmp_path, target=tmp_path / "items.parquet" / "dataset")


def test_duckdb_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shop(tmp_path, log())
    run = Session._wait

    def full(self: Session, work: object, reading: object) -> object:
        def refuse() -> None:
            raise duckdb.IOException("IO Error: Could not write file: No space left on device")

        return run(self, refuse if reading is not None else work, reading)  # type: ignore[arg-type]

    monkeypatch.setattr(Session, "_wait", full)
    with pytest.raises(OutputError, match="No space left"):
        mine_shop(tmp_path)
    assert list_others(tmp_path) == []


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root and a kernel that allows it")
    try:
        write_shop(tmp_path, log(3000))
        with pytest.raises(OutputError, match="No space left"):
            mine_shop(tmp_path, target=small / "dataset")
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_parquet_damaged_in_the_middle(tmp_path: Path) -> None:
    write_shop(tmp_path, log(3000))
    file = tmp_path / "events.parquet"
    content = bytearray(file.read_bytes())
    content[4 : len(content) // 2] = b"\xff" * (len(content) // 2 - 4)
    file.write_bytes(content)
    with pytest.raises(TableError, match=r"cannot be read from .*events\.parquet"):
        mine_shop(tmp_path)
    assert list_others(tmp_path) == []
