"""Edits and searches mixed from many threads on a live catalogue, with kills in between; every answer is checked.

    python benchmarks/live.py [--operations 100000] [--items 20000] [--writers 6] [--searchers 2] [--kills 8] [--seed 0]

A simulated shop is mined, trained for one epoch and indexed. Processes then work on its catalogue, one after the other:
`writers` threads apply an edit at a time (upserts, changes, deletes; on items of their own and on some that all share),
`searchers` threads search by vector and by words, with and without filters, one search for an edit, while edits are
folded by themselves past `fold-rows`. All but the last process are killed after a share of the operations. After each,
the catalogue is opened again and held against what was acknowledged:

- `lost_writes`: acknowledged edits that are not there; `ghosts`: items that should not be there, or that a search found
  although they were deleted; `half_calls`: calls of which a part is there;
- `wrong_filters`: hits that a filter should have kept out, and searches with fewer hits than there are.

Latencies are of the callers, beside all other threads. Writes benchmarks/results/live.json.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import keep, where

from mmse.catalogue import Catalogue, Change, Delete, Edit, LiveConfig, Snapshot, Upsert
from mmse.catalogue.edits import id_of
from mmse.lab.simulator.simulate import MarketConfig, simulate
from mmse.pipeline import Listener, embed_stage, index_stage, mine_stage, read_shop, train_stage
from mmse.schema.filters import parse_filter

OWN, SHARED = 400, 50
"""Items that one writer edits alone, half of them new, and items that all edit."""
BRANDS = ("Zorbak", "Fimtul", "Quevo")
BOOSTS = {"title": 1.0}


@dataclass(frozen=True)
class Asked:
    """The options of the command."""

    operations: int
    items: int
    writers: int
    searchers: int
    kills: int
    fold_rows: int
    seed: int


@dataclass
class Tally:
    """What was measured and what went wrong, over all processes."""

    edit_ms: list[float] = field(default_factory=list)
    search_ms: list[float] = field(default_factory=list)
    busy_s: float = 0.0
    open_ms: list[float] = field(default_factory=list)
    wrong: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("lost_writes", "ghosts", "half_calls", "wrong_filters"), 0)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {
        "operations": 100_000,
        "items": 20_000,
        "writers": 6,
        "searchers": 2,
        "kills": 8,
        "fold-rows": 1_500,
        "seed": 0,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = Asked(**vars(parser.parse_args()))
    assert asked.items >= OWN * asked.writers, "every writer edits items of the shop that are its own"
    result = where() | vars(asked)
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder), asked)
        tally, truth = Tally(), Truth(asked)
        for part in range(asked.kills + 1):
            work_once(run, asked, truth, tally, last=part == asked.kills)
        result |= summary(tally) | folding(run)
    keep("live", result)


def make_run(folder: Path, asked: Asked) -> Path:
    """A run of a simulated shop, as far as the index."""
    simulate(MarketConfig(seed=asked.seed, n_items=asked.items, n_requests=10_000), folder / "shop")
    shop, run = read_shop(folder / "shop" / "shop.toml"), folder / "run"
    shop = replace(shop, train=replace(shop.train, epochs=1))
    for stage in (mine_stage, train_stage, embed_stage, index_stage):
        stage(shop, run, Listener())
    return run


def call_of(asked: Asked, writer: int, number: int) -> list[Edit]:
    """The `number`-th call of a writer: an edit, and a mark on an item that says how far the writer is."""
    rng = np.random.default_rng([asked.seed, writer, number])
    if rng.random() < 0.1:
        item_id = f"shared{rng.integers(SHARED)}"
    else:
        own = int(rng.integers(OWN))
        item_id = f"w{writer}-{own}" if own % 2 else f"i{OWN * writer + own:08d}"
    kind = rng.random()
    item = {
        "item_id": item_id,
        "title": f"mark{writer}x{number} {rng.choice(['kettle', 'lamp', 'shoe'])}",
        "brand": str(rng.choice(BRANDS)),
        "price": float(np.round(rng.gamma(2, 20), 2)),
        "available": bool(rng.random() < 0.8),
    }
    edit: Edit = Upsert(item) if kind < 0.75 else Delete(item_id, missing_ok=True)
    return [edit, Upsert({"item_id": f"mark{writer}", "title": "mark", "price": float(number)})]


class Truth:
    """What the catalogue should hold of the items that were edited, and how far each writer is."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.done = [0] * asked.writers
        self.searches = 0
        self.held: dict[str, dict[str, Any] | None] = {}
        self.acknowledged: list[tuple[int, int, int]] = []

    def hear(self, version: int, writer: int, number: int) -> None:
        """An acknowledgement."""
        self.acknowledged.append((version, writer, number))

    def settle(self, now: Snapshot, tally: Tally) -> None:
        """Takes in what was acknowledged, and what was not but is there all the same, and counts what is wrong."""
        for _, writer, number in sorted(self.acknowledged):
            self._take(self.held, writer, number)
            self.done[writer] = max(self.done[writer], number + 1)
        self.acknowledged.clear()
        either: dict[str, list[dict[str, Any] | None]] = {one: [item] for one, item in self.held.items()}
        for writer, reached in enumerate(self.done):
            row = now.rows([f"mark{writer}"])
            mark = now.values("price", row)[0] if row[0] >= 0 else -1.0
            if mark == reached:  # a call that was on the disk when its writer was killed
                self._take(self.held, writer, reached)
                for edit in call_of(self.asked, writer, reached):
                    may = [self.held[id_of(edit)]]
                    shared = id_of(edit).startswith("shared")
                    either[id_of(edit)] = may + (either.get(id_of(edit), [None]) if shared else [])
                self.done[writer] += 1
            elif mark != reached - 1:
                tally.wrong["half_calls"] += 1
        self._compare(now, either, tally)

    def _compare(self, now: Snapshot, either: dict[str, list[dict[str, Any] | None]], tally: Tally) -> None:
        ids = list(either)
        rows = now.rows(ids)
        there = dict(zip(np.array(ids, object)[rows >= 0], now.items(rows[rows >= 0]), strict=True))
        for item_id, may in either.items():
            found = there.get(item_id)
            if not any(same(found, item) for item in may):
                tally.wrong["ghosts" if found is not None and may == [None] else "lost_writes"] += 1
            self.held[item_id] = found and {key: found[key] for key in next((one for one in may if one), {})}
        expected = self.asked.items - sum(one.startswith("i") for one in self.held)
        expected += sum(item is not None for item in self.held.values())
        tally.wrong["ghosts"] += abs(len(now) - expected)

    def _take(self, held: dict[str, dict[str, Any] | None], writer: int, number: int) -> None:
        for edit in call_of(self.asked, writer, number):
            held[id_of(edit)] = edit.item if isinstance(edit, Upsert) else None


