"""Edits of a live catalogue, and the check that each fits the items table before anything changes."""

from __future__ import annotations

import difflib
import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
import pyarrow as pa

from mmse.core.errors import UsageError
from mmse.text.tokenizer import MAX_CHARACTERS

REQUIRED = ("item_id", "title")
MADE_BY_US = ("item_row", "first_seen")
MAX_ID = 1_000
MAX_TEXT = 20_000
"""Characters of any other text; a title may have `text.MAX_CHARACTERS`, since no more of it is read."""


class Upsert(msgspec.Struct, frozen=True, tag="upsert", tag_field="edit", forbid_unknown_fields=True):
    """A whole item, new or in place of the one with its `item_id`; a column that it leaves out is empty."""

    item: dict[str, Any]


class Change(msgspec.Struct, frozen=True, tag="change", tag_field="edit", forbid_unknown_fields=True):
    """Some columns of an item that is there, such as its price; the others stay."""

    item_id: str
    values: dict[str, Any]


class Delete(msgspec.Struct, frozen=True, tag="delete", tag_field="edit", forbid_unknown_fields=True):
    """Takes an item out; with `missing_ok` it need not be there."""

    item_id: str
    missing_ok: bool = False


Edit = Upsert | Change | Delete

_EXAMPLE = '{"edit": "upsert", "item": {"item_id": "i1", "title": "…"}} or {"edit": "delete", "item_id": "i1"}'


def parse(said: bytes | str, where: str) -> Edit:
    """The edit that JSON describes; raises `UsageError` naming `where` it stands."""
    try:
        edit: Edit = msgspec.json.decode(said, type=Edit)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{where} is not an edit: {error}.", f"Such as {_EXAMPLE}.") from error
    return edit


def id_of(edit: Edit) -> str:
    """The id of the item that `edit` is about."""
    return str(edit.item["item_id"]) if isinstance(edit, Upsert) else edit.item_id


def checked(edits: Iterable[Edit], schema: pa.Schema) -> list[Edit]:
    """`edits` with their values in the types of `schema`, as copies.

    Raises `UsageError` for the first that does not fit, naming its item and key.
    """
    return [_checked(edit, schema) for edit in edits]


def net(edits: Iterable[Edit]) -> dict[str, Edit]:
    """One edit for each item that does what all of `edits` did to it, one after the other, by item id."""
    found: dict[str, Edit] = {}
    for edit in edits:
        before = found.get(id_of(edit))
        if isinstance(edit, Change) and isinstance(before, Upsert):
            edit = Upsert({**before.item, **edit.values})
        elif isinstance(edit, Change) and isinstance(before, Change):
            edit = Change(edit.item_id, {**before.values, **edit.values})
        elif isinstance(edit, Delete):
            edit = Delete(edit.item_id, missing_ok=True)
        found[id_of(edit)] = edit
    return found


def _checked(edit: Edit, schema: pa.Schema) -> Edit:
    if isinstance(edit, Upsert):
        if not isinstance(edit.item, Mapping):
            raise _wrong(None, "item", "an object of columns and values", edit.item)
        item_id = _text(edit.item.get("item_id"), None, "item_id", MAX_ID, required=True)
        values = {key: _value(key, value, item_id, schema) for key, value in edit.item.items()}
        if values.get("title") is None:
            raise UsageError(f"Item '{item_id}' has no title.", "Every item needs an item_id and a title.")
        return Upsert({**values, "item_id": item_id})
    item_id = _text(edit.item_id, None, "item_id", MAX_ID, required=True)
    if isinstance(edit, Delete):
        return edit
    if not isinstance(edit.values, Mapping) or not edit.values:
        raise _wrong(item_id, "values", "an object of columns and their new values", edit.values)
    if edit.values.get("item_id", item_id) != item_id:
        raise UsageError(
            f"Item '{item_id}' is asked to become '{edit.values['item_id']}': an item keeps its id.",
            "Delete the one and upsert the other.",
        )
    return Change(item_id or "", {key: _value(key, value, item_id, schema) for key, value in edit.values.items()})


def _value(key: str, value: object, item_id: str | None, schema: pa.Schema) -> object:
    able = [name for name in schema.names if name not in MADE_BY_US]
    if key not in able:
        close = difflib.get_close_matches(str(key), able, n=1, cutoff=0.5)
        hint = f"Did you mean '{close[0]}'?" if close else f"Its columns are: {', '.join(able)}."
        raise UsageError(f"Item '{item_id}' has a value for '{key}', which is no column of the items.", hint)
    return _typed(schema.field(key).type)(value, item_id, key)


def _typed(type_: pa.DataType) -> Callable[[object, str | None, str], object]:
    if pa.types.is_boolean(type_):
        return _flag
    if pa.types.is_floating(type_):
        return _number
    assert pa.types.is_string(type_) or pa.types.is_large_string(type_), type_
    return _some_text


def _flag(value: object, item_id: str | None, key: str) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise _wrong(item_id, key, "true or false", value)
    return value


def _number(value: object, item_id: str | None, key: str) -> float | None:
    if value is None:
        return None
    try:
        finite = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number past every float
        finite = False
    if not finite:
        raise _wrong(item_id, key, "a finite number", value)
    assert isinstance(value, (int, float))
    return float(value)


def _some_text(value: object, item_id: str | None, key: str) -> str | None:
    limit = {"item_id": MAX_ID, "title": MAX_CHARACTERS}.get(key, MAX_TEXT)
    return _text(value, item_id, key, limit, required=key in REQUIRED)


def _text(value: object, item_id: str | None, key: str, limit: int, *, required: bool) -> str | None:
    if value is None and not required:
        return None
    if not isinstance(value, str):
        raise _wrong(item_id, key, "text", value)
    if len(value) > limit:
        raise _wrong(item_id, key, f"text of at most {limit:,} characters", f"{len(value):,} of them")
    if "\x00" in value or not _encodable(value):
        raise _wrong(item_id, key, "text without null bytes or halves of surrogate pairs", value)
    if required and not _visible(value):
        raise _wrong(item_id, key, "text that is not empty", value)
    return value or None


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _visible(text: str) -> bool:
    return any(not c.isspace() and unicodedata.category(c)[0] not in "ZC" for c in text)


def _wrong(item_id: str | None, key: str, expected: str, found: object) -> UsageError:
    shown = found if isinstance(found, str) and found.endswith("of them") else repr(found)
    shown = shown if len(shown) <= 80 else f"{shown[:80]}…"
    whose = f"Item '{item_id}'" if item_id is not None else "An edit"
    return UsageError(f"{whose}: '{key}' takes {expected}, found {shown}.", "Mend that value; nothing was changed.")
