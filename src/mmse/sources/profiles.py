"""What the columns of a shop's files look like: samples, how many values, and what they could be."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from mmse.core.errors import TableError
from mmse.schema import flags
from mmse.sources.encodings import EncodingError, check_head, copy_as_utf8
from mmse.sources.export_files import ODD_FORMATS, find_sources
from mmse.sources.file_contents import DAMAGED, check_content
from mmse.sources.file_readers import common_format
from mmse.sources.readers import READERS
from mmse.sources.relation import Relation, SourceFiles
from mmse.sources.sql import identifier
from mmse.sources.text_copies import CopiesFolder
from mmse.sources.times import DAY_FIRST, EARLIEST, MONTH_FIRST, TimeForm, from_text

ROWS = 50_000
"""So many rows of a file are looked at."""
SAMPLES = 3
_MIN_VECTOR = 4
"""A list of so many numbers is taken for a vector."""
_LARGEST_COUNT = 999
"""A whole number up to it may count clicks or orders; a larger one is rather an id."""
_FLAGS = (*flags.TRUE_WORDS, *flags.FALSE_WORDS)


@dataclass(frozen=True)
class ColumnProfile:
    """One column of a file: shares are of the values that are there, `share_filled` of all rows.

    `words` is the mean number of words of a value, `n_distinct` is exact within the rows that were looked at.
    """

    name: str
    samples: tuple[str, ...]
    n_distinct: int
    share_filled: float
    share_numbers: float
    share_times: float
    share_flags: float
    share_counts: float
    least_number: float | None
    share_lists: float
    share_vectors: float
    words: float


@dataclass(frozen=True)
class FileProfile:
    """A file, or files of one kind in a folder; `source` is what shop.toml says, `relation` is SQL for all rows.

    `problem` is why it cannot be read, if it cannot; then it has no columns. `is_log` says that it is a log, whatever
    its columns; `copies` keep the files that are read in place of the shop's. `encoding` is what files of text seem to
    have that are not UTF-8.
    """

    source: str
    relation: str
    n_rows: int
    columns: tuple[ColumnProfile, ...]
    problem: str = ""
    is_log: bool = False
    copies: tuple[CopiesFolder | None, ...] = ()
    encoding: str = ""

    def column(self, name: str) -> ColumnProfile | None:
        """The column `name`, None where the file has none."""
        return next((column for column in self.columns if column.name == name), None)

    def has_columns(self, names: Collection[str]) -> bool:
        """Whether the file has all the columns `names`."""
        return all(self.column(name) is not None for name in names)


def profile_folder(folder: Path) -> list[FileProfile]:
    """Every readable table in `folder`, the files of one taken together.

    They are read as mining reads them, each through a connection of its own: a damaged file may be the end of it.
    """
    profiles = []
    for number, (source, files) in enumerate(find_sources(folder, _columns_of).items()):
        try:
            with duckdb.connect() as connection:
                profiles.append(_profile_files(connection, source, [str(file) for file in files], number))
        except (duckdb.Error, *DAMAGED) as error:
            profiles.append(FileProfile(source, "", 0, (), str(error).splitlines()[0][:200]))
        except TableError as error:
            profiles.append(FileProfile(source, "", 0, (), f"{error.cause} {error.cure}"))
    return profiles


def _columns_of(file: Path) -> Collection[str] | None:
    """The columns of `file`, read through a connection of its own; None where it cannot be read."""
    try:
        with duckdb.connect() as connection:
            return list(READERS[_format_of([str(file)])](connection, SourceFiles([str(file)], "exports", "file")).types)
    except (duckdb.Error, TableError, *DAMAGED):
        return None


def _format_of(files: Sequence[str]) -> str:
    ending = Path(files[0].lower().removesuffix(".gz")).suffix
    return ODD_FORMATS.get(ending) or common_format(files, "")


def _profile_files(connection: duckdb.DuckDBPyConnection, source: str, files: list[str], number: int) -> FileProfile:
    """The profile of `files`; values of CSV and JSON are text, so that ids keep their zeros."""
    format_ = _format_of(files)
    encoding, copies = "", None
    for file in files:
        if format_ in ("csv", "json"):
            check_content(file, format_, "exports")
        if format_ != "parquet" and not encoding:
            encoding = _other_encoding(file)
    if encoding:
        copies = CopiesFolder()
        targets = [copies.path_of(file, index) for index, file in enumerate(files)]
        for file, target in zip(files, targets, strict=True):
            copy_as_utf8(file, encoding, "exports", target)
        files = [str(target) for target in targets]
    relation = READERS[format_](connection, SourceFiles(files, "exports", f"file_{number}"))
    profile = _profile(connection, source, relation)
    return replace(profile, copies=(copies, relation.copies), encoding=encoding)


def _other_encoding(file: str) -> str:
    """The encoding that `file` seems to have, "" for UTF-8."""
    try:
        check_head(file, "exports")
    except EncodingError as error:
        return error.encoding
    return ""


def _profile(connection: duckdb.DuckDBPyConnection, source: str, relation: Relation) -> FileProfile:
    names, rows = list(relation.types), relation.as_columns()
    (n_rows,) = connection.execute(f"SELECT count(*) FROM {rows}").fetchall()[0]
    texts = ", ".join(f"CAST({identifier(name)} AS VARCHAR) AS {identifier(name)}" for name in names)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE looked_at AS SELECT {texts} FROM {rows} LIMIT {ROWS}")
    columns = tuple(_column(connection, name) for name in names)
    return FileProfile(source, rows, int(n_rows), columns)


def _column(connection: duckdb.DuckDBPyConnection, name: str) -> ColumnProfile:
    value = "trim(value)"
    forms = [TimeForm(order=order) for order in (DAY_FIRST, MONTH_FIRST)]
    times = " OR ".join(f"({from_text(value, form)}) >= TIMESTAMP '{EARLIEST}'" for form in forms)
    (counts,) = connection.execute(f"""
        SELECT count(DISTINCT value), count(*), count(*) FILTER (TRY_CAST({value} AS DOUBLE) IS NOT NULL),
               count(*) FILTER ({times}), count(*) FILTER (lower({value}) IN {_FLAGS}),
               count(*) FILTER (TRY_CAST({value} AS DOUBLE) BETWEEN 0 AND {_LARGEST_COUNT}
                                AND TRY_CAST({value} AS DOUBLE) = floor(TRY_CAST({value} AS DOUBLE))),
               min(TRY_CAST({value} AS DOUBLE)), count(*) FILTER (value LIKE '%|%|%' OR value LIKE '[%]'),
               count(*) FILTER (value LIKE '[%]' AND list_count(TRY_CAST(value AS DOUBLE[])) >= {_MIN_VECTOR}),
               coalesce(avg(length({value}) - length(replace({value}, ' ', ''))), 0)
          FROM (SELECT {identifier(name)} AS value FROM looked_at) WHERE value IS NOT NULL AND {value} <> ''
        """).fetchall()
    ((n_looked_at,),) = connection.execute("SELECT count(*) FROM looked_at").fetchall()
    samples = connection.execute(f"""
        SELECT DISTINCT ON (value) value FROM (SELECT {identifier(name)} AS value FROM looked_at LIMIT 1000)
         WHERE value IS NOT NULL AND {value} <> '' LIMIT {SAMPLES}""").fetchall()
    n_distinct, n_filled, numbers, n_times, n_flags, n_counts, least, lists, vectors, blanks = counts
    filled = max(1, n_filled)
    return ColumnProfile(
        name=name,
        samples=tuple(" ".join(sample.split())[:60] for (sample,) in samples),
        n_distinct=int(n_distinct),
        share_filled=n_filled / max(1, n_looked_at),
        share_numbers=numbers / filled,
        share_times=n_times / filled,
        share_flags=n_flags / filled,
        share_counts=n_counts / filled,
        least_number=least,
        share_lists=lists / filled,
        share_vectors=vectors / filled,
        words=float(blanks) + 1,
    )
