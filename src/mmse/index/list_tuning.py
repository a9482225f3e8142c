"""How many lists of an IVF index a search visits, and how many hits are scored again: chosen by measurement."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import faiss
import numpy as np
from jaxtyping import Float32, Int64

from mmse.index.ivf import RESCORE_FACTORS, IvfIndex, ListTrial

LEAST_GAIN = 0.002
"""Where twice the lists add no more to the recall, it is the codes that keep it down."""

log = logging.getLogger(__name__)


def calibrate(
    index: IvfIndex,
    vectors: Float32[np.ndarray, "n d"],
    ids: Int64[np.ndarray, " n"],
    probes: Float32[np.ndarray, "p d"],
) -> None:
    """Sets `nprobe` to the fewest lists that reach the target recall on `probes`, `rescore_factor`, `measured_recall`.

    Recall is measured as in a search: `rescore_factor` times the ids are scored again by their exact vectors. `vectors`
    and `ids` are those of the index. A larger factor is tried where twice the lists find next to nothing more, since
    then the rounding of codes keeps recall down. If it does so with the largest one, the fewest lists within half a
    percent of the best recall are chosen, and a warning says what to do.
    """
    if len(index) == 0:
        return
    k = min(index.config.recall_k, len(index))
    truth, order = _exact_ids(vectors, ids, probes, k), np.argsort(ids)
    trials: list[ListTrial] = []

    def best(query: Float32[np.ndarray, " d"], candidates: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " k"]:
        positions = order[np.searchsorted(ids, candidates[candidates >= 0], sorter=order)]
        scores = vectors[positions] @ query
        return np.asarray(ids[positions[np.argsort(-scores, kind="stable")[:k]]])

    def measure(lists: int, factor: float) -> float:
        n_candidates = min(math.ceil(factor * k), len(index))
        candidates = index.search_lists(probes, n_candidates, lists)
        recall = _overlap([best(*pair) for pair in zip(probes, candidates, strict=True)], truth)
        trials.append(ListTrial(lists, factor, round(recall, 4)))
        return recall

    target, low, high = index.config.target_recall, 1, 1
    for factor in RESCORE_FACTORS:
        recall, gain = measure(high, factor), 1.0
        while recall < target and high < index.nlist and (gain > LEAST_GAIN or factor == RESCORE_FACTORS[-1]):
            low, high = high + 1, min(2 * high, index.nlist)
            recall, gain = (better := measure(high, factor)), better - recall
        if recall >= target or math.ceil(factor * k) >= len(index):
            break
    if recall < target:
        log.warning(
            "recall@%d reaches %.3f with %d of %d lists, below the target of %.3f: codes '%s' are too coarse for it. "
            "Take finer ones, more memory, or kind = 'exact'",
            *(k, recall, high, index.nlist, target, index.codes),
        )
        low, target = 1, recall * 0.995
    while low < high:
        middle = (low + high) // 2
        if measure(middle, factor) >= target:
            high = middle
        else:
            low = middle + 1
    index.nprobe, index.rescore_factor = high, factor
    index.measured_recall = measure(high, factor)
    index.trials = tuple(sorted(set(trials)))
    log.info(
        "%d of %d lists are probed, codes '%s', %g times the hits scored again: recall@%d %.3f",
        *(high, index.nlist, index.codes, factor, k, index.measured_recall),
    )


def _exact_ids(
    vectors: Float32[np.ndarray, "n d"], ids: Int64[np.ndarray, " n"], probes: Float32[np.ndarray, "p d"], k: int
) -> Int64[np.ndarray, "p k"]:
    _, positions = faiss.knn(probes, np.ascontiguousarray(vectors), k, metric=faiss.METRIC_INNER_PRODUCT)
    return np.asarray(ids[positions])


def _overlap(results: Sequence[Int64[np.ndarray, " _"]], truth: Int64[np.ndarray, "p k"]) -> float:
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(results, truth, strict=True))
    return hits / truth.size
