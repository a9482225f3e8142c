"""Edits are checked against the items table before anything changes."""

import math
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from mmse.catalogue import Change, Delete, Edit, Upsert, parse_edit
from mmse.catalogue.edits import check_edits, merge_edits
from mmse.core.errors import UsageError
from mmse.schema.value_forms import VALUE_FORMS, ValueForms

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


SETS = SCHEMA.append(pa.field("category", pa.list_(pa.string()))).append(pa.field("colour", pa.list_(pa.string())))
PATHS = SCHEMA.append(pa.field("category", pa.string()))


def forms(schema: pa.Schema, **values: Any) -> pa.Schema:
    return schema.with_metadata({VALUE_FORMS: ValueForms(**values).to_json()})


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
    ("schema", "values", "stored"),
    [
        (SETS, {"colour": ["red", " white ", "red", ""]}, {"colour": ["red", "white"]}),
        (SETS, {"colour": "red"}, {"colour": ["red"]}),
        (SETS, {"colour": '["red", "white"]'}, {"colour": ["red", "white"]}),
        (SETS, {"colour": "[odd"}, {"colour": ["[odd"]}),
        (SETS, {"colour": []}, {"colour": None}),
        (SETS, {"colour": None, "category": ""}, {"colour": None, "category": None}),
        (SETS, {"category": "Home > Pans"}, {"category": ["Home > Pans"]}),
        (SETS, {"category": ["Home > Pans", ["Sale", "New"]]}, {"category": ["Home > Pans", "Sale > New"]}),
        (SCHEMA, {"brand": ["Acme"]}, {"brand": "Acme"}),
        (SCHEMA, {"brand": []}, {"brand": None}),
        (SCHEMA, {"brand": "A, B"}, {"brand": "A, B"}),
        (PATHS, {"category": ["Home", "Pans"]}, {"category": "Home > Pans"}),
        (PATHS, {"category": ["Home > Pans"]}, {"category": "Home > Pans"}),
        (PATHS, {"category": "Home/Pans"}, {"category": "Home/Pans"}),
        (forms(PATHS, path_separator="/"), {"category": "/Home/Pans"}, {"category": "Home > Pans"}),
        (forms(PATHS, path_separator="/"), {"category": "A > B/C"}, {"category": "A > B/C"}),
        (forms(SETS, path_separator="/"), {"category": ["Home/Pans", "Sale"]}, {"category": ["Home > Pans", "Sale"]}),
        (forms(SETS, list_separators={"colour": ","}), {"colour": "red, white"}, {"colour": ["red", "white"]}),
    ],
)
def test_lists_and_paths_are_read_as_the_run_reads_them(
    schema: pa.Schema, values: dict[str, Any], stored: dict[str, Any]
) -> None:
    assert check_edits([Upsert(item(**values)), Change("i1", values)], schema) == [
        Upsert(item(**stored)),
        Change("i1", stored),
    ]


@pytest.mark.parametrize(
    ("schema", "values", "message"),
    [
        (SETS, {"colour": ["red", 3]}, "'colour' takes text, found 3"),
        (SETS, {"colour": {"red": 1}}, "'colour' takes text, found {'red': 1}"),
        (SETS, {"colour": ["red", "a\x00"]}, "'colour' takes text without null bytes"),
        (SETS, {"colour": ["x" * 15_000, "y" * 15_000]}, "takes texts of at most 20,000 characters together"),
        (SCHEMA, {"brand": ["Acme", "Bolt"]}, "'brand' has 2 values, and no item had several"),
        (PATHS, {"category": ["Home > Pans", "Sale"]}, "'category' has 2 values"),
        (SCHEMA, {"title": ["Kettle"]}, "'title' takes text, found ['Kettle']"),
    ],
)
def test_lists_that_do_not_fit_are_named(schema: pa.Schema, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error_info:
        check_edits([Change("i1", values)], schema)
    assert message in str(error_info.value)


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
