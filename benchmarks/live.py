"""Edits and searches from many threads on a live catalogue, with kills; every answer is checked.

    python benchmarks/live.py [--operations 100000] [--items 20000] [--writers 6] [--searchers 2] [--kills 8] [--seed 0]

A simulated shop is mined, trained for one epoch and indexed. Processes then work on its catalogue, one after the other:
`writers` threads apply one edit at a time (upserts, changes, deletes; on items of their own and on shared items),
`searchers` threads search by vector and by words, with and without filters, one search per edit. Edits are folded
automatically past `fold-rows`. All but the last process are killed after a share of the operations. After each, the
catalogue is opened again and compared with the acknowledged edits:

- `lost_writes`: acknowledged edits that are missing; `ghosts`: items that should not exist, or hits that were deleted;
  `half_calls`: calls that were stored in part;
- `wrong_filters`: hits that do not match the filter, and searches with fewer hits than there are.

Latencies are measured by the callers, while all other threads run. Writes benchmarks/results/live.json.
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
from machine import environment, write_result

from mmse.catalogue import Change, Delete, Edit, LiveCatalogue, LiveConfig, Snapshot, Upsert
from mmse.catalogue.edits import id_of
from mmse.core.run_folder import DATASET, INDEX, MODEL, SERVING, VECTORS
from mmse.lab.simulator.simulate import SimulatorConfig, simulate
from mmse.pipeline import Listener, make
from mmse.schema.filters import parse_filter
from mmse.shop import read_shop

OWN_ITEMS, SHARED_ITEMS = 400, 50
"""The items of each writer, half of them new, and the items that all writers edit."""
BRANDS = ("Zorbak", "Fimtul", "Quevo")
BOOSTS = {"title": 1.0}


@dataclass(frozen=True)
class Options:
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
    """The measurements and the errors of all processes."""

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
    options = Options(**vars(parser.parse_args()))
    assert options.items >= OWN_ITEMS * options.writers, "every writer edits items of the shop that are its own"
    result = environment() | vars(options)
    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder), options)
        tally, expected_catalogue = Tally(), ExpectedCatalogue(options)
        for part in range(options.kills + 1):
            run_process(run, options, expected_catalogue, tally, is_last=part == options.kills)
        result |= summary(tally) | time_folding(run)
    write_result("live", result)


def make_run(folder: Path, options: Options) -> Path:
    """A run of a simulated shop up to the index."""
    simulate(SimulatorConfig(seed=options.seed, n_items=options.items, n_requests=10_000), folder / "shop")
    shop, run = read_shop(folder / "shop" / "shop.toml"), folder / "run"
    shop = replace(shop, train=replace(shop.train, epochs=1))
    for kind in (DATASET, SERVING, MODEL, VECTORS, INDEX):
        make(kind, shop, run, Listener())
    return run


def build_call(options: Options, writer: int, number: int) -> list[Edit]:
    """Call `number` of a writer: an edit, and an item with the call's number as its price."""
    rng = np.random.default_rng([options.seed, writer, number])
    if rng.random() < 0.1:
        item_id = f"shared{rng.integers(SHARED_ITEMS)}"
    else:
        index = int(rng.integers(OWN_ITEMS))
        item_id = f"w{writer}-{index}" if index % 2 else f"i{OWN_ITEMS * writer + index:08d}"
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


