"""What the doctor finds in logs that are wrong in one way each, and that it finds nothing in one that is right."""

from __future__ import annotations

import datetime as dt
import random
from pathlib import Path
from typing import Any

import pytest

from mining import toy
from mmse.core.findings import Finding, share, sort_findings
from mmse.mining.checkup import Checkup, examine_log
from mmse.mining.lessons import LogTotals, lessons
from mmse.mining.mine import MineConfig
from mmse.sources.tables import EventsConfig, ItemsConfig

N_REQUESTS, N_ITEMS, PAGE = 1_500, 40, 4
TOMORROW = dt.datetime.now(dt.UTC).replace(tzinfo=None) + dt.timedelta(hours=36)
ITEMS: list[toy.Row] = [
    {"item_id": f"i{n}", "title": f"Mug {'abcdefgh'[n % 8]} {n}", "price": float(n), "sold": n * 1.0}
    for n in range(N_ITEMS)
]


def healthy_log(**values: object) -> list[toy.Row]:
    """1,500 requests of 300 shoppers: pages of four items, clicks, orders, all at random."""
    chance = random.Random(1)
    rows = []
    for number in range(N_REQUESTS):
        moment = toy.DAY + dt.timedelta(minutes=7 * number)
        for place, item in enumerate(chance.sample(range(N_ITEMS), PAGE), 1):
            clicked = place == 1 or chance.random() < 0.4
            rows.append(
                {
                    "request_id": f"r{number}",
                    "timestamp": moment,
                    "query": f"mug {number % 50}",
                    "item_id": f"i{item}",
                    "position": place,
                    "clicked": clicked,
                    "ordered": clicked and (place == 1 or chance.random() < 0.5),
                    "user_id": f"u{number % 300}",
                    "explored": True,
                }
                | values
            )
    return rows


def examine(folder: Path, events: list[toy.Row], items: list[toy.Row] | None = None, **config: Any) -> Checkup:
    toy.write_shop(folder, events, items if items is not None else ITEMS)
    return examine_log(
        ItemsConfig(numeric=("sold",)),
        EventsConfig("events.parquet"),
        MineConfig(threads=2, memory_limit="500MB", **config),
        base=folder,
    )


def find(checkup: Checkup, name: str) -> Finding:
    (finding,) = [finding for finding in checkup.findings if finding.name == name]
    return finding


def names(checkup: Checkup) -> list[str]:
    return [finding.name for finding in checkup.findings]


def test_a_healthy_log_has_no_findings(tmp_path: Path) -> None:
    checkup = examine(tmp_path, healthy_log())
    assert checkup.findings == []
    assert not checkup.is_blocked
    assert checkup.totals
    assert (checkup.totals.n_requests, checkup.totals.n_users, checkup.totals.n_positions) == (N_REQUESTS, 300, PAGE)
    assert checkup.lessons[1] == "Not learned: nothing is missing."


def test_clicks_alone_have_no_probabilities(tmp_path: Path) -> None:
    rows = [row | {"position": 1, "explored": False} for row in healthy_log() if row["clicked"]]
    checkup = examine(tmp_path, rows)
    finding = find(checkup, "clicks_only")
    assert "no probabilities" in finding.cause
    assert finding.severity == "warns"
    assert "how likely a click is (no shown item was left unclicked)" in checkup.lessons[1]
    assert "shared_positions" not in names(checkup)


def test_a_small_log_says_how_much_would_do(tmp_path: Path) -> None:
    checkup = examine(tmp_path, healthy_log()[: 25 * PAGE])
    finding = find(checkup, "too_few_clicks")
    assert finding.severity == "blocks"
    assert "25 of 25 requests have a click or an order; 1,000 would do" in finding.cause
    assert checkup.is_blocked
    assert find(examine(tmp_path, healthy_log()[: 400 * PAGE]), "too_few_clicks").severity == "warns"