def same(found: dict[str, Any] | None, item: dict[str, Any] | None) -> bool:
    if found is None or item is None:
        return found is item
    return all(found[key] == value for key, value in item.items())


def work_once(run: Path, asked: Asked, truth: Truth, tally: Tally, *, last: bool) -> None:
    """One process's share of the operations, killed at the end unless it is the last; then everything is compared."""
    total = asked.operations - sum(truth.done) - truth.searches if last else asked.operations // (asked.kills + 1)
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(run, asked, list(truth.done), total if last else 2 * total, sender))
    process.start()
    sender.close()
    heard, started = 0, 0.0
    try:
        while True:
            kind, *told = receiver.recv()
            heard += 1
            if kind == "ready":
                started, heard = time.perf_counter(), 0
            elif kind == "edit":
                truth.hear(*told[:3])
                tally.edit_ms.append(told[3])
            else:
                truth.searches += 1
                tally.search_ms.append(told[0])
                for name, wrong in told[1].items():
                    tally.wrong[name] += wrong
            if heard == total:  # a process that is to be killed has more to do
                tally.busy_s += time.perf_counter() - started
                if not last:
                    assert process.pid is not None
                    os.kill(process.pid, signal.SIGKILL)
    except (EOFError, OSError):
        process.join()
    begun = time.perf_counter()
    with Catalogue.open(run) as catalogue:
        tally.open_ms.append(1e3 * (time.perf_counter() - begun))
        truth.settle(catalogue.snapshot(), tally)
        print(f"{sum(truth.done):,} edits, {truth.searches:,} searches: {tally.wrong}", flush=True)


