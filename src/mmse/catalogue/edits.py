"""Edits of a live catalogue, and the check that each fits the items table before anything changes."""

from __future__ import annotations

import difflib
import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from mmse.core.errors import UsageError
from mmse.dataset.folder import vector_lengths
from mmse.schema.columns import ITEM_COLUMNS, MADE_BY_MINING
from mmse.schema.value_forms import ValueForms
from mmse.schema.value_sets import is_set
from mmse.text.normalise import MAX_CHARACTERS

MAX_ID = 1_000
MAX_TEXT = 20_000
"""Characters of any other text. A title may have `text.MAX_CHARACTERS`, since no more of it is read."""


PATH_COLUMN = "category"
_TEXTS = (pa.string(), pa.large_string())
_MAX_SINGLE = 3.4e38
"""The largest number of a vector."""


class Upsert(msgspec.Struct, frozen=True, tag="upsert", tag_field="edit", forbid_unknown_fields=True):
    """A whole item, new or in place of the one with its `item_id`; a column that it leaves out is empty."""

    item: dict[str, Any]


class Change(msgspec.Struct, frozen=True, tag="change", tag_field="edit", forbid_unknown_fields=True):
    """Some columns of an existing item, such as its price; the others stay."""

    item_id: str
    values: dict[str, Any]


class Delete(msgspec.Struct, frozen=True, tag="delete", tag_field="edit", forbid_unknown_fields=True):
    """Removes an item; with `missing_ok` it need not exist."""

    item_id: str
    missing_ok: bool = False


Edit = Upsert | Change | Delete

_EXAMPLE = '{"edit": "upsert", "item": {"item_id": "i1", "title": "…"}} or {"edit": "delete", "item_id": "i1"}'


def parse_edit(text: bytes | str, source: str) -> Edit:
    """The edit that `text` describes in JSON; raises `UsageError` naming its `source`, such as a file and line."""
    try:
        edit: Edit = msgspec.json.decode(text, type=Edit)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{source} is not an edit: {error}.", f"Such as {_EXAMPLE}.") from error
    return edit


def id_of(edit: Edit) -> str:
    """The id of the item that `edit` is about."""
    return str(edit.item["item_id"]) if isinstance(edit, Upsert) else edit.item_id


def check_edits(edits: Iterable[Edit], schema: pa.Schema) -> list[Edit]:
    """Copies of `edits` with their values in the types of `schema`.

    Raises `UsageError` for the first that does not fit, naming its item and key.
    """
    return [_check_edit(edit, schema) for edit in edits]


def merge_edits(edits: Iterable[Edit]) -> dict[str, Edit]:
    """The net edit of each item, by item id: it does what all of `edits`, in order, did to the item."""
    net_edits: dict[str, Edit] = {}
    for edit in edits:
        previous = net_edits.get(id_of(edit))
        if isinstance(edit, Change) and isinstance(previous, Upsert):
            edit = Upsert({**previous.item, **edit.values})
        elif isinstance(edit, Change) and isinstance(previous, Change):
            edit = Change(edit.item_id, {**previous.values, **edit.values})
        elif isinstance(edit, Delete):
            edit = Delete(edit.item_id, missing_ok=True)
        net_edits[id_of(edit)] = edit
    return net_edits


def _check_edit(edit: Edit, schema: pa.Schema) -> Edit:
    if isinstance(edit, Upsert):
        if not isinstance(edit.item, Mapping):
            raise _value_error(None, "item", "an object of columns and values", edit.item)
        item_id = _check_text(edit.item.get("item_id"), None, "item_id", MAX_ID, is_required=True)
        values = {key: _check_value(key, value, item_id, schema) for key, value in edit.item.items()}
        if values.get("title") is None:
            raise UsageError(f"Item '{item_id}' has no title.", "Every item needs an item_id and a title.")
        return Upsert({**values, "item_id": item_id})
    item_id = _check_text(edit.item_id, None, "item_id", MAX_ID, is_required=True)
    if isinstance(edit, Delete):
        return edit
    if not isinstance(edit.values, Mapping) or not edit.values:
        raise _value_error(item_id, "values", "an object of columns and their new values", edit.values)
    if edit.values.get("item_id", item_id) != item_id:
        raise UsageError(
            f"Item '{item_id}' would become '{edit.values['item_id']}': an item keeps its id.",
            "Delete the former and upsert the latter.",
        )
    return Change(item_id or "", {key: _check_value(key, value, item_id, schema) for key, value in edit.values.items()})


