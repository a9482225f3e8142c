"""The IVF index: Faiss inverted lists of scalar-quantised vectors, probed as far as the wanted recall takes.

Chosen by measurement over graphs: it holds a vector in a byte a dimension, can delete, and keeps its recall under
narrow filters.
"""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any, final

import faiss
import numpy as np
from jaxtyping import Float32, Int64

from mmse.config import plain
from mmse.index.base import (
    CHUNK,
    Allowed,
    Found,
    IndexConfig,
    Progress,
    allowed_ids,
    checked_ids,
    checked_vectors,
    damaged,
    read_about,
    write_about,
)

log = logging.getLogger(__name__)

CODES = {"sq8": faiss.ScalarQuantizer.QT_8bit, "fp16": faiss.ScalarQuantizer.QT_fp16}
FILE = "ivf.faiss"
SPARSEST_BITMAP = 1024
"""A filter becomes a bitmap while that costs at most so many bits an allowed id; past it, a hash set."""


@final
class IvfIndex:
    """Inverted lists, trained on the first vectors added (`Index` says what each call does).

    `nprobe` is how many lists an unfiltered search visits; `measured_recall` is what that found of the exact
    answer when it was chosen (None: not measured). `build` chooses it; until then every list is visited.
    """

    def __init__(self, dim: int, config: IndexConfig) -> None:
        self.config = config
        self.measured_recall: float | None = None
        self._dim = dim
        self._ids: Int64[np.ndarray, " n"] = np.empty(0, dtype=np.int64)
        self._lists: Any = None
        self._mapped = False

    @property
    def dim(self) -> int:
        """The width of the vectors."""
        return self._dim

    @property
    def nlist(self) -> int:
        """The number of lists; 0 before the first vectors came."""
        return 0 if self._lists is None else int(self._lists.nlist)

    @property
    def nprobe(self) -> int:
        """How many lists an unfiltered search visits."""
        return 0 if self._lists is None else int(self._lists.nprobe)

    @nprobe.setter
    def nprobe(self, lists: int) -> None:
        assert self._lists is not None
        self._lists.nprobe = min(max(1, lists), self.nlist)

    def __len__(self) -> int:
        return len(self._ids)

    def add(
        self, ids: Int64[np.ndarray, " n"], vectors: Float32[np.ndarray, "n d"], progress: Progress | None = None
    ) -> None:
        """Takes in vectors under new ids; the first ones decide the lists, so add the catalogue at once."""
        checked_vectors(vectors, self.dim, "vectors to add")
        checked_ids(ids, vectors, self._ids)
        if len(ids) == 0:
            return
        if self._lists is None:
            self._lists = _trained(vectors, self.config, progress)
        self._thaw()
        for start in range(0, len(ids), CHUNK):
            chunk = slice(start, start + CHUNK)
            self._lists.add_with_ids(np.ascontiguousarray(vectors[chunk]), np.ascontiguousarray(ids[chunk]))
            if progress is not None:
                progress("vectors indexed", min(start + CHUNK, len(ids)), len(ids))
        self._ids = np.sort(np.concatenate([self._ids, ids]))

    def remove(self, ids: Int64[np.ndarray, " n"]) -> int:
        """Drops these ids and gives how many of them it held; one pass over the lists, so remove in batches."""
        gone = allowed_ids(ids, self._ids)
        if len(gone) == 0:
            return 0
        self._thaw()
        removed = int(self._lists.remove_ids(_selector(gone)))
        assert removed == len(gone), (removed, len(gone))
        self._ids = self._ids[~np.isin(self._ids, gone, assume_unique=True)]
        return removed

    def search(self, vectors: Float32[np.ndarray, "n d"], k: int, allowed: Allowed | None = None) -> Found:
        """The `k` best of each query among `allowed`.

        A filter that lets a share `f` through visits `1/f` times the lists, so that about as many vectors are
        compared as without one; a query that still found fewer than exist searches all lists.
        """
        checked_vectors(vectors, self.dim, "query vectors")
        let = None if allowed is None else allowed_ids(allowed, self._ids)
        exist = len(self) if let is None else len(let)
        if self._lists is None or exist == 0 or len(vectors) == 0:
            return Found(np.full((len(vectors), k), -1), np.full((len(vectors), k), -np.inf, dtype=np.float32))
        selector = None if let is None else _selector(let)
        queries = np.ascontiguousarray(vectors)
        probes = min(self.nlist, math.ceil(self.nprobe * len(self) / exist))
        found = self._probe(queries, k, probes, selector)
        short = (found.ids >= 0).sum(axis=1) < min(k, exist)
        if short.any():
            rest = self._probe(queries[short], k, self.nlist, selector)
            found.ids[short], found.scores[short] = rest.ids, rest.scores
        return found

    def save(self, folder: Path) -> None:
        """Writes `ivf.faiss` (any Faiss reads it), `ids.npy` and `index.json` into `folder`."""
        np.save(folder / "ids.npy", self._ids)
        if self._lists is not None:
            faiss.write_index(self._lists, str(folder / FILE))
        about = {"kind": "ivf", "dim": self.dim, "vectors": len(self), "nlist": self.nlist, "nprobe": self.nprobe}
        write_about(folder, {**about, "measured_recall": self.measured_recall, "config": plain(self.config)})

    @classmethod
    def open(cls, folder: Path) -> IvfIndex:
        """The index saved in `folder`, its lists memory-mapped until the first change."""
        about = read_about(folder)
        try:
            index = cls(int(about["dim"]), IndexConfig(**about["config"]))
            index.measured_recall = about["measured_recall"]
            index._ids = np.load(folder / "ids.npy")
            if about["nlist"]:
                index._lists = faiss.read_index(str(folder / FILE), faiss.IO_FLAG_MMAP_IFC)
                index._mapped = True
                index.nprobe = about["nprobe"]
                if index._lists.ntotal != len(index._ids) or index._lists.d != index.dim:
                    raise ValueError(f"{index._lists.ntotal} vectors for {len(index._ids)} ids")
        except (OSError, ValueError, EOFError, RuntimeError, KeyError, TypeError) as error:
            raise damaged(folder / FILE, error) from error
        return index

    def _probe(self, queries: Float32[np.ndarray, "n d"], k: int, probes: int, selector: Any) -> Found:  # noqa: ANN401
        parameters = faiss.SearchParametersIVF()
        parameters.nprobe = probes
        if selector is not None:
            parameters.sel = selector
        scores, ids = self._lists.search(queries, k, params=parameters)
        scores[ids < 0] = -np.inf
        return Found(ids, scores)

    def _thaw(self) -> None:
        """Brings mapped lists into memory: Faiss ends the process when a mapped list is changed."""
        if self._mapped:
            self._lists = faiss.deserialize_index(faiss.serialize_index(self._lists))
            self._mapped = False