def work(run: Path, asked: Asked, starts: list[int], total: int, sender: Connection) -> None:
    """Edits and searches from many threads until `total` operations are done."""
    torch.set_num_threads(1)
    config = LiveConfig(fold_rows=asked.fold_rows, fold_share=0.0)
    with Catalogue.open(run, writable=True, config=config) as catalogue:
        telling, left = threading.Lock(), {"edit": iter(range(total // 2)), "search": iter(range(total - total // 2))}
        edited = threading.Semaphore(asked.searchers)

        def tell(*said: object) -> None:
            with telling:
                sender.send(said)

        def repeat(what: str, operation: Callable[[int], None], start: int) -> None:
            for number, _ in enumerate(iter(lambda: next(left[what], None), None), start):
                operation(number)

        def edit(writer: int, number: int) -> None:
            begun = time.perf_counter()
            version = catalogue.apply(call_of(asked, writer, number))
            tell("edit", version, writer, number, 1e3 * (time.perf_counter() - begun))
            edited.release()

        def search(searcher: int, number: int) -> None:
            edited.acquire()  # a search for an edit: alone, searches would be done long before
            rng = np.random.default_rng([asked.seed, 99, searcher, starts[0], number])
            ms, wrong = timed_search(catalogue.snapshot(), rng)
            tell("search", ms, wrong)

        tell("ready")
        threads = [
            threading.Thread(target=repeat, args=("edit", lambda number, w=writer: edit(w, number), start))
            for writer, start in enumerate(starts)
        ]
        threads += [
            threading.Thread(target=repeat, args=("search", lambda number, s=searcher: search(s, number), 0))
            for searcher in range(asked.searchers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def timed_search(now: Snapshot, rng: np.random.Generator) -> tuple[float, dict[str, int]]:
    """The milliseconds of one search of either channel, filtered or not, and what is wrong with its answer."""
    low, brand = float(np.round(rng.gamma(2, 20), 2)), str(rng.choice(BRANDS))
    said = [None, {"price": {"from": low, "to": low + 20}}, {"brand": brand}, {"available": True}][rng.integers(4)]
    near = now.vectors(np.array([rng.integers(now.n_rows)]))
    begun = time.perf_counter()
    only = None if said is None else parse_filter(said, now.kinds)
    if rng.random() < 0.5:
        found = now.search_vectors(near, 50, only).ids[0]
        rows, vector = found[found >= 0], True
    else:
        asked = now.lexical.ask(str(rng.choice(["kettle", "lamp", "shoe", "red"])), BOOSTS)
        rows, vector = now.lexical.search(asked, 50, only).rows, False
    ms = 1e3 * (time.perf_counter() - begun)
    items = now.items(rows)
    wrong = sum(not meets(item, said) for item in items) if said else 0
    mask = now.mask(only)
    exist = now.n_rows if mask is None else int(mask.sum())
    short = vector and len(rows) < min(50, exist)
    return ms, {"ghosts": int((~now.alive(rows)).sum()), "wrong_filters": wrong + short}


def meets(item: dict[str, Any], said: dict[str, Any]) -> bool:
    if "price" in said:
        return item["price"] is not None and said["price"]["from"] <= item["price"] <= said["price"]["to"]
    return all(
        (str(item[key]).lower() if key == "brand" else item[key]) in (value, str(value).lower())
        for key, value in said.items()
    )


def summary(tally: Tally) -> dict[str, object]:
    def percentiles(ms: list[float]) -> dict[str, float]:
        return {f"p{q}": round(float(np.percentile(ms, q)), 2) for q in (50, 99)}

    return {
        "edits": len(tally.edit_ms),
        "searches": len(tally.search_ms),
        "operations_per_s": round((len(tally.edit_ms) + len(tally.search_ms)) / tally.busy_s),
        "edits_per_s": round(len(tally.edit_ms) / tally.busy_s),
        "edit_ms": percentiles(tally.edit_ms),
        "search_ms": percentiles(tally.search_ms),
        "open_ms": [round(ms) for ms in tally.open_ms],
        **tally.wrong,
    }


def folding(run: Path) -> dict[str, object]:
    """How long folding 1,000 changed items takes, with nothing else going on, and one call with all of them."""
    with Catalogue.open(run, writable=True, config=LiveConfig(automatic=False)) as catalogue:
        catalogue.compact()
        folds = catalogue._generation.number
        begun = time.perf_counter()
        now = catalogue.snapshot()
        rows = np.flatnonzero(now.alive(np.arange(now.n_rows)))[-1_000:]
        catalogue.apply([Change(item_id, {"price": 1.0}) for item_id in now.values("item_id", rows)])
        applied = time.perf_counter()
        catalogue.compact()
        folded = time.perf_counter() - applied
    return {"folds": folds, "apply_1000_s": round(applied - begun, 2), "fold_1000_s": round(folded, 2)}


if __name__ == "__main__":
    main()
