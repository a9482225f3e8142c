"""What of a test could not be counted: rows that are bad, requests without a unit, prices that do not fit together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mmse.sources.duckdb_session import Session
from mmse.sources.tables import Table, identifier, literal

MAX_LOST_ORDERS = 0.01
"""If more of the orders than this share stand on bad rows, no verdict may be read from the rest."""
_ID_COLUMNS = ("request_id", "item_id", "user_id", "session_id", "query")
_CURRENCY = "[A-Za-z]{2,3}|[€$£¥₹₽₺₩]"
_MAX_CURRENCIES = 5


@dataclass(frozen=True)
class Gaps:
    """What was left out of a test, or does not fit together.

    `examples` has the shop's own value for a reason of rejection, of columns that name nobody. `orders` are all rows
    that tell of an order, `lost_orders` those of them that are bad. `currencies` were found in prices, or in a column
    of that name. `requests` are those in an arm; `unassigned` requests have neither unit nor arm. `silent_days` is the
    longest time between two requests of the test that follow one another.
    """

    examples: Mapping[str, str] = field(default_factory=dict)
    orders: int = 0
    lost_orders: int = 0
    currencies: tuple[str, ...] = ()
    refunds: int = 0
    has_price: bool = True
    requests: int = 0
    anonymous_requests: int = 0
    anonymous_orders: int = 0
    unassigned: int = 0
    unpriced_orders: int = 0
    priced_orders: int = 0
    leaked_requests: int = 0
    heaviest_leak: int = 0
    silent_days: float = 0.0


def measure_row_gaps(session: Session, table: Table, rejections: Mapping[str, int]) -> Gaps:
    """The gaps in the rows of the table `exposures`, which still has the bad ones and the shop's own values."""
    ((n_orders, n_lost),) = session.run("""
        SELECT count(*) FILTER (ordered), count(*) FILTER (ordered AND reason IS NOT NULL) FROM exposures""")
    has_price = "price" in table.columns
    refunds = (
        session.run("SELECT count(*) FILTER (price < 0 AND reason IS NULL) FROM exposures")[0][0] if has_price else 0
    )
    return Gaps(
        examples=_examples(session, table, rejections),
        orders=int(n_orders),
        lost_orders=int(n_lost),
        currencies=_currencies(session, table),
        refunds=int(refunds),
        has_price=has_price,
    )


def _examples(session: Session, table: Table, rejections: Mapping[str, int]) -> dict[str, str]:
    examples = {}
    for reason in rejections:
        name = reason.split(" ")[0]
        if name in table.columns and name not in _ID_COLUMNS:
            ((value,),) = session.run(f"""
                SELECT any_value(CAST({identifier("raw_" + name)} AS VARCHAR)) FROM exposures
                 WHERE reason = {literal(reason)}""")
            if value:
                examples[reason] = str(value)[:40]
    return examples


def _currencies(session: Session, table: Table) -> tuple[str, ...]:
    """The currencies of what was ordered, at most five: from the texts of prices, or from a column `currency`."""
    names = set()
    if table.types.get("price") == "VARCHAR":
        names |= {
            str(name)
            for (name,) in session.run(f"""
                SELECT DISTINCT regexp_extract(raw_price, {literal(_CURRENCY)}) AS name FROM exposures
                 WHERE raw_price IS NOT NULL AND price IS NULL AND ordered ORDER BY ALL""")
        }
    if not table.document and "price" in table.columns and "ordered" in table.columns:
        columns = [str(row[0]) for row in session.run(f"DESCRIBE SELECT * FROM {table.scan}")]
        for column in columns:
            if column.lower() in ("currency", "currency_code"):
                names |= {
                    str(name)
                    for (name,) in session.run(f"""
                        SELECT DISTINCT trim(CAST({identifier(column)} AS VARCHAR)) AS name FROM {table.scan}
                         WHERE {identifier(column)} IS NOT NULL AND {table.column("price")} IS NOT NULL
                         ORDER BY ALL LIMIT {_MAX_CURRENCIES}""")
                }
    return tuple(sorted(names - {"", "nan", "NaN", "inf"}))[:_MAX_CURRENCIES]