def _check_value(key: str, value: object, item_id: str | None, schema: pa.Schema) -> object:
    columns = [name for name in schema.names if name not in MADE_BY_MINING]
    if key not in columns:
        matches = difflib.get_close_matches(str(key), columns, n=1, cutoff=0.5)
        hint = f"Did you mean '{matches[0]}'?" if matches else f"Its columns are: {', '.join(columns)}."
        raise UsageError(f"Item '{item_id}' has a value for '{key}', which is no column of the items.", hint)
    type_ = schema.field(key).type
    if is_set(type_) or (type_ in _TEXTS and key not in ITEM_COLUMNS.required_names):
        return _check_texts(value, item_id, key, ValueForms.of_schema(schema), has_several=is_set(type_))
    if pa.types.is_list(schema.field(key).type):
        return _check_vector(value, item_id, key, vector_lengths(schema).get(key))
    return _value_check(schema.field(key).type)(value, item_id, key)


def _check_texts(
    value: object, item_id: str | None, key: str, forms: ValueForms, *, has_several: bool
) -> str | list[str] | None:
    """The text, or with `has_several` the list of texts, that a shop's `value` is in its own form."""
    cells = forms.cells(value, key, is_path=key == PATH_COLUMN, has_several=has_several)
    texts = [text for cell in cells if (text := _check_column_text(cell, item_id, key)) is not None]
    if len(cells) > 1:
        texts = list(dict.fromkeys(filter(None, map(str.strip, texts))))
    if sum(map(len, texts)) > MAX_TEXT:
        raise _value_error(item_id, key, f"texts of at most {MAX_TEXT:,} characters together", value)
    if has_several:
        return texts or None
    if len(texts) > 1:
        raise UsageError(
            f"Item '{item_id}': '{key}' has {len(texts)} values, and no item had several when the run was made.",
            "Give one, or make the run again from an items table with lists in that column; nothing was changed.",
        )
    return texts[0] if texts else None


def _value_check(type_: pa.DataType) -> Callable[[object, str | None, str], object]:
    if pa.types.is_boolean(type_):
        return _check_flag
    if pa.types.is_floating(type_):
        return _check_number
    assert pa.types.is_string(type_) or pa.types.is_large_string(type_), type_
    return _check_column_text


def _check_flag(value: object, item_id: str | None, key: str) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise _value_error(item_id, key, "true or false", value)
    return value


def _check_number(value: object, item_id: str | None, key: str) -> float | None:
    if value is None:
        return None
    try:
        finite = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number past every float
        finite = False
    if not finite:
        raise _value_error(item_id, key, "a finite number", value)
    assert isinstance(value, (int, float))
    return float(value)


def _check_vector(value: object, item_id: str | None, key: str, length: int | None) -> list[float] | None:
    if value is None:
        return None
    expectation = "a list of finite numbers" if length is None else f"a list of {length} finite numbers"
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise _value_error(item_id, key, expectation, value)
    if len(value) != (length or len(value)):
        raise _value_error(item_id, key, expectation, f"{len(value):,} of them")
    return [_check_single(number, item_id, key, expectation) for number in value]


def _check_single(number: object, item_id: str | None, key: str, expectation: str) -> float:
    """`number` as a float that has room in single precision."""
    is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
    if not is_number or not abs(number) <= _MAX_SINGLE:  # type: ignore[arg-type]  # NaN is not, either
        raise _value_error(item_id, key, expectation, number)
    return float(number)  # type: ignore[arg-type]


def _check_column_text(value: object, item_id: str | None, key: str) -> str | None:
    limit = {"item_id": MAX_ID, "title": MAX_CHARACTERS}.get(key, MAX_TEXT)
    return _check_text(value, item_id, key, limit, is_required=key in ITEM_COLUMNS.required_names)


def _check_text(value: object, item_id: str | None, key: str, limit: int, *, is_required: bool) -> str | None:
    if value is None and not is_required:
        return None
    if not isinstance(value, str):
        raise _value_error(item_id, key, "text", value)
    if len(value) > limit:
        raise _value_error(item_id, key, f"text of at most {limit:,} characters", f"{len(value):,} of them")
    if "\x00" in value or not _is_encodable(value):
        raise _value_error(item_id, key, "text without null bytes or halves of surrogate pairs", value)
    if is_required and not _is_visible(value):
        raise _value_error(item_id, key, "text that is not empty", value)
    return value or None


def _is_encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _is_visible(text: str) -> bool:
    return any(not c.isspace() and unicodedata.category(c)[0] not in "ZC" for c in text)


def _value_error(item_id: str | None, key: str, expectation: str, value: object) -> UsageError:
    text = value if isinstance(value, str) and value.endswith("of them") else repr(value)
    text = text if len(text) <= 80 else f"{text[:80]}…"
    subject = f"Item '{item_id}'" if item_id is not None else "An edit"
    return UsageError(
        f"{subject}: '{key}' takes {expectation}, found {text}.", "Correct that value; nothing was changed."
    )
