"""The newest day of a log against the days before: ordinary days pass, poisoned ones do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path

import numpy as np
import pytest

from mining import toy
from mmse.core.findings import Finding
from mmse.mining.mine import MineConfig
from mmse.release.config import ReleaseConfig
from mmse.release.traffic import LogState, compare_days, read_log_state
from mmse.schema.stages import Stage

DAYS, REQUESTS, SLOTS, N_ITEMS = 5, 150, 4, 60
MINUTES = 24 * 60
ITEMS = [{"item_id": f"i{number}", "title": f"Thing {number}"} for number in range(N_ITEMS)]
MINE = MineConfig(periods=2, shards=1, threads=1, memory_limit="500MB")


def ordinary_log(days: int = DAYS, seed: int = 0) -> list[toy.Row]:
    """A hundred shoppers ask forty queries; a third of the requests have a click, a tenth an order."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(days * REQUESTS):
        user, query = f"u{rng.integers(100)}", f"query {rng.integers(40)}"
        items, taken = rng.permutation(N_ITEMS)[:SLOTS], rng.integers(SLOTS)
        stage = Stage.ORDERED if rng.random() < 0.1 else Stage.CLICKED if rng.random() < 0.3 else Stage.UNCLICKED
        for slot, item in enumerate(items.tolist()):
            row_stage = stage if slot == taken else Stage.UNCLICKED
            minute = number * MINUTES / REQUESTS
            rows.append(toy.event(f"r{number}", minute, f"i{item}", slot + 1, row_stage, user_id=user, query=query))
    return rows


def newest(rows: list[toy.Row], change: Callable[[toy.Row], toy.Row]) -> list[toy.Row]:
    """The log with every row of the last day changed."""
    start = toy.DAY + timedelta(days=DAYS - 1)
    return [change(row) if row["timestamp"] >= start else row for row in rows]


def findings_of(folder: Path, rows: list[toy.Row], before: LogState | None = None) -> dict[str, Finding]:
    toy.write_shop(folder, rows, ITEMS)
    toy.mine_shop(folder, config=MINE)
    return {finding.name: finding for finding in compare_days(folder / "dataset", before, ReleaseConfig())}


POISONS: dict[str, Callable[[toy.Row], toy.Row]] = {
    "one_item": lambda row: row | {"item_id": "i7" if row["clicked"] else row["item_id"]},
    "one_shopper": lambda row: row | {"user_id": "u1"},
    "one_query": lambda row: row | {"query": "casino"},
    "one_position": lambda row: row | {"clicked": row["position"] == 1, "ordered": False},
    "click_rate": lambda row: row | {"clicked": False, "ordered": False},
    "clicked_slots": lambda row: row | {"clicked": True},
    "order_rate": lambda row: row | {"ordered": row["position"] == 1, "clicked": True},
}


@pytest.mark.parametrize("name", POISONS)
def test_a_poisoned_day_is_named(tmp_path: Path, name: str) -> None:
    findings = findings_of(tmp_path, newest(ordinary_log(), POISONS[name]))
    assert findings[name].severity == "blocks"
    assert "In the 24 hours to 2025-03-05 23:5" in findings[name].cause
    assert 'leave_out = ["2025-03-05"]' in findings[name].cure


def test_an_ordinary_day_passes_and_is_described(tmp_path: Path) -> None:
    findings = findings_of(tmp_path, ordinary_log())
    assert set(findings) == {"log"}
    assert findings["log"].cause == (
        "The log has 750 requests, 150 of them in the newest day; the last is of 2025-03-05 23:50 UTC."
    )


def test_many_more_requests_warn_and_block_nothing(tmp_path: Path) -> None:
    rows = ordinary_log()
    start = toy.DAY + timedelta(days=DAYS - 1)
    newest_rows = [row for row in rows if row["timestamp"] >= start]
    rows += [row | {"request_id": f"{row['request_id']}-{n}"} for n in range(5) for row in newest_rows]
    findings = findings_of(tmp_path, rows)
    assert {name: finding.severity for name, finding in findings.items()} == {"log": "notes", "volume": "warns"}
    assert findings["volume"].cause.endswith("there are 900 requests, where a usual day has 150.")


def test_what_came_since_is_new_and_a_clock_that_is_behind_is_seen(tmp_path: Path) -> None:
    rows = ordinary_log()
    start = toy.DAY + timedelta(days=DAYS - 1)
    earlier_rows = [row for row in rows if row["timestamp"] < start]
    findings_of(tmp_path / "before", earlier_rows)
    before = read_log_state(tmp_path / "before" / "dataset")
    assert before is not None
    assert (before.requests, before.rows, before.n_rejected) == (600, 2400, 0)
    assert "150 of them since 2025-03-04 23:5" in findings_of(tmp_path / "after", rows, before)["log"].cause
    slow_clock = newest(rows, lambda row: row | {"timestamp": row["timestamp"] - timedelta(days=2)})
    late = findings_of(tmp_path / "late", slow_clock, before)["late_requests"]
    assert (late.severity, late.numbers) == ("blocks", {"late": 150, "of_requests": 150})


def test_a_log_that_nobody_looked_at_for_long_is_not_late(tmp_path: Path) -> None:
    first = ordinary_log(1)
    later = [
        row | {"request_id": f"{row['request_id']}-later", "timestamp": row["timestamp"] + timedelta(days=70)}
        for row in first
    ]
    end = int(toy.DAY.replace(tzinfo=UTC).timestamp() * 1e6) - 1
    findings = findings_of(tmp_path, first + later, LogState(end=end, requests=0, rows=0, n_rejected=0))
    assert set(findings) == {"log"}


def test_rows_that_are_set_aside_are_counted_since_the_last_version(tmp_path: Path) -> None:
    rows = ordinary_log()
    findings_of(tmp_path, rows)
    state = read_log_state(tmp_path / "dataset")
    assert state is not None
    before = replace_state(state, rows=state.rows - 600)
    findings = compare_days(tmp_path / "dataset", replace_state(before, n_rejected=-300), ReleaseConfig())
    assert findings[0].name == "rejected_rows"
    assert findings[0].severity == "blocks"
    assert findings[0].cause == "300 of 600 rows since the last version (50%) are bad and set aside."


def replace_state(state: LogState, **values: int) -> LogState:
    return LogState(**{name: getattr(state, name) for name in state.__struct_fields__} | values)


def test_one_day_alone_is_judged_by_what_no_shop_has(tmp_path: Path) -> None:
    assert set(findings_of(tmp_path / "good", ordinary_log(1))) == {"log"}
    rows = [POISONS["one_item"](row) for row in ordinary_log(1)]
    findings = findings_of(tmp_path / "bad", rows)
    assert findings["one_item"].cause.endswith("of the clicks are on item 'i7', and there is no day before.")


def test_limits_are_shares_and_ratios() -> None:
    with pytest.raises(ValueError, match="max_repriced"):
        ReleaseConfig(max_repriced=1.5)
    with pytest.raises(ValueError, match="max_day_ratio"):
        replace(ReleaseConfig(), max_day_ratio=1.0)
