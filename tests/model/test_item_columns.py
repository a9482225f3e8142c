"""Columns of texts by their different values, held against one item after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmse.model.item_columns import (
    CATEGORY_LEVELS,
    MAX_VALUES,
    ItemColumns,
    Texts,
    look_up_columns,
    number_columns,
    read_texts,
)
from mmse.schema.value_sets import join_values

NAMES = st.sampled_from(["Red", "red ", " RED", "blue", "  ", "", "İ", "ΣΑΣ", "a > B>c", "a > b", "p>q>r>s>t"])
CELLS = st.lists(NAMES | st.none() | st.integers(0, 40).map(str), max_size=MAX_VALUES + 3)
PLAIN = st.lists(NAMES | st.none(), min_size=1, max_size=30)
SETS = st.lists(CELLS | st.none(), min_size=1, max_size=30)
LISTS = [pa.list_(pa.string()), pa.large_list(pa.large_string())]


def clean(value: str | None) -> str | None:
    return None if value is None else value.strip().lower() or None


def split_cells(cells: Sequence[Sequence[str | None] | None]) -> list[list[str | None]]:
    """The first value of each cell, the second of each, and so on, one cell after another."""
    values = [[v for v in dict.fromkeys(map(clean, cell or [])) if v is not None][:MAX_VALUES] for cell in cells]
    width = max([len(cell) for cell in values] + [1])
    return [[cell[i] if i < len(cell) else None for cell in values] for i in range(width)]


@given(PLAIN)
@settings(deadline=None, max_examples=40)
def test_one_text_for_each_item(values: list[str | None]) -> None:
    (texts,) = read_texts(pa.table({"name": pa.array(values, pa.string())}), "name")
    assert texts.to_list() == [clean(value) for value in values]
    assert texts.distinct() == [v for v in dict.fromkeys(map(clean, values)) if v is not None]


@given(SETS)
@settings(deadline=None, max_examples=40)
def test_several_texts_for_an_item(cells: list[Any]) -> None:
    for kind in LISTS:
        columns = read_texts(pa.table({"name": pa.array([None, *cells], kind)}).slice(1), "name")
        assert [texts.to_list() for texts in columns] == split_cells(cells)


@given(SETS)
@settings(deadline=None, max_examples=40)
def test_values_are_joined_as_one_text(cells: list[Any]) -> None:
    texts = [None if cell is None else " ".join(value for value in cell if value is not None) for cell in cells]
    for kind in LISTS:
        table = pa.table({"name": pa.chunked_array([pa.array(cells[:3], kind), pa.array(cells[3:], kind)])})
        assert join_values(table["name"]).to_pylist() == texts


@given(PLAIN, SETS)
@settings(deadline=None, max_examples=40)
def test_ids_follow_the_first_occurrence(values: list[str | None], cells: list[Any]) -> None:
    table = pa.table({"a": pa.array(values, pa.string())})
    columns = {"a": read_texts(table, "a"), "b": read_texts(pa.table({"b": pa.array(cells, LISTS[0])}), "b")}
    ids = number_columns("table", columns)
    distinct = [v for v in dict.fromkeys(map(clean, values)) if v is not None]
    assert list(ids["table:a"].items()) == [(value, i) for i, value in enumerate(distinct, 1)]
    distinct = [v for column in split_cells(cells) for v in column if v is not None]
    first_id = 1 + len(ids["table:a"])
    assert list(ids["table:b"].items()) == [(v, i) for i, v in enumerate(dict.fromkeys(distinct), first_id)]
    looked_up = look_up_columns("table", ids, {"a": columns["a"]})
    assert looked_up[:, 0].tolist() == [ids["table:a"].get(clean(value) or "", 0) for value in values]


@pytest.mark.parametrize("name", ["category", "absent"])
def test_levels_of_a_path(name: str) -> None:
    paths = [None, "A > b", "a>B> c", "x > y > z > v > w", ""]
    texts = [path.lower() if path and name == "category" else "" for path in paths]
    columns = ItemColumns(pa.table({name: paths}), {}, {"": 0.0})
    levels = [level.to_list() for level in columns.category_levels()]
    assert len(levels) == CATEGORY_LEVELS
    parts = [[part.strip() for part in text.split(">")] if text else [] for text in texts]
    expected = [[" > ".join(p[:depth]) if len(p) >= depth else None for p in parts] for depth in range(1, 5)]
    assert levels == expected


def test_numbers_as_texts() -> None:
    texts = Texts.from_numbers(np.array([3.0, np.nan, -0.0, 0.0, 3.0, -2.0]))
    assert texts.to_list() == ["3", None, "0", "0", "3", "-2"]
