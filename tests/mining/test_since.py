"""Mining from a day on: the dataset of a log that begins there, and files before it stay unread."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mining import toy
from mmse.cli.days import parse_since
from mmse.core.errors import UsageError
from mmse.mining.checkup import examine_log
from mmse.mining.mine import MineConfig
from mmse.schema.stages import Stage
from mmse.shop import read_shop
from mmse.sources.tables import EventsConfig, ItemsConfig

SINCE = "2025-03-03"
CONFIG: dict[str, Any] = {"periods": 2, "shards": 2, "correction_shoppers": 1}


def days(count: int) -> list[list[toy.Row]]:
    """A log of `count` days from 1 March on, with a bad row in each, and a request that begins before midnight."""
    parts = []
    for day in range(count):
        shift = dt.timedelta(days=day)
        rows = [
            {**row, "request_id": f"{day}-{row['request_id']}", "timestamp": row["timestamp"] + shift}
            for row in toy.log(40)
        ]
        rows.append(toy.event(f"bad {day}", 24 * 60 * day + 5, "nothing", 1))
        rows.append(toy.event(f"night {day}", 24 * 60 * (day + 1) - 0.5, "a", 1))
        rows.append(toy.event(f"night {day}", 24 * 60 * (day + 1) + 0.5, "b", 2, Stage.CLICKED))
        parts.append(rows)
    return parts


def write_days(folder: Path, parts: list[list[toy.Row]], form: str) -> EventsConfig:
    toy.write_shop(folder, parts[0])
    (folder / "log").mkdir()
    for number, rows in enumerate(parts):
        path = folder / "log" / f"day-{number}.{form}"
        if form == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        else:
            toy.write_csv(path, rows)
    return EventsConfig("log", max_rejected_share=0.2)


def content(folder: Path) -> dict[str, Any]:
    """The rows of every file of a dataset, and what its manifest counts."""
    tables = {
        str(path.relative_to(folder)): pq.read_table(path, partitioning=None).to_pylist()
        for path in sorted(folder.rglob("*.parquet"))
    }
    return tables | {"counts": json.loads((folder / "manifest.json").read_text("utf-8"))["counts"]}


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_the_dataset_is_that_of_a_log_that_begins_then(tmp_path: Path, form: str) -> None:
    parts = days(5)
    later = [[row for row in rows if row["timestamp"] >= dt.datetime(2025, 3, 3)] for rows in parts]
    events = write_days(tmp_path / "whole", parts, form)
    write_days(tmp_path / "later", [rows for rows in later if rows], form)
    cut, expected, whole = tmp_path / "cut_set", tmp_path / "later_set", tmp_path / "whole_set"
    toy.mine_shop(tmp_path / "whole", events=events, config=MineConfig(since=SINCE, **CONFIG), target=cut)
    toy.mine_shop(tmp_path / "later", events=events, config=MineConfig(**CONFIG), target=expected)
    toy.mine_shop(tmp_path / "whole", events=events, config=MineConfig(**CONFIG), target=whole)
    assert content(cut) == content(expected)
    assert content(cut)["counts"]["requests"] != content(whole)["counts"]["requests"]
    assert content(cut)["counts"]["rejected"]["events"] == {"item_id is not in the items table": 3}


def test_a_row_without_a_time_is_rejected_whatever_the_day(tmp_path: Path) -> None:
    parts = days(3)
    parts[0].append(toy.event("timeless", 0, "a", 1, timestamp=None))
    events = write_days(tmp_path / "shop", parts, "parquet")
    toy.mine_shop(tmp_path / "shop", events=events, config=MineConfig(since=SINCE, **CONFIG), target=tmp_path / "set")
    assert content(tmp_path / "set")["counts"]["rejected"]["events"]["timestamp is missing"] == 1


def test_the_doctor_looks_at_the_same_rows(tmp_path: Path) -> None:
    events = write_days(tmp_path, days(3), "parquet")
    checkup = examine_log(ItemsConfig(), events, MineConfig(since=SINCE), base=tmp_path)
    assert checkup.totals is not None
    assert checkup.totals.n_requests == 42  # the one of the night before has a row after midnight, which is a click's


def test_days_on_the_command_line() -> None:
    today = dt.datetime(2026, 3, 1, 23, 0, tzinfo=dt.UTC)
    assert parse_since(None) is None
    assert parse_since("2025-12-31") == "2025-12-31"
    assert parse_since("90d", today) == "2025-12-01"
    for text in ("90", "yesterday", "2025-13-01", ""):
        with pytest.raises(UsageError, match="90d"):
            parse_since(text, today)
    with pytest.raises(ValueError, match="'since' is 'soon'"):
        MineConfig(since="soon")


def test_the_shop_keeps_its_other_settings(tmp_path: Path) -> None:
    toml = tmp_path / "shop.toml"
    toml.write_text('[items]\n[events]\n[mine]\nsince = "2025-01-01"\nperiods = 3\n', "utf-8")
    shop = read_shop(toml)
    assert shop.begin_at(None) == shop
    assert shop.begin_at(SINCE).mine == MineConfig(since=SINCE, periods=3)
