"""One person taken out of a `dataset` or a `serving` folder: their rows, and what was counted of them there.

The folders made from a dataset stay as they are: they hold sums and weights over many, and none names a shopper.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmse.core import artifact, drafts
from mmse.core.folder_copy import rewrite_files
from mmse.core.run_folder import DATASET, SERVING
from mmse.dataset.contract import count_periods, count_requests, count_rows, select_rows, slice_names
from mmse.dataset.folder import QUERIES_SCHEMA, STATS_SCHEMA, DatasetFolder
from mmse.dataset.serving_data import INTERACTIONS, POPULAR_QUERIES
from mmse.schema.stages import Stage
from mmse.sources.duckdb_session import Session, open_session
from mmse.sources.tables import literal

REDACTED = "(forgotten)"
_MEMORY_LIMIT = "1500MB"
_ROW_GROUP = 131_072
_Mask: TypeAlias = pa.Array | pa.ChunkedArray
"""Whether each row of a file is the person's."""


@dataclass(frozen=True)
class Traces:
    """What a folder has of a person: how many rows, and the queries that they asked (in their normal form)."""

    n_rows: int = 0
    queries: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Finds:
    """The rows to remove from each file, by its name in the folder; and the person's requests and queries."""

    masks: dict[str, _Mask] = field(default_factory=dict)
    request_ids: set[str] = field(default_factory=set)
    queries: set[str] = field(default_factory=set)

    def add(self, name: str, mask: _Mask) -> bool:
        """Notes the rows of a file, and whether there are any."""
        has_rows = bool(pc.any(mask).as_py())
        if has_rows:
            self.masks[name] = mask
        return has_rows

    @property
    def traces(self) -> Traces:
        n_rows = sum(int(pc.sum(mask).as_py()) for mask in self.masks.values())
        return Traces(n_rows, frozenset(self.queries))


def text_pattern(user_id: str) -> re.Pattern[str]:
    """Finds a `user_id` in a text, as a word of its own: `u1` is not in `u17`."""
    return re.compile(rf"(?<![\w-]){re.escape(user_id)}(?![\w-])")


def erase_from_dataset(dataset: Path, user_id: str, *, dry_run: bool = False) -> Traces:
    """Removes a person from a `dataset` folder, all or nothing; gives what there was.

    Gone are their requests, histories, reformulations and bad rows, and they no longer count in the queries, in the
    statistics of items and in when an item was first shown. The examination curve stays as it was learned. Raises
    `ArtifactError` where the folder is damaged, and `OutputError` where the disk refuses.
    """
    if not dry_run:
        drafts.sweep(dataset)
        shutil.rmtree(_spill_of(dataset), ignore_errors=True)
    manifest = artifact.verify(dataset, DATASET)
    finds = _find_rows(dataset, user_id)
    names_person = text_pattern(user_id).search(str(manifest.counts)) is not None
    if dry_run or not (finds.masks or names_person):
        return finds.traces
    writers: dict[str, Callable[[Path], None]] = {
        name: partial(_write_remaining, dataset / name, mask) for name, mask in finds.masks.items()
    }
    with _open_session(dataset) as session:
        if finds.request_ids:
            files = DatasetFolder(dataset)
            writers[files.queries.name] = partial(_write_queries, session, dataset, user_id)
            writers[files.item_stats.name] = partial(_write_item_stats, session, dataset, user_id)
            writers[files.items.name] = partial(_write_items, session, dataset, user_id)
        rewrite_files(dataset, DATASET, writers, partial(_count_anew, session, user_id))
    return finds.traces


def erase_from_serving(serving: Path, user_id: str, queries: Collection[str] = (), *, dry_run: bool = False) -> Traces:
    """Removes a person from a `serving` folder, all or nothing; gives what there was.

    Of `queries`, which the person asked, those go that would not be popular without them. Raises `ArtifactError` where
    the folder is damaged, and `OutputError` where the disk refuses.
    """
    if not dry_run:
        drafts.sweep(serving)
    manifest = artifact.verify(serving, SERVING)
    finds = _Finds()
    if INTERACTIONS in manifest.files and INTERACTIONS not in manifest.left_out:
        finds.add(INTERACTIONS, _equals(pq.read_table(serving / INTERACTIONS, columns=["user_id"])["user_id"], user_id))
    popular = pq.read_table(serving / POPULAR_QUERIES)
    if queries and "shoppers" in popular.column_names:
        is_rare = pc.less_equal(popular["shoppers"], int(manifest.config.get("min_shoppers", 1)))
        finds.add(POPULAR_QUERIES, pc.and_(is_rare, pc.is_in(popular["query"], pa.array(sorted(queries), pa.string()))))
    if finds.masks and not dry_run:
        writers = {name: partial(_write_remaining, serving / name, mask) for name, mask in finds.masks.items()}
        rewrite_files(serving, SERVING, writers, partial(_count_serving, finds.masks))
    return finds.traces


def _spill_of(dataset: Path) -> Path:
    """Where DuckDB puts what exceeds its memory, which is removed in the end, or by the next command."""
    return dataset.parent / f".{dataset.name}.spill"


@contextlib.contextmanager
def _open_session(dataset: Path) -> Iterator[Session]:
    """A session that spills beside the dataset."""
    try:
        with open_session(memory_limit=_MEMORY_LIMIT, threads=None) as session:
            session.spill_to(_spill_of(dataset))
            yield session
    finally:
        shutil.rmtree(_spill_of(dataset), ignore_errors=True)


