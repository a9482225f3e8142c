"""The folder of what a search needs: who counts as a shopper, which queries are popular, what is kept of histories."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmse.core import artifact
from mmse.core.errors import ArtifactError
from mmse.dataset.folder import DatasetFolder, ItemStats
from mmse.dataset.history import LENGTH, History
from mmse.dataset.serving_data import (
    INTERACTIONS,
    ITEMS,
    MAX_QUERIES,
    POPULAR_QUERIES,
    ServingConfig,
    open_histories,
    read_item_counts,
    read_popular_queries,
    read_probe_queries,
    write_serving,
)

START = datetime(2026, 1, 1)
REQUESTS = pa.schema([("request_id", pa.string()), ("query", pa.string()), ("user_id", pa.string())])
INTERACTION = pa.schema(
    [("user_id", pa.string()), ("timestamp", pa.timestamp("us")), ("item_row", pa.int32()), ("stage", pa.int8())]
)


@dataclass
class Log:
    """The requests of a log, one row for each item that was shown."""

    rows: dict[str, list[tuple[str, str, str | None]]] = field(
        default_factory=lambda: {"train/period=00": [], "valid": [], "test": []}
    )

    def ask(self, query: str, shoppers: Iterable[str | None], split: str = "train/period=00") -> None:
        """One request of each of `shoppers`, which shows two items."""
        for shopper in shoppers:
            request_id = f"r{sum(map(len, self.rows.values()))}"
            self.rows[split] += [(request_id, query, shopper)] * 2

    def write(self, folder: Path, interactions: Sequence[tuple[str, int, int, int]] = ()) -> Path:
        """A `dataset` folder of the log, of three items; interactions are user, day, item row and stage."""
        with artifact.write_folder(folder, kind="dataset", config={}, inputs={}) as draft:
            titles = ["Red kettle", " ", "Blue tent"]
            items = {"item_row": [0, 1, 2], "item_id": ["a", "b", "c"], "title": titles}
            pq.write_table(pa.table(items), draft.folder / "items.parquet")
            before = pa.array(np.arange(4), pa.timestamp("us"))
            pq.write_table(pa.table({"snapshot": range(4), "before": before}), draft.folder / "snapshots.parquet")
            stats = {"snapshot": [2, 3, 3], "item_row": [0, 0, 2], "shown": [5, 9, 1], "clicked": [2, 4, 0]}
            pq.write_table(pa.table(stats | {"ordered": [1, 1, 0]}), draft.folder / "item_stats.parquet")
            rows = [(user, START + timedelta(days=day), item, stage) for user, day, item, stage in sorted(interactions)]
            columns = dict(zip(INTERACTION.names, zip(*rows, strict=True), strict=True)) if rows else {}
            table = pa.table(columns, schema=INTERACTION) if columns else INTERACTION.empty_table()
            pq.write_table(table, draft.folder / "interactions.parquet")
            for split, requests in self.rows.items():
                (draft.folder / split).mkdir(parents=True)
                table = pa.Table.from_pylist(
                    [dict(zip(REQUESTS.names, row, strict=True)) for row in requests], REQUESTS
                )
                pq.write_table(table, draft.folder / split / "shard-000.parquet")
        return folder


def shoppers(n: int, times: int = 1) -> list[str]:
    return [f"shopper-{number}" for number in range(n)] * times


def test_a_query_is_popular_from_twenty_different_shoppers_on(tmp_path: Path) -> None:
    log = Log()
    log.ask("a gift for my neighbour", [*shoppers(19, times=26), *shoppers(6)])  # 500 requests
    log.ask("kettle", shoppers(20))
    log.ask("tent", [*shoppers(15), *[None] * 100])
    log.ask("lamp", shoppers(10))
    log.ask("lamp", [f"other-{number}" for number in range(15)], "valid")
    log.ask("sofa", shoppers(19))
    log.ask("sofa", ["another"], "test")
    manifest = write_serving(log.write(tmp_path / "dataset"), tmp_path / "serving", ServingConfig())
    popular = pq.read_table(tmp_path / "serving" / POPULAR_QUERIES)
    assert popular.to_pylist() == [
        {"query": "lamp", "requests": 25, "shoppers": 25},
        {"query": "kettle", "requests": 20, "shoppers": 20},
    ]
    assert read_popular_queries(tmp_path / "serving") == {"lamp": 25, "kettle": 20}
    assert manifest.counts["popular_queries"] == 2
    write_serving(tmp_path / "dataset", tmp_path / "serving", ServingConfig(min_shoppers=19))
    assert list(read_popular_queries(tmp_path / "serving"))[:2] == ["a gift for my neighbour", "lamp"]


def test_no_more_than_so_many_queries_are_popular(tmp_path: Path) -> None:
    log = Log()
    for number in range(MAX_QUERIES + 5):
        log.ask(f"query {number:05}", ["a", "b"])
    log.ask("query 00999", ["c"])
    write_serving(log.write(tmp_path / "dataset"), tmp_path / "serving", ServingConfig(min_shoppers=2))
    queries = list(read_popular_queries(tmp_path / "serving"))
    assert len(queries) == MAX_QUERIES
    assert queries[:2] == ["query 00999", "query 00000"]


def test_a_log_without_shoppers_has_no_popular_query_and_no_history(tmp_path: Path) -> None:
    log = Log()
    log.ask("kettle", [None] * 100)
    write_serving(log.write(tmp_path / "dataset"), tmp_path / "serving", ServingConfig())
    assert read_popular_queries(tmp_path / "serving") == {}
    assert read_probe_queries(tmp_path / "serving", 10) == ["Red kettle", "Blue tent"], "titles, where none is popular"
    assert open_histories(tmp_path / "serving").look_up(["a"], np.array([2**60])).item_rows.tolist() == [[-1] * LENGTH]


def test_histories_are_those_of_the_log_as_far_as_a_search_looks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    interactions = [(f"u{rng.integers(6)}", int(rng.integers(40)), int(rng.integers(3)), 3) for _ in range(150)]
    interactions += [("one", 1, 2, 5)]
    dataset = Log().write(tmp_path / "dataset", interactions)
    write_serving(dataset, tmp_path / "serving", ServingConfig())
    users = [*(f"u{number}" for number in range(6)), "one", "nobody", None]
    now = np.full(len(users), np.iinfo(np.int64).max)
    served = open_histories(tmp_path / "serving").look_up(users, now)
    logged = History.open(dataset).look_up(users, now)
    np.testing.assert_array_equal(served.item_rows, logged.item_rows)
    np.testing.assert_array_equal(served.stages, logged.stages)
    table = pq.read_table(tmp_path / "serving" / INTERACTIONS)
    assert max(table.group_by("user_id").aggregate([("item_row", "count")])["item_row_count"].to_pylist()) == LENGTH


def test_without_histories_the_folder_names_no_shopper(tmp_path: Path) -> None:
    log = Log()
    log.ask("kettle", shoppers(20))
    dataset = log.write(tmp_path / "dataset", [("shopper-1", 1, 0, 3)])
    manifest = write_serving(dataset, tmp_path / "serving", ServingConfig(histories=False))
    assert INTERACTIONS not in manifest.files
    assert not (tmp_path / "serving" / INTERACTIONS).exists()
    histories = open_histories(tmp_path / "serving")
    assert histories.look_up(["shopper-1"], np.array([2**60])).item_rows.tolist() == [[-1] * LENGTH]
    assert all(b"shopper-" not in path.read_bytes() for path in (tmp_path / "serving").iterdir())


def test_items_and_their_counts_are_those_of_the_dataset(tmp_path: Path) -> None:
    dataset = Log().write(tmp_path / "dataset")
    write_serving(dataset, tmp_path / "serving", ServingConfig())
    stats = ItemStats.open(dataset)
    np.testing.assert_array_equal(read_item_counts(tmp_path / "serving", "test"), stats.at(stats.snapshots.test))
    np.testing.assert_array_equal(read_item_counts(tmp_path / "serving", "end"), stats.at(stats.snapshots.end))
    assert (tmp_path / "serving" / ITEMS).samefile(DatasetFolder(dataset).items)


def test_the_same_dataset_gives_the_same_folder(small_run: Path, tmp_path: Path) -> None:
    fingerprints = {
        write_serving(small_run / "dataset", tmp_path / str(n), ServingConfig()).fingerprint for n in range(2)
    }
    assert len(fingerprints) == 1


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="min_shoppers"):
        ServingConfig(min_shoppers=0)
    with pytest.raises(ArtifactError, match="not a finished 'dataset' folder"):
        write_serving(tmp_path, tmp_path / "serving", ServingConfig())
    write_serving(Log().write(tmp_path / "dataset"), tmp_path / "serving", ServingConfig())
    for file in (tmp_path / "serving").iterdir():
        if file.suffix == ".parquet":
            file.write_bytes(b"damage")
    with pytest.raises(ArtifactError, match="Cannot read"):
        read_item_counts(tmp_path / "serving", "end")
    with pytest.raises(ArtifactError, match="Cannot read"):
        read_popular_queries(tmp_path / "serving")
    with pytest.raises(ArtifactError, match="Cannot read"):
        read_probe_queries(tmp_path / "serving", 1)
    assert json.loads((tmp_path / "serving" / "manifest.json").read_text())["config"] == {
        "min_shoppers": 20,
        "histories": True,
    }
