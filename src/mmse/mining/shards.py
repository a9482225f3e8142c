"""The training groups' files: each shard's requests joined with their rows and cut by time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmse.mining.examination import Curve
from mmse.mining.split import Slices

SCHEMA = pa.schema(
    [
        ("request_id", pa.string()),
        ("query", pa.string()),
        ("user_id", pa.string()),
        ("timestamp", pa.timestamp("us")),
        ("item_row", pa.int32()),
        ("position", pa.int32()),
        ("stage", pa.int8()),
        ("examination", pa.float32()),
        ("explored", pa.bool_()),
    ]
)
ROW_GROUP = 131_072


def write_shard(merged: Path, shard: str, number: int, slices: Slices, curve: Curve, out: Path) -> None:
    """Writes shard `number` of every slice of `out` that has requests here; shard 0 is written even if empty.

    Requests and rows lie in order of time in `merged`, so a slice is a stretch of both.
    """
    requests = pq.read_table(merged / f"requests-{shard}.parquet").combine_chunks()
    rows = pq.read_table(merged / f"rows-{shard}.parquet").combine_chunks()
    request_no = rows.column("request_no").to_numpy()
    timestamps = requests.column("timestamp").cast(pa.int64()).to_numpy()
    bounds = np.searchsorted(timestamps, [*slices.starts, slices.end])
    row_bounds = np.searchsorted(request_no, bounds)
    for index, name in enumerate(slices.names()):
        first, last = int(row_bounds[index]), int(row_bounds[index + 1])
        if last > first or number == 0:
            path = out / name / f"shard-{number:03d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            stretch = requests.slice(int(bounds[index]), int(bounds[index + 1] - bounds[index]))
            within = pa.array(request_no[first:last] - np.int32(bounds[index]))
            _write(_joined(stretch, rows.slice(first, last - first), within, curve), path)


def _joined(requests: pa.Table, rows: pa.Table, within: pa.Array, curve: Curve) -> pa.Table:
    """The rows of one file; text columns are dictionaries over the requests, which Parquet writes as they are.

    Their values are made distinct first: written with repeats, the same table gives another file each time. What was
    not shown has neither a position nor a chance to be looked at there.
    """
    text = {}
    for name in ("request_id", "query", "user_id"):
        values = requests.column(name).combine_chunks().dictionary_encode()
        text[name] = pa.DictionaryArray.from_arrays(values.indices.take(within), values.dictionary)
    position = rows.column("position").combine_chunks()
    looks = curve.at(position.fill_null(1).to_numpy().astype(np.int64)).astype(np.float32)
    return pa.table(
        {
            **text,
            "timestamp": requests.column("timestamp").combine_chunks().take(within),
            "item_row": rows.column("item_row"),
            "position": position,
            "stage": rows.column("stage"),
            "examination": pa.array(looks, mask=position.is_null().to_numpy(zero_copy_only=False)),
            "explored": rows.column("explored"),
        }
    )


def _write(table: pa.Table, path: Path) -> None:
    # store_schema=False: readers see plain strings, not our dictionaries.
    pq.write_table(
        table,
        path,
        compression="snappy",
        row_group_size=ROW_GROUP,
        store_schema=False,
        use_dictionary=["request_id", "query", "user_id", "timestamp", "position", "examination"],
    )