def test_no_order_and_no_exploration(tmp_path: Path) -> None:
    checkup = examine(tmp_path, healthy_log(ordered=False, explored=False))
    assert names(checkup) == ["no_orders", "no_exploration"]


def test_pages_that_count_from_one_again(tmp_path: Path) -> None:
    rows = [row | {"position": (row["position"] - 1) % 2 + 1} for row in healthy_log()]
    finding = find(examine(tmp_path, rows), "shared_positions")
    assert finding.numbers == {"requests": N_REQUESTS, "of_requests": N_REQUESTS}
    assert "4 items on 2 positions" in finding.example


def test_delisted_items_block_with_the_limit_that_would_do(tmp_path: Path) -> None:
    checkup = examine(tmp_path, healthy_log(), ITEMS[:28])
    finding = find(checkup, "delisted")
    assert finding.severity == "blocks"
    assert "max_rejected_share = 0.3" in finding.cure
    assert '"item_id":"i' in finding.example
    assert "position_gaps" in names(checkup)
    small = [item | {"item_id": item["item_id"].upper()} if n % 3 else item for n, item in enumerate(ITEMS)]
    assert "differ only by upper and lower case" in find(examine(tmp_path, healthy_log(), small), "delisted").cure


def test_no_id_of_the_log_is_an_item(tmp_path: Path) -> None:
    checkup = examine(tmp_path, [row | {"item_id": f"{row['item_id']}.0"} for row in healthy_log()])
    assert checkup.is_blocked
    assert names(checkup) == ["unreadable"]


def test_rows_that_are_sent_twice(tmp_path: Path) -> None:
    rows = healthy_log()
    finding = find(examine(tmp_path, [*rows, *rows[:300]]), "duplicates")
    assert finding.numbers == {"rows": len(rows) + 300, "repeats": 300}
    assert finding.severity == "warns"


@pytest.mark.parametrize(
    ("moment", "name"), [(toy.DAY, "one_moment"), (TOMORROW, "future"), (dt.datetime(1999, 1, 1), "ancient")]
)
def test_times_that_cannot_be(tmp_path: Path, moment: dt.datetime, name: str) -> None:
    finding = find(examine(tmp_path, healthy_log(timestamp=moment)), name)
    assert finding.severity == "blocks"


@pytest.mark.parametrize(("year", "name"), [(2612, "future"), (1970, "ancient")])
def test_some_times_that_cannot_be(tmp_path: Path, year: int, name: str) -> None:
    rows = [row | ({"timestamp": dt.datetime(year, 1, 1)} if i % 5 == 0 else {}) for i, row in enumerate(healthy_log())]
    finding = find(examine(tmp_path, rows), name)
    assert finding.severity == "blocks"
    assert finding.numbers == {"rows": N_REQUESTS * PAGE / 5, "of_rows": N_REQUESTS * PAGE}


def test_all_orders_lost_are_a_finding_of_their_own(tmp_path: Path) -> None:
    rows = healthy_log(ordered=False)
    rows += [row | {"ordered": True, "item_id": "gone"} for row in rows[:90]]
    finding = find(examine(tmp_path, rows), "lost_orders")
    assert finding.severity == "blocks"
    assert "All 90 rows that tell of orders are bad" in finding.cause
    assert "90 × item_id is not in the items table" in finding.example


def test_days_without_times(tmp_path: Path) -> None:
    rows = healthy_log()
    rows = [row | {"timestamp": row["timestamp"].replace(hour=0, minute=0)} for row in rows]
    assert names(examine(tmp_path, rows)) == ["no_time_of_day"]


def test_clicks_before_their_page_and_late_orders(tmp_path: Path) -> None:
    rows, actions = healthy_log(clicked=False, ordered=False), []
    for number, row in enumerate(rows[::PAGE]):
        days = -0.1 if number % 10 == 0 else 3
        late = row["timestamp"] + dt.timedelta(days=days)
        actions.append(row | {"timestamp": late, "position": None, "clicked": True, "ordered": True})
    checkup = examine(tmp_path, [*rows, *actions])
    assert find(checkup, "clock_skew").numbers == {"early": 150, "actions": N_REQUESTS}
    assert find(checkup, "order_delay").numbers == {"hours": 72.0}


