"""Vector indexes behind one protocol: exact and IVF.

`build` makes one from a catalogue's vectors, `open_index` opens a saved one; both return an `Index`.
"""

from __future__ import annotations

from pathlib import Path

import faiss
import numpy as np
from jaxtyping import Float32, Int64

from mmse.core.errors import ArtifactError
from mmse.core.progress import Progress
from mmse.index.base import METADATA, IdFilter, Index, IndexConfig, Neighbours, check_vectors, read_metadata
from mmse.index.exact import ExactIndex
from mmse.index.ivf import IvfIndex
from mmse.index.list_tuning import calibrate

__all__ = ["ExactIndex", "IdFilter", "Index", "IndexConfig", "IvfIndex", "Neighbours", "build", "open_index"]

faiss.cvar.distance_compute_blas_threshold = 20
"""From so many queries on Faiss compares them by a product of matrices, which takes a seventh of the time for hundreds.
Faiss 1.15 waits for 128,000 of them."""

KINDS: dict[str, type[ExactIndex] | type[IvfIndex]] = {"exact": ExactIndex, "ivf": IvfIndex}


def build(
    config: IndexConfig,
    vectors: Float32[np.ndarray, "n d"],
    ids: Int64[np.ndarray, " n"],
    *,
    probes: Float32[np.ndarray, "p d"] | None = None,
    progress: Progress | None = None,
) -> Index:
    """An index of `vectors` under `ids`; either may be memory-mapped.

    `probes` are query vectors; `ivf` uses at most `config.probes` of them to choose how many lists it visits. Give
    real queries: they lie apart from the items and need more lists than a sample of items, which is used where
    `probes` is None. Raises `UsageError` as `Index.add` does.
    """
    return {"exact": _build_exact, "ivf": _build_ivf}[config.kind](config, vectors, ids, probes, progress)


def open_index(folder: Path) -> Index:
    """The index saved in `folder`, of any kind; raises `ArtifactError` where it is missing or damaged."""
    kind = read_metadata(folder)["kind"]
    if kind not in KINDS:
        raise ArtifactError(
            f"{folder / METADATA} says kind '{kind}', this mmse knows {', '.join(KINDS)}.", "Build the index again."
        )
    return KINDS[kind].open(folder)


def _build_exact(
    config: IndexConfig,
    vectors: Float32[np.ndarray, "n d"],
    ids: Int64[np.ndarray, " n"],
    probes: Float32[np.ndarray, "p d"] | None,
    progress: Progress | None,
) -> Index:
    index = ExactIndex(vectors.shape[1])
    index.add(ids, vectors, progress)
    return index


def _build_ivf(
    config: IndexConfig,
    vectors: Float32[np.ndarray, "n d"],
    ids: Int64[np.ndarray, " n"],
    probes: Float32[np.ndarray, "p d"] | None,
    progress: Progress | None,
) -> Index:
    index = IvfIndex(vectors.shape[1], config)
    index.add(ids, vectors, progress)
    rng = np.random.default_rng([config.seed, 1])
    candidates = vectors if probes is None or len(probes) == 0 else probes
    rows = np.sort(rng.choice(len(candidates), min(config.probes, len(candidates)), replace=False))
    sample = np.ascontiguousarray(candidates[rows])
    check_vectors(sample, index.dim, "probe vectors")
    calibrate(index, vectors, ids, sample)
    return index
