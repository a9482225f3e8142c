"""The embed step: one fused vector per item row, and what else queries need of the items.

`items.npy` holds the vectors, `shopper.npy` the shopper-table ids that describe an item in a shopper's history,
`queries.npy` a sample of query vectors to tune an index on. Nothing that is held in memory grows with the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, final

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
"""How many items are a part: a multiple of what the towers take at a time, and enough to repeat most words."""


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


@dataclass(frozen=True)
class ItemVectors:
    """The vectors of `n` items, and the traits that tell of them in a history."""

    vectors: Float32[np.ndarray, "n width"]
    traits: Int32[np.ndarray, "n traits"]


@final
class EmbeddingSource:
    """The items of a dataset with the model that embeds them, in parts of `ROWS` (or else `part_rows`) item rows.

    Opening it raises `ArtifactError` where the model was not trained on the dataset.
    """

    def __init__(self, dataset: Path, model: Path, config: EmbedConfig, part_rows: int | None = None) -> None:
        manifests = {DATASET: artifact.verify(dataset, DATASET), MODEL: artifact.verify(model, MODEL)}
        require_lineage(manifests, dataset.parent)
        self.dataset, self.model, self.config = dataset, model, config
        self.part_rows = part_rows or ROWS
        self.inputs: Mapping[str, str] = {kind: manifest.fingerprint for kind, manifest in manifests.items()}
        self.encoder = Encoder.open(model)
        self._stats = ItemStats.open(dataset)
        snapshots = self._stats.snapshots
        self._snapshot = snapshots.test if config.as_of == "test" else snapshots.end
        self._totals = self._stats.totals(self._snapshot)
        self._items = DatasetFolder(dataset).items

    @property
    def n_items(self) -> int:
        """How many items there are."""
        return self._stats.n_items

    @property
    def n_parts(self) -> int:
        """How many parts they make, of which the last may be smaller."""
        return -(-self.n_items // self.part_rows)

    def rows_of(self, part: int) -> range:
        """The item rows of a part."""
        return range(part * self.part_rows, min((part + 1) * self.part_rows, self.n_items))

    def embed_parts(self, parts: Sequence[int]) -> Iterator[ItemVectors]:
        """The vectors of each of the `parts`, whose numbers rise; the same whatever other parts are embedded.

        The features of the next part are made while the towers embed this one.
        """
        with pq.ParquetFile(self._items) as table:
            for part, features in zip(parts, read_ahead(self._make_features(table, parts)), strict=True):
                rows = self.rows_of(part)
                counts = self._stats.between(self._snapshot, rows.start, rows.stop)
                vectors = self.encoder.embed_items(features, compute_statistics(counts, self._totals))
                yield ItemVectors(vectors, features.traits)

    def _make_features(self, table: pq.ParquetFile, parts: Sequence[int]) -> Iterator[ItemFeatures]:
        for items in _read_rows(table, [self.rows_of(part) for part in parts]):
            yield self.encoder.encode_items(items)


def embed(dataset: Path, model: Path, target: Path, config: EmbedConfig) -> Manifest:
    """Embeds every item of `dataset` with `model` into the folder `target`, in order of item row.

    Raises `ArtifactError` where `model` was not trained on `dataset`.
    """
    catalogue = EmbeddingSource(dataset, model, config)
    return write_vectors(catalogue, catalogue.embed_parts(range(catalogue.n_parts)), target, plain_values(config))


def write_vectors(
    catalogue: EmbeddingSource, parts: Iterable[ItemVectors], target: Path, config: Mapping[str, object]
) -> Manifest:
    """Writes the folder `target` from all `parts` of the catalogue, in order; `config` is that of its manifest.

    The files are written and not mapped, since a full disk would end the process that writes to a map.
    """
    encoder, sample_queries = catalogue.encoder, catalogue.config.sample_queries
    sample = read_logged_requests(catalogue.dataset, "valid", sample_queries)
    with artifact.write_folder(target, kind=run_folder.VECTORS, config=config, inputs=catalogue.inputs) as draft:
        with (draft.folder / VECTORS).open("wb") as vectors, (draft.folder / SHOPPER).open("wb") as traits:
            write_array_header(vectors, "<f4", (catalogue.n_items, encoder.width))
            for number, part in enumerate(parts):
                if not number:
                    write_array_header(traits, "<i4", (catalogue.n_items, part.traits.shape[1]))
                vectors.write(np.ascontiguousarray(part.vectors).data)
                traits.write(np.ascontiguousarray(part.traits).data)
        history = look_up_traits(np.load(draft.folder / SHOPPER, mmap_mode="r", allow_pickle=False), sample.history)
        queries = encoder.embed_queries(sample.queries, sample.users, history)
        np.save(draft.folder / QUERIES, queries, allow_pickle=False)
        draft.counts |= {"items": catalogue.n_items, "width": encoder.width, "queries": len(queries)}
    return artifact.read_manifest(target, run_folder.VECTORS)


def write_array_header(file: BinaryIO, dtype: str, shape: tuple[int, int]) -> None:
    """The beginning of a `.npy` file, after which the numbers come row by row."""
    np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})


def _read_rows(table: pq.ParquetFile, ranges: Iterable[range]) -> Iterator[pa.Table]:
    """The rows of each of the `ranges`, which rise; ranges that follow one another are read in one go."""
    starts = np.cumsum([0, *(table.metadata.row_group(group).num_rows for group in range(table.num_row_groups))])
    batches: Iterator[pa.RecordBatch] = iter(())
    stop, skip, rest_rows = -1, 0, table.schema_arrow.empty_table()
    for rows in ranges:
        if rows.start != stop:
            group = int(np.searchsorted(starts, rows.start, side="right")) - 1
            batches = table.iter_batches(ROWS, row_groups=range(group, table.num_row_groups))
            rest_rows, skip = rest_rows.slice(0, 0), rows.start - int(starts[group])
        while len(rest_rows) < skip + len(rows):
            rest_rows = pa.concat_tables([rest_rows, pa.Table.from_batches([next(batches)])])
        yield rest_rows.slice(skip, len(rows)).combine_chunks()
        rest_rows, skip, stop = rest_rows.slice(skip + len(rows)), 0, rows.stop


def open_array(folder: Path, name: str = VECTORS) -> np.ndarray:
    """An array of the folder that `embed` wrote, memory-mapped; raises `ArtifactError` where it is damaged."""
    artifact.read_manifest(folder, run_folder.VECTORS)
    try:
        array: np.ndarray = np.load(folder / name, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"Cannot read {folder / name}: {error}.", "Run `mmse embed` again.") from error
    return array
