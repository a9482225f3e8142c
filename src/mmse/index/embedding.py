"""The embed step: one fused vector per item row, and what else queries need of the items.

`items.npy` holds the vectors, `shopper.npy` the shopper-table ids that describe an item in a shopper's history,
`queries.npy` a sample of query vectors to tune an index on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq

from mmse.core import artifact, run_folder
from mmse.core.artifact import Manifest
from mmse.core.config import plain_values, require
from mmse.core.errors import ArtifactError
from mmse.core.run_folder import DATASET, MODEL, require_lineage
from mmse.dataset.folder import DatasetFolder, ItemStats
from mmse.model.encoder import Encoder
from mmse.model.item_statistics import compute_statistics
from mmse.training.targets import read_logged_requests

VECTORS = "items.npy"
QUERIES = "queries.npy"
SHOPPER = "shopper.npy"


@dataclass(frozen=True)
class EmbedConfig:
    """The time up to which item statistics use the log, and how many queries are embedded too.

    `as_of` is `test` (before the test window, so that an evaluation on that window is fair) or `end` (all of the log,
    for a catalogue that is served and not evaluated). `sample_queries` validation queries are embedded as well.
    """

    as_of: Literal["test", "end"] = "test"
    sample_queries: int = 1_000

    def __post_init__(self) -> None:
        require(self.sample_queries >= 0, "sample_queries", self.sample_queries, "0 or more")


def embed(dataset: Path, model: Path, target: Path, config: EmbedConfig) -> Manifest:
    """Embeds every item of `dataset` with `model` into the folder `target`, in order of item row.

    Raises `ArtifactError` where `model` was not trained on `dataset`.
    """
    manifests = {DATASET: artifact.verify(dataset, DATASET), MODEL: artifact.verify(model, MODEL)}
    require_lineage(manifests, target.parent)
    encoder = Encoder.open(model)
    stats = ItemStats.open(dataset)
    features = encoder.encode_items(pq.read_table(DatasetFolder(dataset).items))
    moment = stats.snapshots.test if config.as_of == "test" else stats.snapshots.end
    vectors = encoder.embed_items(features, compute_statistics(stats.at(moment)))
    sample = read_logged_requests(dataset, "valid", config.sample_queries)
    queries = encoder.embed_queries(sample.queries, sample.users, features.look_up_history(sample.history))
    inputs = {kind: manifest.fingerprint for kind, manifest in manifests.items()}
    with artifact.write_folder(target, kind=run_folder.VECTORS, config=plain_values(config), inputs=inputs) as draft:
        np.save(draft.folder / VECTORS, vectors, allow_pickle=False)
        np.save(draft.folder / QUERIES, queries, allow_pickle=False)
        np.save(draft.folder / SHOPPER, features.traits, allow_pickle=False)
        draft.counts |= {"items": len(vectors), "width": vectors.shape[1], "queries": len(queries)}
    return artifact.read_manifest(target, run_folder.VECTORS)


def open_array(folder: Path, name: str = VECTORS) -> np.ndarray:
    """An array of the folder that `embed` wrote, memory-mapped; raises `ArtifactError` where it is damaged."""
    artifact.read_manifest(folder, run_folder.VECTORS)
    try:
        array: np.ndarray = np.load(folder / name, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"Cannot read {folder / name}: {error}.", "Run `mmse embed` again.") from error
    return array
