"""Indexes behind one protocol: exact and IVF.

`build` makes one from a catalogue's vectors, `open_index` reads one back; both give an `Index`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from mmse.core.errors import ArtifactError
from mmse.index.base import ABOUT, Allowed, Found, Index, IndexConfig, Progress, checked_vectors, read_about
from mmse.index.exact import ExactIndex
from mmse.index.ivf import IvfIndex, calibrate

__all__ = ["Allowed", "ExactIndex", "Found", "Index", "IndexConfig", "IvfIndex", "build", "open_index"]

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

    `probes` are query vectors on which `ivf` chooses how many lists to visit, at most `config.probes` of them.
    Give real ones: queries lie apart from items, and need more lists than the sample of items that stands in for
    them when `probes` is None. Raises `UsageError` as `Index.add` does.
    """
    return {"exact": _exact, "ivf": _ivf}[config.kind](config, vectors, ids, probes, progress)


def open_index(folder: Path) -> Index:
    """The index saved in `folder`, of whichever kind; raises `ArtifactError` where it is missing or damaged."""
    kind = read_about(folder)["kind"]
    if kind not in KINDS:
        raise ArtifactError(
            f"{folder / ABOUT} says kind '{kind}', this mmse knows {', '.join(KINDS)}.", "Build the index again."
        )
    return KINDS[kind].open(folder)


def _exact(
    config: IndexConfig,
    vectors: Float32[np.ndarray, "n d"],
    ids: Int64[np.ndarray, " n"],
    probes: Float32[np.ndarray, "p d"] | None,
    progress: Progress | None,
) -> Index:
    index = ExactIndex(vectors.shape[1])
    index.add(ids, vectors, progress)
    return index


def _ivf(
    config: IndexConfig,
    vectors: Float32[np.ndarray, "n d"],
    ids: Int64[np.ndarray, " n"],
    probes: Float32[np.ndarray, "p d"] | None,
    progress: Progress | None,
) -> Index:
    index = IvfIndex(vectors.shape[1], config)
    index.add(ids, vectors, progress)
    rng = np.random.default_rng([config.seed, 1])
    given = vectors if probes is None or len(probes) == 0 else probes
    rows = np.sort(rng.choice(len(given), min(config.probes, len(given)), replace=False))
    sample = np.ascontiguousarray(given[rows])
    checked_vectors(sample, index.dim, "probe vectors")
    calibrate(index, vectors, ids, sample)
    return index
