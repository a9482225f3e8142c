"""Edits are checked against the items table before anything changes."""

import math
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from mmse.catalogue import Change, Delete, Edit, Upsert, parse_edit
from mmse.catalogue.edits import check_edits, merge_edits
from mmse.core.errors import UsageError

SCHEMA = pa.schema(
    {
        "item_row": pa.int32(),
        "item_id": pa.string(),
        "title": pa.string(),
        "brand": pa.large_string(),
        "price": pa.float64(),
        "available": pa.bool_(),
        "first_seen": pa.timestamp("us"),
    }
)


def item(**values: object) -> dict[str, Any]:
    return {"item_id": "i1", "title": "Kettle", **values}


def test_values_come_out_in_the_types_of_the_table_and_as_copies() -> None:
    values = item(price=3, brand="", available=False)
    (edit,) = check_edits([Upsert(values)], SCHEMA)
    values["price"] = 9
    assert edit == Upsert(item(price=3.0, brand=None, available=False))
    assert check_edits([Change("i1", {"price": None}), Delete("i1")], SCHEMA) == [
        Change("i1", {"price": None}),
        Delete("i1"),
    ]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (Upsert({"title": "Kettle"}), "'item_id' takes text, found None"),
        (Upsert({"item_id": "i1"}), "Item 'i1' has no title"),
        (Upsert(item(title=None)), "Item 'i1': 'title' takes text, found None"),
        (Upsert(item(title=" \u200b\t")), "Item 'i1': 'title' takes text that is not empty"),
        (Upsert(item(title="x" * 2_001)), "Item 'i1': 'title' takes text of at most 2,000 characters, found 2,001"),
        (Upsert(item(brand="a\x00b")), "Item 'i1': 'brand' takes text without null bytes"),
        (Upsert(item(brand="\ud800")), "Item 'i1': 'brand' takes text without null bytes or halves"),
        (Upsert(item(brand=3)), "Item 'i1': 'brand' takes text, found 3"),
        (Upsert(item(price="3")), "Item 'i1': 'price' takes a finite number, found '3'"),
        (Upsert(item(price=math.nan)), "Item 'i1': 'price' takes a finite number, found nan"),
        (Upsert(item(price=-math.inf)), "Item 'i1': 'price' takes a finite number, found -inf"),
        (Upsert(item(price=10**400)), "Item 'i1': 'price' takes a finite number"),
        (Upsert(item(price=True)), "Item 'i1': 'price' takes a finite number, found True"),
        (Upsert(item(available=1)), "Item 'i1': 'available' takes true or false, found 1"),
        (Upsert(item(pric=1)), "'pric', which is no column of the items.\nDid you mean 'price'?"),
        (Upsert(item(item_row=1)), "'item_row', which is no column of the items"),
        (Upsert(item(first_seen=1)), "'first_seen', which is no column of the items"),
        (Change("i1", {}), "Item 'i1': 'values' takes an object of columns"),
        (Change("i1", {"item_id": "i2"}), "Item 'i1' would become 'i2'"),
        (Change("i1", {"title": None}), "Item 'i1': 'title' takes text, found None"),
        (Change("", {"price": 1}), "'item_id' takes text that is not empty"),
        (Delete("x" * 1_001), "'item_id' takes text of at most 1,000 characters"),
    ],
)
def test_what_does_not_fit_is_named(edit: Edit, message: str) -> None:
    with pytest.raises(UsageError) as error_info:
        check_edits([Delete("fine"), edit], SCHEMA)
    assert message in str(error_info.value)


def test_edits_are_read_from_json() -> None:
    for edit in (Upsert(item(price=3.0)), Change("i1", {"available": False}), Delete("i1", missing_ok=True)):
        assert parse_edit(msgspec.json.encode(edit), "line 1") == edit
    for bad in (
        b"{}",
        b'{"edit": "upsret"}',
        b'{"edit": "delete", "item_id": 3}',
        b"[",
        b'{"edit": "delete"}',
        b"\xff",
    ):
        with pytest.raises(UsageError, match="line 7 is not an edit"):
            parse_edit(bad, "line 7")


def test_the_net_of_edits_does_what_they_did_one_by_one() -> None:
    edits: list[Edit] = [
        Upsert(item(price=1.0)),
        Change("i1", {"price": 2.0}),
        Change("i2", {"price": 1.0}),
        Change("i2", {"brand": "b"}),
        Upsert({"item_id": "i3", "title": "t"}),
        Delete("i3"),
        Delete("i4"),
        Upsert({"item_id": "i4", "title": "t"}),
    ]
    assert merge_edits(edits) == {
        "i1": Upsert(item(price=2.0)),
        "i2": Change("i2", {"price": 1.0, "brand": "b"}),
        "i3": Delete("i3", missing_ok=True),
        "i4": Upsert({"item_id": "i4", "title": "t"}),
    }
