"""A dataset whose log tells what was retrieved and not shown, made from one whose log does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmse.schema.stages import Stage


def add_retrieved(dataset: Path, target: Path, n_items: int) -> int:
    """Copies `dataset` to `out` with two rows more for each request, after those that were shown; gives how many."""
    shutil.copytree(dataset, target)
    n_added = 0
    for path in target.glob("t*/**/*.parquet"):
        table = pq.read_table(path, partitioning=None)
        pages: dict[str, list[dict[str, object]]] = {}
        for row in table.to_pylist():
            pages.setdefault(row["request_id"], []).append(row)
        whole = []
        for page in pages.values():
            page_items = {row["item_row"] for row in page}
            retrieved_columns = {
                "stage": int(Stage.RETRIEVED),
                "position": None,
                "examination": None,
                "explored": False,
            }
            retrieved_rows = [
                page[0] | retrieved_columns | {"item_row": row} for row in range(n_items) if row not in page_items
            ][:2]
            whole += [*page, *retrieved_rows]
            n_added += len(retrieved_rows)
        pq.write_table(pa.Table.from_pylist(whole, schema=table.schema), path)
    return n_added
