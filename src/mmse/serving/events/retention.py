"""How long events are kept: the files of the log that are older than that are removed."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq

from mmse.core import artifact
from mmse.serving.events import segments
from mmse.serving.events.sealed_file import explain_damage, read_footer

_TIME = "timestamp"


@dataclass(frozen=True)
class PruneReport:
    """What was removed, and the moment (UTC) before which every row of it was."""

    n_files: int
    n_rows: int
    n_bytes: int
    limit: datetime


def prune(folder: Path, keep_days: float, now: datetime) -> PruneReport:
    """Removes the sealed files in `folder` whose newest row is more than `keep_days` old at `now` (UTC).

    So does what was kept of torn segments. A file goes whole or stays, so some rows stay for as long as a segment is
    open, minutes. Rows whose clock is ahead keep their file. Raises `ArtifactError` for a file that cannot be read,
    and `OutputError` where the disk refuses.
    """
    limit = now.replace(tzinfo=None) - timedelta(days=keep_days)
    for file in segments.torn_files(folder):
        if file.stat().st_mtime < limit.replace(tzinfo=UTC).timestamp():
            file.unlink(missing_ok=True)
    n_files = n_rows = n_bytes = 0
    for file in segments.sealed_files(folder):
        newest, rows = _read_footer(file)
        if newest is None or newest >= limit:
            continue
        n_files, n_rows, n_bytes = n_files + 1, n_rows + rows, n_bytes + file.stat().st_size
        with artifact.explain_os_errors(file):
            file.unlink()
        with contextlib.suppress(OSError):  # it is not empty
            file.parent.rmdir()
    return PruneReport(n_files, n_rows, n_bytes, limit)


def _read_footer(file: Path) -> tuple[datetime | None, int]:
    """The time of the newest row, None where the file does not say, and the number of rows."""
    metadata = read_footer(file)
    with explain_damage(file):
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        times = [_newest_time(group) for group in groups]
    known_times = [time for time in times if time is not None]
    return (max(known_times) if known_times and len(known_times) == len(times) else None), metadata.num_rows


def _newest_time(group: pq.RowGroupMetaData) -> datetime | None:
    columns = (group.column(index) for index in range(group.num_columns))
    statistics = next((column.statistics for column in columns if column.path_in_schema == _TIME), None)
    return statistics.max if statistics is not None and statistics.has_min_max else None
