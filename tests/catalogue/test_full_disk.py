"""A disk that is full, or may not be written: searches go on, edits are refused and none is lost."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalogue.live_runs import BOOSTS
from mmse.catalogue import Change, LiveCatalogue, LiveConfig, Upsert
from mmse.core import scratch
from mmse.core.errors import OutputError
from mmse.core.scratch import ScratchFolder, scratch_parents
from mmse.index import lexical
from mmse.index.lexical import LexicalIndex
from mmse.model.encoder import Encoder

MANUAL = LiveConfig(automatic=False)
WORD = "zorbak"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a few megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root and a kernel that allows it")
    try:
        yield folder
    finally:
        gc.collect()
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path, spare_bytes: int = 0) -> None:
    stat = os.statvfs(disk)
    with (disk / "filler").open("ab") as file:
        file.write(bytes(max(stat.f_bavail * stat.f_frsize - spare_bytes, 0)))


def n_found(catalogue: LiveCatalogue) -> int:
    index = catalogue.snapshot().lexical
    return len(index.search(index.parse(WORD, BOOSTS), 10).rows)


def test_a_full_disk_stops_folding_and_no_search(small_disk: Path, exact_run: Path, encoder: Encoder) -> None:
    run = shutil.copytree(exact_run, small_disk / "run", ignore=shutil.ignore_patterns("train", "valid", "test"))
    with LiveCatalogue.open(run, writable=True, encoder=encoder, config=MANUAL) as catalogue:
        catalogue.apply([Upsert({"item_id": f"n{n}", "title": f"{WORD} {n}", "price": 1.0}) for n in range(5)])
        for spare_bytes in (0, 20_000, 100_000):
            (small_disk / "filler").unlink(missing_ok=True)
            fill(small_disk, spare_bytes)
            with pytest.raises(OutputError, match="No space left"):
                catalogue.compact()
            assert n_found(catalogue) == 5
            with LiveCatalogue.open(run, writable=True, encoder=encoder, config=MANUAL) as newcomer:
                assert n_found(newcomer) == 5, "a start needs no room"
        fill(small_disk)
        with pytest.raises(OutputError, match="space"):
            catalogue.apply([Upsert({"item_id": f"m{n}", "title": WORD * 300, "price": 1.0}) for n in range(20)])
        assert n_found(catalogue) == 5
        (small_disk / "filler").unlink()
        assert catalogue.compact() == "folded"
        assert catalogue.apply([Change("n1", {"price": 2.0})]) == 2
        assert n_found(catalogue) == 5


def test_an_unedited_run_on_a_full_disk_is_opened_and_edited_later(
    small_disk: Path, exact_run: Path, encoder: Encoder
) -> None:
    run = shutil.copytree(exact_run, small_disk / "run", ignore=shutil.ignore_patterns("train", "valid", "test"))
    fill(small_disk)
    with LiveCatalogue.open(run, writable=True, encoder=encoder, config=MANUAL) as catalogue:
        assert n_found(catalogue) == 0
        (small_disk / "filler").unlink()
        catalogue.apply([Upsert({"item_id": "n1", "title": WORD, "price": 1.0})])
        assert n_found(catalogue) == 1


def test_an_index_that_may_not_be_written_is_searched(
    exact_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = exact_run / "index" / "lexical"
    index = LexicalIndex.open(folder)
    expected = index.search(index.parse("red", BOOSTS), 10)
    monkeypatch.setattr(lexical, "_takes_locks", lambda _: False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    read_only = LexicalIndex.open(folder)
    (links,) = tmp_path.glob("mmse-links-*/files")
    assert all(path.is_symlink() for path in links.iterdir() if not path.name.endswith(".lock"))
    matches = read_only.refresh().search(read_only.parse("red", BOOSTS), 10)
    assert (matches.rows.tolist(), matches.scores.tolist()) == (expected.rows.tolist(), expected.scores.tolist())
    del read_only
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_files_for_own_use_are_made_in_memory_where_no_disk_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(scratch, "MEMORY", tmp_path)
    monkeypatch.setattr("tempfile.gettempdir", refuse)
    assert scratch_parents() == [tmp_path]
    assert ScratchFolder("test", [tmp_path / "nowhere", tmp_path]).path.parent == tmp_path
    with pytest.raises(FileNotFoundError):
        ScratchFolder("test", [tmp_path / "nowhere"])
