"""What shoppers corrected themselves: which pairs count, how many shoppers it takes, and what the speller learns."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from mining.toy import Row, event, log, mine_shop, read, write_shop
from mmse.dataset.contract import check_dataset
from mmse.dataset.folder import read_corrections
from mmse.mining.corrections import Correction, count_corrections, find_difference
from mmse.mining.log_sql import DuckDbSql
from mmse.mining.mine import MineConfig
from mmse.schema.stages import Stage
from mmse.sources.duckdb_session import open_session


@pytest.mark.parametrize(
    ("query", "next_query", "difference"),
    [
        ("red bacpack", "red backpack", ("bacpack", "backpack")),
        ("sun glases", "sunglasses", ("sun glases", "sunglasses")),
        ("hedfones", "headphones", ("hedfones", "headphones")),
        ("müssli riegel", "müsli riegel", ("mussli", "musli")),
        ("red shoe", "garden hose", None),
        ("iphone 6", "iphone 7", None),
        ("back pack", "backpack", None),
        ("shoe", "red shoe", None),
        ("tv", "tb", None),
        ("", "red", None),
    ],
)
def test_what_two_queries_differ_in(query: str, next_query: str, difference: tuple[str, str] | None) -> None:
    assert find_difference(query, next_query) == difference


def count(pairs: list[tuple[str, str, str]], min_shoppers: int) -> list[Correction]:
    with open_session(memory_limit="500MB", threads=1) as session:
        columns = dict(zip(("query", "next_query", "user_id"), zip(*pairs, strict=True), strict=True))
        session.create_table("pair", pa.table(columns))
        return count_corrections(DuckDbSql(session), "SELECT * FROM pair", min_shoppers)


def test_each_correction_is_of_several_shoppers_and_not_taken_back() -> None:
    pairs = [("red bacpack", "red backpack", "a"), ("bacpack", "backpack", "b"), ("bacpack bag", "backpack bag", "c")]
    assert count(pairs, 3) == [Correction("bacpack", "backpack", 3)]
    assert count(pairs, 4) == []
    assert count(pairs + pairs, 4) == []  # the same shoppers again
    there_and_back = [*pairs, *((later, query, user) for query, later, user in pairs)]
    assert count(there_and_back, 3) == []
    other = [("bacpack", "bagpack", user) for user in "abcd"]
    assert count([*pairs, *other], 3) == [Correction("bacpack", "bagpack", 4)]


def request_pair(user: str, minute: float, misspelling: str, spelling: str, *, takes: bool = False) -> list[Row]:
    """A request that takes something only if `takes`, and one a minute later that does."""
    stage = Stage.CLICKED if takes else Stage.UNCLICKED
    first = event(f"{user}1", minute, "a", 1, stage, user_id=user, query=misspelling)
    return [first, event(f"{user}2", minute + 1, "b", 1, Stage.CLICKED, user_id=user, query=spelling)]


def mine_corrections(folder: Path, rows: list[Row], shoppers: int = 3, minutes: float = 10.0) -> dict[str, str]:
    write_shop(folder, log(2) + rows)
    config = MineConfig(
        periods=2, valid_share=0.0, test_share=0.1, reformulation_minutes=minutes, correction_shoppers=shoppers
    )
    counts = mine_shop(folder, config=config).counts
    corrections = read_corrections(folder / "dataset")
    assert counts.get("corrections") == len(corrections)
    assert check_dataset(folder / "dataset") == []
    return corrections


def test_corrections_of_a_log_by_hand(tmp_path: Path) -> None:
    rows = [row for n in range(4) for row in request_pair(f"u{n}", 10 + 3 * n, "blu sheo", "blue shoe")]
    rows += [row for n in range(4) for row in request_pair(f"v{n}", 30 + 3 * n, "redd shoe", "red shoe", takes=True)]
    rows += [row for n in range(2) for row in request_pair(f"w{n}", 50 + 3 * n, "boot blak", "boot black")]
    rows += request_pair("late", 90, "shoe", "boot")  # the test window, of which nothing is learned
    assert mine_corrections(tmp_path, rows) == {"blu sheo": "blue shoe"}
    assert read(tmp_path, "corrections.parquet") == [
        {"misspelling": "blu sheo", "spelling": "blue shoe", "shoppers": 4}
    ]
    assert mine_corrections(tmp_path, rows, shoppers=5) == {}
    assert mine_corrections(tmp_path, rows, shoppers=2)["blak"] == "black"


def test_what_took_something_more_often_than_it_was_corrected_is_no_slip(tmp_path: Path) -> None:
    rows = [row for n in range(3) for row in request_pair(f"u{n}", 10 + 3 * n, "red puff", "red pouf")]
    rows += [event(f"t{n}", 30 + n, "a", 1, Stage.CLICKED, query="puff") for n in range(4)]
    rows += request_pair("late", 90, "shoe", "boot")
    assert mine_corrections(tmp_path, rows) == {}


def test_no_corrections_without_reformulations(tmp_path: Path) -> None:
    rows = [row for n in range(4) for row in request_pair(f"u{n}", 10 + 3 * n, "blu sheo", "blue shoe")]
    assert mine_corrections(tmp_path, rows, minutes=0.0) == {}
    assert not (tmp_path / "dataset" / "corrections.parquet").exists()


def test_a_number_of_shoppers_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="correction_shoppers"):
        MineConfig(correction_shoppers=0)
