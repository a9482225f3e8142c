"""The check of a dataset folder: mining's own folders keep every rule, and each way to break one is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mmse.core.artifact import read_manifest
from mmse.core.errors import ArtifactError, UsageError
from mmse.core.run_folder import DATASET, RunFolder
from mmse.dataset.contract import check_dataset
from mmse.pipeline import Listener, make, run
from mmse.shop import read_shop

Change = Callable[[pa.Table], pa.Table]
ROWS = "train/period=02/shard-000.parquet"


@pytest.fixture
def dataset(small_run: Path, tmp_path: Path) -> Path:
    """A copy of a mined folder, for one test to break."""
    shutil.copytree(small_run / "dataset", tmp_path / "dataset")
    return tmp_path / "dataset"


def put(column: str, row: int, value: object) -> Change:
    """Another value in one cell."""

    def change(table: pa.Table) -> pa.Table:
        values = table.column(column).to_pylist()
        values[row] = value
        index = table.schema.get_field_index(column)
        return table.set_column(index, table.schema.field(index), pa.array(values, table.schema.field(index).type))

    return change


def add(column: str, n: int) -> Change:
    """Every count of a column raised by `n`."""
    return lambda table: table.set_column(
        table.schema.get_field_index(column), column, pc.add(table.column(column), pa.scalar(n, pa.int64()))
    )


def retype(column: str, kind: pa.DataType) -> Change:
    return lambda table: table.set_column(table.schema.get_field_index(column), column, table.column(column).cast(kind))


def reverse(table: pa.Table) -> pa.Table:
    return table.take(np.arange(table.num_rows)[::-1])


def without_first(table: pa.Table) -> pa.Table:
    return table.slice(1)


BREAKS: tuple[tuple[str, Change, str, str], ...] = (
    ("items.parquet", put("item_row", 3, 4), "item_rows", "row 3 has item_row 4"),
    ("items.parquet", put("item_id", 3, "i00000001"), "item_ids", "i00000001 stands 2 times"),
    ("items.parquet", put("title", 3, "  "), "titles", "row 3"),
    ("items.parquet", put("first_seen", 0, None), "first_seen", "item_row 0 has null"),
    ("items.parquet", lambda table: table.drop_columns(["title"]), "columns", "no column 'title'"),
    ("items.parquet", retype("item_row", pa.int64()), "columns", "'item_row' is int64, expected int32"),
    ("snapshots.parquet", reverse, "snapshots", "row 0 has snapshot"),
    ("snapshots.parquet", without_first, "snapshot_count", "expected"),
    (ROWS, put("query", 0, None), "values", f"{ROWS} row 0"),
    (ROWS, put("stage", 0, 7), "stages", f"{ROWS} row 0 has stage 7"),
    (ROWS, put("item_row", 0, 10**6), "known_items", "has item_row 1000000"),
    (ROWS, put("position", 0, 0), "positions", "position 0"),
    (ROWS, put("examination", 0, 1.5), "positions", "examination 1.5"),
    (ROWS, put("stage", 0, 1), "positions", "has stage 1"),
    (ROWS, put("query", 0, "another query"), "one_request", "request "),
    (ROWS, put("query", 0, "Upper Case"), "query_form", "'Upper Case'"),
    (ROWS, reverse, "order", ROWS),
    (ROWS, lambda table: pa.concat_tables([table, table.slice(0, 1)]), "whole_requests", "request "),
    (ROWS, lambda table: pa.concat_tables([table.slice(0, 1), table]), "items_once", "item_row "),
    ("examination.parquet", without_first, "examination", "position 1 has no row"),
    ("queries.parquet", add("requests", 1), "queries", "train has"),
    ("queries.parquet", reverse, "query_order", "row "),
    ("item_stats.parquet", add("clicked", 1), "item_stats", "the rows before it say"),
    ("interactions.parquet", without_first, "interactions", "missing: user"),
    ("interactions.parquet", reverse, "history_order", "row "),
)


def test_mining_keeps_the_contract(small_run: Path) -> None:
    assert check_dataset(small_run / "dataset") == []


def test_files_of_another_engine_are_none_of_the_contract(dataset: Path) -> None:
    for name in ("part-0-a.parquet", "rows.parquet", "_SUCCESS"):
        (dataset / name).write_bytes(b"whatever")
    assert check_dataset(dataset) == []


@pytest.mark.parametrize(("file", "change", "name", "example"), BREAKS, ids=[f"{b[0]}-{b[2]}-{b[3]}" for b in BREAKS])
def test_a_broken_rule_is_told(dataset: Path, file: str, change: Change, name: str, example: str) -> None:
    path = dataset / file
    pq.write_table(change(pq.read_table(path, partitioning=None)), path)
    findings = {finding.name: finding for finding in check_dataset(dataset)}
    assert name in findings, findings
    assert example in f"{findings[name].cause} {findings[name].example}"
    assert findings[name].cure


def test_a_request_in_the_folder_of_another_time(dataset: Path) -> None:
    moved = [dataset / "train/period=01/shard-009.parquet", dataset / "test" / "shard-000.parquet"]
    shutil.move(moved[1], moved[0])
    shutil.copy(dataset / "valid" / "shard-000.parquet", moved[1])
    findings = {finding.name: finding for finding in check_dataset(dataset)}
    assert "row 0 is of" in findings["splits"].example
    assert findings["splits"].numbers == {"times": sum(pq.read_metadata(f).num_rows for f in moved)}
    assert "whole_requests" in findings, "valid's requests stand in test as well"


def test_statistics_of_the_whole_log_are_the_future(dataset: Path) -> None:
    stats = pq.read_table(dataset / "item_stats.parquet")
    end = int(pc.max(stats.column("snapshot")).as_py())
    last = stats.filter(pc.equal(stats.column("snapshot"), end))
    everywhere = [
        last.set_column(0, stats.schema.field(0), pa.array([s] * len(last), pa.int16())) for s in range(end + 1)
    ]
    pq.write_table(pa.concat_tables(everywhere), dataset / "item_stats.parquet")
    (finding,) = check_dataset(dataset)
    assert finding.name == "item_stats"
    assert "future" in finding.cure


@pytest.mark.parametrize(("file", "cause"), [("queries.parquet", "There is no"), ("test", "which may be empty")])
def test_what_is_missing_is_told(dataset: Path, file: str, cause: str) -> None:
    path = dataset / file
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    (finding,) = check_dataset(dataset)
    assert cause in finding.cause
    assert file in finding.cause


def test_a_file_cut_short_and_a_folder_that_is_none(dataset: Path, tmp_path: Path) -> None:
    (dataset / ROWS).write_bytes((dataset / ROWS).read_bytes()[:100])
    (finding,) = check_dataset(dataset)
    assert "is no whole Parquet file" in finding.cause
    assert check_dataset(tmp_path / "nowhere")


def test_another_engines_folder_is_adopted(dataset: Path, tmp_path: Path) -> None:
    original = read_manifest(dataset, DATASET)
    (dataset / "manifest.json").unlink()
    (tmp_path / "shop.toml").write_text('[items]\n[mine]\nengine = "adopt"\ndataset = "dataset"\n')
    shop = read_shop(tmp_path / "shop.toml")
    manifest = make(DATASET, shop)
    assert manifest.counts["requests"] == original.counts["requests"]
    assert manifest.counts["stages"] == original.counts["stages"]
    assert manifest.files == original.files
    reasons: list[str | None] = []
    make(DATASET, shop, None, Listener(step=lambda name, reason, runs: reasons.append(reason if runs else None)))
    assert reasons == [None], "what has not changed is not copied again"


def test_what_breaks_a_rule_is_not_adopted(dataset: Path, tmp_path: Path) -> None:
    pq.write_table(reverse(pq.read_table(dataset / "interactions.parquet")), dataset / "interactions.parquet")
    (tmp_path / "shop.toml").write_text('[items]\n[mine]\nengine = "adopt"\ndataset = "dataset"\n')
    with pytest.raises(ArtifactError, match=r"sorted by user_id and timestamp.*\n.*for example row"):
        make(DATASET, tmp_path / "shop.toml")
    assert not RunFolder(tmp_path / "run").dataset.exists()


def test_columns_that_the_shop_declares_must_be_there(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text('[items]\nvectors = ["image"]\n[mine]\nengine = "adopt"\ndataset = "dataset"\n')
    with pytest.raises(ArtifactError, match=r"items.parquet has no column image, which \[items\] of shop.toml names"):
        make(DATASET, tmp_path / "shop.toml")
    items = pq.read_table(dataset / "items.parquet")
    pictures = pa.array([[0.1, 0.2]] * len(items), pa.list_(pa.float32()))
    pq.write_table(items.append_column("image", pictures), dataset / "items.parquet")
    with pytest.raises(ArtifactError, match=r"does not say how many numbers .* image have.\n.*vector_lengths"):
        make(DATASET, tmp_path / "shop.toml")
    assert not RunFolder(tmp_path / "run").dataset.exists()


@pytest.mark.parametrize(
    ("section", "cause"),
    [
        ('[mine]\nengine = "sparkk"', r"\[mine\]: there is no engine 'sparkk'"),
        ('[index]\nengine = "faiss"', r"\[index\]: there is no engine 'faiss'"),
        ("[map]\nengine = 3", r"'engine' is 3"),
        ('[map]\nengine = "nowhere:draw"', "cannot import 'nowhere'"),
        ('[map]\nengine = "mmse.pipeline:STEPS"', "'STEPS' is a dict, expected function"),
    ],
)
def test_an_engine_that_does_not_exist(tmp_path: Path, section: str, cause: str) -> None:
    (tmp_path / "shop.toml").write_text(f"[items]\n[events]\n{section}\n")
    with pytest.raises(UsageError, match=cause):
        run(tmp_path / "shop.toml")


def test_adopting_needs_a_folder(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text('[items]\n[mine]\nengine = "adopt"\n')
    with pytest.raises(UsageError, match="needs the folder to adopt"):
        make(DATASET, tmp_path / "shop.toml")
