"""Filtered vector search on a million vectors: recall, whether it is ever short, and latency, by filter and breadth.

    OPENBLAS_NUM_THREADS=1 python benchmarks/filters.py [--items 1000000] [--queries 100] [--folder KEPT]

Unit vectors around 1,000 cluster centres, queries drawn like items; every cluster is the leaf of a category path. The
filters let a share of all rows through, and are real ones, made into a mask from `Columns` within the time measured:

- `random`: a price range, prices have nothing to do with vectors;
- `near`: the categories nearest the query, as many as make up the share;
- `far`: the categories farthest from the query, the hardest that a filter by category can be.

One thread. `recall` is of the exact first 100; `full` the share of queries that got min(100, rows that pass); the wall
and processor milliseconds are of one query after the other, mask included. `subtree` and `price` time two masks alone.
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
from machine import keep, where

from mmse.index import Index, IndexConfig, IvfIndex, build, open_index
from mmse.index.columns import Columns
from mmse.index.filtered_search import search_filtered
from mmse.schema.filters import Between, Filter, Kind, OneOf

DIM = 128
CLUSTERS = 1_000
K = 100
SHARES = (0.001, 0.01, 0.1, 0.5)
SORTS = ("random", "near", "far")
KINDS = {"category": Kind.PATH, "price": Kind.NUMBER}


@dataclass(frozen=True)
class Shop:
    """The benchmark's catalogue: vectors and their clusters, queries and theirs, and each cluster's neighbours."""

    vectors: np.ndarray
    cluster: np.ndarray
    queries: np.ndarray
    query_cluster: np.ndarray
    by_distance: np.ndarray
    columns: Columns
    index: Index


def draw(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and their clusters; the spread falls off over the dimensions, as it does in learned embeddings."""
    scale = (np.arange(1, DIM + 1) ** -0.5).astype(np.float32)
    centres = np.random.default_rng(0).standard_normal((CLUSTERS, DIM), dtype=np.float32) * scale
    rng = np.random.default_rng([1, seed])
    cluster = rng.integers(0, CLUSTERS, n)
    vectors = centres[cluster] + 0.7 * scale * rng.standard_normal((n, DIM), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), cluster


def path(cluster: int) -> str:
    return f"department {cluster % 10} > aisle {cluster % 100} > shelf {cluster}"


def prepare(folder: Path, n: int, n_queries: int) -> Shop:
    """The catalogue of `n` items, its index opened from disk as a server opens it."""
    drawn, cluster = draw(n, seed=0)
    queries, query_cluster = draw(n_queries, seed=1)
    at = folder / f"index-{n}"
    if not (at / "index.json").exists():
        at.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"vectors-{n}.npy", drawn)
        build(IndexConfig(), drawn, np.arange(n), probes=draw(500, seed=2)[0]).save(at)
    prices = np.random.default_rng(3).random(n)
    paths = pa.array([path(one) for one in range(CLUSTERS)]).take(pa.array(cluster))
    Columns.of(pa.table({"category": paths, "price": prices}), KINDS).save(at)
    centres = np.stack([drawn[cluster == one].mean(axis=0) for one in range(CLUSTERS)])
    by_distance = np.argsort(-(centres @ centres.T), axis=1)
    vectors = np.load(folder / f"vectors-{n}.npy", mmap_mode="r")
    vectors.sum()  # into the page cache
    return Shop(vectors, cluster, queries, query_cluster, by_distance, Columns.open(at), open_index(at))


def filter_of(shop: Shop, sort: str, share: float, query: int) -> Filter:
    if sort == "random":
        low = (1 - share) * query / len(shop.queries)
        return Between("price", low, low + share)
    order = shop.by_distance[shop.query_cluster[query]][:: 1 if sort == "near" else -1]
    return OneOf("category", tuple(path(one) for one in order[: max(1, round(share * CLUSTERS))]))


def measure(shop: Shop, sort: str, share: float) -> dict[str, object]:
    """One cell of the table, one query after the other."""
    wall, processor, recalls, full, passed = [], [], [], [], []
    for place in range(-2, len(shop.queries)):  # the first two warm up
        wanted, query = filter_of(shop, sort, share, max(place, 0)), shop.queries[max(place, 0)]
        began, began_processor = time.perf_counter(), time.thread_time()
        mask = shop.columns.mask(wanted)
        found = search_filtered(shop.index, shop.vectors, query[None], K, mask)
        took, took_processor = time.perf_counter() - began, time.thread_time() - began_processor
        if place < 0:
            continue
        rows = np.flatnonzero(mask)
        scores = np.asarray(shop.vectors).take(rows, axis=0) @ query
        exact = set(rows[np.argsort(-scores, kind="stable")[:K]].tolist())
        got = found.ids[0][found.ids[0] >= 0]
        wall.append(1000 * took)
        processor.append(1000 * took_processor)
        recalls.append(len(exact & set(got.tolist())) / max(1, len(exact)))
        full.append(len(got) == min(K, len(rows)))
        passed.append(len(rows))
    return {
        "filter": sort,
        "share": share,
        "rows": round(float(np.mean(passed))),
        "recall": round(float(np.mean(recalls)), 4),
        "lowest_recall": round(min(recalls), 2),
        "full": float(np.mean(full)),
        "wall_ms": middle_and_p99(wall),
        "processor_ms": middle_and_p99(processor),
    }


def middle_and_p99(milliseconds: list[float]) -> dict[str, float]:
    return {f"p{at}": round(float(np.percentile(milliseconds, at)), 2) for at in (50, 99)}


def timed(act: Callable[[], object], repeats: int = 100) -> dict[str, dict[str, float]]:
    wall, processor = [], []
    for _ in range(repeats):
        began, began_processor = time.perf_counter(), time.thread_time()
        act()
        wall.append(1000 * (time.perf_counter() - began))
        processor.append(1000 * (time.thread_time() - began_processor))
    return {"wall_ms": middle_and_p99(wall), "processor_ms": middle_and_p99(processor)}


def run(folder: Path, n: int, n_queries: int) -> dict[str, object]:
    faiss.omp_set_num_threads(1)
    shop = prepare(folder, n, n_queries)
    assert isinstance(shop.index, IvfIndex)
    about = {
        "lists": shop.index.nlist,
        "probed": shop.index.nprobe,
        "recall_without_rescoring": shop.index.measured_recall,
    }
    masks: dict[str, Filter] = {
        "subtree": OneOf("category", ("department 3",)),
        "price": Between("price", 0.2, 0.3),
        "every_7th_category": OneOf("category", tuple(path(one) for one in range(0, CLUSTERS, 7))),
    }
    return {
        **where(),
        "threads": 1,
        "items": n,
        "width": DIM,
        "queries": n_queries,
        "k": K,
        "index": about,
        "masks": {name: timed(partial(shop.columns.mask, asked)) for name, asked in masks.items()},
        "unfiltered": timed(lambda: search_filtered(shop.index, shop.vectors, shop.queries[:1], K)),
        "cells": [measure(shop, sort, share) for share in SHARES for sort in SORTS],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=None, help="keeps vectors and index between runs")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        keep("filters", run(asked.folder or Path(temporary), asked.items, asked.queries))


if __name__ == "__main__":
    main()
