"""The check of a dataset folder, whichever engine made it: its files, their columns, and the rules of its content.

`docs/tables.md` says in words what must hold. A folder that breaks a rule trains a wrong model or none, or lets a
request see its own future.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmse.core.findings import Finding
from mmse.dataset import folder as layout
from mmse.dataset.folder import TEST, TRAIN, VALID, DatasetFolder, period_name
from mmse.dataset.rules import CURE, RULES, Rule
from mmse.schema.columns import ITEM_COLUMNS, ColumnType
from mmse.schema.stages import Stage
from mmse.schema.value_sets import is_set
from mmse.sources.duckdb_session import Session, open_session
from mmse.sources.file_locations import files_in
from mmse.text.normalise import normalise

MAX_PERIODS = 99
_LOGGED_STAGES = tuple(stage for stage in Stage if stage >= Stage.RETRIEVED)
_ITEM_TYPES = {ColumnType.TEXT: pa.string(), ColumnType.NUMBER: pa.float64(), ColumnType.FLAG: pa.bool_()}
TABLES: Mapping[str, pa.Schema] = {
    "items": pa.schema(
        [
            pa.field("item_row", pa.int32()),
            pa.field("first_seen", pa.timestamp("us")),
            *(
                pa.field(
                    column.name, _ITEM_TYPES[column.type], metadata=None if column.is_required else {"optional": "1"}
                )
                for column in ITEM_COLUMNS
                if column.type in _ITEM_TYPES
            ),
        ]
    ),
    "interactions": layout.INTERACTIONS_SCHEMA,
    "item_stats": layout.STATS_SCHEMA,
    "queries": layout.QUERIES_SCHEMA,
    "snapshots": layout.SNAPSHOTS_SCHEMA,
    "examination": layout.EXAMINATION_SCHEMA,
    "reformulations": layout.REFORMULATIONS_SCHEMA,
    "corrections": layout.CORRECTIONS_SCHEMA,
    "rejected": layout.REJECTED_SCHEMA,
}
"""The tables beside the rows, by their name in `DatasetFolder`, with the columns that they must have."""
_OPTIONAL = ("reformulations", "corrections", "rejected")


def check_dataset(dataset: Path, *, memory_limit: str = "1500MB", threads: int | None = None) -> list[Finding]:
    """Everything that is wrong with a dataset folder; empty where mmse can train on it.

    Files and columns come first, and where one of them is wrong nothing else is looked at. The content is then read out
    of core, with at most `memory_limit` in memory and `threads` (None: all) at work.
    """
    findings = list(check_files(dataset))
    if findings:
        return findings
    with open_session(memory_limit=memory_limit, threads=threads) as session:
        _open_views(session, DatasetFolder(dataset))
        files = DatasetFolder(dataset)
        absent = [name for name in _OPTIONAL if not getattr(files, name).is_file()]
        rules = [rule for rule in RULES if rule.name not in absent]
        return [finding for rule in rules if (finding := _find(session, rule, dataset))]


def check_files(dataset: Path) -> Iterator[Finding]:
    """What is wrong with the files of a dataset folder and with their columns; reads no content."""
    files = DatasetFolder(dataset)
    n_periods = count_periods(dataset)
    if not n_periods:
        yield _missing(dataset / period_name(0), "a folder with the rows of the first train period")
    for name, schema in TABLES.items():
        path: Path = getattr(files, name)
        if path.is_file():
            yield from _check_schema(path, schema)
        elif name not in _OPTIONAL:
            yield _missing(path, "a Parquet file")
    for slice_name in slice_names(n_periods):
        row_files = sorted((dataset / slice_name).glob("*.parquet"))
        if not row_files:
            yield _missing(dataset / slice_name, "a folder with at least one Parquet file of rows, which may be empty")
        for path in row_files:
            yield from _check_schema(path, layout.ROWS_SCHEMA)
    if files.snapshots.is_file() and not list(_check_schema(files.snapshots, layout.SNAPSHOTS_SCHEMA)):
        n_snapshots = pq.read_metadata(files.snapshots).num_rows
        if n_snapshots != n_periods + 3:
            yield Finding(
                "snapshot_count",
                "blocks",
                f"{files.snapshots} has {n_snapshots} rows, expected {n_periods + 3}: one for each of the {n_periods} "
                "train periods, then the start of valid, the start of test, and the end of the log.",
                CURE,
            )


def dataset_files(dataset: Path) -> list[Path]:
    """The files of the contract that a folder has, in a fixed order; others are none of its own."""
    tables: list[Path] = [getattr(DatasetFolder(dataset), name) for name in TABLES]
    rows = [path for name in slice_names(count_periods(dataset)) for path in sorted((dataset / name).glob("*.parquet"))]
    return [path for path in (*tables, *rows) if path.is_file()]


def count_periods(dataset: Path) -> int:
    """How many train periods the folder has: those from 0 on without a gap."""
    return next(period for period in range(MAX_PERIODS + 1) if not (dataset / period_name(period)).is_dir())


def slice_names(n_periods: int) -> list[str]:
    """The folder of each slice in order of time, below the dataset folder: train's periods, valid, test."""
    return [*map(period_name, range(n_periods)), VALID, TEST]


