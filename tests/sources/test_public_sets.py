"""Public data sets, made small to their published schemas, and the tables that are made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmse.sources.public_sets import PUBLIC_SETS, find_public_set, write_public_set

Rows = list[dict[str, Any]]

TEXTS: dict[str, dict[str, str | bytes]] = {
    "wands": {
        "product.csv": "product_id\tproduct_name\tproduct_class\tcategory hierarchy\tproduct_description\t"
        "product_features\trating_count\taverage_rating\treview_count\n"
        '0\tsolid wood bed 60" x 80"\tBeds\tFurniture / Bedroom\tgood\tcolor:grey|style:modern\t15.0\t4.5\t15.0\n',
        "query.csv": "query_id\tquery\tquery_class\n7\twood bed\tBeds\n",
        "label.csv": "id\tquery_id\tproduct_id\tlabel\n0\t7\t0\tPartial\n",
    },
    "homedepot": {
        "train.csv": b"id,product_uid,product_title,search_term,relevance\n"
        b'2,100001,"Angle, 12 \xbd in",angle bracket,2.33\n',
        "test.csv": "id,product_uid,product_title,search_term\n1,100002,Deck coating,deck paint\n",
        "product_descriptions.csv": "product_uid,product_description\n100001,Not only do angles\n",
    },
    "crowdflower": {
        "train.csv": "id,query,product_title,product_description,median_relevance,relevance_variance\n"
        "1,bridal shower,Pillow,Red,1,0.0\n4,red pillow,Pillow,Red,4,0.471\n"
    },
    "bestbuy": {
        "train.csv": "user,sku,category,query,click_time,query_time\n"
        'u1,2032076,abcat0701002,"Gears of war","2011-10-09 17:22:56.101","2011-10-09 17:21:42.917"\n',
        "small_product_data.xml": "<products><product><sku>2032076</sku><name>Gears of War 3 &amp; more</name>"
        "</product></products>",
    },
    "diginetica": {
        "train-queries.csv": "queryId;sessionId;userId;timeframe;duration;eventdate;searchstring.tokens;categoryId;"
        "items;is.test\n1;10;NA;3000;500;2016-05-09;16655,244087;0;11,12,13;FALSE\n2;10;NA;1;2;2016-05-09;;5;11;FALSE\n",
        "train-clicks.csv": "queryId;timeframe;itemId\n1;4000;12\n",
        "train-purchases.csv": "sessionId;userId;timeframe;eventdate;ordernumber;itemId\n10;NA;9000;2016-05-09;1;12\n",
        "products.csv": "itemId;pricelog2;product.name.tokens\n11;10;4875,776\n12;1;5\n13;2;6\n",
        "product-categories.csv": "itemId;categoryId\n11;3\n12;3\n13;4\n",
    },
    "jdsearch": {
        "release_data.txt": "12\x1832\t456_457_9\t3.0_0.0_0.0\t323_-1\t889_256\tORD_CLICK\t0_12_4\n",
        "product_data.txt": "456\t12\x185\t1\t9\t2\t9\t3\t9\t4\t9\t5\t9\t77\n"
        "457\t6\t1\t9\t2\t9\t3\t9\t4\t9\t5\t9\t77\n",
    },
    "trivago": {
        "train.csv": "user_id,session_id,timestamp,step,action_type,reference,platform,city,device,current_filters,"
        'impressions,prices\nU,S,1541037460,1,search for poi,Newtown,AU,"Sydney, Australia",mobile,,,\n'
        'U,S,1541037522,2,clickout item,109038,AU,"Sydney, Australia",mobile,,3400638|109038,95|66\n',
        "item_metadata.csv": "item_id,properties\n109038,Satellite TV|Golf\n3400638,Cot\n",
    },
    "multi_cpr": {
        "corpus.tsv": '1\t尼康 Z62 "套机\n2\t大落地窗\n',
        "train.query.txt": "5\t尼康z62\n",
        "dev.query.txt": "6\t窗\n",
        "qrels.train.tsv": "5\t0\t1\t1\n",
        "qrels.dev.tsv": "6\t0\t2\t1\n",
    },
}
EXPECTED: dict[str, dict[str, tuple[int, dict[str, object]]]] = {
    "esci": {
        "items": (1, {"item_id": "B1", "title": "Wood bed", "brand": "Acme", "colour": "grey"}),
        "judgements": (1, {"query": "bed", "item_id": "B1", "relevance": 0.1, "split": "train"}),
    },
    "wands": {
        "items": (1, {"item_id": "0", "title": 'solid wood bed 60" x 80"', "category": "Furniture / Bedroom"}),
        "judgements": (1, {"query": "wood bed", "item_id": "0", "relevance": 0.5}),
    },
    "homedepot": {
        "items": (2, {"item_id": "100001", "title": "Angle, 12 ½ in", "description": "Not only do angles"}),
        "judgements": (1, {"query": "angle bracket", "item_id": "100001", "relevance": 2.33}),
    },
    "crowdflower": {
        "items": (1, {"item_id": 1, "title": "Pillow", "description": "Red"}),
        "judgements": (2, {"query": "bridal shower", "item_id": 1, "relevance": 1.0}),
    },
    "bestbuy": {
        "items": (1, {"item_id": "2032076", "title": "Gears of War 3 & more"}),
        "events": (1, {"query": "Gears of war", "item_id": "2032076", "clicked": True, "position": 1}),
    },
    "diginetica": {
        "items": (3, {"item_id": "11", "title": "4875 776", "category": "3", "price": 1024.0}),
        "events": (3, {"query": "16655 244087", "item_id": "11", "position": 1, "clicked": False, "ordered": False}),
    },
    "jdsearch": {
        "items": (2, {"item_id": "456", "title": "12 5", "category": "2 > 3 > 4 > 5", "seller": "77"}),
        "judgements": (2, {"query": "12 32", "item_id": "456", "relevance": 3.0}),
    },
    "trivago": {
        "items": (2, {"item_id": "109038", "properties": "Satellite TV, Golf"}),
        "events": (2, {"query": "Sydney, Australia", "item_id": "3400638", "position": 1, "clicked": False}),
    },
    "multi_cpr": {
        "items": (2, {"item_id": "1", "title": '尼康 Z62 "套机'}),
        "judgements": (2, {"query": "尼康z62", "item_id": "1", "relevance": 1.0, "split": "train"}),
    },
}


def write_esci(folder: Path) -> None:
    example = {"query": "bed", "query_id": 1, "product_id": "B1", "product_locale": "us", "esci_label": "S"}
    examples: Rows = [example | {"split": "train", "small_version": 1, "large_version": 1}]
    examples.append(examples[0] | {"product_id": "B2", "product_locale": "jp"})
    product = {"product_id": "B1", "product_title": "Wood bed", "product_brand": "Acme", "product_color": "grey"}
    products: Rows = [product | {"product_description": "d", "product_bullet_point": "p", "product_locale": "us"}]
    products.append(products[0] | {"product_locale": "jp"})
    for name, rows in (("examples", examples), ("products", products)):
        pq.write_table(pa.Table.from_pylist(rows), folder / f"shopping_queries_dataset_{name}.parquet")


@pytest.mark.parametrize("name", PUBLIC_SETS)
def test_files_as_published_become_the_tables(tmp_path: Path, name: str) -> None:
    if name == "esci":
        write_esci(tmp_path)
    for file, text in TEXTS.get(name, {}).items():
        (tmp_path / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    connection = duckdb.connect()
    assert find_public_set(tmp_path, connection) == name
    assert write_public_set(name, tmp_path, connection) == {table: n for table, (n, _) in EXPECTED[name].items()}
    for table, (_, expected) in EXPECTED[name].items():
        rows = pq.read_table(tmp_path / f"{table}.parquet").to_pylist()
        fits = [row for row in rows if row["item_id"] == expected["item_id"]]
        assert {key: fits[0][key] for key in expected} == expected
    if name == "diginetica":
        taken = [row for row in pq.read_table(tmp_path / "events.parquet").to_pylist() if row["clicked"]]
        assert [(row["item_id"], row["ordered"], str(row["timestamp"])) for row in taken] == [
            ("12", True, "2016-05-09 00:00:03")
        ]


def test_another_folder_is_no_public_set(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("item_id,title\n1,x\n", "utf-8")
    assert find_public_set(tmp_path, duckdb.connect()) is None


def test_the_docs_say_of_each_where_it_is_and_what_it_was_tried_on() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "public_sets.md").read_text("utf-8")
    for name, public in PUBLIC_SETS.items():
        assert f"`{name}`" in docs
        assert all(file.name in docs for file in public.files.values())
