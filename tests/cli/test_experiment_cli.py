"""The commands of `mmse experiment`, as a user meets them: a test that found something, and tables that are broken."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli.called import Call
from mmse.schema.http_events import Exposure
from mmse.serving.events.log import EventLog

START, DAYS = datetime(2026, 3, 1), 10
Table = dict[str, Any]


def shopped(n: int = 3_000, seed: int = 0) -> Table:
    """A request of every shopper, each shown two items: `new` sells half as much again as `old` 🫖."""
    rng = np.random.default_rng(seed)
    treated = rng.random(n) < 0.5
    bought = rng.random(n) < np.where(treated, 0.36, 0.24)
    day = rng.uniform(0, DAYS, n)
    return {
        "request_id": [f"r{one}" for one in np.repeat(np.arange(n), 2)],
        "timestamp": [START + timedelta(days=float(one)) for one in np.repeat(day, 2)],
        "query": ["kettle 🫖"] * (2 * n),
        "item_id": ["x", "y"] * n,
        "position": [1, 2] * n,
        "clicked": [flag for one in bought.tolist() for flag in (one, False)],
        "ordered": [flag for one in bought.tolist() for flag in (one, False)],
        "price": [9.5] * (2 * n),
        "user_id": [f"u{one}" for one in np.repeat(np.arange(n), 2)],
        "arm": [{True: "new", False: "old"}[one] for one in np.repeat(treated, 2).tolist()],
    }


def mixed(n: int = 400) -> Table:
    """Two lists in one, of which `b` brought what was ordered in three of four requests."""
    table = shopped(n)
    by_b = (np.arange(n) % 4 > 0).tolist()
    table["team"] = [team for won in by_b for team in (("b", "a") if won else ("a", "b"))]
    table["rank_a"] = [rank for won in by_b for rank in ((None, 1) if won else (1, None))]
    table["rank_b"] = [rank for won in by_b for rank in ((1, None) if won else (None, 1))]
    return table


def write(folder: Path, table: Table, name: str = "exposures.parquet") -> Path:
    pq.write_table(pa.table(table), folder / name)
    return folder / name


def test_analyse_says_what_a_test_showed(call: Call, tmp_path: Path) -> None:
    table = write(tmp_path, shopped())
    done = call("experiment", "analyse", table, "--control", "old", "--report", tmp_path / "test.html")
    assert (done.code, done.err) == (0, "")
    first = done.out.splitlines()[0]
    assert first.startswith("new is better than old: +")
    assert max(len(line) for line in done.out.splitlines()[:14]) <= 80
    for metric in ("conversion", "orders per user", "request conversion", "revenue per user"):
        assert all(word in done.out for word in metric.split())
    page = (tmp_path / "test.html").read_text("utf-8")
    assert first[:30] in page
    found = json.loads(call("experiment", "analyse", table, "--control", "old", "--json").out)
    (effect,) = [one for one in found["effects"] if one["metric"] == "conversion"]
    assert 0.2 < effect["interval"]["low"] < 0.5 < effect["interval"]["high"] < 0.9


def test_analyse_will_not_say_what_it_cannot_know(call: Call, tmp_path: Path) -> None:
    table = shopped()
    lost = [arm == "old" and int(user[1:]) % 3 == 0 for arm, user in zip(table["arm"], table["user_id"], strict=True)]
    kept = {name: [one for one, gone in zip(values, lost, strict=True) if not gone] for name, values in table.items()}
    done = call("experiment", "analyse", write(tmp_path, kept), "--control", "old")
    assert done.code == 0
    assert done.out.startswith("Cannot say, because")


def test_plan_counts_days(call: Call, tmp_path: Path) -> None:
    table = write(tmp_path, shopped())
    found = call("experiment", "plan", table, "--effect", 0.2)
    assert found.code == 0, found.err
    assert "A change of 20.0% in conversion takes" in found.out
    assert "cannot be found" in call("experiment", "plan", table, "--effect", 0.001).out


def test_interleaved_names_the_list_that_wins(call: Call, tmp_path: Path) -> None:
    table = write(tmp_path, mixed())
    for scoring in ("team", "alone", "balanced"):
        done = call("experiment", "interleaved", table, "--scoring", scoring)
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith("List b is preferred: b wins 7"), scoring
    said = json.loads(call("experiment", "interleaved", table, "--json").out)
    assert (said["won_by_b"] + said["won_by_a"], said["requests"]) == (said["decided"], 400)
    nothing = mixed() | {"ordered": [False] * 800}
    failed = call("experiment", "interleaved", write(tmp_path, nothing))
    assert (failed.code, failed.out) == (2, "")
    assert "None of 400 interleaved requests is decided by orders" in failed.err
    assert "--credit clicks" in failed.err


def test_a_log_of_which_nothing_is_sealed_yet(call: Call, tmp_path: Path) -> None:
    log = EventLog(tmp_path / "site" / "events")
    log.append([Exposure(request_id="r", query="kettle", items=["x"], arm="new")])
    done = call("experiment", "analyse", tmp_path / "site" / "events")
    assert (done.code, done.out) == (2, "")
    assert "is sealed yet" in done.err
    assert "mmse events export" in done.err
    log.close()
    assert "is sealed yet" not in call("experiment", "analyse", tmp_path / "site" / "events").err


COMMANDS = (["analyse", "--control", "old"], ["plan"], ["interleaved"])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: one[0])
@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("nothing there", "none.parquet"),
        ("empty", "exposures.parquet"),
        ("torn", "exposures.parquet"),
        ("no rows", "exposures.parquet"),
        ("without request_id", "request_id"),
        ("position in words", "position"),
    ],
)
def test_a_broken_table_is_named(call: Call, tmp_path: Path, command: Sequence[str], what: str, expected: str) -> None:
    path = write(tmp_path, mixed())
    if what == "nothing there":
        path = tmp_path / "none.parquet"
    elif what == "empty":
        path.write_bytes(b"")
    elif what == "torn":
        path.write_bytes(path.read_bytes()[:-200])
    elif what == "no rows":
        pq.write_table(pa.table(mixed()).slice(0, 0), path)
    elif what == "without request_id":
        pq.write_table(pa.table(mixed()).drop(["request_id"]), path)
    else:
        write(tmp_path, mixed() | {"position": ["first", "second"] * 400})
    done = call("experiment", command[0], path, *command[1:])
    assert (done.code, done.out) == (2, "")
    error, *cure = done.err.splitlines()
    assert error.startswith("error: ")
    assert expected in error
    assert cure
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["analyse", "TABLE", "--control", "older"], "older"),
        (["analyse", "TABLE", "--primary", "joy"], "joy"),
        (["analyse", "TABLE", "--experiment", "try"], "try"),
        (["analyse", "TABLE", "--from", "Monday"], "Monday"),
        (["analyse", "TABLE", "--weight", "new"], "ARM=2"),
        (["analyse", "TABLE", "--slice", "mood"], "mood"),
        (["analyse", "TABLE", "--alpha", "5"], "alpha"),
        (["analyse", "TABLE", "--from", "2027-01-01"], "2027"),
        (["plan", "TABLE", "--effect", "0"], "effect"),
        (["plan", "TABLE", "--metric", "joy"], "joy"),
        (["interleaved", "TABLE", "--arm", "older"], "older"),
        (["interleaved", "TABLE", "--alpha", "5"], "alpha"),
        (["off-policy", "RUN", "--log", "TABLE"], "explored"),
        (["start", "RUN", "TABLE"], "not valid TOML"),
    ],
)
def test_what_is_asked_for_and_cannot_be(call: Call, tmp_path: Path, arguments: Sequence[str], expected: str) -> None:
    places = {"TABLE": write(tmp_path, mixed()), "RUN": tmp_path / "RUN"}
    done = call("experiment", *[places.get(word, word) for word in arguments])
    assert done.code == 2, done
    assert expected in done.err
    assert "Traceback" not in done.err
    assert "fault of mmse" not in done.err


def test_a_simulated_test_that_cannot_be(call: Call, tmp_path: Path) -> None:
    test = tmp_path / "test.toml"
    for said, expected in (
        ("exploration = 2", "exploration"),
        ("[arms.x]\nrecipe = 'bert'", "bert"),
        ("[online]\nroundz = 2", "roundz"),
        ("arms = 3", "arms"),
        ("[arms", "test.toml"),
    ):
        test.write_text(said, "utf-8")
        done = call("experiment", "simulate", test, "--out", tmp_path / "out")
        assert done.code == 2, said
        assert expected in done.err
        assert "Traceback" not in done.err
        assert not (tmp_path / "out").exists()
