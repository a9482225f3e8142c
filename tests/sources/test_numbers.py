from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmse.sources.duckdb_session import Session, open_session
from mmse.sources.numbers import find_marks, number_of


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with open_session(memory_limit="500MB", threads=1) as session:
        yield session


def read(session: Session, texts: list[str], marks: str = "") -> list[float | None]:
    session.create_table("prices", pa.table({"raw": texts}))
    marks = marks or find_marks(session, "prices", "raw")
    return [value for (value,) in session.run(f"SELECT {number_of('raw', marks)} FROM prices")]


def test_the_comma_of_a_column(session: Session) -> None:
    texts = ["27,99 €", "1.027,50", "1.800", "€ 5", "12,-", "CHF 1'299,00", "1 299,00\u00a0€", "1.800.000"]
    assert read(session, texts) == [27.99, 1027.5, 1800, 5, 12, 1299, 1299, 1_800_000]


def test_the_point_of_a_column(session: Session) -> None:
    texts = ["USD 27.99", "$1,299.00", "1,800", "0.125", "1e3", "-3.5", "1,00,000.50"]
    assert read(session, texts) == [27.99, 1299, 1800, 0.125, 1000, -3.5, 100_000.5]


def test_what_is_no_number(session: Session) -> None:
    assert read(session, ["on request", "nan", "inf", "5 pcs", "", "12 of 13", "1.2.3"]) == [None] * 7


def test_a_number_that_may_be_two_is_none_until_the_mark_is_said(session: Session) -> None:
    assert read(session, ["1,800", "1,200", "7"]) == [None, None, 7]
    assert read(session, ["1,800"], ",") == [1.8]
    assert read(session, ["1,800"], ".") == [1800]
    assert read(session, ["12,50", "12.50", "1.800", "1,800"]) == [12.5, 12.5, None, None]


def test_a_point_is_the_decimal_mark_unless_the_column_has_a_decimal_comma(session: Session) -> None:
    assert read(session, ["1.800", "1.125", "7"]) == [1.8, 1.125, 7]
    assert read(session, ["1.800", "1,800"]) == [1.8, None]
    assert read(session, ["1.800", "12,50"]) == [1800, 12.5]
    assert read(session, ["1.800"], ",") == [1800]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.decimals(0, 10**7, places=2), min_size=1, max_size=9), st.sampled_from([".,", ",.", ".'", ",\u00a0"])
)
def test_every_price_with_cents_is_read_as_it_was_written(session: Session, prices: list[object], marks: str) -> None:
    mark, group = marks[0], marks[1]
    texts = [f"{price:,.2f}".translate({ord(","): group, ord("."): mark}) for price in prices]
    assert read(session, texts) == [float(str(price)) for price in prices]
