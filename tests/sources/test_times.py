"""Times as shops write them: one moment in every form, and what is refused because nothing tells what it means."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import duckdb
import pytest

from mining.toy import DAY, event, mine_shop, read, write_shop
from mmse.core.config import build
from mmse.core.errors import TableError, UsageError
from mmse.sources.duckdb_session import open_session
from mmse.sources.sql import literal
from mmse.sources.tables import EventsConfig
from mmse.sources.times import DAY_FIRST, MONTH_FIRST, NO_FORM, TimeForm, find_order, from_text

MOMENT = dt.datetime(2026, 9, 1, 17, 4)


def read_time(text: str, form: TimeForm = NO_FORM) -> dt.datetime | None:
    with open_session(memory_limit="200MB", threads=1) as session:
        ((moment,),) = session.run(f"SELECT {from_text('text', form)} FROM (SELECT {literal(text)} AS text)")
    assert moment is None or isinstance(moment, dt.datetime)
    return moment


@pytest.mark.parametrize(
    "text",
    [
        "2026-09-01 17:04",
        "2026-09-01T19:04:00+02:00",
        "01-Sep-2026 17:04:00",
        "1 September 2026 5:04 PM",
        "Sep 1, 2026, 5:04:00 pm",
        "September 1, 2026 17:04",
        "Tue, 01 Sep 2026 18:04:00 +0100",
        "Tue, 01 Sep 2026 17:04:00 GMT",
        "01/Sep/2026:18:04:00 +0100",
        "2026-09-01 17:04:00,000",
        "202609011704",
        "20260901170400",
        "20260901T170400Z",
        "1788282240",
        "1788282240000",
        "1788282240000000",
        "46266.711111111",
    ],
)
def test_one_moment_in_every_form(text: str) -> None:
    moment = read_time(text)
    assert moment is not None
    assert abs(moment - MOMENT) < dt.timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("01/09/2026 17:04", DAY_FIRST),
        ("1.9.2026, 17:04:00", DAY_FIRST),
        ("01-09-2026 05:04 PM", DAY_FIRST),
        ("9/1/2026, 5:04:00\u202fPM", MONTH_FIRST),
        ("09/01/2026 17:04:00.000", MONTH_FIRST),
    ],
)
def test_a_day_and_a_month_in_numbers_once_their_order_is_known(text: str, order: str) -> None:
    assert read_time(text, TimeForm(order=order)) == MOMENT
    assert read_time(text) is None


def test_days_without_a_clock() -> None:
    day = dt.datetime(2026, 9, 1)
    assert read_time("2026090117") == dt.datetime(2026, 9, 1, 17)
    for text in ("20260901", "46266", "2026-09-01", "1 Sep 2026"):
        assert read_time(text) == day, text


@pytest.mark.parametrize("text", ["yesterday", "13/13/2026", "20261399", "99999", "2026-09-01 17:04 PM", "nan"])
def test_what_is_no_time(text: str) -> None:
    moment = read_time(text)
    assert moment is None or moment.year < 1995


@pytest.mark.parametrize(
    ("texts", "order"),
    [
        (["01/09/2026 08:00", "13/09/2026 08:00"], DAY_FIRST),
        (["9/1/2026", "9/30/2026"], MONTH_FIRST),
        (["2026-09-01", "2026-09-02", "01/02/2026"], ""),
        (["2026-09-01"], ""),
        ([None], ""),
    ],
)
def test_the_whole_column_tells_the_order(texts: list[str | None], order: str) -> None:
    connection = duckdb.connect()
    connection.execute("CREATE TABLE log AS SELECT unnest(?) AS moment", [texts])
    assert find_order(connection, "moment", "log", "events.csv") == order


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["01/09/2026", "02/10/2026"], "nothing tells which comes first"),
        (["13/09/2026", "09/13/2026"], "some begin with the day and others with the month"),
    ],
)
def test_an_order_that_nothing_tells_is_asked_for(texts: list[str], said: str) -> None:
    connection = duckdb.connect()
    connection.execute("CREATE TABLE log AS SELECT unnest(?) AS moment", [texts])
    with pytest.raises(TableError, match=said) as caught:
        find_order(connection, "moment", "log", "events.csv")
    assert 'time_format = "%d/%m/%Y' in str(caught.value.cure)


def test_a_log_whose_days_come_first(tmp_path: Path) -> None:
    moments = [DAY + dt.timedelta(days=day) for day in range(20)]
    rows = [
        event(f"q{i}", 0, "a", 1, timestamp=moment.strftime("%d.%m.%Y %H:%M:%S")) for i, moment in enumerate(moments)
    ]
    write_shop(tmp_path, rows)
    mine_shop(tmp_path)
    assert sorted(row["timestamp"] for row in read(tmp_path, "[tv]*/**/*.parquet")) == moments


def test_a_declared_form_comes_first(tmp_path: Path) -> None:
    moments = [dt.datetime(2026, 3, 1 + day, 10) for day in range(9)]
    rows = [event(f"q{i}", 0, "a", 1, timestamp=f"{m:%d}~{m:%m}~{m:%y} {m:%H}h") for i, m in enumerate(moments)]
    write_shop(tmp_path, rows)
    with pytest.raises(TableError, match="timestamp is not a time") as caught:
        mine_shop(tmp_path)
    assert "time_format = " in str(caught.value.cure)
    mine_shop(tmp_path, events=EventsConfig("events.parquet", time_format="%d~%m~%y %Hh"))
    assert sorted(row["timestamp"] for row in read(tmp_path, "[tv]*/**/*.parquet")) == moments


@pytest.mark.parametrize("pattern", ["DD/MM/YYYY", "%Q"])
def test_a_form_that_is_no_pattern(pattern: str) -> None:
    with pytest.raises(UsageError, match=r"time_format' is .* expected a pattern such as"):
        build(EventsConfig, {"time_format": pattern}, "shop.toml [events]")
