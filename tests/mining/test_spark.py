"""Mining on Spark gives the same folder as mining on one machine, row for row; what is missing is said."""

from __future__ import annotations

import datetime as dt
import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mining import toy
from mmse.core import extras
from mmse.core.errors import TableError, UsageError
from mmse.core.extras import Extra
from mmse.dataset.contract import check_dataset
from mmse.mining.log_engine import SplitShares
from mmse.mining.log_sql import DuckDbSql
from mmse.mining.mine import MineConfig, mine_log
from mmse.mining.spark import cluster
from mmse.mining.spark.cluster import open_spark
from mmse.mining.spark.engine import salt_statements, spark_engine
from mmse.mining.spark.tasks import PartitionRule
from mmse.mining.spark.time_cut import cut_log
from mmse.mining.split import cut
from mmse.pipeline import UP_TO_DATE, Listener, make
from mmse.schema.stages import Stage
from mmse.schema.user_ids import SALT_VARIABLE, UserSalt, hash_sql
from mmse.shop import read_shop
from mmse.sources.duckdb_session import open_session
from mmse.sources.tables import EventsConfig, ItemsConfig

BOT = "crawler/1.0 (bot; 'quoted' \\w+)"
QUICK = {
    "spark.ui.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
}
"""What makes Spark quicker with next to no rows."""


TOML = """
[items]

[events]
max_rejected_share = 1.0

[[events.sources]]
source = "{pages}"
max_rejected_share = 0.9

[[events.sources]]
source = "orders.csv"
columns = {{user_id = "who", timestamp = "when", item_id = "item", ordered = true}}

[mine]
engine = "{engine}"
master = "local[2]"
periods = 2
shards = 3
threads = 2
memory_limit = "500MB"
correction_shoppers = 2
leave_out = ["bots", "guest", "2025-03-04"]
"""


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One application for all tests, with a file system that only Hadoop knows: viewfs://shop/data is a folder."""
    if extras.EXTRAS["spark"].absent_modules or shutil.which("java") is None:
        pytest.skip("needs pyspark and Java")
    data = tmp_path_factory.mktemp("data")
    settings = QUICK | {"spark.hadoop.fs.viewfs.mounttable.shop.link./data": f"file://{data}"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with open_spark("local[2]", settings):
            yield data


def awkward_pages() -> list[toy.Row]:
    """What requests showed: bots, guests, slips that were corrected, rows that contradict or say nothing."""
    rows = []
    for row in toy.log(400):
        number = int(row["request_id"][1:])
        position = 3 - row["position"] if number % 3 == 1 and row["position"] < 3 else row["position"]
        rows.append({**row, "user_id": f"u{number // 4}", "position": position})
    for user in range(3):
        minute = 100.25 + 5 * user
        rows.append(toy.event(f"slip {user}", minute, "a", 1, user_id=f"s{user}", query="red bacpack"))
        meant = {"user_id": f"s{user}", "query": "Red backpack"}
        rows += [toy.event(f"meant {user}", minute + 1, item, 1, Stage.CLICKED, **meant) for item in ("a", "b")]
    for number in range(30):
        rows.append(toy.event(f"b{number}", 500.0 + number, "c", 1, Stage.CLICKED, user_id=BOT))
        rows.append(toy.event(f"g{number}", 500.5 + number, "b", 2, user_id="guest"))
    day = toy.event("other day", 0, "a", 1, timestamp=toy.DAY + dt.timedelta(days=3))
    return [
        *rows,
        day,
        toy.event("r1", 1, "zzz", 5),
        toy.event("r2", 2, "a", 1, timestamp=None),
        toy.event("r3", 3, "a", 0),
        toy.event("", 3, "a", 1),
        toy.event("r5", 5.5, "a", 2, query="another"),
        toy.event("r6", 6, "b", 4, user_id=None),
        toy.event("r7", 6.99, "c", 1, query="red%20shoe+靴"),
        toy.event("r8", 8, "a", 3, Stage.ORDERED, user_id="somebody else"),
        toy.event("r 'x' \"y\" \\ 靴", 10.1, "c", 3, query="  "),
        toy.event("r 'x' \"y\" \\ 靴", 10.1, "c", 3, query="Ärmel\t\\'x'"),
    ]


def write_awkward_shop(folder: Path, data: Path) -> None:
    """Pages in two files below `data`, where only Hadoop finds them, in odd types; orders without a request in CSV."""
    toy.write_shop(folder, toy.log(3))
    pages = pa.Table.from_pylist(awkward_pages())
    odd = pages.set_column(1, "timestamp", pages["timestamp"].cast(pa.timestamp("ns")))
    odd = odd.set_column(4, "position", odd["position"].cast(pa.uint16())).append_column("a.b `c`", odd["query"])
    (data / "pages" / "day [1]").mkdir(parents=True, exist_ok=True)
    pq.write_table(odd.slice(0, 600), data / "pages" / "day [1]" / "part 1.parquet")
    pq.write_table(odd.slice(600), data / "pages" / "day [1]" / "part 2.parquet")
    orders = [
        {"who": f"u{user}", "when": toy.DAY + dt.timedelta(minutes=user * 4 + 3), "item": item}
        for user in range(0, 30, 3)
        for item in ("b", "c", "d", "nothing")
    ]
    toy.write_csv(folder / "orders.csv", orders)
    for engine, pages_source in (("duckdb", str(data / "pages")), ("spark", "viewfs://shop/data/pages")):
        (folder / f"{engine}.toml").write_text(TOML.format(engine=engine, pages=pages_source), "utf-8")


def assert_equal(folder: Path, other: Path, source: str, other_source: str) -> None:
    """Both folders have the same files with the same rows in the same order, and the same counts.

    Only the first source of the events is called `source` by one and `other_source` by the other.
    """
    counts = [toy_manifest(path)["counts"] for path in (folder, other)]
    assert json.dumps(counts[0]).replace(source, other_source) == json.dumps(counts[1])
    names = [sorted(toy_manifest(path)["files"]) for path in (folder, other)]
    assert names[0] == names[1]
    for name in (name for name in names[0] if name.endswith(".parquet")):
        expected, table = (pq.read_table(path / name, partitioning=None) for path in (folder, other))
        assert list(zip(table.schema.names, table.schema.types, strict=True)) == list(
            zip(expected.schema.names, expected.schema.types, strict=True)
        ), name
        rows = [
            {**row, "source": row["source"].replace(source, other_source)} if "source" in row else row
            for row in expected.to_pylist()
        ]
        if name == "rejected.parquet":  # in the order of the names of the sources
            rows.sort(key=lambda row: [row[key] for key in ("table", "source", "reason", "row")])
        assert table.to_pylist() == rows, name
    assert pq.read_schema(folder / "items.parquet").metadata == pq.read_schema(other / "items.parquet").metadata


def toy_manifest(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "manifest.json").read_text("utf-8"))
    return values