def _find_rows(dataset: Path, user_id: str) -> _Finds:
    """The rows of a dataset that are a person's."""
    finds, files = _Finds(), DatasetFolder(dataset)
    for slice_name in slice_names(count_periods(dataset)):
        for path in sorted((dataset / slice_name).glob("*.parquet")):
            table = pq.read_table(path, columns=["user_id", "request_id", "query"], partitioning=None)
            mask = _equals(table["user_id"], user_id)
            if finds.add(path.relative_to(dataset).as_posix(), mask):
                finds.request_ids.update(pc.unique(table["request_id"].filter(mask)).to_pylist())
                finds.queries.update(pc.unique(table["query"].filter(mask)).to_pylist())
    finds.add(
        files.interactions.name, _equals(pq.read_table(files.interactions, columns=["user_id"])["user_id"], user_id)
    )
    if finds.request_ids and files.reformulations.is_file():
        pairs = pq.read_table(files.reformulations, columns=["request_id", "next_request_id"])
        ids = pa.array(sorted(finds.request_ids), pa.string())
        mask = pc.or_(*(pc.is_in(pairs[name], ids) for name in pairs.column_names))
        finds.add(files.reformulations.name, mask)
    if files.rejected.is_file():
        texts, pattern = pq.read_table(files.rejected, columns=["row"])["row"].to_pylist(), text_pattern(user_id)
        finds.add(files.rejected.name, pa.array([pattern.search(text or "") is not None for text in texts], pa.bool_()))
    return finds


def _equals(column: pa.ChunkedArray, user_id: str) -> _Mask:
    """Which values are the person's id; no value is not."""
    mask: _Mask = pc.fill_null(pc.equal(column, user_id), False)
    return mask


def _write_remaining(source: Path, mask: _Mask, target: Path) -> None:
    """Writes the rows of a Parquet file that are not in `mask`."""
    table = pq.read_table(source, partitioning=None)
    pq.write_table(table.filter(pc.invert(mask)), target, row_group_size=_ROW_GROUP, store_schema=False)


def _write_queries(session: Session, dataset: Path, user_id: str, target: Path) -> None:
    """Writes the queries of train, counted without the person; the most frequent first."""
    n_periods = count_periods(dataset)
    queries = session.arrow(f"""
        SELECT query, count(DISTINCT request_id) AS requests FROM ({select_rows(dataset, n_periods)})
         WHERE slice < {n_periods} AND user_id IS DISTINCT FROM {literal(user_id)}
         GROUP BY query ORDER BY requests DESC, query""")
    pq.write_table(queries.cast(QUERIES_SCHEMA), target)


def _write_item_stats(session: Session, dataset: Path, user_id: str, target: Path) -> None:
    """Writes what was counted of each item before each snapshot, without the person."""
    snapshots = literal(str(DatasetFolder(dataset).snapshots))
    stats = session.arrow(f"""
        WITH by_slice AS (
            SELECT slice, item_row, count(*) AS shown, count(*) FILTER (stage >= {Stage.CLICKED:d}) AS clicked,
                   count(*) FILTER (stage >= {Stage.ORDERED:d}) AS ordered
              FROM ({select_rows(dataset, count_periods(dataset))})
             WHERE stage >= {Stage.UNCLICKED:d} AND user_id IS DISTINCT FROM {literal(user_id)}
             GROUP BY slice, item_row)
        SELECT snapshot, item_row, sum(shown)::BIGINT AS shown, sum(clicked)::BIGINT AS clicked,
               sum(ordered)::BIGINT AS ordered
          FROM by_slice JOIN read_parquet({snapshots}) ON slice < snapshot
         GROUP BY snapshot, item_row ORDER BY snapshot, item_row""")
    pq.write_table(stats.cast(STATS_SCHEMA), target)


def _write_items(session: Session, dataset: Path, user_id: str, target: Path) -> None:
    """Writes the items, first seen when somebody else was first shown them."""
    items = pq.read_table(DatasetFolder(dataset).items)
    moments = session.arrow(f"""
        SELECT first_seen FROM range({len(items)}) AS item(item_row) LEFT JOIN (
            SELECT item_row, min(timestamp) AS first_seen FROM ({select_rows(dataset, count_periods(dataset))})
             WHERE stage >= {Stage.UNCLICKED:d} AND user_id IS DISTINCT FROM {literal(user_id)} GROUP BY item_row)
         USING (item_row) ORDER BY item_row""")
    index = items.column_names.index("first_seen")
    first_seen = moments["first_seen"].cast(items.schema.field(index).type)
    pq.write_table(items.set_column(index, items.schema.field(index), first_seen), target)


def _count_anew(session: Session, user_id: str, dataset: Path, counts: dict[str, Any]) -> dict[str, Any]:
    """The counts of a dataset's manifest, of what it holds now; where they name the person, they no longer do."""
    n_periods = count_periods(dataset)
    new_counts = {"requests": count_requests(session, dataset, n_periods), **count_rows(session, dataset, n_periods)}
    redacted: dict[str, Any] = redact(counts, user_id)
    return redacted | new_counts


def _count_serving(masks: Mapping[str, _Mask], serving: Path, counts: dict[str, Any]) -> dict[str, Any]:
    names = {INTERACTIONS: "interactions", POPULAR_QUERIES: "popular_queries"}
    return counts | {names[name]: pq.read_metadata(serving / name).num_rows for name in masks}


def redact(value: Any, user_id: str) -> Any:  # noqa: ANN401  JSON
    """`value`, plain JSON, with another word wherever a text of it names the person."""
    if isinstance(value, str):
        return text_pattern(user_id).sub(REDACTED, value)
    if isinstance(value, dict):
        return {redact(key, user_id): redact(entry, user_id) for key, entry in value.items()}
    if isinstance(value, list):
        return [redact(entry, user_id) for entry in value]
    return value
