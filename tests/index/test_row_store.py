"""The rows of a row store are those of its table."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from mmse.index.row_store import RowStore

SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("brand", pa.large_string()),
        ("price", pa.float64()),
        ("stock", pa.int32()),
        ("available", pa.bool_()),
        ("since", pa.timestamp("us")),
        ("tags", pa.list_(pa.string())),
        ("half", pa.float32()),
    ]
)
ITEM = st.fixed_dictionaries(
    {
        "item_id": st.text(max_size=4),
        "brand": st.sampled_from(["Acme", "", "Bosch", None]),
        "price": st.none() | st.floats(allow_nan=False),
        "stock": st.none() | st.integers(-9, 9),
        "available": st.none() | st.booleans(),
        "since": st.none() | st.datetimes(datetime(1999, 1, 1), datetime(2030, 1, 1)),
        "tags": st.none() | st.lists(st.sampled_from("ab"), max_size=2),
        "half": st.none() | st.sampled_from([0.5, 2.0]),
    }
)


@given(items=st.lists(ITEM, max_size=12), chunks=st.integers(1, 3), data=st.data())
def test_a_row_store_holds_its_table(items: list[dict[str, object]], chunks: int, data: st.DataObject) -> None:
    step = max(1, -(-len(items) // chunks))
    parts = [pa.Table.from_pylist(items[start : start + step], SCHEMA) for start in range(0, len(items), step)]
    table = pa.concat_tables(parts) if parts else SCHEMA.empty_table()
    rows = data.draw(st.lists(st.integers(0, len(items) - 1), max_size=20)) if items else []
    table_rows = table.take(pa.array(rows, pa.int64())).to_pylist()
    expected_items = [{name: value for name, value in row.items() if value is not None} for row in table_rows]
    read_items = RowStore(table).read_rows(np.array(rows, np.int64))
    assert read_items == expected_items
    assert [[*map(type, item.values())] for item in read_items] == [
        [*map(type, item.values())] for item in expected_items
    ]


def test_a_column_of_many_texts() -> None:
    texts = [f"a{row}" if row % 3 else None for row in range(60_000)]
    table = pa.table({"item_id": texts, "half": [text and text[:4] for text in texts]})
    rows = np.array([0, 1, 59_999, 30_000, 31_001])
    table_rows = table.take(pa.array(rows)).to_pylist()
    assert RowStore(table).read_rows(rows) == [
        {name: text for name, text in row.items() if text is not None} for row in table_rows
    ]
