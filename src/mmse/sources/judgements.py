"""A real catalogue and its human judgements, read from files and checked."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Float64, Int32

from mmse.core.errors import TableError
from mmse.schema.columns import ITEM_COLUMNS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JudgedCatalogue:
    """The items as they are in the file, and the judged pairs: `query` and `item` number the queries and the items.

    `relevance` is on the scale of the file, `grade` is the same on a scale from 0 to 1.
    """

    items: pa.Table
    queries: list[str]
    query: Int32[np.ndarray, " n_pairs"]
    item: Int32[np.ndarray, " n_pairs"]
    relevance: Float64[np.ndarray, " n_pairs"]
    grade: Float32[np.ndarray, " n_pairs"]


def read_judgements(items: Path, judgements: Path, split: str | None) -> JudgedCatalogue:
    """Reads items (`item_id`, `title` and further columns) and judgements (`query`, `item_id`, `relevance`).

    A grade is 0 for the lowest `relevance` in the file and 1 for the highest; a pair that was judged more than once
    gets the mean. With `split`, only rows with this value in the column `split` count, and a query that is in another
    split too, case and spaces aside, is left out. Raises `TableError`, which names the file, the row or column, and
    what was expected.
    """
    with duckdb.connect() as database:
        _load(database, "items", items, list(ITEM_COLUMNS.required_names), detect_types=True)
        required_columns = ["query", "item_id", "relevance", *(["split"] if split is not None else [])]
        _load(database, "judgements", judgements, required_columns, detect_types=False)
        _check_items(database, items)
        _check_judgements(database, items, judgements)
        _choose_split(database, judgements, split)
        lowest, highest = _fetch_row(database, "SELECT min(grade), max(grade) FROM graded")
        pairs = database.execute(
            "SELECT query, item, avg(grade) AS grade FROM chosen GROUP BY ALL ORDER BY query, item"
        ).fetchnumpy()
        table = database.sql("SELECT * EXCLUDE (row) FROM items ORDER BY row").to_arrow_table()
    queries, query = np.unique(pairs["query"].astype(str), return_inverse=True)
    spread = highest - lowest
    grade = (pairs["grade"] - lowest) / spread if spread > 0 else np.ones(len(query))
    return JudgedCatalogue(
        items=table,
        queries=queries.tolist(),
        query=query.astype(np.int32),
        item=pairs["item"].astype(np.int32),
        relevance=pairs["grade"].astype(np.float64),
        grade=grade.astype(np.float32),
    )


def _load(
    database: duckdb.DuckDBPyConnection, name: str, path: Path, required_columns: list[str], *, detect_types: bool
) -> None:
    """Loads the file as the table `name` with a column `row` (from 0); required columns are text.

    With `detect_types`, DuckDB detects the types of a CSV file's further columns; otherwise they are text as well.
    """
    if not path.is_file():
        raise TableError(f"There is no file {path}.", f"Give the file that holds the {name}.")
    try:
        description = database.execute(f"DESCRIBE SELECT * FROM {_reader(path)}", [str(path)]).fetchall()
        columns = [row[0] for row in description]
        absent = [column for column in required_columns if column not in columns]
        if absent:
            column_list = ", ".join(required_columns)
            raise TableError(
                f"{path} has no column '{absent[0]}': expected {column_list}, found {', '.join(columns)}.",
                "Rename or add that column.",
            )
        as_text = ", ".join(f"'{column}': 'VARCHAR'" for column in required_columns)
        options = f", types = {{{as_text}}}" if detect_types else ", all_varchar = true"
        texts = ", ".join(f'"{column}"::VARCHAR AS "{column}"' for column in required_columns)
        database.execute(
            f"CREATE TABLE {name} AS SELECT * REPLACE ({texts}), (row_number() OVER ()) - 1 AS row "
            f"FROM {_reader(path, options)}",
            [str(path)],
        )
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise TableError(f"{path} cannot be read: {reason}", "Give a whole CSV, Parquet or JSON Lines file.") from error
    if _fetch_row(database, f"SELECT count(*) FROM {name}") == (0,):
        raise TableError(f"{path} has no rows, expected {name}.", f"Give a file with at least one of the {name}.")


def _reader(path: Path, csv_options: str = "") -> str:
    """The DuckDB table function for a file, by its ending; the path is a parameter of the statement."""
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".csv", ".tsv", ".txt")):
        return f"read_csv(?, header = true{csv_options})"
    if name.endswith(".parquet"):
        return "read_parquet(?)"
    if name.endswith((".jsonl", ".ndjson", ".json")):
        return "read_json(?, format = 'newline_delimited')"
    raise TableError(
        f"{path} is of no known kind, expected .csv, .csv.gz, .parquet or .jsonl.", "Convert or rename the file."
    )


def _check_items(database: duckdb.DuckDBPyConnection, path: Path) -> None:
    bad = database.execute(
        "SELECT row FROM items WHERE trim(coalesce(item_id, '')) = '' ORDER BY row LIMIT 1"
    ).fetchone()
    if bad:
        raise TableError(
            f"{path}, row {bad[0] + 1}: the item_id is empty, expected a text.", "Give it one or drop the row."
        )
    duplicate = database.execute(
        "SELECT item_id, max(row) FROM items GROUP BY 1 HAVING count(*) > 1 ORDER BY 2 LIMIT 1"
    ).fetchone()
    if duplicate:
        item_id, row = duplicate
        raise TableError(
            f"{path}, row {row + 1}: item_id '{item_id}' stands in an earlier row too, expected one row an item.",
            "Drop the repeated rows.",
        )


def _check_judgements(database: duckdb.DuckDBPyConnection, items: Path, path: Path) -> None:
    database.execute(
        "CREATE TABLE graded AS SELECT j.*, i.row AS item, try_cast(relevance AS DOUBLE) AS grade "
        "FROM judgements j LEFT JOIN items i USING (item_id)"
    )
    checks = (
        ("trim(coalesce(query, '')) = ''", "query", "the query is empty, expected a text", "Drop the row."),
        (
            "grade IS NULL OR NOT isfinite(grade)",
            "relevance",
            "relevance is {!r}, expected a number",
            "Give a number (any scale, higher is better), or drop the row.",
        ),
        (
            "item IS NULL",
            "item_id",
            f"item_id {{!r}} is not among the items of {items}",
            "Add the item to the catalogue, or drop the judgement.",
        ),
    )
    for condition, column, message, cure in checks:
        bad = database.execute(
            f"SELECT row, {column}, count(*) OVER () FROM graded WHERE {condition} ORDER BY row LIMIT 1"
        ).fetchone()
        if bad:
            row, value, n_bad = bad
            further = f" (and {n_bad - 1} more such rows)" if n_bad > 1 else ""
            raise TableError(f"{path}, row {row + 1}: {message.format(value)}{further}.", cure)


def _choose_split(database: duckdb.DuckDBPyConnection, path: Path, split: str | None) -> None:
    """Makes the table `chosen`: the rows of `split` whose query is in no other split."""
    if split is None:
        database.execute("CREATE TABLE chosen AS SELECT query, item, grade FROM graded")
        return
    plain = r"regexp_replace(lower(trim(query)), '\s+', ' ', 'g')"
    database.execute(
        f"CREATE TABLE chosen AS SELECT query, item, grade FROM graded WHERE split = $split AND {plain} NOT IN "
        f"(SELECT {plain} FROM graded WHERE split IS DISTINCT FROM $split)",
        {"split": split},
    )
    n_queries = _fetch_row(database, "SELECT count(DISTINCT query) FROM graded WHERE split = $split", split=split)[0]
    n_chosen = _fetch_row(database, "SELECT count(DISTINCT query) FROM chosen")[0]
    if not n_queries:
        splits = [str(row[0]) for row in database.execute("SELECT DISTINCT split FROM graded ORDER BY 1").fetchall()]
        raise TableError(f"{path} has no rows of split '{split}', found {', '.join(splits)}.", "Name one of those.")
    if not n_chosen:
        raise TableError(
            f"{path}: every query of split '{split}' stands in another split too.", "Split by query, not by row."
        )
    if n_chosen < n_queries:
        log.warning("%d queries of split %r stand in another split too and are left out", n_queries - n_chosen, split)


def _fetch_row(database: duckdb.DuckDBPyConnection, sql: str, **values: str) -> tuple:  # type: ignore[type-arg]
    row = database.execute(sql, values or None).fetchone()
    assert row is not None
    return row