def test_awkward_logs_of_two_sources_are_mined_alike(spark: Path, tmp_path: Path) -> None:
    write_awkward_shop(tmp_path, spark)
    manifests = {
        engine: make("dataset", read_shop(tmp_path / f"{engine}.toml"), tmp_path / engine)
        for engine in ("duckdb", "spark")
    }
    counts = manifests["duckdb"].counts
    assert counts["left_out"] == {
        "2025-03-04": {"requests": 1},
        "bots": {"ids": 1, "requests": 30},
        "guest": {"ids": 1, "requests": 30},
    }
    assert counts["corrections"] == 1
    assert counts["reformulations"] > 1
    assert counts["position_bias_from"] == "the same query and item at several positions"
    assert counts["ordered_without_click"] > 0
    assert len(counts["rejected"]["events"]) > 5
    on_disk, on_spark = (tmp_path / engine / "dataset" for engine in ("duckdb", "spark"))
    assert_equal(on_disk, on_spark, str(spark / "pages"), "viewfs://shop/data/pages")
    assert not check_dataset(on_spark)
    steps: list[tuple[str, str, bool]] = []
    listener = Listener(step=lambda name, reason, runs: steps.append((name, reason, runs)))
    make("dataset", read_shop(tmp_path / "spark.toml"), tmp_path / "spark", listener)
    assert steps == [("dataset", UP_TO_DATE, False)]


