"""An IVF index of a run's vectors in codes of each size: bytes, lists visited, hits scored again, recall and time.

    python benchmarks/codes.py RUN [--recall 0.95] [--k 100] [--codes sq8 sq4 tq1] [--queries 500]

Each index is built from the vectors of RUN as `mmse index` does, tuned on half of its queries of the log, saved, opened
memory-mapped, and searched by the other half, one query at a time on one thread. Recall is the share of the exact `k`
nearest items. Seconds to build are of all threads. Writes benchmarks/results/codes.json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
from machine import environment, write_result

from mmse.index import IndexConfig, IvfIndex, build, open_index
from mmse.index.base import CODE_BITS
from mmse.index.embedding import QUERIES, open_array
from mmse.index.filtered_search import search_filtered


def search_each(
    index: IvfIndex, vectors: np.ndarray, queries: np.ndarray, k: int
) -> tuple[list[np.ndarray], list[float]]:
    """The ids that each query finds alone, and the milliseconds that it took."""
    found, milliseconds = [], []
    for query in queries:
        begin = time.perf_counter()
        found.append(search_filtered(index, vectors, query[None], k).ids[0])
        milliseconds.append((time.perf_counter() - begin) * 1e3)
    return found, milliseconds


def measure(codes: str, options: argparse.Namespace, vectors: np.ndarray, queries: np.ndarray) -> dict[str, object]:
    """One index: how it was built, and its searches for the second half of `queries`."""
    ids, tuning, rest = np.arange(len(vectors)), queries[::2], np.ascontiguousarray(queries[1::2])
    config = IndexConfig(codes=codes, target_recall=options.recall, recall_k=options.k)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        built = build(config, vectors, ids, probes=tuning)
        seconds = time.perf_counter() - begin
        built.save(Path(folder))
        del built
        begin = time.perf_counter()
        index = open_index(Path(folder))
        open_s = time.perf_counter() - begin
        assert isinstance(index, IvfIndex)
        threads = faiss.omp_get_max_threads()
        _, truth = faiss.knn(rest, np.ascontiguousarray(vectors), options.k, metric=faiss.METRIC_INNER_PRODUCT)
        faiss.omp_set_num_threads(1)
        search_each(index, vectors, rest, options.k)  # warms the map
        found, milliseconds = search_each(index, vectors, rest, options.k)
        faiss.omp_set_num_threads(threads)
    recall = np.mean([len(np.intersect1d(ours, exact)) / options.k for ours, exact in zip(found, truth, strict=True)])
    p50, p99 = np.percentile(milliseconds, [50, 99])
    return {
        "codes": codes,
        "megabytes": round(index.n_bytes / 1e6, 1),
        "lists": index.nlist,
        "visited": index.nprobe,
        "rescore_factor": index.rescore_factor,
        "recall": round(float(recall), 4),
        "p50_ms": round(float(p50), 2),
        "p99_ms": round(float(p99), 2),
        "build_s": round(seconds, 1),
        "open_ms": round(open_s * 1e3, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--codes", nargs="+", default=list(CODE_BITS), choices=list(CODE_BITS))
    parser.add_argument("--queries", type=int, default=500)
    options = parser.parse_args()
    vectors, queries = open_array(options.run / "vectors"), open_array(options.run / "vectors", QUERIES)
    rows = np.random.default_rng(0).permutation(len(queries))[: options.queries]
    result = {**environment(), "items": len(vectors), "width": vectors.shape[1], "k": options.k}
    result |= {"target_recall": options.recall, "queries": len(rows) // 2}
    result["indexes"] = [
        measure(codes, options, np.asarray(vectors), np.asarray(queries)[rows]) for codes in options.codes
    ]
    for row in result["indexes"]:
        print(row)
    write_result("codes", result)


if __name__ == "__main__":
    main()
