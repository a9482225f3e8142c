"""The work of the hot paths, counted: it tells a slower path on any machine, however busy, where seconds cannot.

    python tests/hot_paths/count_work.py shop.toml RUN     what the paths of a small run cost, as JSON
    make accept-work                                  the same of a run made for it, kept as what is right

`calls` are those of functions, of Python and of C; `peak_bytes` is what Python and NumPy hold at once beyond what they
held before; `flops` are those of torch's products of matrices; `rows_scanned` is what DuckDB reads of its tables and
files. Each is counted on one thread after a first run that fills caches.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import pstats
import shutil
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from torch.utils.flop_counter import FlopCounterMode

from mmse.catalogue import Change, LiveCatalogue, LiveConfig
from mmse.core.run_folder import DATASET
from mmse.dataset.folder import ItemStats
from mmse.model.encoder import Encoder
from mmse.model.item_statistics import compute_statistics
from mmse.pipeline import Listener, make, run
from mmse.retrieval.retriever import Retriever
from mmse.schema.search import Search
from mmse.shop import Shop, read_shop
from mmse.sources.duckdb_session import Session
from mmse.training.loop import train
from shop import make_shop

ACCEPTED = Path(__file__).with_name("accepted.json")
N_SEARCHES, N_EDITS = 20, 32
Work = dict[str, int]


def count(path: Callable[[], object]) -> Work:
    """The work of `path`, which does the same each time it is called; four calls of it."""
    path()
    profile = cProfile.Profile()
    profile.runcall(path)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    path()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    with FlopCounterMode(display=False) as counter:
        path()
    calls = pstats.Stats(profile).total_calls  # type: ignore[attr-defined]
    return {"calls": calls, "peak_bytes": peak - before} | positive({"flops": counter.get_total_flops()})


def positive(work: Work) -> Work:
    return {name: number for name, number in work.items() if number}


def count_searches(run: Path, search: Callable[[str], Search]) -> Work:
    """Twenty searches for what the log asks for most, one after another."""
    queries = pq.read_table(run / DATASET / "queries.parquet")["query"].to_pylist()[:N_SEARCHES]
    retriever = Retriever.open(run)

    def path() -> None:
        for query in queries:
            retriever.answer(search(query))

    return count(path)


def count_embedding(run: Path) -> Work:
    """Titles and columns of all items to vectors."""
    items, stats = pq.read_table(run / DATASET / "items.parquet"), ItemStats.open(run / DATASET)
    encoder, statistics = Encoder.open(run / "model"), compute_statistics(stats.at(stats.snapshots.test))
    with torch.no_grad():
        return count(lambda: encoder.embed_items(encoder.encode_items(items), statistics))


def count_edits(run: Path) -> Work:
    """A call of changed prices, written and looked at."""
    ids = pq.read_table(run / DATASET / "items.parquet", columns=["item_id"])["item_id"].to_pylist()[:N_EDITS]
    edits = [Change(item_id, {"price": 1.0}) for item_id in ids]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "run"
        shutil.copytree(run, copy)
        with LiveCatalogue.open(copy, writable=True, config=LiveConfig(automatic=False)) as catalogue:

            def path() -> None:
                catalogue.apply(edits)
                catalogue.snapshot().mask()

            return count(path)


def count_training(shop: Shop, run: Path) -> Work:
    """One epoch of large batches."""
    config = replace(shop.train, epochs=1, batch_requests=256)
    with tempfile.TemporaryDirectory() as folder:
        targets = iter(range(9))
        return count(lambda: train(run / DATASET, Path(folder) / str(next(targets)), config))


def count_mining(shop: Shop) -> Work:
    """What DuckDB reads until the dataset is made."""
    rows: list[int] = []
    run_sql = Session.run

    def run_and_count(self: Session, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        self.connection.execute("PRAGMA enable_profiling = 'no_output'")
        result = run_sql(self, sql, **values)
        profile = json.loads(self.connection.get_profiling_information())
        rows.append(profile.get("query", {}).get("total_rows_scanned", 0))  # a setting has none
        return result

    Session.run = run_and_count  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder:
            make(DATASET, shop, Path(folder), Listener())
    finally:
        Session.run = run_sql  # type: ignore[method-assign]
    return {"statements": len(rows), "rows_scanned": sum(rows)}


def count_paths(shop: Shop, run: Path) -> dict[str, Work]:
    """The work of each hot path of a small run."""
    torch.set_num_threads(1)
    facets = ("brand", "category")
    return {
        "20 searches": count_searches(run, lambda query: Search(query, k=24, explain=False)),
        "20 searches with facets and explanation": count_searches(run, lambda q: Search(q, k=24, facets=facets)),
        "vectors of all items": count_embedding(run),
        "an epoch of training": count_training(shop, run),
        "a call of 32 edits": count_edits(run),
        "mining": count_mining(shop),
    }


def accept() -> str:
    """The work of the paths of a new run, as JSON, which becomes what is accepted."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        shop = make_shop(Path(folder))
        run(shop, Path(folder) / "run")
        text = json.dumps(count_paths(shop, Path(folder) / "run"), indent=2)
    ACCEPTED.write_text(text + "\n", "utf-8")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shop", type=Path, nargs="?", help="shop.toml")
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--accept", action="store_true", help=f"make a run and write {ACCEPTED.name}")
    options = parser.parse_args()
    text = accept() if options.accept else json.dumps(count_paths(read_shop(options.shop), options.run), indent=2)
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
