"""The IVF index: Faiss inverted lists of scalar-quantised vectors; as many are probed as the target recall needs.

It was preferred to graph indexes by measurement: it stores a vector in one byte per dimension, supports deletes, and
keeps its recall under narrow filters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

import faiss
import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, UInt8

from mmse.core.errors import UsageError
from mmse.core.progress import Progress
from mmse.index.base import (
    CHUNK,
    CODE_BITS,
    IdFilter,
    IndexConfig,
    Neighbours,
    check_ids,
    check_vectors,
    damage_error,
    is_dense,
    no_neighbours,
    read_metadata,
    select_ids,
    write_metadata,
)

CODES = {
    "fp16": faiss.ScalarQuantizer.QT_fp16,
    "sq8": faiss.ScalarQuantizer.QT_8bit,
    "sq4": faiss.ScalarQuantizer.QT_4bit,
    "tq2": faiss.ScalarQuantizer.QT_2bit_tqmse,
    "tq1": faiss.ScalarQuantizer.QT_1bit_tqmse,
}
"""The quantisers; `tq` are those of TurboQuant (Zandieh et al., 2025), which keep far more at one and two bits."""
LISTS_FILE = "ivf.faiss"
SPARSEST_BITMAP = 1024
"""A filter becomes a bitmap if that takes at most this many bits per id that passes; otherwise a hash set."""
WIDTH_STEP = 16
"""Faiss compares codes 8 or 16 dimensions at a time if the width is a multiple of that; otherwise one by one, ten times
slower. So vectors are padded with zeros, which do not change an inner product."""
RESCORE_FACTORS = (1.5, 3.0, 6.0, 12.0)
"""Codes are rounded, so one of these times `k` ids are taken and scored again by their exact vectors."""
ID_BYTES = 8
SAMPLE_STEP = 16
"""Every so many-th row of a list is sampled to estimate how many of its rows pass a filter."""


@dataclass(frozen=True)
class ListLayout:
    """The list of each row (-1: not in the index), a sample of rows by list, and the centroids.

    The sample of list `l` is `sample[ends[l - 1] : ends[l]]`, every `SAMPLE_STEP`-th of its `sizes[l]` rows.
    """

    list_of: Int32[np.ndarray, " rows"]
    sizes: Int64[np.ndarray, " nlist"]
    sample: Int64[np.ndarray, " s"]
    ends: Int64[np.ndarray, " nlist"]
    centroids: Float32[np.ndarray, "nlist d"]

    def count_rows(self, mask: Bool[np.ndarray, " n"]) -> Int64[np.ndarray, " nlist"]:
        """How many rows of `mask` lie in each list."""
        lists = self.list_of.take(np.flatnonzero(mask[: len(self.list_of)]))
        return np.bincount(lists[lists >= 0], minlength=len(self.sizes))

    def estimate_rows(self, mask: Bool[np.ndarray, " n"]) -> Int64[np.ndarray, " nlist"]:
        """About how many rows of `mask` lie in each list, in a few tenths of a millisecond for a million rows."""
        running_total = np.concatenate([[0], np.cumsum(mask.take(self.sample))])
        return np.asarray(np.diff(running_total[self.ends], prepend=0) * SAMPLE_STEP)


class ListTrial(NamedTuple):
    """The recall of a search that visited so many lists and scored so many times `k` ids again."""

    lists: int
    rescore_factor: float
    recall: float


@final
class IvfIndex:
    """Inverted lists, trained on the first vectors added (see `Index` for the methods).

    `nprobe` is the number of lists that an unfiltered search visits for up to `rescore_factor · recall_k` ids; for more
    ids it visits more. `build` chooses both; until then every list is visited. `measured_recall` is the share of the
    exact top `recall_k` that was found with them (None: not measured), and `trials` what they were chosen from.
    """

    def __init__(self, dim: int, config: IndexConfig) -> None:
        self.config = config
        self.measured_recall: float | None = None
        self.rescore_factor = RESCORE_FACTORS[0]
        self.trials: tuple[ListTrial, ...] = ()
        self._dim = dim
        self._ids: Int64[np.ndarray, " n"] = np.empty(0, dtype=np.int64)
        self._lists: Any = None
        self._is_mapped = False
        self._layout: ListLayout | None = None

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
    def codes(self) -> str:
        """The codes of the lists, `config.codes` or coarser ones; those of the config before the first vectors came."""
        kinds = {kind: name for name, kind in CODES.items()}
        return self.config.codes if self._lists is None else kinds[self._lists.sq.qtype]

    @property
    def n_bytes(self) -> int:
        """The bytes of codes and ids in the lists."""
        return 0 if self._lists is None else len(self) * (int(self._lists.code_size) + ID_BYTES)

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
        """Adds vectors under new ids. The first call trains the lists, so add the catalogue in one call."""
        check_vectors(vectors, self.dim, "vectors to add")
        check_ids(ids, vectors, self._ids)
        if len(ids) == 0:
            return
        if self._lists is None:
            self._lists = _train_lists(vectors, self.config, progress)
        self._load_into_memory()
        for start in range(0, len(ids), CHUNK):
            chunk = slice(start, start + CHUNK)
            self._lists.add_with_ids(self._pad(vectors[chunk]), np.ascontiguousarray(ids[chunk]))
            if progress is not None:
                progress("vectors indexed", min(start + CHUNK, len(ids)), len(ids))
        self._ids = np.sort(np.concatenate([self._ids, ids]))

    def remove(self, ids: Int64[np.ndarray, " n"]) -> int:
        """Removes these ids and returns how many of them were in the index; a pass over all lists: do it in batches."""
        present_ids = select_ids(ids, self._ids)
        if len(present_ids) == 0:
            return 0
        self._load_into_memory()
        n_removed = int(self._lists.remove_ids(_selector(present_ids)))
        assert n_removed == len(present_ids), (n_removed, len(present_ids))
        self._ids = self._ids[~np.isin(self._ids, present_ids, assume_unique=True)]
        return n_removed

    def search(self, vectors: Float32[np.ndarray, "n d"], k: int, id_filter: IdFilter | None = None) -> Neighbours:
        """The `k` best of each query among the ids of `id_filter`.

        With a filter that a share `f` passes, `1/f` times the lists are visited, so that about as many vectors are
        compared as without a filter. For more than `rescore_factor · recall_k` hits, proportionally more lists are
        visited. A query that still found fewer hits than exist searches all lists.
        """
        check_vectors(vectors, self.dim, "query vectors")
        selector, n_allowed = self._make_selector(id_filter)
        if self._lists is None or n_allowed == 0 or len(vectors) == 0:
            return no_neighbours(len(vectors), k)
        queries = self._pad(vectors)
        depth_factor = max(1.0, k / (self.rescore_factor * self.config.recall_k))
        probes = min(self.nlist, math.ceil(self.nprobe * depth_factor * len(self) / n_allowed))
        neighbours = self._search_lists(queries, k, probes, selector)
        short = (neighbours.ids >= 0).sum(axis=1) < min(k, n_allowed)
        if short.any():
            all_lists = self._search_lists(queries[short], k, self.nlist, selector)
            neighbours.ids[short], neighbours.scores[short] = all_lists.ids, all_lists.scores
        return neighbours

    def visit(
        self,
        query: Float32[np.ndarray, " d"],
        k: int,
        lists: Int64[np.ndarray, " p"],
        *,
        nearness: Float32[np.ndarray, " nlist"],
        bits: UInt8[np.ndarray, " b"],
    ) -> Int64[np.ndarray, " k"]:
        """The `k` best ids in `lists` (one or more) whose bit is set, padded with -1.

        `nearness` has the inner products of the query and the centroids: codes are relative to the centroid.
        """
        parameters = faiss.SearchParametersIVF()
        parameters.nprobe, parameters.sel = len(lists), _bitmap_selector(bits)
        ids, scores, list_nearness = np.empty(k, np.int64), np.empty(k, np.float32), nearness[lists]
        wide_query = self._pad(query[None])
        pointers = [faiss.swig_ptr(array) for array in (wide_query, lists, list_nearness, scores, ids)]
        self._lists.search_preassigned_c(1, pointers[0], k, *pointers[1:], False, parameters)
        return ids

    def layout(self) -> ListLayout:
        """The lists of the rows; computed on the first call after a change (0.1 s for a million rows)."""
        if self._layout is None:
            assert self._lists is not None
            inverted_lists, list_of = self._lists.invlists, np.full(int(self._ids[-1]) + 1, -1, dtype=np.int32)
            sizes, samples = np.zeros(self.nlist, dtype=np.int64), []
            for list_number in range(self.nlist):
                sizes[list_number] = inverted_lists.list_size(list_number)
                if sizes[list_number]:
                    rows = faiss.rev_swig_ptr(inverted_lists.get_ids(list_number), int(sizes[list_number]))
                    list_of[rows] = list_number
                    samples.append(rows[::SAMPLE_STEP].copy())
            ends = np.cumsum(-(-sizes // SAMPLE_STEP))
            centroids = np.ascontiguousarray(self._lists.quantizer.reconstruct_n(0, self.nlist)[:, : self.dim])
            self._layout = ListLayout(list_of, sizes, np.concatenate(samples), ends, centroids)
        return self._layout

    def save(self, folder: Path) -> None:
        """Writes `ivf.faiss` (readable by any Faiss), `ids.npy` and `index.json` into `folder`."""
        np.save(folder / "ids.npy", self._ids)
        if self._lists is not None:
            faiss.write_index(self._lists, str(folder / LISTS_FILE))
        metadata = {"kind": "ivf", "dim": self.dim, "vectors": len(self), "nlist": self.nlist, "nprobe": self.nprobe}
        metadata |= {"measured_recall": self.measured_recall, "rescore_factor": self.rescore_factor}
        write_metadata(folder, {**metadata, "config": self.config.to_manifest()})

    @classmethod
    def open(cls, folder: Path) -> IvfIndex:
        """The index saved in `folder`, its lists memory-mapped until the first change."""
        metadata = read_metadata(folder)
        try:
            index = cls(int(metadata["dim"]), IndexConfig(**metadata["config"]))
            index.measured_recall = metadata["measured_recall"]
            index.rescore_factor = metadata.get("rescore_factor", index.rescore_factor)
            index._ids = np.load(folder / "ids.npy")
            if metadata["nlist"]:
                index._lists = faiss.read_index(str(folder / LISTS_FILE), faiss.IO_FLAG_MMAP_IFC)
                index._is_mapped = True
                index.nprobe = metadata["nprobe"]
                if index._lists.ntotal != len(index._ids) or not index.dim <= index._lists.d <= _round_up(index.dim):
                    raise ValueError(
                        f"{index._lists.ntotal} vectors of width {index._lists.d} for {len(index._ids)} ids"
                    )
        except (OSError, ValueError, EOFError, RuntimeError, KeyError, TypeError) as error:
            raise damage_error(folder / LISTS_FILE, error) from error
        return index

    def search_lists(self, vectors: Float32[np.ndarray, "n d"], k: int, probes: int) -> Int64[np.ndarray, "n k"]:
        """The `k` best ids of each query in the `probes` nearest lists by their codes, padded with -1."""
        return self._search_lists(self._pad(vectors), k, probes, None).ids

    def _pad(self, vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n padded"]:
        """The vectors padded to the width of the lists."""
        return _widen(vectors, int(self._lists.d))

    def _search_lists(self, queries: Float32[np.ndarray, "n padded"], k: int, probes: int, selector: Any) -> Neighbours:  # noqa: ANN401
        parameters = faiss.SearchParametersIVF()
        parameters.nprobe = probes
        if selector is not None:
            parameters.sel = selector
        scores, ids = self._lists.search(queries, k, params=parameters)
        scores[ids < 0] = -np.inf
        return Neighbours(ids, scores)

    def _make_selector(self, id_filter: IdFilter | None) -> tuple[Any, int]:
        """A Faiss selector of the ids that pass `id_filter` (None: all), and their number."""
        if id_filter is None:
            return None, len(self)
        if id_filter.dtype == np.bool_ and is_dense(self._ids):
            mask = id_filter[: len(self._ids)]
            return _bitmap_selector(bitmap(mask)), int(np.count_nonzero(mask))
        ids = select_ids(id_filter, self._ids)
        return (_selector(ids) if len(ids) else None), len(ids)

    def _load_into_memory(self) -> None:
        """Prepares the lists for a change: Faiss ends the process when a memory-mapped list is changed."""
        self._layout = None
        if self._is_mapped:
            self._lists = faiss.deserialize_index(faiss.serialize_index(self._lists))
            self._is_mapped = False


def finest_codes(config: IndexConfig, n: int, dim: int) -> str:
    """The finest codes from `config.codes` on with which lists of `n` vectors of `dim` numbers fit `config.memory`.

    Raises `UsageError` where none do.
    """
    names = list(CODE_BITS)[list(CODE_BITS).index(config.codes) :]
    sizes = {name: n * (_round_up(dim) * CODE_BITS[name] // 8 + ID_BYTES) for name in names}
    name = next((name for name in names if not config.memory or sizes[name] <= config.memory_bytes), None)
    if name is None:
        raise UsageError(
            f"[index] memory is {config.memory}, and the lists of {n:,} vectors of {dim} numbers take "
            f"{sizes[names[-1]] / 1e6:,.0f} MB in the coarsest codes ({names[-1]}).",
            "Give more memory, or take a store on other machines (docs/vector_stores.md).",
        )
    return name


def _train_lists(vectors: Float32[np.ndarray, "n d"], config: IndexConfig, progress: Progress | None) -> Any:  # noqa: ANN401
    """Empty lists with centroids trained on a sample; with few vectors there are few lists, so that none is empty."""
    n, dim = len(vectors), _round_up(vectors.shape[1])
    nlist = max(1, min(config.most_lists, round(config.lists_per_root * math.sqrt(n)), n // 8))
    sample = vectors
    if n > nlist * config.training_per_list:
        rows = np.random.default_rng(config.seed).choice(n, nlist * config.training_per_list, replace=False)
        sample = vectors[np.sort(rows)]
    if progress is not None:
        progress("lists trained", 0, nlist)
    lists = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dim), dim, nlist, CODES[finest_codes(config, n, vectors.shape[1])], faiss.METRIC_INNER_PRODUCT
    )
    lists.cp.seed = config.seed + 1
    lists.cp.min_points_per_centroid = 1
    lists.cp.max_points_per_centroid = max(1, config.training_per_list)
    lists.train(_widen(sample, dim))
    lists.nprobe = nlist
    if progress is not None:
        progress("lists trained", nlist, nlist)
    return lists


def _round_up(dim: int) -> int:
    return -(-dim // WIDTH_STEP) * WIDTH_STEP


def _widen(vectors: Float32[np.ndarray, "n d"], dim: int) -> Float32[np.ndarray, "n padded"]:
    if vectors.shape[1] == dim:
        return np.ascontiguousarray(vectors)
    wide_vectors = np.zeros((len(vectors), dim), np.float32)
    wide_vectors[:, : vectors.shape[1]] = vectors
    return wide_vectors


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
    """A mask in the form that Faiss reads: one bit per id."""
    return np.packbits(mask, bitorder="little")
