"""What a search needs of the dataset, without the log: items, their counts, histories, popular queries.

The folder `serving/` is the only one of a run that names shoppers and is published (`mmse.serving.versions.publish`).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from mmse.core import artifact
from mmse.core.artifact import Manifest
from mmse.core.config import plain_values, require
from mmse.core.errors import ArtifactError
from mmse.core.folder_copy import link_file
from mmse.core.run_folder import DATASET, SERVING
from mmse.dataset.folder import ITEM_COUNTS, DatasetFolder, ItemStats
from mmse.dataset.history import LENGTH, History
from mmse.schema.user_ids import SALT

ITEMS, ITEM_STATS = "items.parquet", "item_stats.parquet"
INTERACTIONS, POPULAR_QUERIES = "interactions.parquet", "popular_queries.parquet"
MAX_QUERIES = 5_000
MEMORY_LIMIT = "1500MB"

Moment = Literal["test", "end"]
"""Until when items are counted: before the test window, or to the end of the log (`embed.as_of`)."""
MOMENTS: tuple[Moment, ...] = ("test", "end")


@dataclass(frozen=True)
class ServingConfig:
    """`[serving]` of shop.toml: what of the log goes into service.

    A query is popular, and may be shown to others, if at least `min_shoppers` different shoppers asked it. Without
    `histories` the folder names no shopper: a personal search then has only the history that it sends itself.
    """

    min_shoppers: int = 20
    histories: bool = True

    def __post_init__(self) -> None:
        require(self.min_shoppers >= 1, "min_shoppers", self.min_shoppers, "at least 1")


def write_serving(dataset: Path, target: Path, config: ServingConfig) -> Manifest:
    """Writes the `serving` folder `target` of a `dataset` folder; gives its manifest.

    Raises `ArtifactError` where `dataset` is none, and `OutputError` where `target` cannot be written.
    """
    manifest = artifact.verify(dataset, DATASET)
    inputs = {DATASET: manifest.fingerprint}
    with artifact.write_folder(target, kind=SERVING, config=plain_values(config), inputs=inputs) as draft:
        link_file(dataset / ITEMS, draft.folder / ITEMS)
        pq.write_table(_item_counts(ItemStats.open(dataset)), draft.folder / ITEM_STATS)
        popular = _popular_queries(dataset, draft.folder / ".spill", config.min_shoppers)
        pq.write_table(popular, draft.folder / POPULAR_QUERIES)
        draft.counts |= {"items": pq.read_metadata(dataset / ITEMS).num_rows, "popular_queries": len(popular)}
        if SALT in manifest.inputs:
            draft.counts[SALT] = manifest.inputs[SALT]
        if config.histories:
            histories = _last_interactions(pq.read_table(dataset / INTERACTIONS))
            pq.write_table(histories, draft.folder / INTERACTIONS)
            draft.counts |= {"interactions": len(histories)}
    return artifact.read_manifest(target, SERVING)


def open_histories(serving: Path) -> History:
    """The histories in a `serving` folder, which has none where it was made or published without them."""
    manifest = artifact.read_manifest(serving, SERVING)
    if INTERACTIONS not in manifest.files or INTERACTIONS in manifest.left_out:
        return History.empty()
    return History.read(serving / INTERACTIONS)


def read_item_counts(serving: Path, moment: Moment) -> Int64[np.ndarray, "n_items 3"]:
    """Shown, clicked, ordered of every item row before `moment`; raises `ArtifactError` where they cannot be read."""
    try:
        table = pq.read_table(serving / ITEM_STATS, filters=[("moment", "=", moment)])
        counts = np.zeros((pq.read_metadata(serving / ITEMS).num_rows, len(ITEM_COUNTS)), np.int64)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(serving / ITEM_STATS, error) from error
    rows = table["item_row"].to_numpy()
    for column, name in enumerate(ITEM_COUNTS):
        counts[rows, column] = table[name].to_numpy()
    return counts


def read_popular_queries(serving: Path) -> dict[str, int]:
    """The popular queries with the requests of each, the most first; raises `ArtifactError` where that cannot be."""
    try:
        columns = pq.read_table(serving / POPULAR_QUERIES).to_pydict()
        return dict(zip(columns["query"], columns["requests"], strict=True))
    except (OSError, KeyError, pa.ArrowException) as error:
        raise _damaged(serving / POPULAR_QUERIES, error) from error


def read_probe_queries(serving: Path, limit: int) -> list[str]:
    """At most `limit` queries to try a search with: popular ones, or titles of items where no query is popular."""
    if queries := read_popular_queries(serving):
        return list(queries)[:limit]
    try:
        batches = pq.ParquetFile(serving / ITEMS).iter_batches(batch_size=limit, columns=["title"])
        titles = next(batches)["title"].to_pylist()
    except StopIteration:
        return []
    except (OSError, pa.ArrowException) as error:
        raise _damaged(serving / ITEMS, error) from error
    return [title for title in titles if title and title.strip()]


def _item_counts(stats: ItemStats) -> pa.Table:
    """What was counted of each item that was ever shown, at both moments that `mmse embed` may use."""
    snapshots = {"test": stats.snapshots.test, "end": stats.snapshots.end}
    tables = []
    for moment in MOMENTS:
        counts = stats.at(snapshots[moment])
        rows = np.flatnonzero(counts[:, 0])
        columns = {"moment": pa.array([moment] * len(rows), pa.string()), "item_row": pa.array(rows, pa.int32())}
        tables.append(pa.table(columns | dict(zip(ITEM_COUNTS, counts[rows].T, strict=True))))
    return pa.concat_tables(tables)


def _popular_queries(dataset: Path, spill: Path, min_shoppers: int) -> pa.Table:
    """The queries of train and validation that enough different shoppers asked, the most frequent first.

    Grouped in steps of plain `GROUP BY`, each of which DuckDB can spill; `count(DISTINCT …)` it cannot.
    """
    from mmse.sources.duckdb_session import open_session  # here, since a server that reads the folder needs no DuckDB
    from mmse.sources.tables import literal

    shards = [path for split in ("train", "valid") for path in DatasetFolder(dataset).row_files(split)]
    files = ", ".join(literal(str(path)) for path in shards)
    with open_session(memory_limit=MEMORY_LIMIT, threads=None) as database:
        database.spill_to(spill)
        popular = database.arrow(f"""
            WITH requests AS (
                SELECT DISTINCT request_id, query, user_id FROM read_parquet([{files}], hive_partitioning = false)),
            by_shopper AS (SELECT query, user_id, count(*) AS requests FROM requests GROUP BY query, user_id)
            SELECT query, sum(requests)::BIGINT AS requests, count(user_id) AS shoppers
              FROM by_shopper GROUP BY query HAVING count(user_id) >= {min_shoppers}
             ORDER BY requests DESC, query LIMIT {MAX_QUERIES}""")
    shutil.rmtree(spill, ignore_errors=True)
    return popular


def _last_interactions(interactions: pa.Table) -> pa.Table:
    """The last `LENGTH` of each shopper, which is all that a search looks at; sorted as they were."""
    if not len(interactions):
        return interactions
    users = interactions["user_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    starts = np.flatnonzero(np.append(True, users[1:] != users[:-1]))
    lengths = np.diff(np.append(starts, len(users)))
    from_end = np.repeat(starts + lengths, lengths) - np.arange(len(users))
    return interactions.filter(pa.array(from_end <= LENGTH))


def _damaged(path: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"Cannot read {path}: {error}.", "Run `mmse run` again; of a published run, publish it again.")
