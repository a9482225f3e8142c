"""The log of events as one table that mining reads: one row for each item shown, with what became of it."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa

from mmse.core.artifact import explain_os_errors
from mmse.core.errors import UsageError
from mmse.serving.events import segments
from mmse.serving.events.inspection import require_whole_log
from mmse.serving.events.rows import SCHEMA
from mmse.sources.merging import merge_rows


def export_table(folder: Path, target: Path) -> int:
    """Joins the events in `folder` into the table `target` (docs/tables.md), a Parquet file; gives its rows.

    Rows that are not sealed yet are among them. Raises `UsageError` where there are no events,
    and `ArtifactError` for a file that is damaged.
    """
    require_whole_log(folder)
    files = segments.sealed_files(folder)
    # A segment that is sealed at this moment is read twice; the merge makes one row of it.
    fresh = pa.Table.from_batches(segments.read_open_batches(folder, SCHEMA), SCHEMA)
    if not files and not fresh.num_rows:
        raise UsageError(
            f"There are no events in {folder}.", "Serve with --log-exposures, or send some to POST /v1/events first."
        )
    sealed_rows = f"union all by name select * from read_parquet({[str(file) for file in files]}, union_by_name = true)"
    exposures = merge_rows("events", SCHEMA.names)
    draft = target.with_name(f".{target.name}.writing")
    with explain_os_errors(target), duckdb.connect() as database:
        database.execute(f"create view events as select * from fresh {sealed_rows if files else ''}")
        database.execute(f"create table exposures as from ({exposures}) order by timestamp, request_id, position")
        database.execute("copy exposures to $1 (format parquet, compression zstd)", [str(draft)])
        draft.replace(target)
        rows = database.execute("select count(*) from exposures").fetchone()
    assert rows is not None
    return int(rows[0])
