"""The log of events looked through whole: pages against their checksums, and what the footers say against the rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmse.core.errors import ArtifactError
from mmse.serving.events import segments
from mmse.serving.events.rows import SCHEMA

_CURE = "Restore it from a backup, or move it away: its rows are lost then, and no others."
_KEPT = "Restore it from a backup. Otherwise its whole rows are sealed, and the others kept in `_open/torn-…`."


def inspect_log(folder: Path) -> Iterator[ArtifactError]:
    """What is wrong with the files of a log, sealed and open. A segment that is just being written is not damaged."""
    for file in segments.sealed_files(folder):
        try:
            _inspect_sealed(file)
        except FileNotFoundError:
            continue  # it was pruned meanwhile
        except (OSError, ValueError, TypeError, ArithmeticError, pa.ArrowException) as error:
            yield ArtifactError(f"{file} is damaged: {str(error).splitlines()[0]}.", _CURE)
    for segment in segments.open_segments(folder):
        try:
            gaps = segments.read_segment(segment, SCHEMA).gaps
        except FileNotFoundError:
            continue  # it was sealed meanwhile
        for gap in gaps:
            if not gap.is_torn:
                yield ArtifactError(f"{segment} is damaged from byte {gap.start} to {gap.end}.", _KEPT)


def _inspect_sealed(file: Path) -> None:
    """Raises where a sealed file cannot be read, or says of its rows what they are not."""
    with pq.ParquetFile(file, page_checksum_verification=True) as source:
        rows, metadata = source.read(), source.metadata
    rows.validate(full=True)
    for column in rows.schema:
        if column.name not in SCHEMA.names or column.type != SCHEMA.field(column.name).type:
            raise ValueError(f"it has a column '{column.name}' of {column.type}, which no event has")
    start = 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        _compare_statistics(group, rows.slice(start, group.num_rows))
        start += group.num_rows
    if start != len(rows) or metadata.num_rows != len(rows):
        raise ValueError(f"it has {len(rows)} rows, and says {metadata.num_rows}")


def _compare_statistics(group: pq.RowGroupMetaData, rows: pa.Table) -> None:
    """Raises `ValueError` where the footer's statistics, by which readers skip rows, are not those of the rows."""
    for index in range(group.num_columns):
        name, statistics = group.column(index).path_in_schema, group.column(index).statistics
        if name not in rows.column_names or statistics is None:
            continue
        column = rows[name]
        if statistics.has_null_count and statistics.null_count != column.null_count:
            raise ValueError(f"it says that '{name}' is empty {statistics.null_count} times")
        if statistics.has_min_max:
            limits = pc.min_max(column).as_py()
            if (statistics.min, statistics.max) != (limits["min"], limits["max"]):
                raise ValueError(f"it says that '{name}' is from {statistics.min} to {statistics.max}")