def test_ids_are_hashed_in_tasks(tmp_path: Path) -> None:
    salt = UserSalt("a salt with 'quotes' and more")
    with open_session(memory_limit="500MB", threads=1) as session:
        assert salt_statements(session) == ()
        session.run(f"SET VARIABLE {SALT_VARIABLE} = 'a salt with ''quotes'' and more'")
        statements = salt_statements(session)
    rule = PartitionRule(f"SELECT {hash_sql('id')} AS h FROM rows", "rows", {"id": '"id"'}, {}, "500MB", statements)
    assert "quotes" not in repr(rule)
    batches = pa.table({"id": ["u1", "", None]}).to_batches()
    (batch,) = rule(iter(batches))
    assert batch.column(0).to_pylist() == [salt.hash_id(id_) for id_ in ("u1", "", None)]
    assert list(rule(iter([]))) == []


def test_what_spark_does_not_find_is_named(spark: Path, tmp_path: Path) -> None:
    toy.write_shop(tmp_path, toy.log(3))
    with open_spark("local[2]", {}) as session:
        engine = spark_engine(session)
        for source, message in (
            ("viewfs://shop/data/nothing", "there is nothing at viewfs://shop/data/nothing"),
            ("nofs://host/events", "does not reach nofs://host/events .*nofs"),
            ("hdfs://no.such.host.invalid:9/events", "does not reach hdfs://.*UnknownHost"),
            ("nothing/*.parquet", "nothing matches"),
        ):
            with pytest.raises(TableError, match=message):
                mine_log(
                    ItemsConfig(), EventsConfig(source), MineConfig(), tmp_path / "run", base=tmp_path, engine=engine
                )


def test_what_a_task_cannot_do_is_said_in_a_line(spark: Path) -> None:
    with (
        pytest.raises(UsageError, match=r"Spark could not mine the log: .*DIVIDE_BY_ZERO"),
        open_spark("local[2]", {}) as session,
    ):
        session.sql("SELECT 1 / (id - id) AS x FROM range(3)").toArrow()


@pytest.mark.parametrize("n", [7, 500])
def test_the_log_is_cut_as_on_one_machine(n: int) -> None:
    random = np.random.default_rng(n)
    times = np.concatenate(
        [random.integers(1_700_000_000_000_000, 1_800_000_000_000_000, n), [1_750_000_000_000_001] * 5]
    )
    shares = SplitShares(0.1, 0.2, 6)
    with open_session(memory_limit="500MB", threads=1) as session:
        session.create_table("log_request", pa.table({"timestamp": pa.array(times).cast(pa.timestamp("us"))}))
        assert cut_log(DuckDbSql(session), shares) == cut(times, valid_share=0.1, test_share=0.2, periods=6)


def test_a_log_of_one_moment_is_refused_as_on_one_machine() -> None:
    with open_session(memory_limit="500MB", threads=1) as session:
        times = pa.array([1_750_000_000_000_001] * 9).cast(pa.timestamp("us"))
        session.create_table("log_request", pa.table({"timestamp": times}))
        with pytest.raises(TableError, match="cannot be split by time"):
            cut_log(DuckDbSql(session), SplitShares(0.1, 0.1, 2))


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def installed(*modules: str) -> dict[str, Extra]:
        return {"spark": Extra("spark", "mining on Spark", modules)}

    monkeypatch.setattr(extras, "EXTRAS", installed("no_such_pyspark"))
    with pytest.raises(UsageError, match=r"pip install 'mmse\[spark\]'"), open_spark("local[2]", {}):
        pass
    monkeypatch.setattr(extras, "EXTRAS", installed())
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=r"JAVA_HOME is .*\n.*openjdk-17"), open_spark("local[2]", {}):
        pass
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_392\"' >&2\n")
    java.chmod(0o755)
    with pytest.raises(UsageError, match=r"needs Java 17 or later, and .*java is 8"), open_spark("local[2]", {}):
        pass


def test_a_master_that_does_not_answer_is_named() -> None:
    with pytest.raises(UsageError, match=r"does not answer: 127.0.0.1:1 .*\n.*local\[2\]"):
        cluster.check_master("spark://127.0.0.1:1")
    cluster.check_master("local[2]")