class ExpectedCatalogue:
    """The expected state of the edited items, and the number of calls of each writer."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.n_calls = [0] * options.writers
        self.searches = 0
        self.items: dict[str, dict[str, Any] | None] = {}
        self.calls: list[tuple[int, int, int]] = []

    def add_acknowledgement(self, version: int, writer: int, number: int) -> None:
        """Records the acknowledgement of a call."""
        self.calls.append((version, writer, number))

    def compare(self, snapshot: Snapshot, tally: Tally) -> None:
        """Applies the acknowledged calls, and those stored without acknowledgement; counts the differences."""
        for _, writer, number in sorted(self.calls):
            self._apply(self.items, writer, number)
            self.n_calls[writer] = max(self.n_calls[writer], number + 1)
        self.calls.clear()
        choices: dict[str, list[dict[str, Any] | None]] = {item_id: [item] for item_id, item in self.items.items()}
        for writer, n_calls in enumerate(self.n_calls):
            row = snapshot.rows([f"mark{writer}"])
            mark = snapshot.values("price", row)[0] if row[0] >= 0 else -1.0
            if mark == n_calls:  # a call that was stored before its writer was killed
                self._apply(self.items, writer, n_calls)
                for edit in build_call(self.options, writer, n_calls):
                    item_id = id_of(edit)
                    earlier_items = choices.get(item_id, [None]) if item_id.startswith("shared") else []
                    choices[item_id] = [self.items[item_id], *earlier_items]
                self.n_calls[writer] += 1
            elif mark != n_calls - 1:
                tally.wrong["half_calls"] += 1
        self._compare(snapshot, choices, tally)

    def _compare(self, snapshot: Snapshot, choices: dict[str, list[dict[str, Any] | None]], tally: Tally) -> None:
        ids = list(choices)
        rows = snapshot.rows(ids)
        catalogue_items = dict(zip(np.array(ids, object)[rows >= 0], snapshot.items(rows[rows >= 0]), strict=True))
        for item_id, expected_items in choices.items():
            actual = catalogue_items.get(item_id)
            if not any(same_item(actual, expected) for expected in expected_items):
                tally.wrong["ghosts" if actual is not None and expected_items == [None] else "lost_writes"] += 1
            keys = next((expected for expected in expected_items if expected), {})
            self.items[item_id] = actual and {key: actual[key] for key in keys}
        n_expected = self.options.items - sum(item_id.startswith("i") for item_id in self.items)
        n_expected += sum(item is not None for item in self.items.values())
        tally.wrong["ghosts"] += abs(len(snapshot) - n_expected)

    def _apply(self, items: dict[str, dict[str, Any] | None], writer: int, number: int) -> None:
        for edit in build_call(self.options, writer, number):
            items[id_of(edit)] = edit.item if isinstance(edit, Upsert) else None


def same_item(actual: dict[str, Any] | None, expected: dict[str, Any] | None) -> bool:
    if actual is None or expected is None:
        return actual is expected
    return all(actual[key] == value for key, value in expected.items())


def run_process(
    run: Path, options: Options, expected_catalogue: ExpectedCatalogue, tally: Tally, *, is_last: bool
) -> None:
    """Runs one process's share of the operations, kills it unless it is the last, and compares the catalogue."""
    total = (
        options.operations - sum(expected_catalogue.n_calls) - expected_catalogue.searches
        if is_last
        else options.operations // (options.kills + 1)
    )
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=work, args=(run, options, list(expected_catalogue.n_calls), total if is_last else 2 * total, sender)
    )
    process.start()
    sender.close()
    n_messages, start = 0, 0.0
    try:
        while True:
            kind, *values = receiver.recv()
            n_messages += 1
            if kind == "ready":
                start, n_messages = time.perf_counter(), 0
            elif kind == "edit":
                expected_catalogue.add_acknowledgement(*values[:3])
                tally.edit_ms.append(values[3])
            else:
                expected_catalogue.searches += 1
                tally.search_ms.append(values[0])
                for name, wrong in values[1].items():
                    tally.wrong[name] += wrong
            if n_messages == total:  # a process that is to be killed has more to do
                tally.busy_s += time.perf_counter() - start
                if not is_last:
                    assert process.pid is not None
                    os.kill(process.pid, signal.SIGKILL)
    except (EOFError, OSError):
        process.join()
    open_start = time.perf_counter()
    with LiveCatalogue.open(run) as catalogue:
        tally.open_ms.append(1e3 * (time.perf_counter() - open_start))
        expected_catalogue.compare(catalogue.snapshot(), tally)
        print(
            f"{sum(expected_catalogue.n_calls):,} edits, {expected_catalogue.searches:,} searches: {tally.wrong}",
            flush=True,
        )


