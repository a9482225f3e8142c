"""The contract of the dataset folder, held against docs/tables.md and against what mining writes."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq

from mining.toy import log, mine_shop, write_shop
from mmse.dataset.folder import ITEM_COUNTS, ROWS_SCHEMA, STATS_SCHEMA, DatasetFolder, read_reformulations

DOCS = (Path(__file__).parents[2] / "docs" / "tables.md").read_text("utf-8").split("\n## The dataset folder\n")[1]


def file_names() -> set[str]:
    files = [name for name, value in vars(DatasetFolder).items() if isinstance(value, property)]
    return {getattr(DatasetFolder(Path()), name).name for name in files}


def test_the_docs_name_every_file_and_no_other() -> None:
    assert set(re.findall(r"^\| `(\w+\.parquet)` \|", DOCS, re.MULTILINE)) == file_names()
    assert ", ".join(ROWS_SCHEMA.names) in DOCS
    assert ", ".join(STATS_SCHEMA.names) in DOCS


def test_mining_writes_every_file_and_no_other(tmp_path: Path) -> None:
    write_shop(tmp_path, log())
    mine_shop(tmp_path)
    dataset = DatasetFolder(tmp_path / "dataset")
    assert {path.name for path in dataset.path.glob("*.parquet")} == file_names()
    for split in ("train", "valid", "test"):
        for path in dataset.row_files(split):
            assert pq.read_schema(path).equals(ROWS_SCHEMA)
    assert dataset.row_files("train") == [*dataset.row_files("train", 0), *dataset.row_files("train", 1)]
    assert pq.read_schema(dataset.item_stats).names[2:] == list(ITEM_COUNTS)
    assert read_reformulations(dataset.path).column_names == ["request_id", "item_row"]
