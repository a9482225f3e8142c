"""The IVF index: Faiss inverted lists of scalar-quantised vectors, probed as far as the wanted recall takes.

Chosen by measurement over graphs: it holds a vector in a byte a dimension, can delete, and keeps its recall under
narrow filters.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import faiss
import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, UInt8

from mmse.core.config import plain
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
    is_dense,
    nothing_found,
    read_about,
    write_about,
)

log = logging.getLogger(__name__)

CODES = {"sq8": faiss.ScalarQuantizer.QT_8bit, "fp16": faiss.ScalarQuantizer.QT_fp16}
FILE = "ivf.faiss"
SPARSEST_BITMAP = 1024
"""A filter becomes a bitmap while that costs at most so many bits an allowed id; past it, a hash set."""
STEP = 16
"""Faiss compares codes 8 or 16 dimensions at a time where the width is a multiple of that, else one by one, ten times
as slowly; so what it holds is padded with zeros, which no inner product sees."""
MORE = 1.5
"""Codes are rounded, so that many times the wanted ids are taken and scored again by their own vectors."""
EVERY = 16
"""One row in so many of each list is looked at to estimate how many of its rows a filter lets through."""


@dataclass(frozen=True)
class Layout:
    """Where the rows lie: the list of each row (-1: not held), a sample of rows by list, the centroids.

    The sample of list `l` is `sample[ends[l - 1] : ends[l]]`, every `EVERY`th of its `sizes[l]` rows.
    """

    list_of: Int32[np.ndarray, " rows"]
    sizes: Int64[np.ndarray, " nlist"]
    sample: Int64[np.ndarray, " s"]
    ends: Int64[np.ndarray, " nlist"]
    centroids: Float32[np.ndarray, "nlist d"]

    def counted(self, mask: Bool[np.ndarray, " n"]) -> Int64[np.ndarray, " nlist"]:
        """How many rows of `mask` lie in each list."""
        lists = self.list_of.take(np.flatnonzero(mask[: len(self.list_of)]))
        return np.bincount(lists[lists >= 0], minlength=len(self.sizes))

    def estimated(self, mask: Bool[np.ndarray, " n"]) -> Int64[np.ndarray, " nlist"]:
        """About how many rows of `mask` lie in each list, in a few tenths of a millisecond for a million rows."""
        met = np.concatenate([[0], np.cumsum(mask.take(self.sample))])
        return np.asarray(np.diff(met[self.ends], prepend=0) * EVERY)


@final
class IvfIndex:
    """Inverted lists, trained on the first vectors added (`Index` says what each call does).

    `nprobe` is how many lists an unfiltered search visits for up to `MORE · recall_k` ids, more of them for more ids;
    `measured_recall` is how much of the exact first `recall_k` was found so when it was chosen (None: not measured).
    `build` chooses it; until then every list is visited.
    """

    def __init__(self, dim: int, config: IndexConfig) -> None:
        self.config = config
        self.measured_recall: float | None = None
        self._dim = dim
        self._ids: Int64[np.ndarray, " n"] = np.empty(0, dtype=np.int64)
        self._lists: Any = None
        self._mapped = False
        self._layout: Layout | None = None

    @property
    def ids(self) -> Int64[np.ndarray, " n"]:
        """The ids it holds, sorted."""
        return self._ids

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
            self._lists.add_with_ids(self._padded(vectors[chunk]), np.ascontiguousarray(ids[chunk]))
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
        compared as without one; past `MORE · recall_k` hits it visits as many times more as they are. A query that
        still found fewer than exist searches all lists.
        """
        checked_vectors(vectors, self.dim, "query vectors")
        selector, exist = self._let(allowed)
        if self._lists is None or exist == 0 or len(vectors) == 0:
            return nothing_found(len(vectors), k)
        queries = self._padded(vectors)
        deeper = max(1.0, k / (MORE * self.config.recall_k))
        probes = min(self.nlist, math.ceil(self.nprobe * deeper * len(self) / exist))
        found = self._probe(queries, k, probes, selector)
        short = (found.ids >= 0).sum(axis=1) < min(k, exist)
        if short.any():
            rest = self._probe(queries[short], k, self.nlist, selector)
            found.ids[short], found.scores[short] = rest.ids, rest.scores
        return found

    def visit(
        self,
        query: Float32[np.ndarray, " d"],
        k: int,
        lists: Int64[np.ndarray, " p"],
        *,
        nearness: Float32[np.ndarray, " nlist"],
        bits: UInt8[np.ndarray, " b"],
    ) -> Int64[np.ndarray, " k"]:
        """The ids of the `k` best in `lists` (one or more) of those whose bit is set, padded with -1.

        `nearness` is the inner product of the query and each centroid: what is stored is the difference from it.
        """
        parameters = faiss.SearchParametersIVF()
        parameters.nprobe, parameters.sel = len(lists), _bitmap_selector(bits)
        ids, scores, near = np.empty(k, np.int64), np.empty(k, np.float32), nearness[lists]
        padded = self._padded(query[None])
        pointers = [faiss.swig_ptr(array) for array in (padded, lists, near, scores, ids)]
        self._lists.search_preassigned_c(1, pointers[0], k, *pointers[1:], False, parameters)
        return ids

    def layout(self) -> Layout:
        """Where the rows lie; made on the first call after a change (0.1 s for a million rows)."""
        if self._layout is None:
            assert self._lists is not None
            inverted, list_of = self._lists.invlists, np.full(int(self._ids[-1]) + 1, -1, dtype=np.int32)
            sizes, samples = np.zeros(self.nlist, dtype=np.int64), []
            for place in range(self.nlist):
                sizes[place] = inverted.list_size(place)
                if sizes[place]:
                    rows = faiss.rev_swig_ptr(inverted.get_ids(place), int(sizes[place]))
                    list_of[rows] = place
                    samples.append(rows[::EVERY].copy())
            ends = np.cumsum(-(-sizes // EVERY))
            centroids = np.ascontiguousarray(self._lists.quantizer.reconstruct_n(0, self.nlist)[:, : self.dim])
            self._layout = Layout(list_of, sizes, np.concatenate(samples), ends, centroids)
        return self._layout

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
                if index._lists.ntotal != len(index._ids) or not index.dim <= index._lists.d <= _padded_to(index.dim):
                    raise ValueError(
                        f"{index._lists.ntotal} vectors of width {index._lists.d} for {len(index._ids)} ids"
                    )
        except (OSError, ValueError, EOFError, RuntimeError, KeyError, TypeError) as error:
            raise damaged(folder / FILE, error) from error
        return index

    def _padded(self, vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n padded"]:
        """The vectors as wide as the lists hold them."""
        return _widened(vectors, int(self._lists.d))

    def _probe(self, queries: Float32[np.ndarray, "n padded"], k: int, probes: int, selector: Any) -> Found:  # noqa: ANN401
        parameters = faiss.SearchParametersIVF()
        parameters.nprobe = probes
        if selector is not None:
            parameters.sel = selector
        scores, ids = self._lists.search(queries, k, params=parameters)
        scores[ids < 0] = -np.inf
        return Found(ids, scores)

    def _let(self, allowed: Allowed | None) -> tuple[Any, int]:
        """A Faiss selector of what is held and allowed (None: all of it), and how many that is."""
        if allowed is None:
            return None, len(self)
        if allowed.dtype == np.bool_ and is_dense(self._ids):
            mask = allowed[: len(self._ids)]
            return _bitmap_selector(bitmap(mask)), int(np.count_nonzero(mask))
        let = allowed_ids(allowed, self._ids)
        return (_selector(let) if len(let) else None), len(let)

    def _thaw(self) -> None:
        """Readies the lists for a change, in memory: Faiss ends the process when a mapped list is changed."""
        self._layout = None
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

    It is measured as it is served: of `MORE` times the ids, those best by their own vectors. `vectors` and `ids` are
    what the index holds. Where quantisation keeps the target out of reach with all lists, the fewest lists within half
    a percent of that best are taken, and a warning says what to do.
    """
    if len(index) == 0:
        return
    k = min(index.config.recall_k, len(index))
    truth, taken = _exact_ids(vectors, ids, probes, k), min(math.ceil(MORE * k), len(index))
    order = np.argsort(ids)

    def best(query: Float32[np.ndarray, " d"], found: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " k"]:
        places = order[np.searchsorted(ids, found[found >= 0], sorter=order)]
        scores = vectors[places] @ query
        return np.asarray(ids[places[np.argsort(-scores, kind="stable")[:k]]])

    def recall(lists: int) -> float:
        found = index._probe(index._padded(probes), taken, lists, None).ids
        return _overlap([best(*one) for one in zip(probes, found, strict=True)], truth)

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
    n, dim = len(vectors), _padded_to(vectors.shape[1])
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
    lists.train(_widened(sample, dim))
    lists.nprobe = nlist
    if progress is not None:
        progress("lists trained", nlist, nlist)
    return lists


def _padded_to(dim: int) -> int:
    return -(-dim // STEP) * STEP


def _widened(vectors: Float32[np.ndarray, "n d"], dim: int) -> Float32[np.ndarray, "n padded"]:
    if vectors.shape[1] == dim:
        return np.ascontiguousarray(vectors)
    widened = np.zeros((len(vectors), dim), np.float32)
    widened[:, : vectors.shape[1]] = vectors
    return widened


def _selector(ids: Int64[np.ndarray, " n"]) -> Any:  # noqa: ANN401
    """A Faiss selector of sorted `ids`."""
    if ids[-1] > SPARSEST_BITMAP * len(ids):
        return faiss.IDSelectorBatch(ids)
    mask = np.zeros(int(ids[-1]) + 1, dtype=bool)
    mask[ids] = True
    return _bitmap_selector(bitmap(mask))


def _bitmap_selector(bits: UInt8[np.ndarray, " b"]) -> Any:  # noqa: ANN401
    return faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg, arg-type]


def bitmap(mask: Bool[np.ndarray, " n"]) -> UInt8[np.ndarray, " b"]:
    """A mask in the form that Faiss reads: one bit an id."""
    return np.packbits(mask, bitorder="little")


def _exact_ids(
    vectors: Float32[np.ndarray, "n d"], ids: Int64[np.ndarray, " n"], probes: Float32[np.ndarray, "p d"], k: int
) -> Int64[np.ndarray, "p k"]:
    _, places = faiss.knn(probes, np.ascontiguousarray(vectors), k, metric=faiss.METRIC_INNER_PRODUCT)
    return np.asarray(ids[places])


def _overlap(found: Sequence[Int64[np.ndarray, " _"]], truth: Int64[np.ndarray, "p k"]) -> float:
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True))
    return hits / truth.size