def work(run: Path, options: Options, first_numbers: list[int], total: int, sender: Connection) -> None:
    """Edits and searches from many threads until `total` operations are done."""
    torch.set_num_threads(1)
    config = LiveConfig(fold_rows=options.fold_rows, fold_share=0.0)
    with LiveCatalogue.open(run, writable=True, config=config) as catalogue:
        send_lock, budgets = (
            threading.Lock(),
            {"edit": iter(range(total // 2)), "search": iter(range(total - total // 2))},
        )
        edit_semaphore = threading.Semaphore(options.searchers)

        def send(*message: object) -> None:
            with send_lock:
                sender.send(message)

        def repeat(kind: str, operation: Callable[[int], None], start: int) -> None:
            for number, _ in enumerate(iter(lambda: next(budgets[kind], None), None), start):
                operation(number)

        def edit(writer: int, number: int) -> None:
            start = time.perf_counter()
            version = catalogue.apply(build_call(options, writer, number))
            send("edit", version, writer, number, 1e3 * (time.perf_counter() - start))
            edit_semaphore.release()

        def search(searcher: int, number: int) -> None:
            edit_semaphore.acquire()  # one search per edit: otherwise the searches would end much earlier
            rng = np.random.default_rng([options.seed, 99, searcher, first_numbers[0], number])
            ms, wrong = time_search(catalogue.snapshot(), rng)
            send("search", ms, wrong)

        send("ready")
        threads = [
            threading.Thread(target=repeat, args=("edit", lambda number, w=writer: edit(w, number), start))
            for writer, start in enumerate(first_numbers)
        ]
        threads += [
            threading.Thread(target=repeat, args=("search", lambda number, s=searcher: search(s, number), 0))
            for searcher in range(options.searchers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def time_search(snapshot: Snapshot, rng: np.random.Generator) -> tuple[float, dict[str, int]]:
    """The milliseconds of one search of a random channel and filter, and the errors in its answer by kind."""
    low, brand = float(np.round(rng.gamma(2, 20), 2)), str(rng.choice(BRANDS))
    filter_body = [None, {"price": {"from": low, "to": low + 20}}, {"brand": brand}, {"available": True}][
        rng.integers(4)
    ]
    query_vector = snapshot.vectors(np.array([rng.integers(snapshot.n_rows)]))
    start = time.perf_counter()
    search_filter = None if filter_body is None else parse_filter(filter_body, snapshot.kinds)
    if rng.random() < 0.5:
        hits = snapshot.search_vectors(query_vector, 50, search_filter).ids[0]
        rows, vector = hits[hits >= 0], True
    else:
        query = snapshot.lexical.parse(str(rng.choice(["kettle", "lamp", "shoe", "red"])), BOOSTS)
        rows, vector = snapshot.lexical.search(query, 50, search_filter).rows, False
    ms = 1e3 * (time.perf_counter() - start)
    items = snapshot.items(rows)
    n_wrong = sum(not matches(item, filter_body) for item in items) if filter_body else 0
    mask = snapshot.mask(search_filter)
    n_matching = snapshot.n_rows if mask is None else int(mask.sum())
    is_short = vector and len(rows) < min(50, n_matching)
    return ms, {"ghosts": int((~snapshot.alive(rows)).sum()), "wrong_filters": n_wrong + is_short}


def matches(item: dict[str, Any], filter_body: dict[str, Any]) -> bool:
    if "price" in filter_body:
        return item["price"] is not None and filter_body["price"]["from"] <= item["price"] <= filter_body["price"]["to"]
    return all(
        (str(item[key]).lower() if key == "brand" else item[key]) in (value, str(value).lower())
        for key, value in filter_body.items()
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


def time_folding(run: Path) -> dict[str, object]:
    """The time of folding 1,000 changed items on an idle catalogue, and of one call that changes them."""
    with LiveCatalogue.open(run, writable=True, config=LiveConfig(automatic=False)) as catalogue:
        catalogue.compact()
        folds = catalogue._generation.number
        start = time.perf_counter()
        snapshot = catalogue.snapshot()
        rows = np.flatnonzero(snapshot.alive(np.arange(snapshot.n_rows)))[-1_000:]
        catalogue.apply([Change(item_id, {"price": 1.0}) for item_id in snapshot.values("item_id", rows)])
        apply_end = time.perf_counter()
        catalogue.compact()
        fold_s = time.perf_counter() - apply_end
    return {"folds": folds, "apply_1000_s": round(apply_end - start, 2), "fold_1000_s": round(fold_s, 2)}


if __name__ == "__main__":
    main()