def test_orders_that_have_not_arrived(tmp_path: Path) -> None:
    rows = healthy_log()
    tail = int(len(rows) * 0.94)
    rows = [row | {"ordered": row["ordered"] and number < tail} for number, row in enumerate(rows)]
    assert "the newest orders seem to be missing" in find(examine(tmp_path, rows), "missing_orders").cause


def test_prices_that_are_no_numbers(tmp_path: Path) -> None:
    items = [item | {"price": "ask" if n < 4 else str(item["price"])} for n, item in enumerate(ITEMS)]
    assert find(examine(tmp_path, healthy_log(), items), "bad_values").numbers == {"values": 4, "of_rows": N_ITEMS}
    most = examine(tmp_path, healthy_log(), [item | {"price": "ask"} for item in ITEMS])  # as mining stops there
    assert "40 of 40 values of 'price' (price)" in find(most, "unreadable").cause


def test_items_without_words_and_titles_of_many(tmp_path: Path) -> None:
    wordless = [item | {"title": item["item_id"]} for item in ITEMS]
    assert find(examine(tmp_path, healthy_log(), wordless), "no_words").numbers == {"items": 40, "of_items": 40}
    one_title = [item | {"title": "Mug"} for item in ITEMS]
    assert "'Mug': 40 items" in find(examine(tmp_path, healthy_log(), one_title), "shared_titles").example


def test_a_column_that_is_counted_from_the_log(tmp_path: Path) -> None:
    many = [{"item_id": f"i{n}", "title": f"Mug {n} x", "sold": 0.0} for n in range(60)]
    rows = healthy_log()
    sold = {item["item_id"]: 0.0 for item in many}
    for row in rows:
        sold[row["item_id"]] += row["clicked"]
    items = [item | {"sold": sold[item["item_id"]]} for item in many]
    assert "'sold'" in find(examine(tmp_path, rows, items), "time_leak").cause


def test_guests_and_what_is_left_out_already(tmp_path: Path) -> None:
    rows = [row | ({"user_id": "guest"} if int(row["request_id"][1:]) % 2 else {}) for row in healthy_log()]
    finding = find(examine(tmp_path, rows), "guest")
    assert finding.numbers == {"ids": 1, "requests": 750, "of_requests": N_REQUESTS}
    assert find(examine(tmp_path, rows, leave_out=("guest",)), "guest").severity == "notes"


def test_the_worst_comes_first() -> None:
    findings = [Finding(str(s), s, "", "") for s in ("notes", "blocks", "warns", "blocks")]
    assert [finding.severity for finding in sort_findings(findings)] == ["blocks", "blocks", "warns", "notes"]
    assert (share(1, 3), share(1, 300), share(0, 0)) == ("33%", "0.33%", "0%")


def test_nothing_is_learned_from_nothing() -> None:
    assert lessons(LogTotals(0, 20, 20, 0, 0, 0, 3))[0] == "Learned: nothing."


def test_variants_and_copies_are_notes(tmp_path: Path) -> None:
    boot = {**ITEMS[0], "item_id": "v", "title": "Boot S"}
    toy.write_shop(tmp_path, healthy_log(), [*ITEMS, boot, {**boot, "title": "Boot M"}, boot])
    checkup = examine_log(ItemsConfig(), EventsConfig("events.parquet"), MineConfig(), base=tmp_path)
    findings = {finding.name: finding for finding in checkup.findings}
    assert findings["variants"].numbers == {"rows": 1, "items": 1}
    assert (findings["variants"].severity, findings["copies"].severity) == ("notes", "notes")
