"""The items of a run in a form that any search engine takes: words as stems, values to filter by, vectors."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32

from mmse.catalogue.snapshot import Snapshot
from mmse.index.documents import join_columns
from mmse.index.row_scores import FIELDS
from mmse.schema.filters import Kind, comparison_form, path_prefixes
from mmse.schema.value_sets import values_of

ITEMS_AT_ONCE = 4_096
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,100}", re.ASCII)


@dataclass(frozen=True)
class ItemRecord:
    """One item: its columns, the stems of the words of each field, its values to filter by, and its vector.

    A name is in the form in which filters compare it; a path is a list of itself and of all paths above it.
    """

    item_id: str
    columns: Mapping[str, Any]
    words: Mapping[str, list[str]]
    filters: Mapping[str, Any]
    vector: Float32[np.ndarray, " width"]


def filter_fields(kinds: Mapping[str, Kind]) -> dict[str, str]:
    """The name of each column to filter by in another engine: its own, or `column_N` where it has odd characters."""
    return {
        column: column if _NAME.fullmatch(column) and not column.startswith("column_") else f"column_{number}"
        for number, column in enumerate(kinds)
    }


def read_items(snapshot: Snapshot, attributes: list[str]) -> Iterator[list[ItemRecord]]:
    """All items of a snapshot, edits included, some thousands at a time; `attributes` are the columns of that field."""
    fields = filter_fields(snapshot.kinds)
    text_columns = dict(zip(FIELDS, (["title"], ["brand"], ["category"], attributes), strict=True))
    for start in range(0, snapshot.n_rows, ITEMS_AT_ONCE):
        rows = np.arange(start, min(start + ITEMS_AT_ONCE, snapshot.n_rows), dtype=np.int64)
        rows = rows[snapshot.alive(rows)]
        table, vectors = snapshot.table(rows), snapshot.vectors(rows)
        texts = {field: join_columns(table, columns) for field, columns in text_columns.items()}
        values = {name: table[name].to_pylist() for name in fields if name in table.column_names}
        display = snapshot.display_items(rows)
        yield [
            ItemRecord(
                item_id=str(display[index]["item_id"]),
                columns=display[index],
                words={field: snapshot.lexical.stems(text[index]) for field, text in texts.items()},
                filters={
                    fields[name]: value
                    for name, column in values.items()
                    if (value := filter_value(column[index], snapshot.kinds[name])) is not None
                },
                vector=vectors[index],
            )
            for index in range(len(rows))
        ]


def filter_value(value: object, kind: Kind) -> float | bool | list[str] | None:
    """What an item's `value` is compared by; None where it has none."""
    if value is None:
        return None
    if kind is Kind.NUMBER:
        assert isinstance(value, (int, float))
        return None if math.isnan(value) else float(value)
    if kind is Kind.FLAG:
        return bool(value)
    forms = [form for text in values_of(value) if (form := comparison_form(text, kind))]
    paths = [path for form in forms for path in (path_prefixes(form) if kind is Kind.PATH else [form])]
    return list(dict.fromkeys(paths)) or None


def format_vector(vector: Float32[np.ndarray, " width"]) -> bytes:
    """The vector as JSON, each number with as many digits as tell it from its neighbours in float32."""
    texts: list[str] = pc.cast(pa.array(vector), pa.string()).to_pylist()
    return f"[{','.join(texts)}]".encode()
