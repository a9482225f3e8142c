"""What a shopper took after asking in other words, by hand: seven first requests, of which two were bettered."""

from pathlib import Path

import pytest

from mining.toy import Row, event, log, mine_shop, read, write_shop
from mmse.dataset.folder import read_reformulations
from mmse.mining.mine import MineConfig
from mmse.schema.stages import Stage

OTHER_WORDS = {"query": "shoe, red", "position": 1}


def request_pair(user: str, minute: float, *, second: float, took: bool = False, **values: object) -> list[Row]:
    """A request that was shown a and b, and the next of its shopper, which was shown a and c and ordered both."""
    first_rows = [event(f"{user}1", minute, "a", 1, clicked=took, user_id=user), event(f"{user}1", minute, "b", 2)]
    changes: Row = {"user_id": user, "clicked": True, "ordered": True, **OTHER_WORDS, **values}
    return [
        *({**row, "user_id": user} for row in first_rows),
        *(event(f"{user}2", second, i, 1) | changes for i in "ac"),
    ]


def mine_pairs(folder: Path, minutes: float = 10.0) -> list[Row]:
    rows = log(2)  # two requests long before, so that the first period ends between them and the rest
    rows += request_pair("good", 1000, second=1010)
    rows += request_pair("late", 1000, second=1010.1)
    rows += request_pair("took", 1000, second=1001, took=True)
    rows += request_pair("same", 1000, second=1001, query=" RED shoe")
    rows += request_pair("idle", 1000, second=1001, clicked=False, ordered=False)
    rows += request_pair("none", 1000, second=1001, user_id=None)
    rows += request_pair("thrice", 1000, second=1002, ordered=False)
    rows += [event("thrice1b", 1001, "b", 1, user_id="thrice", query="red")]  # the next one took nothing, either
    write_shop(folder, rows)
    config = MineConfig(periods=1, valid_share=0.0, test_share=0.0, shards=2, threads=1, reformulation_minutes=minutes)
    mine_shop(folder, config=config)
    return read(folder, "reformulations.parquet")


def test_what_the_next_request_took_by_hand(tmp_path: Path) -> None:
    keys = ("request_id", "next_request_id", "item_row", "stage")
    rows = sorted(tuple(row[key] for key in keys) for row in mine_pairs(tmp_path))
    assert rows == [
        ("good1", "good2", 2, Stage.ORDERED),  # c alone: a was shown to the first, and passed over
        ("thrice1b", "thrice2", 0, Stage.CLICKED),
        ("thrice1b", "thrice2", 2, Stage.CLICKED),
    ]
    pairs = read_reformulations(tmp_path / "dataset").to_pylist()
    assert {(row["request_id"], row["item_row"]) for row in pairs} == {("good1", 2), ("thrice1b", 0), ("thrice1b", 2)}


def test_none_is_mined_where_none_is_asked_for(tmp_path: Path) -> None:
    write_shop(tmp_path, log())
    counts = mine_shop(tmp_path, config=MineConfig(periods=2, reformulation_minutes=0.0)).counts
    assert counts["reformulations"] == 0
    assert not (tmp_path / "dataset" / "reformulations.parquet").exists()
    assert read_reformulations(tmp_path / "dataset").num_rows == 0


def test_requests_of_two_periods_are_not_joined(tmp_path: Path) -> None:
    """What a request of a later period took may be told by statistics that the first must not know."""
    rows = [
        row for minute in range(20) for row in request_pair(f"u{minute:02d}", 1000 + minute, second=1003.5 + minute)
    ]
    write_shop(tmp_path, rows)
    mine_shop(tmp_path, config=MineConfig(periods=4, shards=2, threads=1))
    times = {r["request_id"]: r["timestamp"] for r in read(tmp_path, "**/shard-*.parquet")}
    bounds = [row["before"] for row in read(tmp_path, "snapshots.parquet")]
    slices = {request: sum(bound <= time for bound in bounds) for request, time in times.items()}
    request_ids = {row["request_id"] for row in read(tmp_path, "reformulations.parquet")}
    assert request_ids == {f"u{m:02d}1" for m in range(20) if slices[f"u{m:02d}1"] == slices[f"u{m:02d}2"]}
    assert 0 < len(request_ids) < 20


@pytest.mark.parametrize("minutes", [-1.0, 1e9])
def test_minutes_that_cannot_be(minutes: float) -> None:
    with pytest.raises(ValueError, match="reformulation_minutes"):
        MineConfig(reformulation_minutes=minutes)
