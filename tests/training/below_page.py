"""Groups whose log tells what was retrieved and not shown, made from groups whose log does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmse.schema.stages import Stage


def add_retrieved(dataset: Path, out: Path, n_items: int) -> int:
    """Copies `dataset` to `out` with two rows more for each request, after those that were shown; gives how many."""
    shutil.copytree(dataset, out)
    added = 0
    for path in out.glob("t*/**/*.parquet"):
        table = pq.read_table(path, partitioning=None)
        pages: dict[str, list[dict[str, object]]] = {}
        for row in table.to_pylist():
            pages.setdefault(row["request_id"], []).append(row)
        whole = []
        for page in pages.values():
            shown = {row["item_row"] for row in page}
            hidden = {"stage": int(Stage.RETRIEVED), "position": None, "examination": None, "explored": False}
            below = [page[0] | hidden | {"item_row": row} for row in range(n_items) if row not in shown][:2]
            whole += [*page, *below]
            added += len(below)
        pq.write_table(pa.Table.from_pylist(whole, schema=table.schema), path)
    return added
