"""Processes that write one catalogue in turn: nothing acknowledged is lost or there twice, and all see the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from catalogue import several
from catalogue.live_shop import copy_run
from catalogue.plain_model import applied, check, read_items
from catalogue.test_killed import ENVIRONMENT
from mmse.catalogue import Catalogue, Change, Delete, LiveConfig, Upsert
from mmse.catalogue import layout as places
from mmse.core import locks
from mmse.core.errors import OutputError, UsageError
from mmse.model.encoder import Encoder

WORDS = ("zorbak", "fimtul", "quevo")
MANUAL = LiveConfig(automatic=False)


def test_processes_that_write_and_fold_at_once_with_one_killed(ivf_run: Path, tmp_path: Path, encoder: Encoder) -> None:
    run, n = copy_run(ivf_run, tmp_path / "run"), 14
    command = [sys.executable, several.__file__, str(run), str(n), "5"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    calls = {version: (worker, number) for version, worker, number in told["acknowledged"]}
    assert len(calls) == len(told["acknowledged"]) >= several.WORKERS * n - 1, "no two have the same version"
    for one in range(several.WORKERS):
        numbers = [number for _, (worker, number) in sorted(calls.items()) if worker == one]
        assert numbers == sorted(numbers), "the later call has the higher version"
    missing = set(range(1, max(calls) + 1)) - set(calls)
    assert len(missing) <= 1, "only the killed one's last call may be there without anybody having heard of it"
    calls |= {version: tuple(told["unheard"]) for version in missing}
    items = read_items(run)
    columns = list(items["i00000000"])
    for _, (worker, number) in sorted(calls.items()):
        items = applied(items, several.calls_of(worker, number, 1)[0], columns)
    with Catalogue.open(run, encoder=encoder) as catalogue:
        check(catalogue.snapshot(), items, WORDS)
        seen = [catalogue.snapshot().version, several.digest(catalogue)]
    assert told["ends"] == [seen] * several.WORKERS
    assert seen[0] == max(calls)
    assert (places.newest(run) or 0) >= 2, "edits were folded meanwhile"


def opened(run: Path, encoder: Encoder) -> Catalogue:
    return Catalogue.open(run, writable=True, encoder=encoder, config=MANUAL)


def test_two_write_in_turn_and_one_folds(run: Path, encoder: Encoder) -> None:
    with opened(run, encoder) as one, opened(run, encoder) as other:
        assert one.apply([Upsert({"item_id": "n1", "title": "zorbak", "price": 1.0})]) == 1
        assert other.apply([Change("n1", {"price": 2.0}), Upsert({"item_id": "n2", "title": "fimtul"})]) == 2
        with pytest.raises(UsageError, match="There is no item 'n3'"):
            one.apply([Change("n3", {"price": 2.0})])
        assert one.snapshot().version == 2, "what was refused was held against what the other wrote"
        assert one.compact() == "folded"
        assert other.compact() == "nothing", "it was folded by the other one already"
        assert other.apply([Delete("n2")]) == 3
        assert (one.refresh(), one.refresh()) == (3, 3)
        with places.folding(run) as mine:
            assert mine
            assert one.compact() == "busy"
        assert one.compact() == "folded"
        assert one.apply([Upsert({"item_id": "n3", "title": "quevo"})]) == 4
        assert other.refresh() == 4
        items = applied(
            read_items(run),
            [Upsert({"item_id": "n1", "title": "zorbak", "price": 2.0}), Upsert({"item_id": "n3", "title": "quevo"})],
            list(read_items(run)["i00000000"]),
        )
        for catalogue in (one, other):
            check(catalogue.snapshot(), items, WORDS, gone=["n2"])
        assert several.digest(one) == several.digest(other)


def test_edits_of_another_during_a_folding_are_on_top_of_it(
    run: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmse.catalogue import live_catalogue as module

    fold = vars(module)["fold"]
    with opened(run, encoder) as one, opened(run, encoder) as other:
        one.apply([Upsert({"item_id": "n1", "title": "zorbak"}), Upsert({"item_id": "n2", "title": "fimtul"})])

        def meanwhile(*given: object) -> None:
            fold(*given)
            assert other.apply([Change("n1", {"price": 3.0}), Delete("n2")]) == 2
            assert other.apply([Upsert({"item_id": "n4", "title": "quevo"})]) == 3

        monkeypatch.setattr(module, "fold", meanwhile)
        assert one.compact() == "folded"
        assert one.snapshot().changed == 3
        assert other.refresh() == one.snapshot().version == 3
        assert several.digest(one) == several.digest(other)
        assert one.snapshot().rows(["n1", "n2", "n4"]).tolist() == [400, -1, 402]


def test_who_waits_too_long_for_the_turn_is_told_so(
    run: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(run, encoder) as one:
        one.apply([Upsert({"item_id": "n1", "title": "zorbak"})])
        monkeypatch.setattr(locks, "LIMIT_S", 0.05)
        with places.turn(run), pytest.raises(OutputError, match=r"Another process has kept .*live/(queue|lock)"):
            one.apply([Delete("n1")])
        assert one.apply([Delete("n1")]) == 2


def test_a_fold_of_nobody_is_found_by_who_had_no_edits(run: Path, encoder: Encoder) -> None:
    """One that was opened before the first edit finds a generation whose first journal it never saw."""
    with Catalogue.open(run, encoder=encoder) as reader:
        with opened(run, encoder) as one:
            one.apply([Upsert({"item_id": "n1", "title": "zorbak"})])
            one.compact()
        assert reader.refresh() == 1
        assert len(reader.snapshot()) == 401
