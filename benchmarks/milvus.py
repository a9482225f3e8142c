"""The store `milvus`: recall under filters against exact search, and searches while new versions are published.

    python benchmarks/milvus.py --uri http://localhost:19530 --name lite [--items 50000] [--queries 50]

Vectors of 128 dimensions in 1,000 clusters, as in benchmarks/filters.py. Filters let 0.1, 1, 10 and 50% of the items
through: `random` is a range of prices that have nothing to do with vectors, `near` and `far` are the categories nearest
to and farthest from the query. Recall is the share of the exact first 100 that the store finds; `compared_here` is the
share of the searches that Milvus left short of hits, so that the store compared the filter's rows by itself. A second
table has what the store does with filters of more rows than `exact_below`, by making that 0.

Then versions of 5,000 items are published one after another, while one client searches by the alias and one by the
store of the first version. In each version, all items have its number for a price: an answer is mixed if its hits have
several. Writes benchmarks/results/milvus_NAME.json.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import patch

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is imported: it reads it once

import numpy as np
import pyarrow as pa
from filters import CLUSTERS, DIM, KINDS, category_path, draw_vectors, percentiles
from machine import environment, write_result
from pymilvus import MilvusClient

from mmse.index.base import IndexConfig
from mmse.index.columns import FilterColumns
from mmse.index.filtered_search import scan_rows
from mmse.index.milvus.state import read_state
from mmse.index.store import VectorStore, open_store, store_class, write_store_name
from mmse.schema.filters import Between, Filter, OneOf

K = 100
SHARES = (0.001, 0.01, 0.1, 0.5)
SORTS = ("random", "near", "far")
VERSION_ITEMS = 5_000
VERSIONS = 5


@dataclass
class Load:
    """What a client met while versions were published."""

    searches: int = 0
    failures: list[str] = field(default_factory=list)
    mixed: int = 0
    milliseconds: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, object]:
        """The counts, and percentiles of the latency."""
        counts = {"searches": self.searches, "failed": len(self.failures), "mixed": self.mixed}
        return {**counts, "first_failures": self.failures[:3], "wall_ms": percentiles(self.milliseconds)}


def publish(config: IndexConfig, folder: Path, vectors: np.ndarray, items: pa.Table) -> dict[str, float]:
    """Publishes a state into `folder`, as `mmse index` does; gives the seconds of its two parts."""
    folder.mkdir(parents=True)
    start = time.perf_counter()
    writer = store_class(config.store).create(config, vectors.shape[1], KINDS, vectors[:0])
    writer.upsert(np.arange(len(vectors)), vectors, items)
    writer.publish(folder)
    write_store_name(folder, config.store)
    return {"publish_s": round(time.perf_counter() - start, 1)}


def measure_recall(config: IndexConfig, folder: Path, n: int, n_queries: int) -> dict[str, object]:
    """The table of recall and latency by filter."""
    vectors, cluster = draw_vectors(n, seed=0)
    queries, query_cluster = draw_vectors(n_queries, seed=1)
    paths = pa.array([category_path(number) for number in range(CLUSTERS)]).take(pa.array(cluster))
    items = pa.table({"category": paths, "price": np.random.default_rng(3).random(n)})
    seconds = publish(config, folder, vectors, items)
    columns = FilterColumns.from_table(items, KINDS)
    store = open_store(folder, vectors, columns, n)
    state = read_state(folder)[0]
    seconds |= {"nprobe": state.nprobe, "lists": state.lists}
    centres = np.stack([vectors[cluster == number].mean(axis=0) for number in range(CLUSTERS)])
    by_distance = np.argsort(-(centres @ centres.T), axis=1)

    def choose(sort: str, share: float, number: int) -> Filter:
        if sort == "random":
            low = (1 - share) * number / n_queries
            return Between("price", low, low + share)
        order = by_distance[query_cluster[number]][:: 1 if sort == "near" else -1]
        return OneOf("category", tuple(category_path(c) for c in order[: max(1, round(share * CLUSTERS))]))

    def measure(store: VectorStore) -> list[dict[str, object]]:
        cells: list[dict[str, object]] = []
        for share in (None, *SHARES):
            for sort in SORTS if share else ("none",):
                wall, recalls, n_here = [], [], 0
                for number, query in enumerate(queries):
                    query_filter = choose(sort, share, number) if share else None
                    with patch("mmse.index.milvus.store.scan_rows", wraps=scan_rows) as scan:
                        start = time.perf_counter()
                        hits = store.search(query[None], K, query_filter)
                        wall.append(1000 * (time.perf_counter() - start))
                    n_here += scan.call_count
                    mask = np.ones(n, bool) if query_filter is None else columns.mask(query_filter)
                    rows = np.flatnonzero(mask)
                    exact = rows[np.argsort(-(vectors[rows] @ query), kind="stable")[:K]]
                    n_shared = len(set(exact.tolist()) & set(hits.ids[0].tolist()))
                recalls.append(n_shared / len(exact) if len(exact) else 1.0)
                cell = {"filter": sort, "share": share or 1.0, "recall": round(float(np.mean(recalls)), 4)}
                cell |= {"lowest_recall": round(min(recalls), 2), "compared_here": n_here / n_queries}
                cells.append({**cell, "wall_ms": percentiles(wall)})
                print(cells[-1], flush=True)
        return cells

    cells = measure(store)
    replace(state, config=replace(state.config, exact_below=0)).write(folder, read_state(folder)[1])
    cells_of_many = measure(open_store(folder, vectors, columns, n))
    return {"items": n, "queries": n_queries, "k": K, **seconds, "cells": cells, "exact_below_0": cells_of_many}


def measure_versions(config: IndexConfig, folder: Path) -> dict[str, object]:
    """Searches by two clients while versions are published."""
    versions = [draw_vectors(VERSION_ITEMS, seed=10 + number)[0] for number in range(VERSIONS)]
    tables = [
        pa.table({"category": ["a"] * VERSION_ITEMS, "price": np.full(VERSION_ITEMS, float(number))})
        for number in range(VERSIONS)
    ]
    query = draw_vectors(1, seed=9)[0]
    publish(config, folder / "0", versions[0], tables[0])
    store = open_store(folder / "0", versions[0], FilterColumns.from_table(tables[0], KINDS), VERSION_ITEMS)
    expected = store.search(query, 10).ids.tolist()
    options = config.options
    client = MilvusClient(uri=str(options["uri"]), timeout=10)
    loads, end = {"alias": Load(), "first_version": Load()}, threading.Event()
    seen: list[float] = []

    def search_alias() -> list[float]:
        hits = client.search(str(options["collection"]), list(query), limit=10, output_fields=["price"])[0]
        return [hit["entity"]["price"] for hit in hits]

    def run(name: str) -> None:
        load = loads[name]
        while not end.is_set():
            start = time.perf_counter()
            try:
                if name == "alias":
                    prices = set(search_alias())
                    load.mixed += len(prices) != 1
                    seen.extend(prices)
                else:
                    load.mixed += store.search(query, 10).ids.tolist() != expected
            except Exception as error:  # counted, whatever it is
                load.failures.append(f"{type(error).__name__}: {error}"[:300])
            load.searches += 1
            load.milliseconds.append(1000 * (time.perf_counter() - start))

    threads = [threading.Thread(target=run, args=(name,)) for name in loads]
    for thread in threads:
        thread.start()
    for number in range(1, VERSIONS):
        publish(config, folder / str(number), versions[number], tables[number])
    time.sleep(2)
    end.set()
    for thread in threads:
        thread.join()
    order = [version for place, version in enumerate(seen) if place == 0 or version != seen[place - 1]]
    return {"versions": VERSIONS, "items": VERSION_ITEMS, "order_by_alias": order} | {
        name: load.summary() for name, load in loads.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uri", default="http://localhost:19530")
    parser.add_argument("--name", default="server", help="the result is milvus_NAME.json")
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--index", default="IVF_FLAT")
    parser.add_argument("--no-versions", action="store_true")
    options = parser.parse_args()
    start_environment = environment()
    collection = f"benchmark_{options.name}"
    config = IndexConfig(
        store="milvus",
        options={"uri": options.uri, "collection": collection, "index": options.index, "timeout_s": 60.0},
    )
    client = MilvusClient(uri=options.uri, timeout=60)
    server = {"server": client.get_server_version(), "index": options.index}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        result: dict[str, object] = {**start_environment, **server, "width": DIM}
        result["recall"] = measure_recall(config, folder / "recall", options.items, options.queries)
        if not options.no_versions:
            result["versions"] = measure_versions(config, folder / "versions")
    write_result(f"milvus_{options.name}", result)
    if collection in client.list_aliases()["aliases"]:
        client.drop_alias(collection)
    for name in client.list_collections():
        if name.startswith(f"{collection}_"):
            client.drop_collection(name)


if __name__ == "__main__":
    main()
