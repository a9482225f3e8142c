"""The embed step: one fused vector per item row, and what else queries need of the items.

`items.npy` holds the vectors, `shopper.npy` the shopper-table ids that describe an item in a shopper's history,
`queries.npy` a sample of query vectors to tune an index on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Int32

from mmse.core import artifact, run_folder
from mmse.core.artifact import Manifest
from mmse.core.config import plain_values, require
from mmse.core.errors import ArtifactError
from mmse.core.read_ahead import read_ahead
from mmse.core.run_folder import DATASET, MODEL, require_lineage
from mmse.dataset.folder import DatasetFolder, ItemStats
from mmse.model.encoder import Encoder
from mmse.model.inputs import ItemFeatures, look_up_traits
from mmse.model.item_statistics import compute_statistics
from mmse.training.targets import read_logged_requests

VECTORS = "items.npy"
QUERIES = "queries.npy"
SHOPPER = "shopper.npy"

ROWS = 65_536
"""How many items are read at a time: a multiple of what the towers take at a time, and enough to repeat most words."""


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
    moment = stats.snapshots.test if config.as_of == "test" else stats.snapshots.end
    statistics = compute_statistics(stats.at(moment))
    sample = read_logged_requests(dataset, "valid", config.sample_queries)
    inputs = {kind: manifest.fingerprint for kind, manifest in manifests.items()}
    with artifact.write_folder(target, kind=run_folder.VECTORS, config=plain_values(config), inputs=inputs) as draft:
        traits = _write_vectors(encoder, DatasetFolder(dataset).items, statistics, draft.folder / VECTORS)
        queries = encoder.embed_queries(sample.queries, sample.users, look_up_traits(traits, sample.history))
        np.save(draft.folder / QUERIES, queries, allow_pickle=False)
        np.save(draft.folder / SHOPPER, traits, allow_pickle=False)
        draft.counts |= {"items": len(statistics), "width": encoder.width, "queries": len(queries)}
    return artifact.read_manifest(target, run_folder.VECTORS)


def _write_vectors(
    encoder: Encoder, items: Path, statistics: Float32[np.ndarray, "n statistics"], target: Path
) -> Int32[np.ndarray, "n traits"]:
    """Writes the vectors of the items to `target`, some at a time, and gives the traits of all.

    The features of the next items are made while the towers embed these. The file is written and not mapped, since a
    full disk would end the process that writes to a map.
    """
    traits, start = [], 0
    with target.open("wb") as file, pq.ParquetFile(items) as table:
        shape = {"descr": "<f4", "fortran_order": False, "shape": (len(statistics), encoder.width)}
        np.lib.format.write_array_header_1_0(file, shape)
        for features in read_ahead(_make_features(encoder, table)):
            vectors = encoder.embed_items(features, statistics[start : start + len(features)])
            file.write(vectors.data)
            traits.append(features.traits)
            start += len(features)
    return np.concatenate(traits)


def _make_features(encoder: Encoder, items: pq.ParquetFile) -> Iterator[ItemFeatures]:
    for batch in items.iter_batches(ROWS):
        yield encoder.encode_items(pa.Table.from_batches([batch]))


def open_array(folder: Path, name: str = VECTORS) -> np.ndarray:
    """An array of the folder that `embed` wrote, memory-mapped; raises `ArtifactError` where it is damaged."""
    artifact.read_manifest(folder, run_folder.VECTORS)
    try:
        array: np.ndarray = np.load(folder / name, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"Cannot read {folder / name}: {error}.", "Run `mmse embed` again.") from error
    return array
