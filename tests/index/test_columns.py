"""Masks over filterable columns, against cases worked by hand and an evaluator that looks at one row at a time."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmse.core.errors import ArtifactError, UsageError
from mmse.index.columns import FilterColumns, filter_kinds
from mmse.schema.filters import And, Between, Filter, Kind, Not, OneOf, Or, comparison_form, parse_filter, path_prefixes
from mmse.schema.value_sets import values_of

KINDS = {
    "category": Kind.PATH,
    "brand": Kind.NAME,
    "price": Kind.NUMBER,
    "available": Kind.FLAG,
    "colour": Kind.NAME,
    "weight": Kind.NUMBER,
    "tags": Kind.NAME,
    "places": Kind.PATH,
}
ROWS: list[dict[str, object]] = [
    {"category": "Tools > Drills", "brand": "Bosch", "price": 19.99, "available": True, "colour": "red", "weight": 1,
     "tags": ["New", "sale"], "places": ["a > b > c", "a > d", "e"]},
    {"category": "tools>drills > Hammer", "brand": " bosch ", "price": 20.0, "available": False, "colour": "",
     "tags": [" SALE", "sale", ""], "places": ["A>b"]},
    {"category": "Tools", "brand": "Makita", "price": None, "available": None, "colour": "Red", "weight": 3},
    {"category": "Tools > Drills!", "brand": None, "price": 0.0, "available": True, "colour": "blue",
     "tags": [], "places": [" > "]},
    {"category": None, "brand": "BOSCH", "price": 1e9, "available": False, "colour": None, "weight": 16_777_217},
    {"category": " > ", "brand": "Straße", "price": -1.0, "available": True, "colour": "blue", "tags": ["new"]},
]  # fmt: skip
SCHEMA = pa.schema(
    {
        "category": pa.string(),
        "brand": pa.string(),
        "price": pa.float64(),
        "available": pa.bool_(),
        "colour": pa.string(),
        "weight": pa.int64(),
        "tags": pa.list_(pa.string()),
        "places": pa.list_(pa.string()),
    }
)


def table(rows: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


@pytest.fixture
def columns() -> FilterColumns:
    return FilterColumns.from_table(table(ROWS), KINDS)


@pytest.mark.parametrize(
    ("filter_json", "rows"),
    [
        ({"brand": "Bosch"}, [0, 1, 4]),
        ({"brand": ["MAKITA", "strasse"]}, [2, 5]),
        ({"brand": "straße"}, [5]),
        ({"brand": []}, []),
        ({"brand": "nobody"}, []),
        ({"brand": ""}, []),
        ({"category": "tools"}, [0, 1, 2, 3]),
        ({"category": "Tools > Drills"}, [0, 1]),
        ({"category": "Tools > Drills > hammer"}, [1]),
        ({"category": ["Tools > Drills!", "Tools > Drills > Hammer"]}, [1, 3]),
        ({"category": "Drills"}, []),
        ({"category": "Tool"}, []),
        ({"category": ">"}, []),
        ({"price": 19.99}, [0]),
        ({"price": {"from": 19.99, "to": 20}}, [0, 1]),
        ({"price": {"to": 0}}, [3, 5]),
        ({"price": {"from": None}}, [0, 1, 3, 4, 5]),
        ({"price": [20, 0]}, [1, 3]),
        ({"weight": 16_777_217}, [4]),
        ({"weight": 16_777_216}, []),
        ({"available": True}, [0, 3, 5]),
        ({"available": [True, False]}, [0, 1, 3, 4, 5]),
        ({"not": {"available": True}}, [1, 2, 4]),
        ({"not": {"brand": "bosch"}}, [2, 3, 5]),
        ({"colour": "RED"}, [0, 2]),
        ({"colour": "red", "available": True}, [0]),
        ({"or": [{"colour": "blue"}, {"weight": {"from": 3}}]}, [2, 3, 4, 5]),
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"or": []}, []),
        ({"not": {}}, []),
        ({"tags": "Sale"}, [0, 1]),
        ({"tags": ["new", "sale"]}, [0, 1, 5]),
        ({"tags": "new", "and": [{"tags": "sale"}]}, [0]),
        ({"tags": ["", "gone"]}, []),
        ({"not": {"tags": "new"}}, [1, 2, 3, 4]),
        ({"places": "a"}, [0, 1]),
        ({"places": "A > B"}, [0, 1]),
        ({"places": ["a > b > c", "a > d"]}, [0]),
        ({"places": ["b", "d", ">"]}, []),
    ],
)
def test_masks_worked_by_hand(columns: FilterColumns, filter_json: object, rows: list[int]) -> None:
    assert np.flatnonzero(columns.mask(parse_filter(filter_json, KINDS))).tolist() == rows


def test_a_column_the_table_lacks_has_no_values(columns: FilterColumns) -> None:
    kinds = {"seller": Kind.NAME, "rating": Kind.NUMBER, "new": Kind.FLAG, "shelf": Kind.PATH}
    columns_without_values = FilterColumns.from_table(table(ROWS), kinds)
    for filter_json in ({"seller": "x"}, {"rating": {"to": 5}}, {"new": False}, {"shelf": "a"}):
        assert not columns_without_values.mask(parse_filter(filter_json, kinds)).any()
        assert columns_without_values.mask(parse_filter({"not": filter_json}, kinds)).all()
    assert columns_without_values.count_values("seller", np.ones(6, dtype=bool)) == {}
    assert (len(columns_without_values), columns_without_values.kinds) == (6, kinds)


def test_many_values_at_once() -> None:
    rows: list[dict[str, object]] = [{"brand": f"b{i}" if i % 7 else None} for i in range(500)]
    columns = FilterColumns.from_table(table(rows), {"brand": Kind.NAME})
    brands = tuple(f"b{i}" for i in range(0, 500, 3))
    expected_mask = [i % 3 == 0 and i % 7 != 0 for i in range(500)]
    assert columns.mask(OneOf("brand", brands)).tolist() == expected_mask


def test_counts(columns: FilterColumns) -> None:
    all_rows = np.ones(6, dtype=bool)
    assert columns.count_values("brand", all_rows) == {"Bosch": 3, "Makita": 1, "Straße": 1}
    assert columns.count_values("category", all_rows) == {
        "Tools": 4,
        "Tools > Drills": 2,
        "Tools > Drills!": 1,
        "tools > drills > Hammer": 1,
    }
    assert columns.count_values("available", all_rows) == {"true": 3, "false": 2}
    assert columns.count_values("brand", np.arange(6) >= 2) == {"Bosch": 1, "Makita": 1, "Straße": 1}
    assert columns.count_values("brand", ~all_rows) == {}
    assert columns.count_values("tags", all_rows) == {"New": 2, "sale": 2}
    assert columns.count_values("tags", np.arange(6) >= 1) == {"New": 1, "sale": 1}
    assert columns.count_values("places", all_rows) == {"A": 2, "A > b": 2, "a > b > c": 1, "a > d": 1, "e": 1}
    for column in ("price", "nothing"):
        with pytest.raises(UsageError, match=f"values of '{column}' cannot be counted"):
            columns.count_values(column, all_rows)


@pytest.mark.parametrize("rows", [ROWS, ROWS[:0]])
def test_save_and_open(rows: list[dict[str, object]], tmp_path: Path) -> None:
    saved_columns = FilterColumns.from_table(table(rows), KINDS)
    saved_columns.save(tmp_path)
    loaded_columns = FilterColumns.open(tmp_path)
    assert (len(loaded_columns), loaded_columns.kinds) == (len(rows), KINDS)
    every = np.ones(len(rows), dtype=bool)
    filters = ({"brand": "bosch"}, {"category": "tools"}, {"price": {"to": 20}}, {"available": True}, {"tags": "sale"})
    for filter_json in (*filters, {"places": "a > b"}):
        condition = parse_filter(filter_json, KINDS)
        np.testing.assert_array_equal(saved_columns.mask(condition), loaded_columns.mask(condition))
    for name in ("category", "tags", "places"):
        assert saved_columns.count_values(name, every) == loaded_columns.count_values(name, every)


def spoil_about(change: Callable[[dict[str, object]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        about = json.loads((folder / "columns.json").read_text("utf-8"))
        change(about)
        (folder / "columns.json").write_text(json.dumps(about), "utf-8")

    return spoil


def cut(folder: Path) -> None:
    (folder / "column0.npy").write_bytes((folder / "column0.npy").read_bytes()[:60])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (cut, r"column0\.npy is damaged"),
        (lambda folder: (folder / "columns.json").write_text("{"), r"columns\.json is damaged"),
        (lambda folder: (folder / "columns.json").unlink(), "holds no filterable columns"),
        (lambda folder: (folder / "column1.npy").unlink(), r"no column1\.npy"),
        (lambda folder: np.save(folder / "column0.npy", np.zeros(6)), "found float64"),
        (lambda folder: np.save(folder / "column0.npy", np.full(6, 9, np.int32)), "do not fit its 4 values"),
        (lambda folder: np.save(folder / "column6.npy", np.full(4, 6, np.int32)), "do not fit its 2 values"),
        (lambda folder: np.save(folder / "column6_starts.npy", np.array([0, 5, 4])), "do not fit its 2 values"),
        (lambda folder: (folder / "column6_starts.npy").unlink(), r"no column6\.npy"),
        (spoil_about(lambda about: about.update(rows=7)), r"expected 7 int32"),
        (spoil_about(lambda about: about.pop("columns")), "is damaged"),
        (spoil_about(lambda about: about.update(columns=[{"name": "a", "kind": "odd"}])), "is damaged"),
    ],
)
def test_damaged_folders(columns: FilterColumns, tmp_path: Path, spoil: Callable[[Path], object], words: str) -> None:
    columns.save(tmp_path)
    spoil(tmp_path)
    with pytest.raises(ArtifactError, match=words):
        FilterColumns.open(tmp_path)


def test_what_a_shop_can_filter_by() -> None:
    names = ["item_id", "title", "category", "price", "colour", "weight", "blurb"]
    shop_columns = {"categorical": ["colour", "gone", "category"], "numeric": ["weight"], "text": ["blurb"]}
    assert filter_kinds(names, shop_columns) == {
        "category": Kind.PATH,
        "price": Kind.NUMBER,
        "colour": Kind.NAME,
        "weight": Kind.NUMBER,
    }


def meets(row: dict[str, object], condition: Filter) -> bool:
    """The meaning of a filter, one row at a time."""
    if isinstance(condition, And):
        return all(meets(row, part) for part in condition.parts)
    if isinstance(condition, Or):
        return any(meets(row, part) for part in condition.parts)
    if isinstance(condition, Not):
        return not meets(row, condition.part)
    value = row.get(condition.column)
    if isinstance(condition, Between):
        low = -np.inf if condition.low is None else condition.low
        return isinstance(value, (int, float)) and low <= value <= (
            np.inf if condition.high is None else condition.high
        )
    if isinstance(value, bool):
        return value in condition.values
    kind = KINDS[condition.column]
    forms = {comparison_form(text, kind) for text in values_of(value)} - {""}
    if kind is Kind.PATH:
        forms = {level for form in forms for level in path_prefixes(form)}
    return bool(forms & set(condition.values))


PATHS = st.lists(st.sampled_from(["a", "A ", "b", "a!", "", "é", "\x00"]), max_size=4).map(">".join)
NAMES = st.sampled_from(["x", "X", " y", "", "ß", "İ", *(f"n{i}" for i in range(12))])
NUMBERS = st.sampled_from([0.0, -0.0, 19.99, 0.1 + 0.2, 0.3, 1e300, -5.0])
SETS = {"tags": st.lists(st.none() | NAMES, max_size=4), "places": st.lists(PATHS, max_size=4)}
CELLS = {"category": PATHS, "brand": NAMES, "price": NUMBERS, "available": st.booleans(), **SETS}
TABLES = st.lists(st.fixed_dictionaries({name: st.none() | cell for name, cell in CELLS.items()}), max_size=30)
ENDS = st.tuples(NUMBERS, NUMBERS).map(sorted)
LEAVES = st.one_of(
    st.fixed_dictionaries({"category": st.lists(PATHS, max_size=3) | PATHS}),
    st.fixed_dictionaries({"brand": st.lists(NAMES, max_size=12) | NAMES}),
    st.fixed_dictionaries({"places": st.lists(PATHS, max_size=3) | PATHS}),
    st.fixed_dictionaries({"tags": st.lists(NAMES, max_size=12) | NAMES}),
    st.fixed_dictionaries({"available": st.lists(st.booleans(), max_size=2)}),
    st.fixed_dictionaries({"price": NUMBERS | st.lists(NUMBERS, max_size=3)}),
    ENDS.map(lambda ends: {"price": {"from": ends[0], "to": ends[1]}}),
    NUMBERS.map(lambda end: {"price": {"to": end}}),
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: {"or": parts}),
        st.lists(inner, max_size=3).map(lambda parts: {"and": parts}),
        inner.map(lambda part: {"not": part}),
    ),
    max_leaves=6,
)


@given(rows=TABLES, filter_json=FILTERS)
def test_a_mask_says_what_each_row_says(rows: list[dict[str, object]], filter_json: object) -> None:
    condition = parse_filter(filter_json, KINDS)
    assert FilterColumns.from_table(table(rows), KINDS).mask(condition).tolist() == [
        meets(row, condition) for row in rows
    ]


@given(rows=TABLES)
def test_a_count_is_the_size_of_its_mask(rows: list[dict[str, object]]) -> None:
    columns = FilterColumns.from_table(table(rows), KINDS)
    for column in ("brand", "category", "available", "tags", "places"):
        counts = columns.count_values(column, np.ones(len(rows), dtype=bool))
        for value, n in counts.items():
            filter_value = value == "true" if column == "available" else value
            assert columns.mask(parse_filter({column: filter_value}, KINDS)).sum() == n
