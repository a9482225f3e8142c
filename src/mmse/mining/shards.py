"""The files of the dataset's rows: each shard's requests joined with their rows, and cut by time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmse.dataset.contract import slice_names
from mmse.mining.examination import ExaminationCurve
from mmse.mining.split import Slices

ROW_GROUP = 131_072


def write_shard(
    requests_folder: Path, shard: str, number: int, slices: Slices, curve: ExaminationCurve, dataset: Path
) -> None:
    """Writes shard `number` into each slice of `dataset` in which it has requests; shard 0 goes into every slice.

    `requests_folder` has the requests and rows of `shard` in order of time, so a slice is a range of both.
    """
    requests = pq.read_table(requests_folder / f"requests-{shard}.parquet").combine_chunks()
    rows = pq.read_table(requests_folder / f"rows-{shard}.parquet").combine_chunks()
    request_no = rows.column("request_no").to_numpy()
    timestamps = requests.column("timestamp").cast(pa.int64()).to_numpy()
    bounds = np.searchsorted(timestamps, [*slices.starts, slices.end])
    row_bounds = np.searchsorted(request_no, bounds)
    for index, name in enumerate(slice_names(slices.periods)):
        start, end = int(row_bounds[index]), int(row_bounds[index + 1])
        if end > start or number == 0:
            path = dataset / name / f"shard-{number:03d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            slice_requests = requests.slice(int(bounds[index]), int(bounds[index + 1] - bounds[index]))
            request_index = pa.array(request_no[start:end] - np.int32(bounds[index]))
            _write(_join(slice_requests, rows.slice(start, end - start), request_index, curve), path)


def _join(requests: pa.Table, rows: pa.Table, request_index: pa.Array, curve: ExaminationCurve) -> pa.Table:
    """The rows of one file, with the request at `request_index` of each.

    Text columns are dictionaries over the requests, which Parquet writes without expanding them. Their values are made
    distinct first: with repeats, the same table would give a different file each time. An item that was not shown has
    neither a position nor an examination.
    """
    text = {}
    for name in ("request_id", "query", "user_id"):
        values = requests.column(name).combine_chunks().dictionary_encode()
        text[name] = pa.DictionaryArray.from_arrays(values.indices.take(request_index), values.dictionary)
    position = rows.column("position").combine_chunks()
    examination = curve.examination_at(position.fill_null(1).to_numpy().astype(np.int64)).astype(np.float32)
    return pa.table(
        {
            **text,
            "timestamp": requests.column("timestamp").combine_chunks().take(request_index),
            "item_row": rows.column("item_row"),
            "position": position,
            "stage": rows.column("stage"),
            "examination": pa.array(examination, mask=position.is_null().to_numpy(zero_copy_only=False)),
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
