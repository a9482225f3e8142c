"""Ids that are no shopper: found by what they are called and by what they do, and left out where shop.toml says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from mining import toy
from mmse.mining.log_sql import DuckDbSql
from mmse.mining.mine import MineConfig
from mmse.mining.shoppers import find_strangers, stranger_findings, summarise_requests
from mmse.schema.stages import Stage
from mmse.sources.duckdb_session import open_session

BOT, GUEST = "Mozilla/5.0 (compatible; AhrefsBot/7.0)", "guest"


def shop_log(*, requests: int = 60) -> list[toy.Row]:
    """Shoppers with two requests each, every third of somebody who is not signed in, and a crawler as busy as all."""
    rows = []
    for number in range(requests):
        user = GUEST if number % 3 == 0 else f"u{number // 2}"
        rows += [
            toy.event(f"r{number}", number, "a", 1, Stage.CLICKED if number % 2 else Stage.UNCLICKED, user_id=user),
            toy.event(f"r{number}", number, "b", 2, user_id=user),
            toy.event(f"bot{number}", number + 0.5, "a", 1, Stage.CLICKED, user_id=BOT, query="mug"),
        ]
    return rows


def config(*kinds: str) -> MineConfig:
    return MineConfig(periods=2, shards=2, threads=2, memory_limit="500MB", leave_out=kinds)


def strangers_of(requests: str) -> dict[str, tuple[str, str]]:
    """Kind and reason of each stranger; `requests` is SQL."""
    with open_session(memory_limit="500MB", threads=1) as session:
        return {s.user_id: (s.kind, s.reason) for s in find_strangers(DuckDbSql(session), f"({requests})")}


def test_what_is_named_is_left_out_and_counted(tmp_path: Path) -> None:
    toy.write_shop(tmp_path, shop_log())
    manifest = toy.mine_shop(tmp_path, config=config("guest", "bots"))
    assert manifest.counts["left_out"] == {"guest": {"ids": 1, "requests": 20}, "bots": {"ids": 1, "requests": 60}}
    rows = [row for pattern in ("train/*/*", "valid/*", "test/*") for row in toy.read(tmp_path, pattern)]
    assert {row["user_id"] for row in rows} == {None} | {f"u{n // 2}" for n in range(60) if n % 3}
    assert len({row["request_id"] for row in rows}) == 60


def test_nothing_is_left_out_that_is_not_named_and_a_warning_names_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    toy.write_shop(tmp_path, shop_log())
    manifest = toy.mine_shop(tmp_path, config=config())
    assert sum(manifest.counts["requests"].values()) == 120
    assert "left_out" not in manifest.counts
    assert "'guest' has 20 of 120 requests (17%)" in caplog.text
    assert "AhrefsBot/7.0)' has 60 of 120 requests (50%) and is a program" in caplog.text
    assert 'leave_out = ["bots"]' in caplog.text
    assert len(manifest.counts["warnings"]) == 2
    assert (
        manifest.counts["lessons"][0]
        == "Learned: "
        + "; ".join(
            ["which items fit a query", "how likely a click is", "who looks at which position", "what a shopper likes"]
        )
        + "."
    )


def test_a_kind_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="leave_out"):
        MineConfig(leave_out=("ghosts",))


SHOPPERS = """
    SELECT 'u' || (i // 4) AS user_id, 'q' || (i % 97) AS query, 10 AS n_shown, 3 AS n_clicked, i % 9 = 0 AS n_ordered
      FROM range(4000) r(i)"""


@pytest.mark.parametrize(
    ("id_", "query", "shown", "clicked", "ordered", "n", "reason"),
    [
        ("77f3", "'mug'", 10, 3, 0, 300, "distinct queries: 1 in 300 requests, and no order"),
        ("77f3", "'q' || (i % 50)", 10, 10, 0, 30, "it clicks 300 of 300 shown items"),
        ("77f3", "'q' || (i % 50)", 10, 0, 0, 200, "it was shown 2000 items and clicked none"),
        ("Googlebot/2.1", "'q' || (i % 50)", 10, 3, 1, 20, "its id names a program"),
    ],
)
def test_a_program_is_known_by_what_it_does(
    id_: str, query: str, shown: int, clicked: int, ordered: int, n: int, reason: str
) -> None:
    program = f"SELECT '{id_}', {query}, {shown}, {clicked}, {ordered} FROM range({n}) r(i)"
    assert strangers_of(f"{SHOPPERS} UNION ALL {program}") == {id_: ("bots", reason)}


def test_everybody_is_known_by_its_size_where_its_name_says_nothing() -> None:
    everybody = "SELECT 'web', 'q' || (i % 50), 10, 3, 1 FROM range(1000) r(i)"
    assert strangers_of(f"{SHOPPERS} UNION ALL {everybody}")["web"][0] == "guest"


@pytest.mark.parametrize("id_", ["guest", "NULL", "undefined", "0", "(not set)", "anonymous"])
def test_a_placeholder_is_everybody(id_: str) -> None:
    rows = f"SELECT '{id_}', 'q' || i, 10, 3, 1 FROM range(3) r(i)"
    assert strangers_of(f"{SHOPPERS} UNION ALL {rows}") == {id_: ("guest", "the id is a placeholder")}


def test_shoppers_are_shoppers() -> None:
    buyer = "SELECT 'talbot', 'q' || (i % 30), 10, 4, 1 FROM range(60) r(i)"
    assert strangers_of(f"{SHOPPERS} UNION ALL {buyer}") == {}
    counts = "'one' AS query, 5 AS n_shown, 1 AS n_clicked, 0 AS n_ordered FROM range(500) r(i)"
    assert strangers_of(f"SELECT 'u' || i AS user_id, {counts}") == {}
    assert strangers_of(f"SELECT NULL::VARCHAR AS user_id, {counts}") == {}


def test_findings_say_what_to_write() -> None:
    with open_session(memory_limit="500MB", threads=1) as session:
        rows = "(SELECT 'r' || i AS request_id, 'null' AS user_id, 'q' AS query, TIMESTAMP '2026-01-01' AS timestamp, "
        rows += "1 AS item_row, 17 AS flags FROM range(4) r(i))"
        summarise_requests(DuckDbSql(session), rows)
        (finding,) = stranger_findings(find_strangers(DuckDbSql(session), "request_summary"))
    assert finding.numbers == {"ids": 1, "requests": 4, "of_requests": 4}
    assert 'leave_out = ["guest"]' in finding.cure