def select_rows(dataset: Path, n_periods: int) -> str:
    """SQL for all rows of a dataset folder, with the number of their slice."""
    parts = (
        f"SELECT {number} AS slice, * FROM read_parquet({files_in(dataset / name, '*.parquet')}, "
        "hive_partitioning = false, filename = true, file_row_number = true)"
        for number, name in enumerate(slice_names(n_periods))
    )
    return " UNION ALL ".join(parts)


def count_rows(session: Session, dataset: Path, n_periods: int) -> dict[str, Any]:
    """Facts for the manifest: the items, and the rows and stages of each split."""
    source = select_rows(dataset, n_periods)
    return sum_rows(dataset, n_periods, session.run(f"SELECT slice, stage, count(*) FROM ({source}) GROUP BY ALL"))


def sum_rows(dataset: Path, n_periods: int, counts: Sequence[tuple[int, int, int]]) -> dict[str, Any]:
    """What `count_rows` gives, from the number of rows of each slice and stage."""
    n_items = pq.read_metadata(DatasetFolder(dataset).items).num_rows
    n_rows = {(slice_, stage): n for slice_, stage, n in counts}
    stages = {
        split: {
            stage.name.lower(): sum(n_rows.get((number, stage.value), 0) for number in numbers)
            for stage in _LOGGED_STAGES
        }
        for split, numbers in _members(n_periods).items()
    }
    return {
        "items": int(n_items),
        "rows": {split: sum(by_stage.values()) for split, by_stage in stages.items()},
        "stages": stages,
    }


def count_requests(session: Session, dataset: Path, n_periods: int) -> dict[str, int]:
    """The number of requests of each split, for the manifest."""
    source = select_rows(dataset, n_periods)
    n_requests = dict(session.run(f"SELECT slice, count(DISTINCT request_id) FROM ({source}) GROUP BY slice"))
    return {
        split: sum(n_requests.get(number, 0) for number in numbers) for split, numbers in _members(n_periods).items()
    }


def _members(n_periods: int) -> Mapping[str, Sequence[int]]:
    """The slices of each split."""
    return {TRAIN: range(n_periods), VALID: [n_periods], TEST: [n_periods + 1]}


def _open_views(session: Session, files: DatasetFolder) -> None:
    """Names every file for the SQL of the rules; `filename` is the path below the dataset folder."""
    for name in TABLES:
        path: Path = getattr(files, name)
        if path.is_file():
            file = files_in(path.parent, path.name)
            session.run(f"CREATE VIEW {name} AS SELECT * FROM read_parquet({file}, file_row_number = true)")
    source = select_rows(files.path, count_periods(files.path))
    n_characters = len(str(files.path)) + 2
    session.run(f"CREATE VIEW rows AS SELECT * REPLACE (filename[{n_characters}:] AS filename) FROM ({source})")
    queries = session.arrow("SELECT DISTINCT query FROM rows WHERE query IS NOT NULL").column("query")
    is_normal = [bool(query) and normalise(query) == query for query in queries.to_pylist()]
    session.create_table("normal_query", pa.table({"query": queries.filter(pa.array(is_normal, pa.bool_()))}))


def _find(session: Session, rule: Rule, dataset: Path) -> Finding | None:
    n_bad, example = session.run(f"SELECT count(*), min(example) FROM ({rule.bad_rows})")[0]
    if not n_bad:
        return None
    cause = f"{dataset}: {rule.file} breaks the rule that {rule.expectation}, {n_bad:,} times."
    return Finding(rule.name, "blocks", cause, rule.cure, str(example), {"times": int(n_bad)})


def _check_schema(path: Path, expected: pa.Schema) -> Iterator[Finding]:
    """What is wrong with a file that should have the columns of `expected`; further columns are ignored."""
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        yield Finding("file", "blocks", f"{path} is no whole Parquet file: {reason}", "Write it again.")
        return
    faults = [fault for field in expected if (fault := _column_fault(schema, field))]
    if faults:
        yield Finding("columns", "blocks", f"{path}: {'; '.join(faults)}", CURE)


def _column_fault(schema: pa.Schema, expected: pa.Field) -> str:
    """What is wrong with one column; an optional one may be absent, and if it has texts, lists of them."""
    name, kind = expected.name, expected.type
    if name not in schema.names:
        if (expected.metadata or {}).get(b"optional"):
            return ""
        return f"there is no column '{name}', expected one of type {kind}; columns there: {', '.join(schema.names)}"
    found = schema.field(name).type
    if (expected.metadata or {}).get(b"optional") and kind == pa.string() and is_set(found):
        return ""
    return "" if found == kind else f"column '{name}' is {found}, expected {kind}"


def _missing(path: Path, expectation: str) -> Finding:
    return Finding("file", "blocks", f"There is no {path}, expected {expectation}.", CURE)
