"""The catalogue as vectors: one fused vector per item row, and what else the query path needs of the items.

`items.npy` holds the vectors, `shopper.npy` the ids by which an item speaks in a shopper's history, `queries.npy`
a sample of query vectors to tune an index on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq

from mmse.core import artifact
from mmse.core.artifact import Manifest
from mmse.core.config import plain, require
from mmse.core.errors import ArtifactError
from mmse.dataset.folder import ItemStats
from mmse.model.encoder import Encoder
from mmse.model.features import shopper_ids, statistics
from mmse.training.targets import read_logged

VECTORS = "items.npy"
QUERIES = "queries.npy"
SHOPPER = "shopper.npy"


@dataclass(frozen=True)
class EmbedConfig:
    """Up to when the log may speak of an item.

    `as_of` is `test` (before the test window, so that the report on that window is honest) or `end` (all of
    the log, for a catalogue that goes into service and is not evaluated). `sample_queries` validation queries are
    embedded along.
    """

    as_of: Literal["test", "end"] = "test"
    sample_queries: int = 1_000

    def __post_init__(self) -> None:
        require(self.sample_queries >= 0, "sample_queries", self.sample_queries, "0 or more")


def embed(dataset: Path, model: Path, out: Path, config: EmbedConfig) -> Manifest:
    """Embeds every item of `dataset` with `model` into the folder `out`, in order of item row.

    Raises `ArtifactError` where `model` was not trained on `dataset`.
    """
    mined, trained = artifact.verify(dataset, "dataset"), artifact.verify(model, "model")
    if trained.inputs["dataset"] != mined.fingerprint:
        raise ArtifactError(f"{model} was not trained on {dataset}.", "Train again, or give the groups it came from.")
    encoder = Encoder.open(model)
    stats = ItemStats.open(dataset)
    features = encoder.encode_items(pq.read_table(dataset / "items.parquet"))
    moment = stats.snapshots.test if config.as_of == "test" else stats.snapshots.end
    vectors = encoder.items(features, statistics(stats.at(moment)))
    sample = read_logged(dataset, "valid", config.sample_queries)
    queries = encoder.queries(sample.queries, sample.users, shopper_ids(features.shopper, sample.history))
    inputs = {"dataset": mined.fingerprint, "model": trained.fingerprint}
    with artifact.writing(out, kind="vectors", config=plain(config), inputs=inputs) as draft:
        np.save(draft.folder / VECTORS, vectors, allow_pickle=False)
        np.save(draft.folder / QUERIES, queries, allow_pickle=False)
        np.save(draft.folder / SHOPPER, features.shopper, allow_pickle=False)
        draft.counts |= {"items": len(vectors), "width": vectors.shape[1], "queries": len(queries)}
    return artifact.read_manifest(out, "vectors")


def open_array(folder: Path, name: str = VECTORS) -> np.ndarray:
    """An array in the folder that `embed` wrote, memory-mapped; raises `ArtifactError` where it is damaged."""
    artifact.read_manifest(folder, "vectors")
    try:
        array: np.ndarray = np.load(folder / name, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"Cannot read {folder / name}: {error}.", "Run `mmse embed` again.") from error
    return array
