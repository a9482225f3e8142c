"""Processes that write one catalogue in turn: nothing acknowledged is lost or there twice, all see the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from catalogue import worker_script
from catalogue.live_runs import copy_run
from catalogue.reference_model import apply_edits, check_snapshot, read_items
from catalogue.test_kills import ENVIRONMENT
from mmse.catalogue import Change, Delete, LiveCatalogue, LiveConfig, Upsert, layout, live_catalogue
from mmse.core import locks
from mmse.core.errors import OutputError, UsageError
from mmse.model.encoder import Encoder

WORDS = ("zorbak", "fimtul", "quevo")
MANUAL = LiveConfig(automatic=False)


def test_processes_that_write_and_fold_at_once_with_one_killed(ivf_run: Path, tmp_path: Path, encoder: Encoder) -> None:
    run, n = copy_run(ivf_run, tmp_path / "run"), 14
    command = [sys.executable, worker_script.__file__, str(run), str(n), "5"]
    process = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    outcome = json.loads(process.stdout)
    calls = {version: (worker, number) for version, worker, number in outcome["acknowledged"]}
    assert len(calls) == len(outcome["acknowledged"]) >= worker_script.WORKERS * n - 1, "no two have the same version"
    for index in range(worker_script.WORKERS):
        numbers = [number for _, (worker, number) in sorted(calls.items()) if worker == index]
        assert numbers == sorted(numbers), "the later call has the higher version"
    missing_versions = set(range(1, max(calls) + 1)) - set(calls)
    assert len(missing_versions) <= 1, "only the killed worker's last call may be there unacknowledged"
    calls |= {version: tuple(outcome["interrupted"]) for version in missing_versions}
    items = read_items(run)
    columns = list(items["i00000000"])
    for _, (worker, number) in sorted(calls.items()):
        items = apply_edits(items, worker_script.shared_calls(worker, number, 1)[0], columns)
    with LiveCatalogue.open(run, encoder=encoder) as catalogue:
        check_snapshot(catalogue.snapshot(), items, WORDS)
        view = [catalogue.snapshot().version, worker_script.content_digest(catalogue)]
    assert outcome["views"] == [view] * worker_script.WORKERS
    assert view[0] == max(calls)
    assert (layout.newest_generation(run) or 0) >= 2, "edits were folded meanwhile"


def open_writable(run: Path, encoder: Encoder) -> LiveCatalogue:
    return LiveCatalogue.open(run, writable=True, encoder=encoder, config=MANUAL)


def test_two_catalogues_write_in_turn_and_one_folds(run: Path, encoder: Encoder) -> None:
    with open_writable(run, encoder) as a, open_writable(run, encoder) as b:
        assert a.apply([Upsert({"item_id": "n1", "title": "zorbak", "price": 1.0})]) == 1
        assert b.apply([Change("n1", {"price": 2.0}), Upsert({"item_id": "n2", "title": "fimtul"})]) == 2
        with pytest.raises(UsageError, match="There is no item 'n3'"):
            a.apply([Change("n3", {"price": 2.0})])
        assert a.snapshot().version == 2, "the refused call was checked against what the other wrote"
        assert a.compact() == "folded"
        assert b.compact() == "nothing", "the other had folded already"
        assert b.apply([Delete("n2")]) == 3
        assert (a.refresh(), a.refresh()) == (3, 3)
        with layout.try_fold_lock(run) as has_lock:
            assert has_lock
            assert a.compact() == "busy"
        assert a.compact() == "folded"
        assert a.apply([Upsert({"item_id": "n3", "title": "quevo"})]) == 4
        assert b.refresh() == 4
        items = apply_edits(
            read_items(run),
            [Upsert({"item_id": "n1", "title": "zorbak", "price": 2.0}), Upsert({"item_id": "n3", "title": "quevo"})],
            list(read_items(run)["i00000000"]),
        )
        for catalogue in (a, b):
            check_snapshot(catalogue.snapshot(), items, WORDS, deleted_ids=["n2"])
        assert worker_script.content_digest(a) == worker_script.content_digest(b)


def test_edits_of_another_during_a_folding_are_on_top_of_it(
    run: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_base = vars(live_catalogue)["write_base"]
    with open_writable(run, encoder) as a, open_writable(run, encoder) as b:
        a.apply([Upsert({"item_id": "n1", "title": "zorbak"}), Upsert({"item_id": "n2", "title": "fimtul"})])

        def write_base_and_apply(*args: Any) -> None:
            write_base(*args)
            assert b.apply([Change("n1", {"price": 3.0}), Delete("n2")]) == 2
            assert b.apply([Upsert({"item_id": "n4", "title": "quevo"})]) == 3

        monkeypatch.setattr(live_catalogue, "write_base", write_base_and_apply)
        assert a.compact() == "folded"
        assert a.snapshot().n_changed == 3
        assert b.refresh() == a.snapshot().version == 3
        assert worker_script.content_digest(a) == worker_script.content_digest(b)
        assert a.snapshot().rows(["n1", "n2", "n4"]).tolist() == [400, -1, 402]


def test_waiting_too_long_for_the_turn_is_an_error(
    run: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_writable(run, encoder) as a:
        a.apply([Upsert({"item_id": "n1", "title": "zorbak"})])
        monkeypatch.setattr(locks, "LIMIT_S", 0.05)
        with layout.take_turn(run), pytest.raises(OutputError, match=r"Another process has kept .*live/(queue|lock)"):
            a.apply([Delete("n1")])
        assert a.apply([Delete("n1")]) == 2


def test_a_reader_from_before_the_first_edit_finds_the_folded_generation(run: Path, encoder: Encoder) -> None:
    """A catalogue that was opened before the first edit finds a generation whose first log it never saw."""
    with LiveCatalogue.open(run, encoder=encoder) as reader:
        with open_writable(run, encoder) as a:
            a.apply([Upsert({"item_id": "n1", "title": "zorbak"})])
            a.compact()
        assert reader.refresh() == 1
        assert len(reader.snapshot()) == 401
