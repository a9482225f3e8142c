"""Filtered vector search on a million vectors: recall, complete results, and latency, by filter and selectivity.

    OPENBLAS_NUM_THREADS=1 python benchmarks/filters.py [--items 1000000] [--queries 100] [--folder KEPT]

Unit vectors around 1,000 cluster centres, queries drawn like items; every cluster is the leaf of a category path. A
filter matches a share of all rows and is turned into a mask by `Columns` within the measured time:

- `random`: a price range; prices are independent of vectors;
- `near`: the categories nearest the query, as many as make up the share;
- `far`: the categories farthest from the query, the hardest that a filter by category can be.

One thread. `recall` is the share of the exact first 100; `full` is the share of queries with min(100, matching rows)
hits; wall and processor milliseconds are per query, in sequence, with the mask. `subtree` and `price` are masks alone.
Writes benchmarks/results/filters.json; with `--folder`, vectors and index are kept there for the next run.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is imported: it reads it once

import faiss
import numpy as np
import pyarrow as pa
from machine import environment, write_result

from mmse.index import Index, IndexConfig, IvfIndex, build, open_index
from mmse.index.columns import FilterColumns
from mmse.index.filtered_search import search_filtered
from mmse.schema.filters import Between, Filter, Kind, OneOf

DIM = 128
CLUSTERS = 1_000
K = 100
SHARES = (0.001, 0.01, 0.1, 0.5)
SORTS = ("random", "near", "far")
KINDS = {"category": Kind.PATH, "price": Kind.NUMBER}


@dataclass(frozen=True)
class VectorShop:
    """The benchmark's catalogue: vectors and queries with their clusters, and each cluster's neighbours."""

    vectors: np.ndarray
    cluster: np.ndarray
    queries: np.ndarray
    query_cluster: np.ndarray
    by_distance: np.ndarray
    columns: FilterColumns
    index: Index


def draw_vectors(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and their clusters; the spread falls off over the dimensions, as it does in learned embeddings."""
    scale = (np.arange(1, DIM + 1) ** -0.5).astype(np.float32)
    centres = np.random.default_rng(0).standard_normal((CLUSTERS, DIM), dtype=np.float32) * scale
    rng = np.random.default_rng([1, seed])
    cluster = rng.integers(0, CLUSTERS, n)
    vectors = centres[cluster] + 0.7 * scale * rng.standard_normal((n, DIM), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), cluster


def category_path(cluster: int) -> str:
    return f"department {cluster % 10} > aisle {cluster % 100} > shelf {cluster}"


def prepare(folder: Path, n: int, n_queries: int) -> VectorShop:
    """The catalogue of `n` items, its index opened from disk as a server opens it."""
    vectors, cluster = draw_vectors(n, seed=0)
    queries, query_cluster = draw_vectors(n_queries, seed=1)
    at = folder / f"index-{n}"
    if not (at / "index.json").exists():
        at.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"vectors-{n}.npy", vectors)
        build(IndexConfig(), vectors, np.arange(n), probes=draw_vectors(500, seed=2)[0]).save(at)
    prices = np.random.default_rng(3).random(n)
    paths = pa.array([category_path(n) for n in range(CLUSTERS)]).take(pa.array(cluster))
    FilterColumns.from_table(pa.table({"category": paths, "price": prices}), KINDS).save(at)
    centres = np.stack([vectors[cluster == n].mean(axis=0) for n in range(CLUSTERS)])
    by_distance = np.argsort(-(centres @ centres.T), axis=1)
    vectors = np.load(folder / f"vectors-{n}.npy", mmap_mode="r")
    vectors.sum()  # into the page cache
    return VectorShop(vectors, cluster, queries, query_cluster, by_distance, FilterColumns.open(at), open_index(at))


def filter_of(shop: VectorShop, sort: str, share: float, query: int) -> Filter:
    if sort == "random":
        low = (1 - share) * query / len(shop.queries)
        return Between("price", low, low + share)
    order = shop.by_distance[shop.query_cluster[query]][:: 1 if sort == "near" else -1]
    return OneOf("category", tuple(category_path(n) for n in order[: max(1, round(share * CLUSTERS))]))


def measure(shop: VectorShop, sort: str, share: float) -> dict[str, object]:
    """One cell of the table: all queries in sequence."""
    wall, processor, recalls, is_full, n_rows = [], [], [], [], []
    for number in range(-2, len(shop.queries)):  # the first two warm up
        query_filter, query = filter_of(shop, sort, share, max(number, 0)), shop.queries[max(number, 0)]
        start, processor_start = time.perf_counter(), time.thread_time()
        mask = shop.columns.mask(query_filter)
        result = search_filtered(shop.index, shop.vectors, query[None], K, mask)
        seconds, processor_seconds = time.perf_counter() - start, time.thread_time() - processor_start
        if number < 0:
            continue
        rows = np.flatnonzero(mask)
        scores = np.asarray(shop.vectors).take(rows, axis=0) @ query
        exact = set(rows[np.argsort(-scores, kind="stable")[:K]].tolist())
        hits = result.ids[0][result.ids[0] >= 0]
        wall.append(1000 * seconds)
        processor.append(1000 * processor_seconds)
        recalls.append(len(exact & set(hits.tolist())) / max(1, len(exact)))
        is_full.append(len(hits) == min(K, len(rows)))
        n_rows.append(len(rows))
    return {
        "filter": sort,
        "share": share,
        "rows": round(float(np.mean(n_rows))),
        "recall": round(float(np.mean(recalls)), 4),
        "lowest_recall": round(min(recalls), 2),
        "full": float(np.mean(is_full)),
        "wall_ms": percentiles(wall),
        "processor_ms": percentiles(processor),
    }


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    return {f"p{at}": round(float(np.percentile(milliseconds, at)), 2) for at in (50, 99)}


def time_calls(act: Callable[[], object], repeats: int = 100) -> dict[str, dict[str, float]]:
    wall, processor = [], []
    for _ in range(repeats):
        began, began_processor = time.perf_counter(), time.thread_time()
        act()
        wall.append(1000 * (time.perf_counter() - began))
        processor.append(1000 * (time.thread_time() - began_processor))
    return {"wall_ms": percentiles(wall), "processor_ms": percentiles(processor)}


def run(folder: Path, n: int, n_queries: int) -> dict[str, object]:
    faiss.omp_set_num_threads(1)
    shop = prepare(folder, n, n_queries)
    assert isinstance(shop.index, IvfIndex)
    index_facts = {
        "lists": shop.index.nlist,
        "probed": shop.index.nprobe,
        "recall_without_rescoring": shop.index.measured_recall,
    }
    masks: dict[str, Filter] = {
        "subtree": OneOf("category", ("department 3",)),
        "price": Between("price", 0.2, 0.3),
        "every_7th_category": OneOf("category", tuple(category_path(n) for n in range(0, CLUSTERS, 7))),
    }
    return {
        **environment(),
        "threads": 1,
        "items": n,
        "width": DIM,
        "queries": n_queries,
        "k": K,
        "index": index_facts,
        "masks": {name: time_calls(partial(shop.columns.mask, mask_filter)) for name, mask_filter in masks.items()},
        "unfiltered": time_calls(lambda: search_filtered(shop.index, shop.vectors, shop.queries[:1], K)),
        "cells": [measure(shop, sort, share) for share in SHARES for sort in SORTS],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=None, help="keeps vectors and index between runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        write_result("filters", run(options.folder or Path(temporary), options.items, options.queries))


if __name__ == "__main__":
    main()
