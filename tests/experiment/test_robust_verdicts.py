"""Tests that do not mislead: bots, whales, shoppers without an id, prices that cannot be read, nothing to count."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from experiment.test_effects import units
from experiment.test_units import row, table
from mmse.core.errors import TableError, UsageError
from mmse.experiment.analysis import Analysis, analyse
from mmse.experiment.analysis_config import AnalysisConfig
from mmse.experiment.capping import cap_columns
from mmse.experiment.report import write_report
from mmse.experiment.units import Units, Window, read_units
from mmse.sources.tables import EventsConfig

Row = dict[str, Any]


def changed(sample: Units, arm: str, **values: float) -> Units:
    """`sample` with one unit of `arm` that has `values`."""
    i = int(np.flatnonzero((sample.arms == arm) & (sample.columns["orders"] > 0))[0])
    columns = {name: column.copy() for name, column in sample.columns.items()}
    for name, value in values.items():
        columns[name][i] = value
    return replace(sample, columns=columns, names=np.array([f"shopper-{n}" for n in range(len(sample))], dtype=object))


def by(sample: Units, primary: str) -> Analysis:
    return analyse(sample, AnalysisConfig(control="a", primary=primary))


def test_one_huge_order_is_no_verdict(tmp_path: Path) -> None:
    for arm in ("a", "b"):
        analysis = by(changed(units(21), arm, revenue=500_000.0), "revenue_per_unit")
        effect, capped = analysis.effects[0], analysis.capped[0]
        assert capped is not None
        assert abs(capped.relative) < 0.1 < abs(effect.relative)
        assert analysis.outcome == "no_difference"
        assert f"{capped.relative:+.1%}" in analysis.verdict
        (warning,) = [text for text in analysis.checks.warnings if "of the revenue of" in text]
        assert warning.startswith("One user has 9")
        (heavy,) = [one for one in analysis.heaviest if (one.column, one.arm, one.rank) == ("revenue", arm, 1)]
        assert heavy.share > 0.9
        write_report(analysis, "x", tmp_path / "r.html")
        page = (tmp_path / "r.html").read_text("utf-8")
        assert str(heavy.name).startswith("shopper-")
        assert "shopper-" not in page
        assert warning in page


def test_a_bot_hides_nothing_and_claims_nothing() -> None:
    for seed in (0, 1, 2, 5):  # in 0 and 5, chance alone makes the capped effect significant too, at a twentieth of it
        bot = by(changed(units(seed), "b", requests=1e6, orders=0.0, buying_requests=0.0), "orders_per_request")
        assert bot.outcome == "cannot_say"
        assert "few users decide" in bot.verdict
    hidden = by(changed(units(2, lift=0.4), "a", revenue=500_000.0), "revenue_per_unit")
    assert hidden.outcome == "cannot_say"
    assert by(units(2, lift=0.4), "revenue_per_unit").outcome == "better"


def test_capping_spares_who_is_not_among_the_heaviest() -> None:
    columns = {"revenue": np.array([0.0, 1, 2, 3, 1e6]), "requests": np.ones(5), "converted": np.ones(5)}
    capped = cap_columns(columns)
    assert capped["revenue"].tolist() == [0, 1, 2, 3, 3]
    assert capped["requests"].tolist() == [1] * 5
    assert cap_columns({"orders": np.array([0.0, 5])})["orders"].tolist() == [0, 5]


def test_intervals_and_p_agree_also_with_whales() -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        sample = units(seed, n=800, lift=float(rng.uniform(-0.3, 0.4)))
        if seed % 2:
            sample = changed(sample, "ab"[seed % 4 // 2], revenue=float(rng.uniform(500, 50_000)))
        for effect in by(sample, "revenue_per_unit").effects:
            assert (effect.p < 0.05) == (not effect.interval.low <= 0 <= effect.interval.high)
            assert (effect.p < 0.05) == (not effect.absolute_interval.low <= 0 <= effect.absolute_interval.high)
            assert (effect.always_p < 0.05) == (not effect.always.low <= 0 <= effect.always.high)


def test_whales_in_tests_without_a_difference_claim_nothing() -> None:
    claims = []
    for seed in range(20):
        sample = changed(units(seed, n=1_000), "ab"[seed % 2], revenue=20_000.0, requests=3_000.0, orders=300.0)
        claims += [
            by(sample, name).outcome in ("better", "worse") for name in ("revenue_per_unit", "orders_per_request")
        ]
    assert sum(claims) <= 6, claims  # of 40, binomial(40, .05) is above that 3 times in 1,000


def everybody(sample: Units) -> Units:
    ones = {name: np.ones(len(sample)) for name in ("requests", "buying_requests", "orders", "clicks", "converted")}
    past = {name: np.zeros(len(sample)) for name in sample.columns if name.startswith("before_")}
    return replace(sample, columns=sample.columns | ones | past)


@pytest.mark.parametrize("primary", ["conversion", "request_conversion", "orders_per_unit", "revenue_per_unit"])
def test_nothing_or_everything_converts(primary: str) -> None:
    full = by(everybody(units(1)), primary)
    shares = primary.endswith("conversion")
    assert full.outcome == ("no_difference" if primary == "revenue_per_unit" else "cannot_say")
    assert ("are without an order" in full.verdict) == shares
    assert ("cannot be told apart" in full.verdict) == (primary == "orders_per_unit")
    empty = units(1)
    nothing = {k: v * (k in ("requests", "shown", "clicks")) for k, v in empty.columns.items()}
    assert "0 users of a ordered" in by(replace(empty, columns=nothing), primary).verdict
    assert by(replace(empty, columns=nothing), "clicks_per_request").outcome == "no_difference"
    for analysis in (full, by(replace(empty, columns=nothing), primary)):
        assert all(math.isfinite(effect.p) for effect in analysis.effects)
        json.loads(json.dumps(asdict(analysis), allow_nan=False))


def test_revenue_without_prices_is_named() -> None:
    sample = units(1)
    bare = replace(sample, columns=sample.columns | {"revenue": np.zeros(len(sample))})
    assert "no order of the test has one" in by(bare, "revenue_per_unit").verdict
    no_column = replace(bare, gaps=replace(bare.gaps, has_price=False))
    assert "the table has no column 'price'" in by(no_column, "revenue_per_unit").verdict


def test_planned_shares() -> None:
    sample = units(4, weights=(9, 1))
    refused = by(sample, "conversion").verdict
    assert "sample-ratio mismatch" in refused
    assert "--weight a=9 --weight b=1" in refused
    analysis = analyse(sample, AnalysisConfig(control="a", weights={"a": 9.0, "b": 1.0}))
    assert not analysis.checks.refusals
    absent = analyse(sample, AnalysisConfig(control="a", weights={"a": 9.0, "b": 1.0, "c": 1.0}))
    assert "the plan has the arm c" in absent.verdict
    with pytest.raises(ValueError, match="above 0"):
        AnalysisConfig(weights={"a": 0.0})


def shop_rows(n: int = 600) -> list[Row]:
    """A request of each shopper; every third orders for 20."""
    return [
        row(f"r{i}", f"u{i}", i % 14 + i / n, "ab"[i % 2], ordered=i % 3 == 0, price=20.0 if i % 3 == 0 else None)
        for i in range(n)
    ]


def read_csv(folder: Path, rows: list[Row], change: Callable[[Row], Row]) -> Units:
    names = list(change(rows[0]))
    lines = [",".join('"' + ("" if v is None else str(v)) + '"' for v in change(values).values()) for values in rows]
    (folder / "t.csv").write_text(",".join(names) + "\n" + "\n".join(lines) + "\n", "utf-8")
    config = EventsConfig(str(folder / "t.csv"), max_rejected_share=0.9)
    return read_units(config, folder, "user", Window())


def test_shoppers_without_an_id_are_counted(tmp_path: Path) -> None:
    rng = random.Random(3)
    rows = [values | ({"user_id": None} if rng.random() < 0.5 else {}) for values in shop_rows()]
    sample = read_units(table(tmp_path, rows), tmp_path, "user", Window())
    in_test = [values for values in rows if sample.start <= values["timestamp"] < sample.end]  # set by who has an id
    n = sum(values["user_id"] is None for values in in_test)
    n_orders = sum(values["user_id"] is None and values["ordered"] for values in in_test)
    counts = (sample.gaps.anonymous_requests, sample.gaps.anonymous_orders, sample.gaps.requests)
    assert counts == (n, n_orders, len(in_test))
    (warning,) = [text for text in by(sample, "orders_per_unit").checks.warnings if "have no user id" in text]
    assert warning.startswith(f"{n} of {len(in_test)} requests")
    nobody = [values | {"user_id": None} for values in rows]
    pq.write_table(pa.Table.from_pylist(nobody, pa.Table.from_pylist(shop_rows(1)).schema), tmp_path / "t.parquet")
    with pytest.raises(UsageError, match=r"None of 600 requests of .* in an arm has a user_id"):
        read_units(EventsConfig(str(tmp_path / "t.parquet")), tmp_path, "user", Window())


def test_one_id_of_many_shoppers_is_named(tmp_path: Path) -> None:
    rows = [values | ({"user_id": "guest"} if i % 5 < 2 else {}) for i, values in enumerate(shop_rows())]
    sample = read_units(table(tmp_path, rows), tmp_path, "user", Window())
    assert (sample.n_leaks, sample.leak_examples, sample.gaps.heaviest_leak) == (1, ("guest",), 240)
    warnings = by(sample, "orders_per_unit").checks.warnings
    assert "1 user was in several arms and is left out, with 240 of 600 requests." in warnings
    assert any(text.startswith("One id in several arms has 40% of all requests") for text in warnings)


@pytest.mark.parametrize(("price", "text"), [("1.234,50", "such as '1.234,50'"), ("EUR 20", "such as 'EUR 20'")])
def test_prices_that_cannot_be_read_are_named(tmp_path: Path, price: str, text: str) -> None:
    sample = read_csv(tmp_path, shop_rows(), lambda values: values | {"price": price if values["ordered"] else ""})
    verdict = by(sample, "conversion").verdict
    assert verdict.startswith("Cannot say, because 200 of 200 rows with an order cannot be read: 200 × price is not a")
    assert text in verdict
    assert "such as 1234.50" in verdict


def test_two_currencies_are_named(tmp_path: Path) -> None:
    rows = shop_rows()

    def with_code(values: Row) -> Row:
        code = ("EUR", "USD")[int(values["user_id"][1:]) % 2]
        return values | {"price": f"{code} 20" if values["ordered"] else ""}

    assert "all in one currency (found: EUR, USD)" in by(read_csv(tmp_path, rows, with_code), "conversion").verdict
    columns = [values | {"currency": ("EUR", "USD")[i % 2]} for i, values in enumerate(rows)]
    sample = read_units(table(tmp_path, columns), tmp_path, "user", Window())
    warning = "Prices are in several currencies (EUR, USD): revenue adds what differs."
    assert warning in by(sample, "orders_per_unit").checks.warnings


def test_refunds_lower_the_revenue_and_are_named(tmp_path: Path) -> None:
    refund = {**row("r0", "u0", 3, None, ordered=True, price=-20.0), "position": None, "query": None}
    sample = read_units(table(tmp_path, [*shop_rows(), refund]), tmp_path, "user", Window())
    assert (sample.gaps.refunds, float(sample.columns["revenue"].sum())) == (1, 200 * 20.0 - 20)
    assert any("1 price below 0" in text for text in by(sample, "orders_per_unit").checks.warnings)
    shown = [values | {"price": 99.0} for values in shop_rows()]
    only_shown = [values for values in shown if not values["ordered"]]
    sample = read_units(table(tmp_path, [*shop_rows(), *only_shown]), tmp_path, "user", Window())
    assert float(sample.columns["revenue"].sum()) == 200 * 20.0


def test_items_that_were_retrieved_only_are_not_shown(tmp_path: Path) -> None:
    hidden = [
        values | {"item_id": "h", "position": None, "clicked": None, "ordered": None, "price": None}
        for values in shop_rows()
    ]
    rows = [values | {"retrieved_only": False} for values in shop_rows()]
    rows += [values | {"retrieved_only": True} for values in hidden]
    rows.append(rows[0] | {"item_id": "k", "retrieved_only": True, "clicked": True})
    sample = read_units(table(tmp_path, rows), tmp_path, "user", Window())
    assert sample.rejections == {"retrieved_only, and yet clicked, carted or ordered": 1}
    assert sample.columns["shown"].tolist() == [1] * 600


def test_a_row_with_two_bad_values_has_the_reason_of_mining(tmp_path: Path) -> None:
    bad = {"price": float("nan"), "position": 0, "timestamp": None}
    rows = [bad | {k: v for k, v in values.items() if k not in bad} for values in shop_rows(3)]
    schema = pa.Table.from_pylist(shop_rows(3)).schema
    order = ["price", "position", *(name for name in schema.names if name not in ("price", "position"))]
    pq.write_table(pa.Table.from_pylist(rows, schema).select(order), tmp_path / "t.parquet")
    with pytest.raises(TableError, match="3 × timestamp is missing"):
        read_units(EventsConfig(str(tmp_path / "t.parquet")), tmp_path, "user", Window())


def test_a_clock_that_was_set_is_named(tmp_path: Path) -> None:
    """A minute of requests, with the clock set by 26 hours in its middle, is no test of 1.1 days."""
    moments = [second / 86_400 + (26 / 24 if second > 30 else 0) for second in range(60)]
    rows = [row(f"r{n}", f"u{n}", day, "ab"[n % 2]) for n, day in enumerate(moments)]
    sample = read_units(table(tmp_path, rows), tmp_path, "user", Window())
    (warning,) = [text for text in by(sample, "orders_per_unit").checks.warnings if "No request came" in text]
    assert warning.startswith("No request came in 1.1 of the 1.1 days, in one piece: a server's clock was set")
