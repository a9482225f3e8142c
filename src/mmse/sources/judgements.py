"""A real catalogue and its human judgements, read from files and checked before anything is made of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Float64, Int32

from mmse.core.errors import TableError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judged:
    """The items as they came, and the judged pairs: query and item are rows.

    `relevance` is on the scale of the file, `grade` is the same from 0 to 1.
    """

    items: pa.Table
    queries: list[str]
    query: Int32[np.ndarray, " n_pairs"]
    item: Int32[np.ndarray, " n_pairs"]
    relevance: Float64[np.ndarray, " n_pairs"]
    grade: Float32[np.ndarray, " n_pairs"]


def read_judged(items: Path, judgements: Path, split: str | None) -> Judged:
    """Items (`item_id`, `title`, further columns kept) and judgements (`query`, `item_id`, `relevance`).

    Grades are `relevance` from its lowest to its highest value in the file; a pair judged more than once gets the
    mean. With `split`, only its rows of the column `split` count, and a query that another split has too (but for
    case and spaces) is left out. Raises `TableError` naming file, row or column, and what was expected.
    """
    with duckdb.connect() as database:
        _open(database, "items", items, ["item_id", "title"], typed=True)
        needed = ["query", "item_id", "relevance", *(["split"] if split is not None else [])]
        _open(database, "judgements", judgements, needed, typed=False)
        _check_items(database, items)
        _check_judgements(database, items, judgements)
        _choose_split(database, judgements, split)
        lowest, highest = _one(database, "SELECT min(grade), max(grade) FROM graded")
        pairs = database.execute(
            "SELECT query, item, avg(grade) AS grade FROM chosen GROUP BY ALL ORDER BY query, item"
        ).fetchnumpy()
        table = database.sql("SELECT * EXCLUDE (row) FROM items ORDER BY row").to_arrow_table()
    queries, query = np.unique(pairs["query"].astype(str), return_inverse=True)
    spread = highest - lowest
    grade = (pairs["grade"] - lowest) / spread if spread > 0 else np.ones(len(query))
    return Judged(
        items=table,
        queries=queries.tolist(),
        query=query.astype(np.int32),
        item=pairs["item"].astype(np.int32),
        relevance=pairs["grade"].astype(np.float64),
        grade=grade.astype(np.float32),
    )


def _open(database: duckdb.DuckDBPyConnection, name: str, path: Path, needed: list[str], *, typed: bool) -> None:
    """Loads the file as the table `name` with a column `row` (from 0); ids and titles are always text."""
    if not path.is_file():
        raise TableError(f"There is no file {path}.", f"Give the file that holds the {name}.")
    try:
        found = [row[0] for row in database.execute(f"DESCRIBE SELECT * FROM {_reader(path)}", [str(path)]).fetchall()]
        missing = [column for column in needed if column not in found]
        if missing:
            raise TableError(
                f"{path} has no column '{missing[0]}': expected {', '.join(needed)}, found {', '.join(found)}.",
                "Rename or add that column.",
            )
        as_text = ", ".join(f"'{column}': 'VARCHAR'" for column in needed)
        options = f", types = {{{as_text}}}" if typed else ", all_varchar = true"
        texts = ", ".join(f'"{column}"::VARCHAR AS "{column}"' for column in needed)
        database.execute(
            f"CREATE TABLE {name} AS SELECT * REPLACE ({texts}), (row_number() OVER ()) - 1 AS row "
            f"FROM {_reader(path, options)}",
            [str(path)],
        )
    except duckdb.Error as error:
        said = str(error).splitlines()[0]
        raise TableError(f"{path} cannot be read: {said}", "Give a whole CSV, Parquet or JSON Lines file.") from error
    if _one(database, f"SELECT count(*) FROM {name}") == (0,):
        raise TableError(f"{path} has no rows, expected {name}.", f"Give a file with at least one of the {name}.")


def _reader(path: Path, csv_options: str = "") -> str:
    """The DuckDB table function for a file by its ending; the path itself is a parameter of the statement."""
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
    twice = database.execute(
        "SELECT item_id, max(row) FROM items GROUP BY 1 HAVING count(*) > 1 ORDER BY 2 LIMIT 1"
    ).fetchone()
    if twice:
        raise TableError(
            f"{path}, row {twice[1] + 1}: item_id '{twice[0]}' stands in an earlier row too, expected one row an item.",
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
    for condition, column, said, cure in checks:
        bad = database.execute(
            f"SELECT row, {column}, count(*) OVER () FROM graded WHERE {condition} ORDER BY row LIMIT 1"
        ).fetchone()
        if bad:
            others = f" (and {bad[2] - 1} more such rows)" if bad[2] > 1 else ""
            raise TableError(f"{path}, row {bad[0] + 1}: {said.format(bad[1])}{others}.", cure)


def _choose_split(database: duckdb.DuckDBPyConnection, path: Path, split: str | None) -> None:
    """The table `chosen`: the rows of `split` whose query stands in no other split."""
    if split is None:
        database.execute("CREATE TABLE chosen AS SELECT query, item, grade FROM graded")
        return
    plain = r"regexp_replace(lower(trim(query)), '\s+', ' ', 'g')"
    database.execute(
        f"CREATE TABLE chosen AS SELECT query, item, grade FROM graded WHERE split = $split AND {plain} NOT IN "
        f"(SELECT {plain} FROM graded WHERE split IS DISTINCT FROM $split)",
        {"split": split},
    )
    asked = _one(database, "SELECT count(DISTINCT query) FROM graded WHERE split = $split", split=split)[0]
    kept = _one(database, "SELECT count(DISTINCT query) FROM chosen")[0]
    if not asked:
        known = [str(row[0]) for row in database.execute("SELECT DISTINCT split FROM graded ORDER BY 1").fetchall()]
        raise TableError(f"{path} has no rows of split '{split}', found {', '.join(known)}.", "Name one of those.")
    if not kept:
        raise TableError(
            f"{path}: every query of split '{split}' stands in another split too.", "Split by query, not by row."
        )
    if kept < asked:
        log.warning("%d queries of split %r stand in another split too and are left out", asked - kept, split)


def _one(database: duckdb.DuckDBPyConnection, sql: str, **values: str) -> tuple:  # type: ignore[type-arg]
    row = database.execute(sql, values or None).fetchone()
    assert row is not None
    return row
