"""Lists of values, paths and variants of the items, as shops write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from mining.toy import ITEMS, Row, log, mine_shop, read, write_csv, write_shop
from mmse.core.errors import TableError
from mmse.schema.value_forms import ValueForms
from mmse.sources.path_forms import are_levels, find_list_separator, find_path_separator
from mmse.sources.tables import ItemsConfig

TREE = [f"{top}/{sub}" for top in ("Home", "Tools") for sub in ("Lamps", "Pans", "Saws")]


def mine_items(folder: Path, rows: list[Row], form: str = "jsonl", **config: Any) -> list[Row]:
    """The items that mining makes of `rows`, which replace the last items of the toy shop."""
    items = [*ITEMS, *({"item_id": f"x{i}", "title": f"Thing {i}"} | row for i, row in enumerate(rows))]
    names = list(dict.fromkeys(name for item in items for name in item))
    items = [{name: item.get(name) for name in names} for item in items]
    write_shop(folder, log(), items if form == "parquet" else None)
    if form == "jsonl":
        (folder / "items.jsonl").write_text("\n".join(json.dumps(item) for item in items), "utf-8")
    if form == "csv":
        write_csv(folder / "items.csv", items)
    mine_shop(folder, items=ItemsConfig(f"items.{form}", **config))
    return read(folder, "items.parquet")[len(ITEMS) :]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_lists_are_sets_of_values(tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture) -> None:
    colours = [["red", "white"], [" red ", "red", ""], None, []]
    items = mine_items(tmp_path, [{"colour": c, "seller": ["s"]} for c in colours], form, categorical=("colour",))
    assert [item["colour"] for item in items] == [["red", "white"], ["red"], None, None]
    assert [item["seller"] for item in items] == [["s"]] * 4
    assert items[0]["brand"] is None
    assert "these columns have lists" in caplog.text
    assert "seller, colour" in caplog.text


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_lists_in_text_are_sets(tmp_path: Path, form: str) -> None:
    texts = ['["red", "white"]', "['blue', 'dark red']", "green", '["a, b"]', "[]", "[odd]"]
    items = mine_items(tmp_path, [{"colour": text} for text in texts], form, categorical=("colour",))
    expected = [["red", "white"], ["blue", "dark red"], ["green"], ["a, b"], None, ["[odd]"]]
    assert [item["colour"] for item in items] == expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["""['red', "kid's"]""", "('a', 'b',)", "{'a','b'}", "[]"], [["red", "kid's"], ["a", "b"], ["a", "b"], None]),
        (['{red,"light, blue"}', "{green}", "{}", "{}"], [["red", "light, blue"], ["green"], None, None]),
        (["[red, blue]", "[green]", "[]", "[dark red]"], [["red", "blue"], ["green"], None, ["dark red"]]),
        (["{red,blue}", "green", "[]", "x"], ["{red,blue}", "green", "[]", "x"]),
        (["[Set of 2]", "[New]", "[]", "[x]"], ["[Set of 2]", "[New]", "[]", "[x]"]),
    ],
)
def test_lists_as_languages_and_databases_print_them(tmp_path: Path, texts: list[str], expected: list[object]) -> None:
    items = mine_items(tmp_path, [{"colour": text} for text in texts], "csv", categorical=("colour",))
    assert [item["colour"] for item in items] == expected


def test_text_in_brackets_is_text_where_nothing_is_a_list(tmp_path: Path) -> None:
    items = mine_items(tmp_path, [{"brand": "[unplugged]"}, {"brand": "[]"}], "csv")
    assert [item["brand"] for item in items] == ["[unplugged]", "[]"]


def test_objects_and_lists_in_lists(tmp_path: Path) -> None:
    categories = [[{"id": 1, "name": "Mugs"}], [["Home", "Pans"], ["Sale"]], [5, "Sale"]]
    items = mine_items(tmp_path, [{"category": c} for c in categories], category_lists="paths")
    assert [item["category"] for item in items] == [["Mugs"], ["Home > Pans", "Sale"], ["5", "Sale"]]


@pytest.mark.parametrize("form", ["jsonl", "parquet", "csv"])
def test_an_object_counts_by_its_name(tmp_path: Path, form: str) -> None:
    brand = {"id": 3, "name": "Acme"}
    write_shop(tmp_path, log(), [item | {"brand": brand} for item in ITEMS] if form == "parquet" else None)
    items = [item | {"brand": json.dumps(brand) if form == "csv" else brand} for item in ITEMS]
    if form == "csv":
        write_csv(tmp_path / "items.csv", items)
    (tmp_path / "items.jsonl").write_text("\n".join(json.dumps(item) for item in items), "utf-8")
    mine_shop(tmp_path, items=ItemsConfig(f"items.{form}"))
    assert [item["brand"] for item in read(tmp_path, "items.parquet")] == ["Acme"] * len(ITEMS)


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_objects_without_a_name_are_told_which_members_there_are(tmp_path: Path, form: str) -> None:
    for name, value in (("title", {"en": "Shoe", "de": "Schuh"}), ("price", {"amount": 2.5, "currency": "EUR"})):
        items = [item | {name: value} for item in ITEMS]
        write_shop(tmp_path, log(), items)
        (tmp_path / "items.jsonl").write_text("\n".join(json.dumps(item) for item in items), "utf-8")
        first, second = value
        with pytest.raises(TableError) as refusal:
            mine_shop(tmp_path, items=ItemsConfig(f"items.{form}"), target=tmp_path / "none")
        assert f'{name} = "{name}.{first}" or "{name}.{second}"' in refusal.value.cure
        mine_shop(tmp_path, items=ItemsConfig(f"items.{form}", columns={name: f"{name}.{first}"}))
        assert {item[name] for item in read(tmp_path, "items.parquet")} == {value[first]}


def test_a_declared_separator_makes_sets(tmp_path: Path) -> None:
    rows = [{"colour": "red, white", "brand": "A, B"}, {"colour": " blue "}]
    marks = {"colour": ","}
    items = mine_items(tmp_path, rows, "csv", categorical=("colour",), list_separators=marks)
    assert [(item["colour"], item["brand"]) for item in items] == [(["red", "white"], "A, B"), (["blue"], None)]
    schema = pq.read_schema(tmp_path / "dataset" / "items.parquet")
    assert ValueForms.of_schema(schema) == ValueForms(None, marks)


def test_the_unit_separator_is_a_blank_in_text(tmp_path: Path) -> None:
    (item,) = mine_items(tmp_path, [{"brand": "A\x1fB"}])
    assert item["brand"] == "A B"


def test_lists_of_categories_are_levels_or_paths(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    levels = [{"category": ["Home", "Lamps"]}, {"category": ["Home", "Pans"]}, {"category": ["Tools"]}]
    assert [i["category"] for i in mine_items(tmp_path, levels)] == ["Home > Lamps", "Home > Pans", "Tools"]
    assert "a list of categories has the levels of one path" in caplog.text
    paths = [{"category": ["Home > Lamps", "Sale"]}, {"category": ["Tools"]}]
    assert [i["category"] for i in mine_items(tmp_path, paths)] == [["Home > Lamps", "Sale"], ["Tools"]]
    assert "a list of categories has several paths" in caplog.text
    declared = mine_items(tmp_path, levels, category_lists="paths")
    assert [i["category"] for i in declared] == [["Home", "Lamps"], ["Home", "Pans"], ["Tools"]]


@pytest.mark.parametrize("mark", ["/", "|", " / "])
def test_paths_with_other_marks_are_found_and_said(
    tmp_path: Path, mark: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ITEMS[0], "category", "Home")
    monkeypatch.setitem(ITEMS[1], "category", "Tools")
    monkeypatch.setitem(ITEMS[2], "category", None)
    items = mine_items(tmp_path, [{"category": text.replace("/", mark)} for text in TREE], "csv")
    assert [item["category"] for item in items] == [text.replace("/", " > ") for text in TREE]
    assert "stands between the levels of a category, such as 'Home > Lamps'" in caplog.text
    schema = pq.read_schema(tmp_path / "dataset" / "items.parquet")
    assert ValueForms.of_schema(schema).path_separator == mark.strip()


def test_a_declared_mark_of_paths(tmp_path: Path) -> None:
    rows = [{"category": "Home::Lamps"}, {"category": "::Sale::"}, {"category": "Tools"}]
    items = mine_items(tmp_path, rows, "csv", path_separator="::")
    assert [item["category"] for item in items] == ["Home > Lamps", "Sale", "Tools"]
    lists = mine_items(tmp_path, [{"category": ["Home/Lamps", "Sale/New"]}], path_separator="/", category_lists="paths")
    assert lists[0]["category"] == ["Home > Lamps", "Sale > New"]


@pytest.mark.parametrize(
    ("texts", "mark"),
    [
        (TREE, "/"),
        ([text.replace("/", "|") for text in TREE], "|"),
        ([f"Default Category/{text}" for text in TREE], "/"),
        ([f"Bed/Bath|{text}" for text in ("A/V", "Towels", "Rugs")], "|"),
        (["AC/DC", "N/A", "Metal", "TV/Video"], None),
        ([*TREE, "Sale > New"], None),
        ([*TREE, *(f"Plain {i}" for i in range(9))], None),
        (["Mugs|Sale", "Sale|Mugs", "Sale|Lamps", "Lamps|Sale"], None),
        ([], None),
        (["/"], None),
    ],
)
def test_what_stands_between_levels(texts: list[str], mark: str | None) -> None:
    assert find_path_separator(dict.fromkeys(texts, 3)) == mark


@pytest.mark.parametrize(
    ("texts", "mark"),
    [
        (["Kitchen > Mugs, Sale", "Home > Lamps, Sale", "Home > Lamps, Kitchen > Mugs"], ","),
        (["Mugs;Sale", "Sale", "Lamps"], ";"),
        (["Mugs|Sale", "Sale|Lamps", "Lamps|Mugs"], "|"),
        (["Food, Beverages & Tobacco > Tea", "Food, Beverages & Tobacco > Jam"], None),
        (["Phones > Cables, Adapters", "Laptops > Cables, Adapters", "Tablets"], None),
        ([text.replace("/", "|") for text in TREE], None),
        ([",", ">", " , > ,"], None),
        ([], None),
    ],
)
def test_what_stands_between_categories(texts: list[str], mark: str | None) -> None:
    assert find_list_separator(dict.fromkeys(texts, 3)) == mark


def test_levels_begin_with_what_comes_again_at_the_top_alone() -> None:
    assert are_levels({("Home", "Lamps"): 4, ("Home", "Pans"): 1, ("Tools",): 1})
    assert are_levels({(top, sub): 2 for top in ("Men", "Women") for sub in ("Shoes", "Shirts", "Hats")})
    assert not are_levels({("Mugs", "Sale"): 4, ("Sale", "Mugs"): 1})
    assert not are_levels({("Mugs", "Sale"): 4, ("Lamps", "Sale"): 1})


def test_several_categories_in_one_text_are_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    texts = ["Home > Lamps, Sale", "Home > Pans, Sale", "Tools", "Sale", "Food, Drinks > Tea"]
    items = mine_items(tmp_path, [{"category": text} for text in texts[:4]], "csv")
    expected = [["Home > Lamps", "Sale"], ["Home > Pans", "Sale"], ["Tools"], ["Sale"]]
    assert [item["category"] for item in items] == expected
    assert "',' stands between several categories" in caplog.text
    rows: list[Row] = [{"category": text} for text in texts]
    undone = mine_items(tmp_path, rows, "csv", list_separators={"category": ""})
    assert undone[0]["category"] == texts[0]


VARIANTS: list[Row] = [
    {"item_id": "v", "title": "Boot size S", "price": "30,50", "available": "no", "size": "S", "category": "shoes"},
    {"item_id": "v", "title": "Boot size M", "price": "20,00", "available": "yes", "size": "M", "category": "shoes"},
    {"item_id": "v", "title": "Boot size L", "price": "", "available": "no", "size": "L", "category": "shoes"},
]


def test_variants_that_share_an_id_are_one_item(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (item,) = mine_items(tmp_path, VARIANTS, "csv", categorical=("size",))
    assert {**item, "item_row": 0, "first_seen": None} == {
        "item_row": 0, "item_id": "v", "title": "Boot size S", "category": "shoes", "brand": None, "price": 20.0,
        "available": True, "size": ["S", "M", "L"], "seller": None, "rating": None, "item_group": None,
        "first_seen": None,
    }  # fmt: skip
    assert "2 rows are variants of 1 items" in caplog.text
    assert "all values of size" in caplog.text
    counts = mine_shop(tmp_path, items=ItemsConfig("items.csv", categorical=("size",), max_rejected_share=0.0)).counts
    assert counts["variants"] == {"rows": 2, "items": 1}
    assert counts["read"]["items"] == counts["items"] + counts["variants"]["rows"]


def test_variants_keep_the_values_of_lists_and_the_first_of_numbers(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"item_id": "v", "title": "Boot S", "colour": ["red", "blue"], "weight": None, "image": [1, 2]},
        {"item_id": "v", "title": "Boot M", "colour": ["blue", "green"], "weight": 3, "image": [3, 4]},
        {"item_id": "w", "title": "Sock", "colour": None, "weight": 1, "image": [5, 6]},
    ]
    items = mine_items(tmp_path, rows, categorical=("colour",), numeric=("weight",), vectors=("image",))
    assert [(i["colour"], i["weight"], i["image"]) for i in items] == [
        (["red", "blue", "green"], 3.0, [1.0, 2.0]),
        (None, 1.0, [5.0, 6.0]),
    ]


def test_variants_fill_what_the_first_lacks_and_need_no_further_columns(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"item_id": "v", "title": "Boot S", "brand": None, "price": 5.0},
        {"item_id": "v", "title": "Boot M", "brand": "Acme", "price": None},
    ]
    (item,) = mine_items(tmp_path, rows)
    assert (item["brand"], item["price"]) == ("Acme", 5.0)
    write_csv(tmp_path / "items.csv", [{"item_id": i["item_id"], "title": i["title"]} for i in (*ITEMS, *rows)])
    mine_shop(tmp_path, items=ItemsConfig("items.csv"))
    assert len(read(tmp_path, "items.parquet")) == 5


def test_a_duplicate_with_another_title_is_no_variant(tmp_path: Path) -> None:
    rows = [*VARIANTS[:2], {"item_id": "v", "title": "Garden hose"}]
    with pytest.raises(TableError, match="1 × item_id is a duplicate of an earlier row"):
        mine_items(tmp_path, rows, "csv")
    (item,) = mine_items(tmp_path, rows, "csv", max_rejected_share=0.2)
    assert (item["title"], item["price"]) == ("Boot size S", 20.0)


def test_copies_of_a_row_lose_nothing_and_stop_nothing(tmp_path: Path) -> None:
    assert len(mine_items(tmp_path, [VARIANTS[0]] * 5, "csv")) == 1
    counts = mine_shop(tmp_path, items=ItemsConfig("items.csv")).counts
    assert counts["rejected"]["items"] == {"the row is a copy of an earlier row": 4}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"list_separators": {"price": ","}}, "columns of texts: category, brand, seller, tag"),
        ({"path_separator": ""}, "path_separator"),
        ({"category_lists": "trees"}, '"levels" or "paths"'),
    ],
)
def test_forms_that_say_nothing_are_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ItemsConfig(categorical=("tag",), **config)