def calibrate(
    index: IvfIndex,
    vectors: Float32[np.ndarray, "n d"],
    ids: Int64[np.ndarray, " n"],
    probes: Float32[np.ndarray, "p d"],
) -> None:
    """Sets `nprobe` to the fewest lists that reach the target recall on `probes`, and `measured_recall`.

    `vectors` and `ids` are what the index holds. Where quantisation keeps the target out of reach with all lists,
    the fewest lists within half a percent of that best are taken, and a warning says what to do.
    """
    if len(index) == 0:
        return
    k = min(index.config.recall_k, len(index))
    truth = _exact_ids(vectors, ids, probes, k)

    def recall(lists: int) -> float:
        return _overlap(index._probe(probes, k, lists, None).ids, truth)

    target, low, high = index.config.target_recall, 1, 1
    while (reached := recall(high)) < target and high < index.nlist:
        low, high = high + 1, min(2 * high, index.nlist)
    if reached < target:
        log.warning(
            "recall@%d reaches %.3f with all lists, short of the wanted %.3f: try codes = 'fp16' or kind = 'exact'",
            *(k, reached, target),
        )
        low, target = 1, reached * 0.995
    while low < high:
        middle = (low + high) // 2
        if recall(middle) >= target:
            high = middle
        else:
            low = middle + 1
    index.nprobe = high
    index.measured_recall = recall(high)
    log.info("%d of %d lists are probed: recall@%d %.3f", high, index.nlist, k, index.measured_recall)


def _trained(vectors: Float32[np.ndarray, "n d"], config: IndexConfig, progress: Progress | None) -> Any:  # noqa: ANN401
    """Empty lists with centroids from a sample; with few vectors, few lists, so that each has some of its own."""
    n, dim = vectors.shape
    nlist = max(1, min(config.most_lists, round(config.lists_per_root * math.sqrt(n)), n // 8))
    sample = vectors
    if n > nlist * config.training_per_list:
        rows = np.random.default_rng(config.seed).choice(n, nlist * config.training_per_list, replace=False)
        sample = vectors[np.sort(rows)]
    if progress is not None:
        progress("lists trained", 0, nlist)
    lists = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dim), dim, nlist, CODES[config.codes], faiss.METRIC_INNER_PRODUCT
    )
    lists.cp.seed = config.seed + 1
    lists.cp.min_points_per_centroid = 1
    lists.cp.max_points_per_centroid = max(1, config.training_per_list)
    lists.train(np.ascontiguousarray(sample))
    lists.nprobe = nlist
    if progress is not None:
        progress("lists trained", nlist, nlist)
    return lists


def _selector(ids: Int64[np.ndarray, " n"]) -> Any:  # noqa: ANN401
    """A Faiss selector of sorted `ids`."""
    if ids[-1] > SPARSEST_BITMAP * len(ids):
        return faiss.IDSelectorBatch(ids)
    mask = np.zeros(int(ids[-1]) + 1, dtype=bool)
    mask[ids] = True
    return faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))  # type: ignore[call-arg, arg-type]


def _exact_ids(
    vectors: Float32[np.ndarray, "n d"], ids: Int64[np.ndarray, " n"], probes: Float32[np.ndarray, "p d"], k: int
) -> Int64[np.ndarray, "p k"]:
    _, places = faiss.knn(probes, np.ascontiguousarray(vectors), k, metric=faiss.METRIC_INNER_PRODUCT)
    return np.asarray(ids[places])


def _overlap(found: Int64[np.ndarray, "p k"], truth: Int64[np.ndarray, "p k"]) -> float:
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True))
    return hits / truth.size
