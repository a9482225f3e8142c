"""The mining step of a shop without a log: the items alone in, the dataset folder out.

The folder keeps the contract of any other, with no request in it: nothing was shown, nothing was clicked, no query is
known. Training makes its own requests from the items' text (`mmse.training.catalogue_requests`).
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmse.core.artifact import Manifest, read_manifest, write_folder
from mmse.core.config import plain_values
from mmse.core.progress import Progress, silent
from mmse.core.run_folder import DATASET
from mmse.dataset.contract import check_files, count_rows, slice_names
from mmse.dataset.folder import ROWS_SCHEMA, TEST, TRAIN, VALID, DatasetFolder
from mmse.mining.aggregates import write_aggregates
from mmse.mining.config import MineConfig
from mmse.mining.examination import ExaminationCurve
from mmse.mining.lessons import NO_LOG
from mmse.mining.log_sql import DuckDbSql
from mmse.mining.split import Slices
from mmse.sources.casting import read_items
from mmse.sources.duckdb_session import open_session
from mmse.sources.sql import literal
from mmse.sources.tables import ItemsConfig, open_items

log = logging.getLogger(__name__)

_NO_TIME = Slices(starts=(0, 0, 0), end=0)
"""One train period, validation and test, all empty, at a moment before any log."""


_NO_REQUESTS = "requests-000.parquet"


def mine_catalogue(
    items: ItemsConfig, config: MineConfig, target: Path, *, base: Path, progress: Progress = silent
) -> Manifest:
    """Writes the `dataset` folder `target` from the items of a shop whose shop.toml lies in `base`.

    Raises `TableError` where the table is wrong, and `OutputError` where `target` cannot be written; in both cases
    `target` stays as it was.
    """
    with open_session(memory_limit=config.memory_limit, threads=config.threads) as session:
        table = open_items(session.connection, items, base)
        configs = {"items": plain_values(items), "mine": config.to_manifest()}
        with write_folder(target, kind=DATASET, config=configs, inputs={"items": table.fingerprint()}) as draft:
            work, dataset = draft.folder / ".work", DatasetFolder(draft.folder)
            work.mkdir()
            session.spill_to(work / "spill")
            progress("items", 0, 1)
            counts = read_items(session, table, items)
            _write_no_rows(dataset, work)
            sql = DuckDbSql(session)
            sql.open_rows(dataset.path, _NO_TIME.periods)
            sql.open_requests(f"read_parquet({literal(str(work / _NO_REQUESTS))})")
            write_aggregates(session, sql, dataset, work, _NO_TIME, _no_curve(), counts.forms)
            draft.counts |= {
                "requests": {TRAIN: 0, VALID: 0, TEST: 0},
                **count_rows(session, dataset.path, _NO_TIME.periods),
                "read": {"items": counts.rows},
                "rejected": {"items": counts.rejections},
                "emptied": {"items": counts.emptied},
                "marked_up": {"items": counts.marked_up},
                **({"variants": asdict(counts.variants)} if counts.variants.rows else {}),
                "requests_from": "catalogue",
                "lessons": list(NO_LOG),
            }
            session.close()
            shutil.rmtree(work)
            faults = list(check_files(draft.folder))
            assert not faults, faults
            progress("items", 1, 1)
    return read_manifest(target, DATASET)


def _write_no_rows(dataset: DatasetFolder, work: Path) -> None:
    """Writes an empty file of rows into every slice, and an empty file of requests into `work`."""
    for name in slice_names(_NO_TIME.periods):
        (dataset.path / name).mkdir(parents=True)
        pq.write_table(ROWS_SCHEMA.empty_table(), dataset.path / name / "shard-000.parquet")
    requests = pa.schema([ROWS_SCHEMA.field(name) for name in ("request_id", "timestamp", "query", "user_id")])
    pq.write_table(requests.empty_table(), work / _NO_REQUESTS)


def _no_curve() -> ExaminationCurve:
    nothing = np.empty(0)
    return ExaminationCurve(nothing.astype(np.int64), nothing, nothing, is_fitted=False)
